"""Where jobs run: Ray tasks for builds, one Ray actor per (base, engine) for evaluations.

The executor places work and hands back outcomes. It decides nothing about retries and never sees the store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import ray
from pydantic import Field

from orchestrator.errors import ClusterError
from orchestrator.estimate import ClusterFacts, NodeFacts, Resources, resources_of
from orchestrator.jobs import BuildJob, EvalJob, Frozen, Task
from orchestrator.records import Failure, FailureClass, Outcome
from orchestrator.settings import Settings
from orchestrator.worker import EngineHost, WorkerContext, read_and_write, run_build

# Environment that every worker process needs to see; tokens are left to each node's own environment.
_FORWARDED = ("MERGEBOARD_HOME", "MERGEBOARD_DATASETS", "COVERAGE_PROCESS_START", "COVERAGE_FILE")
_NODE_CHECK_S = 60.0
_STARTS = 3
BATCH_JOBS = 32
"""Most jobs that one engine is given at once; what is lost when it dies."""

Batch = tuple[BuildJob | EvalJob, ...]
"""Jobs that start together: one, or several that differ in their layer path alone."""


class Finished(Frozen):
    """An attempt that has come back."""

    attempt_id: str = Field(description="Id of the attempt in the store.")
    job_digest: str = Field(description="The job.")
    outcome: Outcome = Field(description="What the worker returned, or why it could not.")


class Executor(Protocol):
    """What the scheduler needs of a place where jobs run."""

    def pick(self, ready: Sequence[BuildJob | EvalJob]) -> list[Batch]:
        """Of the jobs that are ready, in order of preference, those that can start now, batch by batch."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Start the attempts at one batch."""

    def wait(self, timeout_s: float) -> list[Finished]:
        """Attempts that have come back; waits at most timeout_s for the first."""

    def cancel(self) -> None:
        """Stop all work now."""


def connect(settings: Settings, address: str | None = None) -> ClusterFacts:
    """Connect to the cluster, or start Ray on this machine, with its token authentication; what it has.

    Raises ClusterError where the address does not answer.
    """
    target = address or settings.ray_address
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    common: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "configure_logging": False,
    }
    if not ray.is_initialized():
        try:
            if target:
                ray.init(address=target, **common)
            else:
                _start_here(common)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ClusterError(
                f"Ray at {target or 'this machine'} cannot be reached ({str(error).splitlines()[0]}); check the address with "
                "`ray status --address ADDRESS`, or leave --address out to run on this machine."
            ) from error
    return cluster_facts()


def _start_here(options: dict[str, Any]) -> None:
    """Start Ray on this machine; on a busy one its parts may miss each other the first time."""
    for attempt in range(_STARTS):
        try:
            ray.init(include_dashboard=False, **options)
            return
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt + 1 == _STARTS:
                raise ClusterError(
                    f"Ray did not start on this machine in {_STARTS} tries; it is too busy, or /tmp/ray/session_latest/logs "
                    "tells why."
                ) from error


def cluster_facts() -> ClusterFacts:
    """CPUs, GPUs and memory of every live node."""
    nodes = []
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            nodes.append(
                NodeFacts(
                    node_id=node["NodeID"],
                    host=node["NodeManagerHostname"],
                    cpus=has.get("CPU", 0.0),
                    gpus=has.get("GPU", 0.0),
                    memory_bytes=int(has.get("memory", 0)),
                )
            )
    return ClusterFacts(nodes=tuple(nodes))


def disconnect() -> None:
    """Leave the cluster; stops Ray where `connect` started it."""
    ray.shutdown()


class _Engine:
    """A live engine actor and what it is doing."""

    def __init__(self, key: str, actor: Any, resources: Resources) -> None:
        self.key = key
        self.actor = actor
        self.resources = resources
        self.busy = False


class RayExecutor:
    """Runs attempts on the Ray cluster that this process is connected to."""

    def __init__(self, settings: Settings, facts: ClusterFacts) -> None:
        self._context = WorkerContext(
            home=str(settings.home), datasets=str(settings.datasets) if settings.datasets else None
        )
        self._facts = facts
        self._env = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
        self._env["MERGEBOARD_HOME"] = str(settings.home)
        self._engines: list[_Engine] = []
        self._running: dict[Any, tuple[tuple[Task, ...], _Engine | None]] = {}

    def pick(self, ready: Sequence[BuildJob | EvalJob]) -> list[Batch]:
        """Of the jobs that are ready those that can start now; idle engines make room for others."""
        wanted = {job.engine_key for job in ready if isinstance(job, EvalJob)}
        idle = {engine.key: engine for engine in self._engines if not engine.busy}
        builds = sum(served_by is None for _, served_by in self._running.values())
        chosen: list[Batch] = []
        opened: list[Resources] = []
        for batch in batches(ready):
            job = batch[0]
            if isinstance(job, BuildJob):
                if builds < self._facts.build_slots:
                    builds += 1
                    chosen.append(batch)
            elif idle.pop(job.engine_key, None) is not None:
                chosen.append(batch)
            elif self._room_for(resources_of(job, self._facts), opened, wanted):
                opened.append(resources_of(job, self._facts))
                chosen.append(batch)
        return chosen

    def submit(self, tasks: Sequence[Task]) -> None:
        """Start the attempts at one batch: a build as a task, evaluations on their engine's actor."""
        task = tasks[0]
        if isinstance(task.job, BuildJob):
            remote = ray.remote(run_build).options(
                num_cpus=self._facts.build_cpus, max_retries=0, runtime_env={"env_vars": self._env}
            )
            self._running[remote.remote(self._context, task.attempt_id, task.job)] = ((task,), None)
            return
        key = task.job.engine_key
        chosen = next((e for e in self._engines if e.key == key and not e.busy), None) or self._open(task.job)
        chosen.busy = True
        self._running[chosen.actor.run.remote(tuple(tasks))] = (tuple(tasks), chosen)

    def wait(self, timeout_s: float) -> list[Finished]:
        """Attempts that have come back, lost ones as failures."""
        if not self._running:
            return []
        done, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if not done:
            done, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        return [finished for reference in done for finished in self._collect(reference)]

    def cancel(self) -> None:
        """Stop all work now and give every engine's resources back."""
        for engine in list(self._engines):
            self._retire(engine)
        for reference, (_, served_by) in self._running.items():
            if served_by is None:
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.cancel(reference, force=True)
        self._running.clear()

    def _collect(self, reference: Any) -> list[Finished]:
        tasks, engine = self._running.pop(reference)
        try:
            answer = ray.get(reference)
            outcomes: tuple[Outcome, ...] = (answer,) if engine is None else answer
        except ray.exceptions.RayError as error:
            outcomes = (_lost(error),) * len(tasks)
        if engine is not None:
            engine.busy = False
            if isinstance(outcomes[-1], Failure):
                # An engine that has failed last may be in any state; the next job starts a fresh one.
                self._retire(engine)
        return [
            Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)
            for task, outcome in zip(tasks, outcomes, strict=True)
        ]

    def _open(self, job: EvalJob) -> _Engine:
        resources = resources_of(job, self._facts)
        actor = (
            ray.remote(EngineHost)
            .options(
                num_cpus=resources.cpus,
                num_gpus=resources.gpus,
                max_restarts=0,
                runtime_env={"env_vars": {**self._env, "OMP_NUM_THREADS": str(resources.threads)}},
            )
            .remote(self._context)
        )
        engine = _Engine(job.engine_key, actor, resources)
        self._engines.append(engine)
        return engine

    def _room_for(self, resources: Resources, opened: Sequence[Resources], wanted: set[str]) -> bool:
        """Whether an engine of this size fits now, after closing idle engines that no ready job wants."""
        while not self._facts.fits(resources, [*(e.resources for e in self._engines), *opened]):
            spare = next((e for e in self._engines if not e.busy and e.key not in wanted), None)
            if spare is None:
                return False
            self._retire(spare)
        return True

    def _retire(self, engine: _Engine) -> None:
        if engine in self._engines:
            self._engines.remove(engine)
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.kill(engine.actor, no_restart=True)


def batches(ready: Sequence[BuildJob | EvalJob]) -> list[Batch]:
    """The jobs as they start together, in the order of each batch's first job.

    A job that ran out of memory comes back with a smaller batch size, which bounds its batch from then on.
    """
    groups: dict[str, list[BuildJob | EvalJob]] = {}
    for job in ready:
        key = job.batch_key if isinstance(job, EvalJob) else None
        groups.setdefault(key or job.digest, []).append(job)
    found: list[Batch] = []
    for group in groups.values():
        first = group[0]
        most = min(BATCH_JOBS, (first.tuning.batch_size or BATCH_JOBS) if isinstance(first, EvalJob) else 1)
        found += [tuple(group[begin : begin + most]) for begin in range(0, len(group), most)]
    return found


def _lost(error: Exception) -> Failure:
    """A worker that did not come back, as a failure."""
    out_of_memory = isinstance(error, ray.exceptions.OutOfMemoryError)
    text = str(error).strip().splitlines()
    return Failure(
        failure_class=FailureClass.OUT_OF_MEMORY if out_of_memory else FailureClass.LOST_NODE,
        message="The worker was ended for its memory use."
        if out_of_memory
        else "The worker process died before it could answer.",
        log_tail="\n".join(text[-20:]),
    )


def home_check(settings: Settings, facts: ClusterFacts) -> dict[str, str | None]:
    """Write and read a file under MERGEBOARD_HOME from every node; host to what went wrong, or None."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    settings.home.mkdir(parents=True, exist_ok=True)
    mark = settings.home / f".doctor-{token}"
    mark.write_text(token)
    results: dict[str, str | None] = {}
    try:
        for node in facts.nodes:
            pinned = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
            task = ray.remote(read_and_write).options(num_cpus=0, max_retries=0, scheduling_strategy=pinned)
            try:
                results[node.host] = ray.get(task.remote(str(mark), token), timeout=_NODE_CHECK_S)
            except (ray.exceptions.RayError, TimeoutError) as error:
                results[node.host] = f"the node did not answer ({type(error).__name__})"
    finally:
        mark.unlink(missing_ok=True)
    return results
