"""Formatting of durations, sizes, p-values and times, shared by the command line, charts and dashboard."""
