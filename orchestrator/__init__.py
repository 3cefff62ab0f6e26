"""WHEN and WHERE: sweeps, plans, jobs on Ray, and the store that remembers everything."""

import os

# Ray reads this when it is first imported; its own 30 s are too few for a machine that is busy with something else.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "60")
