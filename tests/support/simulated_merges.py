"""A simulated executor for searches over merges: real planner, scheduler, store, probes and samples, but no weights.

How well a merge answers follows from its linear weights: `skill` maps the weights of the parents to a value of about 0 to 1. It can be
killed at given moments, and ends what runs at once in a random order.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from evals.engine import PathEngine, ScoreRequest, ScoreResult
from evals.probes import get_probe
from evals.probes.evaluate import ProbeEvaluation, ProbeRun
from evals.samples import write_samples
from orchestrator.cluster import Batch, Finished, ReadyJobs, Seat
from orchestrator.plan.estimate import EngineNeed
from orchestrator.plan.job import BuildJob, EvalJob, Task
from orchestrator.settings import Settings
from orchestrator.store.records import BuildOutcome, EvalOutcome, Failure, FailureClass, Outcome
from recipes.recipe import Recipe
from tests.support.store_data import HARDWARE

Skill = Callable[[Mapping[str, float]], float | None]
"""Weight of each parent, by the last part of its name -> skill; None if the merge fails."""


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Simulation:
    """What all executors of one history share."""

    skill: Skill
    base: Path
    recipes: dict[str, str] = field(default_factory=dict)
    kills: set[int] = field(default_factory=set)
    moment: int = 0
    evaluated: list[str] = field(default_factory=list)
    order: random.Random = field(default_factory=lambda: random.Random(0))

    def pass_moment(self) -> None:
        """One more moment at which it may be killed."""
        self.moment += 1
        if self.moment in self.kills:
            raise Killed

    def executor(self, settings: Settings) -> SimulatedExecutor:
        """Engines of this history."""
        return SimulatedExecutor(settings, self)


class SimulatedExecutor:
    """Three engines; implements orchestrator.cluster.Executor."""

    engines = 3

    def __init__(self, settings: Settings, simulation: Simulation) -> None:
        self._home = settings.home
        self._simulation = simulation
        self._running: list[Task] = []

    def expect(self, needs: Mapping[str, EngineNeed], later: Mapping[str, int]) -> None:
        """It has no memory to plan."""

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        self._simulation.pass_moment()
        free = self.engines - len(self._running)
        batches: list[Batch] = [(job,) for job in ready.builds()]
        batches += [ready.queue(key).take()[:1] for key in ready.first_of_each()]
        return batches[:free]

    def seat_of(self, batch: Batch) -> Seat:
        return Seat()

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        raise AssertionError(f"{attempt_id} was given up: {failure.message}")

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        return {}

    def submit(self, tasks: Sequence[Task]) -> None:
        self._simulation.pass_moment()
        self._running += tasks

    def wait(self, timeout_s: float) -> list[Finished]:
        self._simulation.pass_moment()
        if not self._running:
            return []
        task = self._running.pop(self._simulation.order.randrange(len(self._running)))
        outcome = self._build(task.job) if isinstance(task.job, BuildJob) else self._evaluate(task.job)
        self._simulation.evaluated.append(task.job.digest)
        return [Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)]

    def cancel(self) -> None:
        self._running.clear()

    def _build(self, job: BuildJob) -> Outcome:
        self._simulation.recipes[job.digest] = job.recipe
        if self._simulation.skill(_weights(job.recipe)) is None:
            return Failure(failure_class=FailureClass.BAD_INPUT, message="Its weights do not add up.")
        now = datetime.now(UTC)
        return BuildOutcome(
            artifact=job.digest, path=f"artifacts/{job.digest}", size_bytes=1, parameters=1, layers=1, hardware=HARDWARE,
            started_at=now, ended_at=now,
        )  # fmt: skip

    def _evaluate(self, job: EvalJob) -> Outcome:
        skill = self._simulation.skill(weights_of(job, self._simulation.recipes))
        if skill is None:
            return Failure(failure_class=FailureClass.BAD_INPUT, message="Its weights do not add up.")
        engine = _Engine(self._simulation.base, job, skill)  # what a choice probe asks of one
        run = ProbeRun(cast("PathEngine", engine), job.benchmark, job.settings)
        result = run.measure([None])[0]
        assert isinstance(result, ProbeEvaluation)
        samples = self._home / "samples" / f"{job.digest}.parquet"
        samples.parent.mkdir(parents=True, exist_ok=True)
        write_samples(samples, result.samples)
        now = datetime.now(UTC)
        return EvalOutcome(
            evaluation=result.evaluation.model_copy(update={"duration_s": 1.0}), samples_path=f"samples/{job.digest}.parquet",
            samples_sha256=hashlib.sha256(samples.read_bytes()).hexdigest(), hardware=HARDWARE, started_at=now, ended_at=now,
        )  # fmt: skip


class _Engine:
    """Answers the questions of a choice probe: the right answer's probability follows from skill and question."""

    def __init__(self, checkpoint: Path, job: EvalJob, skill: float) -> None:
        self.checkpoint = checkpoint
        self.spec = job.engine
        self._skill = skill
        self._probe = get_probe(job.benchmark)

    def set_layer_path(self, path: object) -> None:
        """It has no layers."""

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreResult]]:
        for index, (request, item) in enumerate(zip(requests, self._probe.items, strict=True)):
            difficulty = random.Random(f"{self._probe.name}:{index}").gauss(0, 0.5)
            right = 1 / (1 + math.exp(-(4 * self._skill - 2 - difficulty)))
            others = (1 - right) / (len(request.continuations) - 1)
            logprobs = [
                math.log(right if n == item.answer else others) for n in range(len(request.continuations))
            ]
            yield index, ScoreResult(logprobs=tuple(logprobs), is_greedy=(False,) * len(logprobs))


def weights_of(job: EvalJob, recipes: Mapping[str, str]) -> dict[str, float]:
    """Normalized weight of each source of what a job evaluates; `recipes` are those of the artifacts that were built."""
    live = job.live_merge
    recipe = live.build.recipe if live else recipes.get(job.place.artifact or "")
    return {Path(job.place.name or "").name: 1.0} if recipe is None else _weights(recipe)


def _weights(recipe: str) -> dict[str, float]:
    """Normalized weight of each source of a linear merge."""
    document: dict[str, Any] = Recipe.parse(recipe).canonical[0]
    models = document.get("models") or document["slices"][0]["sources"]
    weights = {Path(m["model"]).name: float(m.get("parameters", {}).get("weight", 1.0)) for m in models}
    total = sum(weights.values()) or 1.0
    return {name: weight / total for name, weight in weights.items()}
