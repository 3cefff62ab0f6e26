"""Runs jobs on Ray: builds as tasks, evaluations on one actor per engine and replica.

| file         | content                                                                       |
| ------------ | ----------------------------------------------------------------------------- |
| executor     | interface between the scheduler and the place where jobs run                  |
| ray_executor | the executor on Ray                                                           |
| queue        | jobs that may start now, by engine and in batches                             |
| address      | forms of a cluster's address                                                  |
| connect      | joins a cluster or starts Ray; resources of its nodes                         |
| survey       | queries nodes: shared root, GPUs, installed versions, data sets               |
| nodes        | nodes that come and go, and engines that no node can hold                     |
| demand       | requests to Ray's autoscaler for GPUs that jobs wait for                      |
| placement    | used CPUs and GPUs of each node; best fit for the next engine                 |
| engines      | a live engine: its GPUs, its actor, how it is closed                          |
| processes    | process group of an engine on its node                                        |
| ending       | engines that are being stopped, until their resources are free                |
| build_tasks  | builds as Ray tasks                                                           |
| lost         | failures of workers that died                                                 |
| helpers      | idle engines that help with long evaluations                                  |

Only this package imports Ray.
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
