"""Plans sweeps, runs their jobs on Ray, and stores and compares the results."""

import os

# Ray reads this on import; its default of 30 s is too short for a busy machine.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "60")
