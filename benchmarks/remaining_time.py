"""How far off the estimate of a run's remaining time is, on simulated runs whose end is known; beside the two that it replaced.

    python -m benchmarks.remaining_time [--runs 40]

Prints a table in Markdown: per kind of run the median relative error after a quarter, half and three quarters of its time.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.simulated_jobs import SETTINGS, SleepingHost
from evals.engine import EngineKind, EngineSpec
from orchestrator.plan.durations import Durations
from orchestrator.plan.engine_starts import EngineStarts
from orchestrator.plan.job import CheckpointPlace, EvalJob
from orchestrator.run.outlook import RunOutlook
from orchestrator.run.progress import JobProgress

QUARTERS = (0.25, 0.5, 0.75)
TICK_S = 1.0
_WINDOW_S = 600.0
_BENCHMARKS = ("bbh", "ifeval", "math", "musr", "mmlu_pro")


@dataclass(frozen=True)
class Kind:
    """A kind of run."""

    title: str
    candidates: int = 12
    engines: int = 1
    start_s: float = 20.0
    batch: int = 1
    spread: float = 0.15
    """Standard deviation of the logarithm of what jobs of one size take."""
    bias: float = 2.0
    """Largest factor by which the model is wrong, differently for each benchmark."""
    resumed: bool = False
    """Whether the jobs that start first were cut short before: their journals answer 90 % of their requests."""
    slow: float = 1.0
    """Factor of one job in the middle of the run."""
    known: bool = False
    """Whether the store has measured such jobs before."""
    benchmarks: Sequence[str] = _BENCHMARKS
    mean_s: float = 20.0


KINDS = (
    Kind("one engine, nothing measured before"),
    Kind("one engine, measured before", known=True),
    Kind("four engines", candidates=40, engines=4),
    Kind("16 engines, slow starts", candidates=100, engines=16, start_s=300.0, mean_s=60.0),
    Kind("few jobs for many engines", candidates=2, engines=8, start_s=60.0, mean_s=120.0),
    Kind("batches of 16", candidates=160, engines=2, batch=16, benchmarks=_BENCHMARKS[:1], mean_s=5.0),
    Kind("resumed, finished requests replayed", engines=8, resumed=True, candidates=24),
    Kind("one job 12 times as slow", engines=2, slow=12.0, candidates=24),
    Kind("one job alone", candidates=1, benchmarks=_BENCHMARKS[:1], mean_s=400.0),
    Kind("durations vary by 2", candidates=40, engines=4, spread=0.7),
)


@dataclass
class Moment:
    """One moment of a simulated run, and what was shown for it."""

    at_s: float
    ended: int
    quarters: int
    shown: dict[str, float | None]


@dataclass
class _Engine:
    """An engine and the batch that it works on."""

    start_s: float
    jobs: list[EvalJob] = field(default_factory=list)
    begun_s: float = 0.0
    work_from_s: float = 0.0
    ends_s: float = 0.0
    fresh: bool = True


class SimulatedRun:
    """A run with a clock of its own, told to the outlook as the scheduler tells it."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self._kind = kind
        self._chance = random.Random(f"{kind.title} {seed}")
        self._now = 0.0
        self._jobs = {job.digest: job for job in _jobs(kind)}
        parameters = {
            (j.weights_digest, j.layer_path): 10**8 * len(j.layer_path or ()) for j in self._jobs.values()
        }
        starts = EngineStarts()
        self._durations = Durations(parameters, on_gpu=True, starts=starts)
        bias = {b: kind.bias ** self._chance.uniform(-1, 1) for b in kind.benchmarks}
        model = {d: self._durations.seconds(job) or 1.0 for d, job in self._jobs.items()}
        scale = kind.mean_s / statistics.fmean(model.values())
        self._took = {
            d: scale * model[d] * bias[job.benchmark] * self._chance.lognormvariate(0.0, kind.spread)
            for d, job in self._jobs.items()
        }
        order = list(self._jobs)
        self._replayed = set(order[: kind.engines]) if kind.resumed else set()
        for digest in self._replayed:
            self._took[digest] *= 0.1
        if kind.slow > 1:
            self._took[order[len(order) // 2]] *= kind.slow
        if kind.known:
            for job in self._jobs.values():
                workload = self._durations.workload(job)
                self._durations.learn(workload, scale * model[job.digest] * bias[job.benchmark])
        if kind.known:
            self._durations.learn_start(next(iter(self._jobs.values())), kind.start_s)
        self._engines = [_Engine(kind.start_s * self._chance.uniform(0.8, 1.3)) for _ in range(kind.engines)]
        self._outlook = RunOutlook(self._durations, self._jobs, clock=lambda: self._now)
        self._answers = SleepingHost(None)

    def run(self) -> tuple[list[Moment], float]:
        """Every moment of the run, and when it ended."""
        # As the scheduler ranks them: the base, then what is expected to take longest.
        seconds = {digest: self._durations.seconds(job) or 0.0 for digest, job in self._jobs.items()}
        base = next(iter(self._jobs.values())).layer_path
        waiting = sorted(self._jobs, key=lambda d: (self._jobs[d].layer_path != base, -seconds[d]))
        moments: list[Moment] = []
        ends: list[float] = []
        while len(ends) < len(self._jobs):
            self._end(ends)
            self._start(waiting)
            running = [self._progress(engine) for engine in self._engines if engine.jobs]
            left = self._outlook.left_s(waiting, running, len(ends))
            recent = sum(self._now - at <= _WINDOW_S for at in ends)
            open_jobs = len(self._jobs) - len(ends)
            moments.append(
                Moment(
                    self._now,
                    len(ends),
                    sum(int(4 * (p.share_done or 0.0)) for p in running),
                    {
                        "now": left,
                        "elapsed / done": self._now / len(ends) * open_jobs if ends else None,
                        "last ten minutes": open_jobs * _WINDOW_S / recent if recent else None,
                    },
                )
            )
            self._now += TICK_S
        return moments, max(ends)

    def _end(self, ends: list[float]) -> None:
        for engine in self._engines:
            if not engine.jobs or engine.ends_s > self._now:
                continue
            for number, job in enumerate(engine.jobs):
                outcome = self._answers.answer(job, self._took[job.digest])
                replayed = 90 if job.digest in self._replayed else 0
                started = engine.start_s if engine.fresh and number == 0 else None
                evaluation = outcome.evaluation.model_copy(update={"n_replayed": replayed})
                outcome = outcome.model_copy(update={"evaluation": evaluation, "engine_start_s": started})
                self._outlook.ended(job, outcome)
                ends.append(engine.ends_s)
            engine.jobs, engine.fresh = [], False

    def _start(self, waiting: list[str]) -> None:
        for engine in self._engines:
            if engine.jobs or not waiting:
                continue
            digests = [waiting.pop(0) for _ in range(min(self._kind.batch, len(waiting)))]
            engine.jobs = [self._jobs[d] for d in digests]
            engine.begun_s = self._now
            engine.work_from_s = self._now + (engine.start_s if engine.fresh else 0.5)
            engine.ends_s = engine.work_from_s + sum(self._took[d] for d in digests)
            self._outlook.began(engine.jobs)

    def _progress(self, engine: _Engine) -> JobProgress:
        done_s = self._now - engine.work_from_s
        label = {"digest": engine.jobs[0].digest, "label": ""}
        if done_s <= 0:
            starts = engine.fresh
            return JobProgress(**label, stage="starting", engine_starts=starts)
        # Requests are counted by what they are expected to cost, which is not quite what they take.
        share = min(1.0, done_s / (engine.ends_s - engine.work_from_s)) ** 1.1
        return JobProgress(
            **label, stage="evaluating", done=int(share * 1000), total=1000, share_done=share, work_s=done_s
        )


def _jobs(kind: Kind) -> Iterator[EvalJob]:
    engine = EngineSpec(kind=EngineKind.VLLM, version="0")
    for number in range(kind.candidates):
        path = tuple(range(24 + number % 17)) + (0,) * (number // 17)
        for benchmark in kind.benchmarks:
            yield EvalJob(
                weights_digest="b" * 16, layer_path=path, suite="leaderboard-v2", benchmark=benchmark,
                benchmark_digest="d" * 16, dataset_digest="d" * 16, engine=engine, settings=SETTINGS, scorer="none",
                place=CheckpointPlace(name="simulated"), live_layers=path,
            )  # fmt: skip


def errors(moments: Sequence[Moment], end_s: float, name: str) -> list[float | None]:
    """Relative errors after a quarter, half and three quarters of the run; null where nothing was shown."""
    found: list[float | None] = []
    for share in QUARTERS:
        at = next(m for m in moments if m.at_s >= share * end_s)
        shown, left = at.shown[name], end_s - at.at_s
        found.append(abs(shown - left) / max(left, 1.0) if shown is not None else None)
    return found


def growth_s(moments: Sequence[Moment], name: str) -> float:
    """Most seconds by which an estimate grew from one moment to a later one although nothing had ended in between."""
    most, low = 0.0, float("inf")
    before: Moment | None = None
    for moment in moments:
        shown = moment.shown[name]
        if before is None or (moment.ended, moment.quarters) != (before.ended, before.quarters):
            low = float("inf")
        if shown is not None:
            most, low = max(most, shown - low), min(low, shown)
        before = moment
    return most


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="runs of each kind")
    options = parser.parse_args(arguments)
    say("| kind of run | estimate | shown | error at 25 % | at 50 % | at 75 % | grows by at most |")
    say("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        runs = [SimulatedRun(kind, seed).run() for seed in range(options.runs)]
        for name in runs[0][0][0].shown:
            rows = [errors(moments, end_s, name) for moments, end_s in runs]
            shown = statistics.fmean(e is not None for row in rows for e in row)
            columns = [[row[q] for row in rows] for q in range(len(QUARTERS))]
            medians = [_median([e for e in column if e is not None]) for column in columns]
            growth = max(growth_s(moments, name) for moments, _ in runs)
            say(f"| {kind.title} | {name} | {shown:.0%} | {' | '.join(medians)} | {growth:,.0f} s |")


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0%}" if values else "–"


if __name__ == "__main__":
    main()
