"""Coverage of 95 % intervals when questions share passages: `python -m benchmarks.cluster_coverage [--repeats N]`.

Every repetition draws clusters of 1 to 9 questions with a common difficulty (a beta distribution per cluster, so that answers of
one cluster correlate), scores a base and a candidate that shares three fifths of its answers, and asks whether the 95 % intervals
of the candidate's score and of the delta contain their expectation: by cluster, and as if the questions were independent. Cases
with a floor put the score near the lower bound, where the leaderboard's `max(0, ...)` cuts a share of the draws.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evals.stats.paired import Documents, delta, estimate
from evals.stats.resample import SubsetDocuments, measured

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One kind of benchmark."""

    name: str
    clusters: int
    subsets: int
    mean: float
    correlation: float
    lower_bound: float
    graded: bool = False


CASES = (
    Case("40 clusters", 40, 1, 0.55, 0.3, 0.0),
    Case("40 clusters, graded answers", 40, 1, 0.55, 0.3, 0.0, graded=True),
    Case("20 clusters, strong correlation", 20, 1, 0.5, 0.5, 0.0),
    Case("200 clusters", 200, 1, 0.7, 0.2, 0.0),
    Case("floor, near chance", 60, 1, 0.28, 0.3, 0.25),
    Case("floor, well above chance", 60, 1, 0.6, 0.3, 0.25),
    Case("floor, 6 subsets near chance", 30, 6, 0.30, 0.3, 0.25),
)


def simulated(case: Case, rng: np.random.Generator) -> Documents:
    """Base and candidate on one draw of clusters and questions."""
    subsets = []
    for number in range(case.subsets):
        sizes = rng.integers(1, 10, size=case.clusters)
        clusters = np.repeat(np.arange(case.clusters), sizes)
        spread = (1 - case.correlation) / case.correlation
        shapes = case.mean * spread, (1 - case.mean) * spread
        difficulty, other = (rng.beta(*shapes, size=case.clusters)[clusters] for _ in range(2))
        base = (rng.uniform(size=len(clusters)) < difficulty).astype(float)
        own = (rng.uniform(size=len(clusters)) < other).astype(float)
        # The candidate understands some passages differently: it answers all of their questions anew.
        anew = rng.uniform(size=case.clusters)[clusters] < 0.4
        candidate = np.where(anew, own, base)
        values = np.stack([base, candidate], axis=1)[:, :, None]
        if case.graded:
            values = np.clip(values * 0.8 + rng.uniform(0, 0.2, size=values.shape), 0, 1)
        subsets.append(
            SubsetDocuments(f"s{number}", case.lower_bound, values, np.ones((len(clusters), 1)), clusters)
        )
    return Documents(tuple(subsets), pooled=case.subsets == 1)


def coverage(case: Case, repeats: int, n_draws: int, seed: int = 0) -> dict[str, float]:
    """Share of intervals that contain the expectation: of score and delta, by cluster and by question."""
    rng = np.random.default_rng(seed)
    expected = _expectation(case, np.random.default_rng(seed + 1))
    hits = dict.fromkeys(("score", "delta", "score by question", "delta by question"), 0)
    for number in range(repeats):
        docs = simulated(case, rng)
        plain = replace(docs, subsets=tuple(replace(s, clusters=None) for s in docs.subsets))
        for kind, documents in (("", docs), (" by question", plain)):
            side = tuple(replace(s, values=s.values[:, 1:]) for s in documents.subsets)
            score = estimate(replace(documents, subsets=side), n_draws, number)
            difference = delta(documents, n_draws, number)
            hits[f"score{kind}"] += score.interval.holds(expected[1])
            hits[f"delta{kind}"] += difference.interval.holds(expected[1] - expected[0])
    return {name: count / repeats for name, count in hits.items()}


def _expectation(case: Case, rng: np.random.Generator, n: int = 4_000) -> Floats:
    """The expected normalized scores of both sides under the board's procedure."""
    draws = [measured(docs.subsets, docs.pooled) for docs in (simulated(case, rng) for _ in range(n))]
    means: Floats = np.mean(draws, axis=0)
    # Base and candidate have one distribution: half of their difference is the simulation's error.
    return np.full(2, means.mean())


def main() -> None:
    """Print the coverage of every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1_000)
    parser.add_argument("--draws", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"Coverage of 95 % intervals, {arguments.repeats} repetitions, in per cent")
    print(f"{'case':34}{'score':>8}{'delta':>8}   by question: {'score':>6}{'delta':>8}")
    for case in CASES:
        shares = [100 * s for s in coverage(case, arguments.repeats, arguments.draws).values()]
        print(f"{case.name:34}{shares[0]:8.1f}{shares[1]:8.1f}{'':16}{shares[2]:6.1f}{shares[3]:8.1f}")


if __name__ == "__main__":
    main()
