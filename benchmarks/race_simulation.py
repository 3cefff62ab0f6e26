"""How often a race loses one of the best, and what it costs: races over the stored answers of a whole scan, in many random orders.

    python -m benchmarks.race_simulation [--races 200]                         without a gap between the best and the others
    python -m benchmarks.race_simulation --run RUN [--orders 200] [--keep 1 5 10]

Without RUN: paths whose true values are normal, so that the best and the next ones are neighbours; answers are value, plus an effect of the
question that all paths share, plus noise of each path's own.

RUN is a scan without --race in MERGEBOARD_HOME, so that all answers are known. Each order of the questions gives one race by the
product's rule (`evals.stats.race`) and one successive halving over the same parts (the better half stays after each).
Lost: at least one of the `keep` best of the whole scan left; first lost: the best one did. Questions: asked, as a share of all.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.probes import Split, get_probe
from evals.probes.choice import ChoiceProbe
from evals.probes.probe import AnyProbe
from evals.probes.race import RacePlan
from evals.stats.race import RaceProbe, race_look
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.plan.job import EvalJob
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rule = Callable[[list[RaceProbe], int, float], Bools]


@dataclass
class Answers:
    """All answers to one probe; the base is the first path."""

    probe: AnyProbe
    credits: Floats
    """Credits as they are asked whole, shape (paths, items)."""
    shares: Floats | None
    """Probabilities of the choices where credits are calibrated over the items, shape (paths, items, choices)."""

    def part(self, paths: npt.NDArray[np.intp], items: Sequence[int]) -> Floats:
        """Credits minus the base's for a part of the items, shape (paths, items asked)."""
        rows = np.concatenate([[0], paths])
        if self.shares is None:
            credits = self.credits[np.ix_(rows, np.array(items))]
        else:
            chosen = self.shares[np.ix_(rows, np.array(items))]
            scaled = (chosen + 1e-9) / (chosen.mean(axis=1, keepdims=True) + 1e-9)
            right = np.array([self.probe.items[item].answer for item in items])
            credits = scaled[:, np.arange(len(items)), right] / scaled.sum(axis=2)
        return np.asarray(credits[1:] - credits[:1])


def read_scan(run_id: str) -> list[Answers]:
    """The answers of a whole scan, path by path."""
    settings = Settings.from_environment()
    with Store.open(settings.database_url, create=False) as store:
        jobs = [i.job for i in store.run_jobs(run_id) if isinstance(i.job, EvalJob) and i.job.is_probe]
        outcomes = store.outcomes(job.digest for job in jobs)
        names = [n for n in dict.fromkeys(j.benchmark for j in jobs) if n.endswith(str(Split.SEARCH))]
        by_path: dict[object, dict[str, list[tuple[float, tuple[float, ...]]]]] = {None: {}}
        for job in jobs:
            outcome = outcomes.get(job.digest)
            if isinstance(outcome, EvalOutcome):
                samples = stored_samples(job.digest, outcome, settings.home).read()
                rows = [(float(s.correct or 0.0), s.logprobs) for s in samples]
                by_path.setdefault(job.layer_path, {})[job.benchmark] = rows
    complete = [path for path, rows in by_path.items() if all(name in rows for name in names)]
    return [answers_of(get_probe(name), [by_path[path][name] for path in complete]) for name in names]


def answers_of(probe: AnyProbe, rows: Sequence[Sequence[tuple[float, tuple[float, ...]]]]) -> Answers:
    """The answers to one probe from credits and log-probabilities."""
    credits = np.array([[credit for credit, _ in path] for path in rows])
    shares = None
    if isinstance(probe, ChoiceProbe) and len({item.choices for item in probe.items}) == 1 and rows[0][0][1]:
        shares = np.exp(np.array([[logprobs for _, logprobs in path] for path in rows]))
        shares /= shares.sum(axis=2, keepdims=True)
    return Answers(probe, credits, shares)


@dataclass(frozen=True)
class Outcome:
    """One race."""

    lost: bool
    """Whether one of the best left."""
    lost_first: bool
    counts: tuple[int, ...]
    """Paths that were asked each part, the rest of the questions last."""


def race(answers: Sequence[Answers], plan: RacePlan, rule: Rule) -> Outcome:
    """One race by a rule that says who leaves."""
    everyone = np.arange(1, len(answers[0].credits))
    kept, counts = everyone, []
    weights: list[float] = []
    for look in range(len(plan.shares)):
        counts.append(len(kept))
        values = [a.part(kept, plan.items(a.probe, look)) for a in answers]
        weights = weights or [1 / max(float(v.mean(axis=1).std()), 1e-12) for v in values]
        probes = [
            RaceProbe(values=v, n_whole=len(a.probe.items), weight=w)
            for v, a, w in zip(values, answers, weights, strict=True)
        ]
        kept = kept[~rule(probes, plan.keep, plan.error_rate / len(plan.shares))]
    parts = [a.part(everyone, range(len(a.probe.items))) for a in answers]
    totals = np.sum([w * v.mean(axis=1) for v, w in zip(parts, weights, strict=True)], axis=0)
    ordered = np.sort(totals)[::-1]
    next_best = ordered[plan.keep] if len(ordered) > plan.keep else -math.inf
    best = everyone[totals > next_best + 1e-9]
    return Outcome(
        lost=not set(best) <= set(kept),
        lost_first=not set(everyone[totals >= ordered[0] - 1e-9]) & set(kept),
        counts=(*counts, len(kept)),
    )


def by_race(probes: list[RaceProbe], keep: int, error_rate: float) -> Bools:
    """The product's rule."""
    return race_look(probes, keep=keep, error_rate=error_rate).leaves


def by_halving(probes: list[RaceProbe], keep: int, error_rate: float) -> Bools:
    """Successive halving: the better half stays."""
    value = np.sum([p.weight * p.values.mean(axis=1) for p in probes], axis=0)
    stay = np.argsort(-value, kind="stable")[: max(keep, math.ceil(len(value) / 2))]
    leaves = np.ones(len(value), dtype=bool)
    leaves[stay] = False
    return leaves


def by_nothing(probes: list[RaceProbe], keep: int, error_rate: float) -> Bools:
    """Everything is asked."""
    return np.zeros(len(probes[0].values), dtype=bool)


RULES: dict[str, Rule] = {"race": by_race, "halving": by_halving}


def question_cost(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Questions asked, as a share of all."""
    ends = [*shares, 1.0]
    steps = np.diff([0.0, *ends])
    return float(np.dot(counts, steps) / counts[0])


def main() -> None:
    """Print a row for each rule, number of best paths, and set of looks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run")
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--keep", type=int, nargs="*", default=[1, 5, 10])
    options = parser.parse_args()
    if options.run is None:
        without_gap(options.races)
    else:
        report(read_scan(options.run), options.orders, options.keep)


CASES = (
    (60, 0.1, 3, 9, 36),
    (60, 0.2, 3, 9, 36),
    (400, 0.2, 10, 9, 36),
    (400, 0.05, 10, 25, 100),
    (400, 0.2, 10, 25, 100),
    (400, 0.2, 10, 50, 100),
)
"""Paths, standard deviation of their true values, best ones, questions asked, questions of the set."""


def without_gap(n_races: int) -> None:
    """One look at paths without a gap between the best and the others; noise has a standard deviation of 0.3."""
    for n_paths, spread, keep, n, n_whole in CASES:
        lost, left = 0, []
        for seed in range(n_races):
            rng = np.random.default_rng([seed, n_paths, n])
            true = rng.normal(0, spread, n_paths)
            whole = true[:, None] + rng.normal(0, 0.3, n_whole) + rng.normal(0, 0.3, (n_paths, n_whole))
            best = np.argsort(-whole.mean(axis=1))[:keep]
            probe = RaceProbe(values=whole[:, :n], n_whole=n_whole, weight=1.0)
            leaves = race_look([probe], keep=keep, error_rate=0.05, n_draws=1000).leaves
            lost += bool(leaves[best].any())
            left.append(float(leaves.mean()))
        print(
            f"{n_paths} paths, true values {spread:g} apart, best {keep}, {n} of {n_whole} questions: one of the best left in "
            f"{lost / n_races:.1%} of {n_races} races; {np.mean(left):.0%} of the paths left",
            flush=True,
        )


def report(
    answers: Sequence[Answers],
    n_orders: int,
    keeps: Sequence[int],
    all_shares: Sequence[tuple[float, ...]] = ((0.25, 0.5), (0.125, 0.25, 0.5)),
) -> None:
    """Print the table."""
    print(
        f"{len(answers[0].credits) - 1} paths, {sum(len(a.probe.items) for a in answers)} questions, {n_orders} orders"
    )
    for keep in keeps:
        for shares in all_shares:
            for name, rule in RULES.items():
                outcomes = [
                    race(answers, RacePlan(keep=keep, shares=shares, seed=seed), rule)
                    for seed in range(n_orders)
                ]
                lost, first = sum(o.lost for o in outcomes), sum(o.lost_first for o in outcomes)
                costs = [question_cost(o.counts, shares) for o in outcomes]
                counts = np.mean([o.counts for o in outcomes], axis=0).round(1).tolist()
                print(
                    f"keep {keep:>2}, looks {shares}, {name:>7}: lost {lost / n_orders:.1%}, first lost {first / n_orders:.1%}, "
                    f"questions {np.median(costs):.1%} ({min(costs):.1%} to {max(costs):.1%}), paths {counts}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
