"""Executes a plan as a run: scheduling, retries, the driver's lease, progress."""
