"""One run of a plan: scheduling, retries, the driver's lease, progress."""
