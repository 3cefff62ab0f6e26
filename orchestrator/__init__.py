"""WHEN and WHERE: sweeps, plans, jobs on Ray, and the store that remembers everything."""

import os

# Ray reads these when it is first imported; its own 30 s are too few for a machine that is busy with something else.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
os.environ.setdefault("RAY_agent_register_timeout_ms", "150000")
