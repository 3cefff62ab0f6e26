"""Where jobs run: Ray tasks for builds, one Ray actor per (base, engine) and replica for evaluations.

| file       | what is in it                                                                |
| ---------- | ---------------------------------------------------------------------------- |
| contract   | what the scheduler needs of a place where jobs run                            |
| ready      | the jobs that may start now, by engine and batch by batch                     |
| address    | the forms in which a cluster may be named                                     |
| survey     | asking nodes: the shared root, GPUs, installed versions, data sets            |
| connection | joining or starting Ray; what its nodes have                                  |
| nodes      | nodes that come and go, and engines for which there is none                   |
| demand     | what Ray's autoscaler is asked for, where jobs wait for GPUs                  |
| floor      | who has which CPUs and GPUs of which node; where the next engine fits best    |
| engines    | a live engine: its gang of GPUs, its actor, how it is closed                  |
| processes  | the processes of one engine on its node                                      |
| ending     | engines that are being ended, and when their places are free                  |
| builds     | builds as Ray tasks: the node of each                                         |
| lost       | workers that died before they could answer, as failures                       |
| helping    | which engines that have nothing to do take part in which long evaluations    |
| on_ray     | the executor                                                                 |

The only place that imports Ray, with `submit.py` and `metrics.py`.
"""

from orchestrator.cluster.connect import cluster_facts, connect, disconnect
from orchestrator.cluster.demand import Growth, gpus_awaited
from orchestrator.cluster.executor import Executor, Finished, Seat
from orchestrator.cluster.queue import BATCH_JOBS, Batch, JobGroup, ReadyJobs, group_of
from orchestrator.cluster.ray_executor import RayExecutor
from orchestrator.cluster.survey import data_on_nodes, survey

__all__ = [
    "BATCH_JOBS",
    "Batch",
    "Executor",
    "Finished",
    "Growth",
    "JobGroup",
    "RayExecutor",
    "ReadyJobs",
    "Seat",
    "cluster_facts",
    "connect",
    "data_on_nodes",
    "disconnect",
    "gpus_awaited",
    "group_of",
    "survey",
]
