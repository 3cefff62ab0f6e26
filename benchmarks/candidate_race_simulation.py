"""How often a race of candidates over leaderboard-v2 loses one of the best, and what it costs.

    python -m benchmarks.candidate_race_simulation [--races 200] [--case N]

The sizes are those of leaderboard-v2 (21,606 documents, 39 subsets). Candidates' true levels are normal without a gap, on every benchmark with a
deviation of its own, so that the best and the next ones are neighbours. All answer the same documents; half of what decides an answer is the
document's difficulty. Looks, rule and weights are the product's (`evals.stats.candidate_race`).

Lost: one of the `keep` best of the whole sweep left, by the average without the floor at the lower bounds, by which the race ranks, and by the
board's average with the floor, where that ranks otherwise. Asked: documents of the candidates, as a share of all.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import scipy

from evals.race_rule import RaceRule
from evals.stats.paired import pooled
from evals.stats.race import RaceProbe, race_look
from evals.stats.resample import Floats
from evals.suite import Benchmark, load_suite


@dataclass(frozen=True)
class Case:
    """One kind of sweep."""

    candidates: int
    spread: float
    """Standard deviation of the candidates' true levels, in points."""
    keep: int
    level: float
    """Mean level in points of the raw score above the lower bound."""
    broken: int = 0
    """Candidates besides that answer at random."""


CASES = (
    Case(3, 3, 1, 25),
    Case(6, 1, 1, 25),
    Case(6, 5, 1, 25, broken=2),
    Case(10, 2, 3, 25),
    Case(30, 1, 3, 25),
    Case(30, 5, 3, 25),
    Case(100, 2, 5, 25, broken=20),
    Case(30, 1, 3, 1),
    Case(30, 3, 3, 1, broken=10),
    Case(30, 2, 3, -2),
)


@dataclass
class Group:
    """The documents that are averaged first: a subset, or a pooled benchmark."""

    credits: Floats
    """Shape (candidates, documents), in random order."""
    lower_bound: float
    points: float
    """Points of the average that a mean credit of 1 is worth."""


def draw(case: Case, benchmarks: tuple[Benchmark, ...], rng: np.random.Generator) -> list[Group]:
    """All answers of one sweep."""
    n = case.candidates + case.broken
    true = rng.normal(0, case.spread, case.candidates)
    groups: list[Group] = []
    for benchmark in benchmarks:
        by_benchmark = true + rng.normal(0, case.spread / 2, case.candidates)
        sizes = [(s.n_documents or 100, s.lower_bound) for s in benchmark.subsets]
        if pooled(benchmark):
            sizes = [(sum(size for size, _ in sizes), sizes[0][1])]
        for size, bound in sizes:
            share = np.clip(bound + (case.level + by_benchmark) / 100, 0.005, 0.995)
            share = np.concatenate([share, np.full(case.broken, max(bound, 0.005))])
            latent = np.sqrt(0.5) * (rng.standard_normal(size) + rng.standard_normal((n, size)))
            credits = (latent < scipy.stats.norm.ppf(share)[:, None]).astype(float)
            weight = 100 / (1 - bound) / len(sizes) / len(benchmarks)
            groups.append(Group(credits, bound, weight))
    return groups


def average(groups: list[Group], *, floor: bool) -> Floats:
    """The average of the benchmarks on all documents, with or without the floor."""
    parts = [(g.credits.mean(axis=1) - g.lower_bound) * g.points for g in groups]
    total: Floats = np.sum([np.maximum(0, part) if floor else part for part in parts], axis=0)
    return total


def best(values: Floats, keep: int) -> set[int]:
    """The best candidates; those that are equal to the next one are none."""
    cut = np.sort(values)[::-1][keep]
    return set(np.flatnonzero(values > cut + 1e-9).tolist())


def race(groups: list[Group], rule: RaceRule) -> tuple[set[int], float]:
    """The candidates that are left, and the share of the documents that was asked."""
    kept = np.arange(len(groups[0].credits))
    whole = sum(g.credits.shape[1] for g in groups)
    asked, before = 0.0, 0
    for share in rule.shares:
        ends = [min(g.credits.shape[1], max(3, round(share * g.credits.shape[1]))) for g in groups]
        asked += (sum(ends) - before) * len(kept)
        before = sum(ends)
        sets = [
            RaceProbe(g.credits[kept, :end], g.credits.shape[1], g.points)
            for g, end in zip(groups, ends, strict=True)
        ]
        kept = kept[~race_look(sets, keep=rule.keep, error_rate=rule.error_rate / len(rule.shares)).leaves]
        if len(kept) <= rule.keep:
            break
    asked += (whole - before) * len(kept)
    return set(kept.tolist()), asked / whole / len(groups[0].credits)


def run(case: Case, n_races: int) -> str:
    """A row of the table."""
    benchmarks = load_suite("leaderboard-v2").benchmarks
    rule = RaceRule(keep=case.keep)
    lost, lost_floored, shares, kept_counts = 0, 0, [], []
    for seed in range(n_races):
        groups = draw(case, benchmarks, np.random.default_rng([61, seed, case.candidates]))
        kept, share = race(groups, rule)
        lost += not best(average(groups, floor=False), case.keep) <= kept
        lost_floored += not best(average(groups, floor=True), case.keep) <= kept
        shares.append(share)
        kept_counts.append(len(kept))
    return (
        f"{case.candidates} candidates and {case.broken} at random, {case.spread:g} points apart, {case.level:g} points above the bounds, best "
        f"{case.keep}: lost {lost / n_races:.1%}, with the floor {lost_floored / n_races:.1%} of {n_races}; asked {np.median(shares):.1%} "
        f"({min(shares):.1%} to {max(shares):.1%}), asked everything {np.median(kept_counts):.0f}"
    )


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    for case in CASES if options.case is None else CASES[options.case : options.case + 1]:
        print(run(case, options.races), flush=True)


if __name__ == "__main__":
    main()
