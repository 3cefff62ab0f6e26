"""What people read: durations, sizes, p-values and times in one form each. A leaf, for the command line, charts and dashboard."""
