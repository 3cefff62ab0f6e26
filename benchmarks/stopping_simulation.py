"""Error rate, coverage, power and saved documents of comparisons that stop as soon as they are decided.

    python -m benchmarks.stopping_simulation                # all: about 15 minutes of one core
    python -m benchmarks.stopping_simulation --scale 0.1    # a tenth of the comparisons

Each comparison is looked at after every slice of 2 % of the documents, by the product's own functions (`evals.stats.stopping`); looks whose
difference is far from the boundary, by a normal approximation, are not computed. Answers are those of `simulated_sweeps`: a fifth of the
questions is undecided, so that 12 % of the documents are discordant without an effect.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy

from benchmarks.simulated_sweeps import SURE, UNDECIDED, draw_sweep
from benchmarks.verdict_simulation import FAR_ABOVE, NEAR_FLOOR, share_text
from evals.stats.boundary import boundary
from evals.stats.e_values import discordant_e_value
from evals.stats.paired import Documents, PairedDraws, average_draws, bootstrap_p, paired_draws
from evals.stats.resample import Floats, SubsetDocuments, lower_bound_of, normalized
from evals.stats.sign_flip import distribution
from evals.stats.stopping import Aim, Decision, Rule, look_at
from evals.suite import Aggregation, Benchmark, Suite, load_suite

N_SLICES = 50
_POINTS = (2.0, 5.0, 10.0)
N_DRAWS = 2_000
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(11)
_QUADRATURE = _WEIGHTS / _WEIGHTS.sum()
# A difference this many standard errors inside the boundary is not computed by the product's functions.
_SLACK = 0.35


@dataclass
class Path:
    """The shown difference of one comparison after every slice, in points, and its standard deviation under swaps."""

    benchmarks: tuple[Documents, ...]
    delta: Floats
    spread: Floats
    cuts: tuple[float, ...]

    def draws_at(self, k: int) -> PairedDraws:
        """The product's draws after slice k."""
        drawn = [paired_draws(first(d, self.cuts[k]), N_DRAWS) for d in self.benchmarks]
        return drawn[0] if len(drawn) == 1 else average_draws(drawn)


@dataclass
class Tally:
    """What came of the comparisons of one kind."""

    n: int = 0
    decided: int = 0
    wrong: int = 0
    uncovered: int = 0
    fixed: int = 0
    saved: list[float] = field(default_factory=list)
    exact: int = 0
    exact_saved: list[float] = field(default_factory=list)


def first(docs: Documents, share: float) -> Documents:
    """The first documents of each subset, at this share of the whole; the documents are in random order."""
    kept = [(s, math.ceil(share * s.n - 1e-9)) for s in docs.subsets]
    return Documents(
        tuple(SubsetDocuments(s.name, s.lower_bound, s.values[:n], s.weights[:n]) for s, n in kept),
        docs.pooled,
    )


def shuffled(docs: Documents, rng: np.random.Generator) -> Documents:
    """The documents of every subset in random order."""
    subsets = []
    for s in docs.subsets:
        order = rng.permutation(s.n)
        subsets.append(SubsetDocuments(s.name, s.lower_bound, s.values[order], s.weights[order]))
    return Documents(tuple(subsets), docs.pooled)


def path_of(benchmarks: Sequence[Documents], cuts: Sequence[float]) -> Path:
    """The differences after every slice, fast; their last is the product's (`tests/evals/test_stats_stopping.py`)."""
    deltas, variances = zip(*(_of_benchmark(d, cuts) for d in benchmarks), strict=True)
    return Path(
        tuple(benchmarks),
        np.mean(deltas, axis=0),
        np.sqrt(np.sum(variances, axis=0)) / len(benchmarks),
        tuple(cuts),
    )


def _of_benchmark(docs: Documents, cuts: Sequence[float]) -> tuple[Floats, Floats]:
    units = [list(docs.subsets)] if docs.pooled else [[s] for s in docs.subsets]
    delta, variance = np.zeros(len(cuts)), np.zeros(len(cuts))
    for unit in units:
        bound = lower_bound_of(unit)
        ends = [np.array([math.ceil(c * s.n - 1e-9) for c in cuts]) - 1 for s in unit]
        items = sum(np.cumsum(s.weights, axis=0)[e] for s, e in zip(unit, ends, strict=True))
        weighted = [s.values * s.weights[:, None, :] for s in unit]
        sums = sum(np.cumsum(w, axis=0)[e] for w, e in zip(weighted, ends, strict=True))
        sides = (sums / items[:, None, :]).mean(axis=2)
        squares = np.zeros(len(cuts))
        for w, e in zip(weighted, ends, strict=True):
            change = w[:, 1] - w[:, 0]
            products = np.cumsum(change[:, :, None] * change[:, None, :], axis=0)[e]
            n_metrics = change.shape[1]
            squares += (products / items[:, :, None] / items[:, None, :]).sum(axis=(1, 2)) / n_metrics**2
        change = np.sqrt(squares)[:, None] * _NODES
        total = sides.sum(axis=1)[:, None]
        swapped = normalized((total + change) / 2, bound) - normalized((total - change) / 2, bound)
        scored = normalized(sides, bound)
        delta += (scored[:, 1] - scored[:, 0]) / len(units)
        variance += swapped**2 @ _QUADRATURE / len(units) ** 2
    return delta, variance


def judge(path: Path, truth: float, rule: Rule, tally: Tally, *, coverage: bool) -> None:
    """Look at one comparison after every slice until it is decided, and count what comes of it."""
    limit = boundary(rule.side_error_rate)
    z = np.array([limit.z(t) for t in path.cuts])
    spread = np.maximum(path.spread, 1e-12)
    stopped = None
    for k in np.flatnonzero(np.abs(path.delta) / spread > z - _SLACK):
        found = look_at(path.draws_at(k), 1, 1, path.cuts[k], rule)
        if found.decision is not Decision.OPEN:
            stopped = path.cuts[k]
            tally.decided += 1
            tally.wrong += truth == 0 or (found.decision is Decision.BETTER) != (truth > 0)
            break
    tally.saved.append(1 - (stopped or 1.0))
    if coverage:
        far = np.flatnonzero(np.abs(path.delta - truth) / spread > z - _SLACK)
        tally.uncovered += any(
            not look_at(path.draws_at(k), 1, 1, path.cuts[k], rule).interval.holds(truth) for k in far
        )
    if abs(path.delta[-1]) / spread[-1] > 1.6:
        drawn = path.draws_at(len(path.cuts) - 1)
        points = float(drawn.sides[1] - drawn.sides[0])
        p = max(distribution(drawn.parts).p(points), bootstrap_p(drawn.errors + points, points))
        tally.fixed += p < rule.error_rate
    tally.n += 1


def judge_exactly(docs: Documents, cuts: Sequence[float], alpha: float, tally: Tally) -> None:
    """The exact e-process on the discordant documents of a right-or-wrong benchmark."""
    for cut in cuts:
        part = first(docs, cut)
        change = np.concatenate([s.values[:, 1, 0] - s.values[:, 0, 0] for s in part.subsets])
        if discordant_e_value(int((change > 0).sum()), int((change < 0).sum())) >= 1 / alpha:
            tally.exact += 1
            tally.exact_saved.append(1 - cut)
            return
    tally.exact_saved.append(0.0)


def with_loose_metrics(docs: Documents, rng: np.random.Generator) -> Documents:
    """IFEval's four metrics: the two strict ones, and two loose ones that follow some more instructions."""
    (s,) = docs.subsets
    items = s.weights[:, 0][:, None]
    followed = np.round(s.values[:, :, 0] * items).astype(int)
    loose = followed + rng.binomial(items.astype(int) - followed, 0.08)
    values = np.concatenate(
        [s.values, (loose / items)[:, :, None], (loose == items).astype(float)[:, :, None]], axis=2
    )
    weights = np.concatenate([s.weights, s.weights], axis=1)
    return Documents((SubsetDocuments(s.name, s.lower_bound, values, weights),), docs.pooled)


def true_points(suite: Suite, effect: float, level: float) -> float:
    """The true difference in points of `draw_sweep`'s answers: the mean over the benchmarks, for a base at this level."""
    return float(np.mean([_true_points(b, effect, level) for b in suite.benchmarks]))


def _true_points(benchmark: Benchmark, effect: float, level: float) -> float:
    sizes = np.array([s.n_documents or 100 for s in benchmark.subsets])
    bounds = np.array([s.lower_bound if benchmark.aggregation.normalizes else 0.0 for s in benchmark.subsets])
    levels = np.clip(bounds + level, 0.03, 0.9)
    if len(benchmark.metrics) > 1:
        chances = np.array([0.5, SURE, 1 - SURE])
        shares = np.array([UNDECIDED, (1 - UNDECIDED) * levels[0], (1 - UNDECIDED) * (1 - levels[0])])
        turned = chances + effect * (1 - chances)
        prompts = np.array([305, 179, 57]) / 541
        whole = sum(p * ((turned**m - chances**m) @ shares) for m, p in zip((1, 2, 3), prompts, strict=True))
        return float(50 * (whole + (turned - chances) @ shares))
    undecided = np.round(UNDECIDED * sizes)
    sure = sizes - undecided
    known = np.clip(
        np.round((levels * sizes - 0.5 * undecided - (1 - SURE) * sure) / (2 * SURE - 1)), 0, sure
    )
    base = 0.5 * undecided + SURE * known + (1 - SURE) * (sure - known)
    change = effect * (sizes - base)
    if benchmark.aggregation in (Aggregation.SUBSET_MEAN, Aggregation.SUBSET_MEAN_NORMALIZED):
        scores = [np.maximum(0.0, (right / sizes - bounds) / (1 - bounds)) for right in (base, base + change)]
        return float(100 * (scores[1] - scores[0]).mean())
    bound = float((bounds * sizes).sum() / sizes.sum())
    return float(100 * change.sum() / sizes.sum() / (1 - bound))


def part_of(suite: Suite, *names: str) -> Suite:
    """The suite with some of its benchmarks."""
    return suite.model_copy(update={"benchmarks": tuple(b for b in suite.benchmarks if b.name in names)})


Draw = Callable[[np.random.Generator, float], tuple[Documents, ...]]


def drawer(suite: Suite, gaps: Floats, *, loose: bool = False) -> Draw:
    """A function that draws the documents of a base and one candidate with an effect."""

    def draw(rng: np.random.Generator, effect: float) -> tuple[Documents, ...]:
        sweep = draw_sweep(suite, gaps, np.array([effect]), rng)
        docs = [answers.documents(0) for answers in sweep]
        return tuple(shuffled(with_loose_metrics(d, rng) if loose else d, rng) for d in docs)

    return draw


def slices(n_slices: int = N_SLICES) -> tuple[float, ...]:
    """The shares of the documents after which is looked."""
    return tuple((k + 1) / n_slices for k in range(n_slices))


def null_kinds(suite: Suite) -> dict[str, Draw]:
    """The kinds of comparisons without an effect."""
    return {
        "right or wrong (MMLU-Pro's 12,032)": drawer(part_of(suite, "mmlu-pro"), FAR_ABOVE),
        "right or wrong (GPQA's 1,192)": drawer(part_of(suite, "gpqa"), FAR_ABOVE),
        "IFEval's four metrics": drawer(part_of(suite, "ifeval"), FAR_ABOVE, loose=True),
        "24 subsets near the floor (BBH)": drawer(part_of(suite, "bbh"), NEAR_FLOOR),
        "the average of six": drawer(suite, NEAR_FLOOR),
    }


def null_tally(draw: Draw, n: int, seed: int, rule: Rule | None = None) -> Tally:
    """Comparisons without an effect; a covered interval and a right answer are then the same."""
    rule, tally = rule or Rule(aim=Aim.DIFFERENCE), Tally()
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        judge(path_of(draw(rng, 0.0), slices()), 0.0, rule, tally, coverage=False)
    return tally


def effect_tally(suite: Suite, points: float, n: int, seed: int, level: float = 0.25) -> Tally:
    """Comparisons with a true difference, for a base this far above the lower bound."""
    rule, tally = Rule(aim=Aim.DIFFERENCE), Tally()
    draw = drawer(suite, np.array([level]))
    effect = float(scipy.optimize.brentq(lambda e: true_points(suite, e, level) - points, 0.0, 0.9))
    for i in range(n):
        docs = draw(np.random.default_rng([seed, i]), effect)
        judge(path_of(docs, slices()), points, rule, tally, coverage=True)
        if len(docs) == 1 and docs[0].pooled and docs[0].subsets[0].values.shape[2] == 1:
            judge_exactly(docs[0], slices(), rule.error_rate, tally)
    return tally


def exact_error(n_discordant: int, error_rate: float = 0.05) -> float:
    """Probability without an effect that McNemar's exact p-value is ever below the level, looked at after every discordant document.

    Computed over all signs, not sampled; the discordant documents are spread evenly over the benchmark.
    """
    limit, alive, crossed = boundary(error_rate / 2), np.ones(1), 0.0
    for n in range(1, n_discordant + 1):
        alive = (np.append(alive, 0.0) + np.append(0.0, alive)) / 2
        gained = np.arange(n + 1)
        p = np.minimum(1.0, 2 * scipy.stats.binom.cdf(np.minimum(gained, n - gained), n, 0.5))
        out = p < 2 * limit.level(n / n_discordant)
        crossed += float(alive[out].sum())
        alive[out] = 0.0
    return crossed


def margin_tally(suite: Suite, rule: Rule, n: int, seed: int, level: float = 0.25) -> Tally:
    """Candidates that are worse by exactly the margin, so that *not worse* and *equivalent* are wrong at any time."""
    tally, margin = Tally(), rule.margin_points
    draw, limit = drawer(suite, np.array([level])), boundary(rule.side_error_rate)
    effect = float(scipy.optimize.brentq(lambda e: true_points(suite, e, level) - margin, 0.0, 0.9))
    z = np.array([limit.z(t) for t in slices()])
    for i in range(n):
        docs = tuple(_exchanged(d) for d in draw(np.random.default_rng([seed, i]), effect))
        path = path_of(docs, slices())
        for k in np.flatnonzero((path.delta + margin) / np.maximum(path.spread, 1e-12) > z - _SLACK):
            found = look_at(path.draws_at(k), 1, 1, path.cuts[k], rule)
            if found.decision in (Decision.NOT_WORSE, Decision.EQUIVALENT):
                tally.wrong += 1
                break
        tally.n += 1
    return tally


def _exchanged(docs: Documents) -> Documents:
    """Base and candidate exchanged."""
    return Documents(
        tuple(SubsetDocuments(s.name, s.lower_bound, s.values[:, ::-1], s.weights) for s in docs.subsets),
        docs.pooled,
    )


def margins(scale: float) -> None:
    """Wrong claims about a margin."""
    n = max(20, round(1000 * scale))
    suite = load_suite("leaderboard-v2")
    print(
        "Worse by exactly the margin of 3 points, one-sided at 5 %: called not worse, or equivalent, at any time"
    )
    for name in ("gpqa", "ifeval", "bbh"):
        for aim in (Aim.NON_INFERIORITY, Aim.EQUIVALENCE):
            rule = Rule(aim=aim, margin_points=3.0, two_sided=False)
            tally = margin_tally(part_of(suite, name), rule, n, 22)
            print(f"  {name:<8} {aim:<16} {share_text(tally.wrong, tally.n)}", flush=True)


def nulls(scale: float) -> None:
    """Wrong calls at any time."""
    exact = ", ".join(f"{n:,}: {exact_error(n):.2%}" for n in (10, 30, 100, 300, 1000))
    print(
        f"Right or wrong without an effect, exact error at any time by the number of discordant documents: {exact}"
    )
    n = max(20, round(1000 * scale))
    print(f"Without an effect, looked at after each of {N_SLICES} slices: called better or worse at any time")
    for text, draw in null_kinds(load_suite("leaderboard-v2")).items():
        started = time.process_time()
        tally = null_tally(draw, n, 20)
        print(f"  {text:<36} {share_text(tally.wrong, tally.n)}", end="")
        print(
            f"   fixed test {tally.fixed / tally.n:.1%}   ({time.process_time() - started:.0f} s)", flush=True
        )


def effects(scale: float) -> None:
    """Power, coverage and saved documents."""
    n = max(20, round(200 * scale))
    suite = load_suite("leaderboard-v2")
    parts = {b.title: part_of(suite, b.name) for b in suite.benchmarks} | {"Average of six": suite}
    print(
        "With a true difference (base 25 points of raw score above the lower bound; 12 % discordant by chance)"
    )
    print(
        "  power: shown at any time, by the fixed test on the whole, by the exact e-process; saved: median share"
    )
    print(
        f"  {'':<15} {'points':>6} {'any time':>9} {'fixed':>7} {'wrong':>6} {'saved':>6} {'covered at all times':>32}"
        f" {'e-process':>10} {'saved':>6}"
    )
    all_saved: dict[float, Floats] = {points: np.zeros(n) for points in _POINTS}
    for title, part in parts.items():
        for points in _POINTS:
            started = time.process_time()
            tally = effect_tally(part, points, n, 21)
            if len(part.benchmarks) == 1:
                all_saved[points] += _size(part) / _size(suite) * np.array(tally.saved)
            exact = (
                f"{tally.exact / n:>10.0%} {np.median(tally.exact_saved):>6.0%}"
                if tally.exact_saved
                else " " * 17
            )
            print(
                f"  {title:<15} {points:>6.0f} {(tally.decided - tally.wrong) / n:>9.1%} {tally.fixed / n:>7.1%}"
                f" {tally.wrong:>6} {np.median(tally.saved):>6.0%} {share_text(n - tally.uncovered, n):>32} {exact}"
                f"   ({time.process_time() - started:.0f} s)",
                flush=True,
            )
    saved = ", ".join(
        f"{np.median(shares):.0%} at {points:.0f} points" for points, shares in all_saved.items()
    )
    print(
        f"  All six of a candidate, each until it is decided: median share of the {_size(suite):,} documents saved: {saved}"
    )


PARTS = {"null": nulls, "margin": margins, "effect": effects}


def _size(suite: Suite) -> int:
    return sum(s.n_documents or 100 for b in suite.benchmarks for s in b.subsets)


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the comparisons")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part")
    chosen = parser.parse_args()
    started = time.process_time()
    for name, part in PARTS.items():
        if chosen.only in (None, name):
            part(chosen.scale)
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
