"""Documents that a sweep with `decide:` asks, and its verdicts against the same sweep asked whole, on the sizes of leaderboard-v2.

    python -m benchmarks.decided_sweep                 # 20 sweeps of six candidates: some minutes of one core

Each candidate differs from the base by the same true number of points on every benchmark. Rule, looks and error rate are those of the
product (`orchestrator.plan.decide.look_plan` for 36 comparisons); the whole sweep is tested as `compare` does: Holm over 36 benchmarks and six
averages. A candidate's verdict is the direction of its shown differences. The base is asked whole in both.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import scipy

from benchmarks.stopping_simulation import Path, drawer, part_of, path_of, true_points
from benchmarks.verdict_simulation import share_text
from evals.stats.boundary import boundary
from evals.stats.many import corrected
from evals.stats.paired import Documents, average_draws, delta_of, paired_draws
from evals.stats.resample import Floats, SubsetDocuments
from evals.stats.sequence import LookPlan
from evals.stats.stopping import Decision, look_at
from evals.suite import Suite, load_suite
from orchestrator.plan.decide import look_plan
from orchestrator.plan.sweep import DecideEntry

POINTS = (-20.0, -10.0, -10.0, -5.0, -2.0, 0.0)
"""True differences of the six candidates: layer paths are mostly worse than their base."""
LEVEL = 0.25
N_DRAWS = 2_000
_SLACK = 0.35
_SIGNS = {Decision.BETTER: 1, Decision.WORSE: -1}


@dataclass
class Sweep:
    """What came of one sweep; arrays are candidates x benchmarks."""

    asked: Floats
    """Share of the documents that was asked until the decision."""
    decided: Floats
    """Direction of each decision; 0 if there was none."""
    whole: Floats
    """Direction of each difference that the whole sweep shows; 0 if it shows none."""


def worse(docs: Documents) -> Documents:
    """Base and candidate exchanged."""
    return Documents(
        tuple(SubsetDocuments(s.name, s.lower_bound, s.values[:, ::-1], s.weights) for s in docs.subsets),
        docs.pooled,
    )


def decide(path: Path, plan: LookPlan) -> tuple[float, int]:
    """Share of the documents after which one comparison is decided, and its direction."""
    limit = boundary(plan.rule.side_error_rate)
    z = np.array([limit.z(t) for t in path.cuts])
    for k in np.flatnonzero(np.abs(path.delta) / np.maximum(path.spread, 1e-12) > z - _SLACK):
        look = look_at(path.draws_at(int(k)), 1, 1, path.cuts[k], plan.rule)
        if look.decision is not Decision.OPEN:
            return path.cuts[k], _SIGNS[look.decision]
    return 1.0, 0


def simulate(suite: Suite, seed: int, effects: dict[float, list[float]], plan: LookPlan) -> Sweep:
    """One sweep of candidates with the true differences `POINTS`."""
    rng = np.random.default_rng([47, seed])
    shape = (len(POINTS), len(suite.benchmarks))
    asked, decided = np.ones(shape), np.zeros(shape)
    p_values: list[float] = []
    signs: list[float] = []
    for k, points in enumerate(POINTS):
        drawn = []
        for b, benchmark in enumerate(suite.benchmarks):
            (docs,) = drawer(part_of(suite, benchmark.name), np.array([LEVEL]))(rng, effects[abs(points)][b])
            docs = worse(docs) if points < 0 else docs
            cuts = [n / docs.n for n in plan.looks(docs.n)]
            asked[k, b], decided[k, b] = decide(path_of([docs], cuts), plan)
            drawn.append(paired_draws(docs, N_DRAWS))
        for delta in (*(delta_of(d) for d in drawn), delta_of(average_draws(drawn))):
            p_values.append(delta.p)
            signs.append(np.sign(delta.delta_points))
    shown = np.array(corrected(p_values), dtype=float) < 0.05
    whole = np.where(shown, signs, 0.0).reshape(len(POINTS), -1)[:, :-1]
    return Sweep(asked, decided, whole)


def left(sweep: Sweep, order: list[int]) -> Sweep:
    """The same with `leave`: benchmarks in this order, none after one that is worse."""
    asked, decided = sweep.asked.copy(), sweep.decided.copy()
    for k in range(len(POINTS)):
        gone = False
        for b in order:
            if gone:
                asked[k, b] = decided[k, b] = 0.0
            gone = gone or decided[k, b] < 0
    return Sweep(asked, decided, sweep.whole)


def direction(signs: Floats) -> int:
    """The direction of a candidate's shown differences: 1, -1, 0 for none, 2 for both."""
    shown = {int(s) for s in signs if s}
    return 2 if len(shown) == 2 else shown.pop() if shown else 0


def effects_of(suite: Suite, points: float) -> list[float]:
    """The effect on each benchmark for which its true difference is this many points."""
    if not points:
        return [0.0] * len(suite.benchmarks)
    shares = []
    for benchmark in suite.benchmarks:
        part = part_of(suite, benchmark.name)

        def excess(effect: float, part: Suite = part) -> float:
            return true_points(part, effect, LEVEL) - points

        shares.append(float(scipy.optimize.brentq(excess, 0.0, 0.9)))
    return shares


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweeps", type=int, default=20)
    chosen = parser.parse_args()
    started = time.process_time()
    suite = load_suite("leaderboard-v2")
    sizes = np.array([sum(s.n_documents or 100 for s in b.subsets) for b in suite.benchmarks], dtype=float)
    plan = look_plan(DecideEntry(), len(POINTS) * len(suite.benchmarks))
    effects = {points: effects_of(suite, points) for points in {abs(p) for p in POINTS}}
    sweeps = [simulate(suite, seed, effects, plan) for seed in range(chosen.sweeps)]
    order = [int(b) for b in np.argsort(sizes)]
    n = len(sweeps) * len(POINTS)
    total = sizes.sum() * (len(POINTS) + 1)
    for name, kind in (("decide", sweeps), ("decide, leave", [left(s, order) for s in sweeps])):
        shares = [(sizes.sum() + (s.asked * sizes).sum()) / total for s in kind]
        same = sum(direction(s.decided[k]) == direction(s.whole[k]) for s in kind for k in range(len(POINTS)))
        against = sum(int(((s.decided * s.whole) < 0).sum()) for s in kind)
        print(
            f"{name:<14} documents asked, the base's included: median {np.median(shares):.1%}, {min(shares):.1%} to {max(shares):.1%}; "
            f"verdicts as whole {share_text(same, n)}; benchmarks decided in the other direction {against}",
            flush=True,
        )
        for k, points in enumerate(POINTS):
            part = np.median([(s.asked[k] * sizes).sum() / sizes.sum() for s in kind])
            verdicts = sum(direction(s.decided[k]) == direction(s.whole[k]) for s in kind)
            print(
                f"  {points:+5.0f} points: {part:.0%} of its documents, {verdicts} of {len(kind)} verdicts as whole"
            )
    wrong = sum(int((s.decided[-1] != 0).sum()) for s in sweeps)
    print(f"Without an effect: {wrong} of {len(sweeps) * len(sizes)} comparisons called better or worse")
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
