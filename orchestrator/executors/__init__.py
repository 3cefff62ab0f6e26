"""Where jobs run: Ray tasks for builds, one Ray actor per (base, engine) and replica for evaluations.

| file       | what is in it                                                                |
| ---------- | ---------------------------------------------------------------------------- |
| contract   | what the scheduler needs of a place where jobs run; batches                   |
| connection | joining or starting Ray; what its nodes have and whether they share the root |
| floor      | who has which CPUs and GPUs of which node; where the next engine fits best    |
| engines    | a live engine: its gang of GPUs, its actor, how it is closed                  |
| helping    | which engines that have nothing to do take part in which long evaluations    |
| on_ray     | the executor                                                                 |

The only place that imports Ray, with `submit.py` and `metrics.py`.
"""

from orchestrator.executors.connection import cluster_facts, connect, disconnect, home_check, survey
from orchestrator.executors.contract import BATCH_JOBS, Batch, Executor, Finished, Seat, batches
from orchestrator.executors.on_ray import RayExecutor

__all__ = [
    "BATCH_JOBS",
    "Batch",
    "Executor",
    "Finished",
    "RayExecutor",
    "Seat",
    "batches",
    "cluster_facts",
    "connect",
    "disconnect",
    "home_check",
    "survey",
]
