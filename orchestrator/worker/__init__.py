"""What runs on a node: one build, or an engine that serves evaluations."""
