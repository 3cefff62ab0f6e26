"""The executor on Ray: assigns jobs to engines, and opens and closes engines."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from evals.engine import EngineSpec
from orchestrator.cluster.build_tasks import Builds, cancel_build
from orchestrator.cluster.demand import PATIENCE_S, Growth, gpus_of, worth_a_node
from orchestrator.cluster.ending import Ending
from orchestrator.cluster.engines import EngineState, LiveEngine
from orchestrator.cluster.executor import Finished, Seat
from orchestrator.cluster.helpers import AFTER_S, SPELL_S, EngineWork, Helping
from orchestrator.cluster.lost import failure_of_lost
from orchestrator.cluster.nodes import Homeless, KnownNodes
from orchestrator.cluster.placement import AVOID_S, Floor, Spot
from orchestrator.cluster.queue import Batch, BatchQueue, Queues, ReadyJobs
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.durations import ENGINE_START_S
from orchestrator.plan.estimate import EngineNeed
from orchestrator.plan.job import BuildJob, EvalJob, Task
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import Failure, Outcome
from orchestrator.worker.worker import EngineHost

# Environment variables for worker processes; tokens come from each node's environment.
_FORWARDED = ("MERGEBOARD_HOME", "MERGEBOARD_DATASETS", "COVERAGE_PROCESS_START", "COVERAGE_FILE")
_IDLE_S = 60.0
_HOMELESS_S = 600.0
_NOTHING_S = 0.05


class RayExecutor:
    """Runs attempts on the Ray cluster that this process is connected to.

    `needs` maps engine keys to memory needs, `seconds` and `start_s` give the expected duration of a job and of
    its engine's start, `host` is the actor class that holds an engine.
    """

    def __init__(
        self,
        settings: Settings,
        facts: ClusterFacts,
        *,
        needs: Mapping[str, EngineNeed] | None = None,
        seconds: Callable[[BuildJob | EvalJob], float | None] = lambda job: None,
        host: type = EngineHost,
        start_s: Callable[[EvalJob], float] = lambda job: ENGINE_START_S,
        help_after_s: float = AFTER_S,
    ) -> None:
        self._settings = settings
        self._context = WorkerContext(
            home=str(settings.home),
            datasets=str(settings.datasets) if settings.datasets else None,
            merge_memory_bytes=settings.merge_memory_bytes,
        )
        self._floor = Floor(facts)
        self._needs = dict(needs or {})
        self._later: Mapping[str, int] = {}
        self._seconds = seconds
        self._host = ray.remote(host)
        self._start_s = start_s
        self._env = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
        self._env["MERGEBOARD_HOME"] = str(settings.home)
        self._engines: list[LiveEngine] = []
        self._opening: list[LiveEngine] = []
        self._closing: dict[Any, LiveEngine] = {}
        self._ending = Ending()
        self._running: dict[Any, EngineWork] = {}
        self._helping = Helping(seconds, start_s, after_s=help_after_s)
        self._builds = Builds(self._floor, self._context, self._env)
        self._verdicts: dict[Any, Failure] = {}
        self._nodes = KnownNodes(settings, facts)
        self._growth = Growth()
        self._homeless = Homeless()

    def expect(self, needs: Mapping[str, EngineNeed], later: Mapping[str, int]) -> None:
        """Take the memory needs of further engines, and the number of evaluations that will join the run later, by engine key."""
        self._needs.update(needs)
        self._later = later

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        """Select what can start now: builds, jobs of idle engines, then new engines, the largest first."""
        self._look_around()
        self._finish_closing()
        chosen = self._builds.pick(ready.builds())
        firsts = ready.first_of_each()
        queues = ready.queues(self._slots)
        self._floor.release(firsts)
        self._finish_opening()
        chosen += self._pick_engines(queues)
        for engine in self._opening:
            if queues.get(engine.key):
                # Reserved for this engine, which gets it when it is open.
                queues[engine.key].take()
        further_engines = self._pick_openings(
            sorted(firsts.values(), key=lambda job: -job.engine.tensor_parallel), queues
        )
        if self._growth.update(further_engines):
            self._nodes.look_soon()
        if queues.is_empty:
            self._help()
        return chosen

    def _pick_openings(self, firsts: Sequence[EvalJob], queues: Queues) -> dict[float, int]:
        """Open engines that save time despite their start; `firsts` is one job per engine key, largest first.

        Returns GPUs per engine -> number of engines for which further nodes should be started.
        """
        further_engines: Counter[float] = Counter()
        no_room: set[tuple[EngineSpec, EngineNeed | None]] = set()
        for job in firsts:
            key, need = job.engine_key, self._needs.get(job.engine_key)
            kind, small = (job.engine, need), job.engine.tensor_parallel <= 1
            if kind in no_room and not self._floor.is_kept_for(key):
                # Avoids trying thousands of checkpoints on each node.
                further_engines[gpus_of(job.engine)] += 1
                continue
            while queues[key] and self._is_worth_it(job, queues[key]):
                spot = self._floor.place(job, need)
                if spot is None:
                    if not self._make_room(job, need, queues):
                        further_engines[gpus_of(job.engine)] += self._worth_a_node(job, queues[key])
                        if small:
                            no_room.add(kind)
                    break
                self._ask_for(key, spot)
                queues[key].take()
        return {gpus: number for gpus, number in further_engines.items() if gpus and number}

    def _help(self) -> None:
        """Let idle engines, and new ones if there is room, help with long evaluations."""
        for work in self._helping.left_over(self._running.values()):
            work.place.kill()
        for engine in self._engines:
            if engine.state is not EngineState.IDLE:
                continue
            task = self._helping.task_for(engine.key, self._running.values())
            if task is not None:
                self._running[engine.help(task, SPELL_S)] = EngineWork((), engine, helps=task)
        if not self._opening:
            job = self._helping.wants_engine(self._running.values())
            spot = self._floor.place(job, self._needs.get(job.engine_key), alone=True) if job else None
            if job is not None and spot is not None:
                self._ask_for(job.engine_key, spot)

    def _pick_engines(self, queues: Queues) -> list[Batch]:
        """Assign batches to idle engines; close engines that have been idle for `_IDLE_S`."""
        chosen: list[Batch] = []
        for engine in list(self._engines):
            if engine.state is not EngineState.IDLE:
                continue
            if queues.get(engine.key):
                chosen.append(queues[engine.key].take())
                engine.take()
            elif time.monotonic() - engine.idle_since > _IDLE_S:
                self._retire(engine)
        return chosen

    def seat_of(self, batch: Batch) -> Seat:
        """Node and engine on which a picked batch will run."""
        job = batch[0]
        engine = self._promised(job.engine_key) if isinstance(job, EvalJob) else None
        return Seat(node=engine.spot.node.host, worker=engine.id) if engine else Seat()

    def submit(self, tasks: Sequence[Task]) -> None:
        """Start the attempts of one batch: a build as a task, evaluations on their engine's actor."""
        task = tasks[0]
        if isinstance(task.job, BuildJob):
            reference, node = self._builds.start(task, task.job)
            self._running[reference] = EngineWork((task,), node)
            return
        engine = self._promised(task.job.engine_key)
        if engine is None:
            raise RuntimeError(f"no engine is free for {task.job.digest}, which was not picked")
        self._helping.begun(task)
        self._running[engine.run(tuple(tasks))] = EngineWork(tuple(tasks), engine)

    def wait(self, timeout_s: float) -> list[Finished]:
        """Attempts that have ended, lost ones as failures; frees engines that were picked but got no work."""
        busy = {id(work.place) for work in self._running.values()}
        for engine in [e for e in self._engines if e.works and id(e) not in busy]:
            self._worked(engine)
        if self._opening or not self._running:
            timeout_s = min(timeout_s, _NOTHING_S)
        if not self._running:
            time.sleep(timeout_s)
            return []
        done, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if not done:
            watched = [*self._running, *self._closing]
            done, _ = ray.wait(watched, num_returns=1, timeout=timeout_s)
        return [f for reference in done if reference in self._running for f in self._collect(reference)]

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        """Kill the process that works on an attempt; `wait` then returns the failure."""
        for reference, work in self._running.items():
            if any(task.attempt_id == attempt_id for task in work.tasks):
                self._verdicts[reference] = failure
                if isinstance(work.place, LiveEngine):
                    work.place.kill()
                else:
                    cancel_build(reference)

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        """Jobs that no live node could hold for ten minutes, for example after the loss of a GPU node."""
        # Update first: while the store was lost, the nodes may not have been checked for over ten minutes.
        self._look_around()
        firsts = ready.first_of_each()
        without = [k for k, job in firsts.items() if not self._floor.ever(job, self._needs.get(k))]
        expired = {
            key
            for key, since_s in self._homeless.seconds(without).items()
            if since_s > _HOMELESS_S
            and (since_s > PATIENCE_S or not self._growth.may_come(gpus_of(firsts[key].engine)))
        }
        reason = (
            "For ten minutes no node of the cluster could hold its engine "
            f"({self._floor.facts.sentence}{self._nodes.left_out})."
        )
        return {job.digest: reason for key in expired for job in ready.all_for(key)}

    def cancel(self) -> None:
        """Stop all work, release all engines' resources, and withdraw requests for nodes."""
        self._growth.withdraw()
        for engine in [*self._engines, *self._opening, *self._closing.values()]:
            if engine.spot.resources.gpus:
                self._ending.add(engine)
            else:
                engine.end()
        for reference, work in self._running.items():
            if isinstance(work.place, NodeFacts):
                cancel_build(reference)
        self._ending.finish()
        self._engines.clear()
        self._opening.clear()
        self._closing.clear()
        self._running.clear()

    def _look_around(self) -> None:
        """Update the nodes."""
        facts = self._nodes.look()
        if facts is not None:
            self._floor.update(facts)

    def _slots(self, job: EvalJob) -> int:
        """Number of engines for this job that the cluster can hold."""
        return self._floor.slots(job, self._needs.get(job.engine_key))

    def _is_worth_it(self, first: EvalJob, queue: BatchQueue) -> bool:
        """Whether another engine, including its start, would shorten the time for the batches that wait or will come."""
        open_ = self._open(first.engine_key)
        if not open_:
            return True
        seconds_left = self._seconds_left(first, queue)
        return seconds_left is None or seconds_left > open_ * self._start_s(first)

    def _worth_a_node(self, first: EvalJob, queue: BatchQueue) -> int:
        """Number of further engines for which nodes should be started."""
        return worth_a_node(
            len(queue), self._seconds_left(first, queue), self._open(first.engine_key), self._start_s(first)
        )

    def _open(self, key: str) -> int:
        """Number of engines of this key that are open or opening, without draining ones."""
        engines = [*self._engines, *self._opening]
        return sum(engine.key == key and engine.state is not EngineState.DRAINING for engine in engines)

    def _seconds_left(self, first: EvalJob, queue: BatchQueue) -> float | None:
        """Seconds that one engine would need for the batches that wait and will come; None if unknown."""
        seconds = [second for batch in queue.ahead(50) for job in batch if (second := self._seconds(job))]
        count = len(queue) + self._later.get(first.engine_key, 0)
        return count * (sum(seconds) / len(seconds)) if seconds else None

    def _ask_for(self, key: str, spot: Spot) -> None:
        """Reserve this spot and open an engine on it."""
        self._floor.take(spot)
        self._opening.append(self._start(key, spot))

    def _start(self, key: str, spot: Spot) -> LiveEngine:
        """Start the reservation of an engine on this spot."""
        return LiveEngine.open(key, spot, self._host, self._context, self._env)

    def _make_room(self, job: EvalJob, need: EngineNeed | None, queues: Queues) -> bool:
        """Close an idle engine without waiting batches, else drain a node's smaller engines for this one.

        Returns whether either was done.
        """
        spare = [e for e in self._engines if not e.works and not queues.get(e.key)]
        if spare and not self._ending.pending:
            self._retire(max(spare, key=lambda e: e.spot.resources.gpus))
            return True
        key, gpus = job.engine_key, job.engine.tensor_parallel
        if (
            self._closing
            or self._ending.pending
            or self._floor.is_kept_for(key)
            or any(e.key == key for e in [*self._engines, *self._opening])
        ):
            return False
        options: list[tuple[float, NodeFacts, list[LiveEngine]]] = []
        for node in self._floor.nodes_for(job.engine):
            on_node = [e for e in self._engines if e.spot.node.node_id == node.node_id]
            smaller = [e for e in on_node if e.spot.resources.gpus < gpus]
            freed = self._floor.free(node)[0] + sum(e.spot.resources.gpus for e in smaller)
            if freed >= gpus and (need is None or need.fits(node, gpus)):
                options.append((freed, node, smaller))
        if options:
            _, node, smaller = min(options, key=lambda option: option[0])
            self._floor.keep(node, key)
            freed = self._floor.free(node)[0]
            for engine in sorted(smaller, key=lambda e: -e.spot.resources.gpus):
                if freed < gpus:
                    freed += engine.spot.resources.gpus
                    if engine.works:
                        engine.state = EngineState.DRAINING
                    else:
                        self._retire(engine)
        return bool(options)

    def _promised(self, key: str) -> LiveEngine | None:
        """An engine that was picked for a batch and has not started it yet."""
        working = {id(work.place) for work in self._running.values()}
        return next((e for e in self._engines if e.key == key and e.works and id(e) not in working), None)

    def _collect(self, reference: Any) -> list[Finished]:
        work = self._running.pop(reference)
        tasks, place = work.tasks, work.place
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as error:
            failure = self._verdicts.get(reference) or failure_of_lost(error, work, self._settings.logs)
            answer = (failure,) * max(1, len(tasks))
        self._verdicts.pop(reference, None)
        outcomes: tuple[Outcome | bool, ...] = answer if isinstance(answer, tuple) else (answer,)
        if work.helps is not None:
            self._helping.ended(work.helps, more=outcomes[-1] is True)
        if isinstance(place, LiveEngine):
            if isinstance(outcomes[-1], Failure):
                self._avoid_node_of(outcomes[-1], place, tasks)
                # After a failure the engine's state is undefined; the next job opens a new one.
                self._drop(place)
            else:
                self._worked(place)
        else:
            self._builds.ended(place)
        return [
            Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)
            for task, outcome in zip(tasks, outcomes, strict=work.helps is None)
        ]

    def _avoid_node_of(self, failure: Failure, engine: LiveEngine, tasks: Sequence[Task]) -> None:
        """After a failure caused by the node, avoid the node for a while, if another can hold the engine."""
        seconds = AVOID_S.get(failure.failure_class)
        job = tasks[0].job if tasks else None
        if seconds is not None and isinstance(job, EvalJob):
            self._floor.avoid(engine.spot.node, seconds, job, self._needs.get(job.engine_key))

    def _worked(self, engine: LiveEngine) -> None:
        """Mark an engine as idle, or close it if it is draining."""
        if engine.state is EngineState.DRAINING:
            self._retire(engine)
        else:
            engine.rest()

    def _retire(self, engine: LiveEngine) -> None:
        """Close an idle engine gracefully; its resources are free when it has closed."""
        self._engines.remove(engine)
        self._closing[engine.close()] = engine

    def _drop(self, engine: LiveEngine) -> None:
        """Kill an engine; its resources are free when its processes have ended."""
        self._engines.remove(engine)
        self._ending.add(engine)

    def _finish_opening(self) -> None:
        """Make reserved engines available; cancel overdue reservations, whose GPUs another process uses."""
        for engine in list(self._opening):
            if engine.is_reserved():
                self._opening.remove(engine)
                engine.rest()
                self._engines.append(engine)
            elif engine.is_overdue():
                self._opening.remove(engine)
                engine.end()
                self._floor.give(engine.spot)
                self._floor.avoid(engine.spot.node)

    def _finish_closing(self) -> None:
        for reference, engine in list(self._closing.items()):
            if engine.is_closed():
                del self._closing[reference]
                if engine.is_closed_in_order():
                    engine.end()
                    self._floor.give(engine.spot)
                else:
                    self._ending.add(engine)
        for engine in self._ending.gone():
            self._floor.give(engine.spot)
