"""Confirmation of a scan: the best paths of the search set, measured on questions that were not used to select them.

Three measures correct for having tried many paths:

* the gain is measured again on a disjoint confirmation set, item by item against the base;
* its p-value is multiplied by the number of tried paths (Bonferroni), for *worse* as for *real*. The milder correction for
  the confirmed paths only (Holm) is reported as well and gives *suggestive*;
* the gain expected from the search gains of all paths (empirical Bayes) is reported next to the measured one.

p is one-sided: "the true gain is not above 0", and for *worse* "not below 0". It comes from a t-test on the items'
differences, stratified by probe, and is at least 2^-n, the probability that all n changed items changed in the same direction
by chance. Real and suggestive require an interval above 0, worse one below 0, so that no finding contradicts its interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum

from pydantic import Field
from scipy import stats

from evals.engine import Frozen
from evals.layer_visits import VisitPath
from evals.probes.results import Level, ProbeError, ProbeResult, Scoring
from evals.stats import Delta, Interval, Shrinkage, corrected, expected_after_search, shrinkage

ALPHA = 0.05


class Finding(StrEnum):
    """Verdict of the confirmation on one path."""

    REAL = "real"
    SUGGESTIVE = "suggestive"
    NOT_CONFIRMED = "not confirmed"
    WORSE = "worse"


class Measured(Frozen):
    """Results of one layer path in all probes of one split."""

    layers: VisitPath = Field(description="Visits of source layers in the order in which they run.")
    results: tuple[ProbeResult, ...] = Field(description="One result per probe.")


class Gain(Frozen):
    """A path minus the base, in probe units (0 to 1), mean over the probes."""

    delta: float = Field(description="Mean over the probes of the mean difference of their items.")
    stderr: float = Field(ge=0, description="Standard error of delta over samples of as many items.")
    interval: Interval = Field(description="95 % interval of delta, not corrected.")
    p: float = Field(ge=0, le=1, description="One-sided p-value of 'no gain', not corrected.")
    p_worse: float = Field(
        default=1.0, ge=0, le=1, description="One-sided p-value of 'no loss', not corrected."
    )
    n: int = Field(ge=1, description="Number of compared items.")
    by_probe: dict[str, float] = Field(description="Mean difference by the probe's key.")


class BenchmarkGain(Frozen):
    """A path minus the base on a benchmark."""

    benchmark: str = Field(description="Name of the benchmark.")
    delta: Delta = Field(description="The paired comparison, in points.")
    p_corrected: float = Field(
        ge=0,
        le=1,
        description="Its two-sided p-value times the number of paths tried and of benchmarks (Bonferroni).",
    )


class ConfirmedPath(Frozen):
    """A path selected on the search set, with its confirmation."""

    layers: VisitPath = Field(description="Visits of source layers in the order in which they run.")
    rank: int = Field(ge=1, description="Rank among all tried paths by gain on the search set.")
    search: Gain = Field(description="Gain on the search set, by which it was selected.")
    expected: float = Field(description="Expected gain of this path given the search gains of all paths.")
    confirmation: Gain = Field(description="Gain on the confirmation set.")
    p_confirmed: float = Field(ge=0, le=1, description="p corrected for the confirmed paths (Holm).")
    p_tried: float = Field(ge=0, le=1, description="p corrected for all tried paths (Bonferroni).")
    p_worse_tried: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="p of 'no loss' corrected for all tried paths (Bonferroni).",
    )
    finding: Finding = Field(description="Verdict.")
    benchmarks: tuple[BenchmarkGain, ...] = Field(
        default=(), description="Gains on benchmarks, if any were run."
    )


class Confirmation(Frozen):
    """Result of a scan's confirmation."""

    scoring: Scoring = Field(description="Scoring of the probes.")
    n_tried: int = Field(ge=1, description="Number of tried paths besides the base.")
    alpha: float = Field(
        gt=0,
        lt=1,
        description="Maximum probability of calling any path real, or any worse, if none is.",
    )
    search_digests: dict[str, str] = Field(description="Digest of each search probe, by its name.")
    confirmation_digests: dict[str, str] = Field(
        description="Digest of each confirmation probe, by its name."
    )
    base_search: dict[str, float] = Field(description="The base's values on the search set, by probe key.")
    base_confirmation: dict[str, float] = Field(description="The base's values on the confirmation set.")
    levels: dict[str, tuple[Level, ...]] = Field(
        default_factory=dict, description="Null levels and ceilings of the probes, by name."
    )
    paths: tuple[ConfirmedPath, ...] = Field(description="The confirmed paths, by search rank.")
    shrinkage: Shrinkage = Field(description="Share of the search gains that was kept.")
    detectable: float = Field(
        ge=0, description="Smallest true gain that is called real in 80 % of cases, in probe units (0 to 1)."
    )

    @property
    def real(self) -> tuple[ConfirmedPath, ...]:
        """The paths whose gain is real."""
        return tuple(path for path in self.paths if path.finding is Finding.REAL)

    @property
    def conclusion(self) -> str:
        """The result in one or two sentences."""
        kept = (
            f"their mean gain went from {self.shrinkage.search_mean:+z.3f} on the search set "
            f"to {self.shrinkage.confirmation_mean:+z.3f} on the confirmation set"
        )
        tried = f"the {len(self.paths)} best of {self.n_tried:,} paths"
        if self.real:
            return f"{len(self.real)} of {tried} keep a gain that survives the correction for all of them; {kept}."
        suggestive = sum(path.finding is Finding.SUGGESTIVE for path in self.paths)
        hint = (
            f" {suggestive} of them would pass a milder test and may be worth more questions."
            if suggestive
            else ""
        )
        return (
            f"Nothing here is real: of {tried} none keeps a gain that survives the correction for all of them; {kept}. "
            f"A true gain of less than about {self.detectable:.3f} would have been missed.{hint}"
        )


def measure_gain(
    base: Sequence[ProbeResult],
    candidate: Sequence[ProbeResult],
    scoring: Scoring,
    weights: Mapping[str, float] | None = None,
) -> Gain:
    """Candidate minus base on the same items; `weights` by probe key, equal if not given."""
    if [r.digest for r in base] != [r.digest for r in candidate] or not base:
        raise ProbeError("The two paths did not answer the same probes: measure both on the same ones.")
    shares = _normalized_weights(base, weights)
    delta, variance, spread, changed, means = 0.0, 0.0, 0.0, 0, {}
    for base_result, candidate_result in zip(base, candidate, strict=True):
        pairs = zip(base_result.credits(scoring), candidate_result.credits(scoring), strict=True)
        differences = [b - a for a, b in pairs]
        mean, n = statistics.fmean(differences), len(differences)
        # One imaginary item with the largest difference, so that equal differences do not give a standard error of 0.
        square = (math.fsum((d - mean) ** 2 for d in differences) + max(abs(d) for d in differences) ** 2) / n
        part = shares[base_result.key] ** 2 * square / n
        delta += shares[base_result.key] * mean
        variance += part
        spread += part**2 / max(n - 1, 1)
        changed += sum(abs(d) > 1e-9 for d in differences)
        means[base_result.key] = mean
    n_items = sum(len(r.items) for r in base)
    if variance == 0:
        point = Interval(low=delta, high=delta)
        return Gain(delta=delta, stderr=0.0, interval=point, p=1.0, n=n_items, by_probe=means)
    stderr, freedom = math.sqrt(variance), variance**2 / spread
    reach = float(stats.t.ppf(0.975, freedom)) * stderr
    p, p_worse = (
        min(1.0, max(float(stats.t.sf(sign * delta / stderr, freedom)), 0.5**changed)) for sign in (1, -1)
    )
    interval = Interval(low=delta - reach, high=delta + reach)
    return Gain(
        delta=delta, stderr=stderr, interval=interval, p=p, p_worse=p_worse, n=n_items, by_probe=means
    )


def _normalized_weights(base: Sequence[ProbeResult], weights: Mapping[str, float] | None) -> dict[str, float]:
    raw = {r.key: 1.0 if weights is None else weights.get(r.key, 0.0) for r in base}
    total = math.fsum(raw.values())
    if total <= 0 or min(raw.values()) < 0:
        raise ProbeError("The probes' weights must be at least 0 and not all 0.")
    return {key: weight / total for key, weight in raw.items()}


def confirm(
    search: Sequence[Measured],
    confirmation: Sequence[Measured],
    n_layers: int,
    scoring: Scoring = Scoring.CORRECTED,
    *,
    weights: Mapping[str, float] | None = None,
    n_tried: int | None = None,
    benchmarks: Mapping[VisitPath, Mapping[str, Delta]] | None = None,
    levels: Mapping[str, tuple[Level, ...]] | None = None,
    early: Sequence[tuple[float, float]] = (),
    alpha: float = ALPHA,
) -> Confirmation:
    """Compare the confirmed paths with the base.

    `search` holds every tried path, `confirmation` the selected ones; both include the base. `n_tried` also counts tried paths
    whose search results are not given. `early` are gains and standard errors of tried paths that left a race: they count among all
    gains from which a path's expected gain follows.
    """
    base, confirmation_base = _find_unmodified(search, n_layers), _find_unmodified(confirmation, n_layers)
    _check_disjoint(base, confirmation_base)
    tried = [path for path in search if path.layers != base.layers]
    gains = {path.layers: measure_gain(base.results, path.results, scoring, weights) for path in tried}
    selected = [path for path in confirmation if path.layers != confirmation_base.layers]
    without_search = [path for path in selected if path.layers not in gains]
    if without_search or not selected:
        raise ProbeError(
            "Nothing to confirm: give at least one path besides the base, and the search results of each of them."
        )
    order = sorted(gains, key=lambda layers: gains[layers].delta, reverse=True)
    shrunk = expected_after_search(
        [*(gains[k].delta for k in order), *(delta for delta, _ in early)],
        [*(gains[k].stderr for k in order), *(stderr for _, stderr in early)],
    )
    expected = {layers: s.expected for layers, s in zip(order, shrunk, strict=False)}
    selected.sort(key=lambda path: order.index(path.layers))
    confirmed_gains = [
        measure_gain(confirmation_base.results, path.results, scoring, weights) for path in selected
    ]
    count = max(n_tried or 0, len(tried))
    holm = corrected([gain.p for gain in confirmed_gains])
    tests = count * len({name for gains in (benchmarks or {}).values() for name in gains})
    paths = []
    for path, gain, p_holm in zip(selected, confirmed_gains, holm, strict=True):
        assert p_holm is not None
        p_tried, p_worse_tried = max(p_holm, min(1.0, gain.p * count)), min(1.0, gain.p_worse * count)
        paths.append(
            ConfirmedPath(
                layers=path.layers,
                rank=order.index(path.layers) + 1,
                search=gains[path.layers],
                expected=expected[path.layers],
                confirmation=gain,
                p_confirmed=p_holm,
                p_tried=p_tried,
                p_worse_tried=p_worse_tried,
                finding=judge_gain(gain, (p_tried, p_holm, p_worse_tried), alpha),
                benchmarks=_benchmark_gains((benchmarks or {}).get(path.layers, {}), tests),
            )
        )
    return Confirmation(
        scoring=scoring,
        n_tried=count,
        alpha=alpha,
        search_digests={r.probe: r.digest for r in base.results},
        confirmation_digests={r.probe: r.digest for r in confirmation_base.results},
        base_search={r.key: r.value(scoring) for r in base.results},
        base_confirmation={r.key: r.value(scoring) for r in confirmation_base.results},
        levels=dict(levels or {}),
        paths=tuple(paths),
        shrinkage=shrinkage([path.search.delta for path in paths], [gain.delta for gain in confirmed_gains]),
        detectable=detectable_gain([gain.stderr for gain in confirmed_gains], alpha / count),
    )


def _find_unmodified(measured: Sequence[Measured], n_layers: int) -> Measured:
    unmodified = tuple(range(n_layers))
    for path in measured:
        if path.layers == unmodified:
            return path
    raise ProbeError("The unmodified path has no results here: measure it on the same probes as the others.")


def _check_disjoint(search: Measured, confirmation: Measured) -> None:
    shared = {r.digest for r in search.results} & {r.digest for r in confirmation.results}
    if shared or {r.key for r in search.results} != {r.key for r in confirmation.results}:
        raise ProbeError(
            "Search and confirmation need the two splits of the same probes: take them from `probe_pair`."
        )


def judge_gain(gain: Gain, p_values: tuple[float, float, float], alpha: float) -> Finding:
    """The verdict; `p_values` are corrected for all tried paths, for the confirmed ones, and of a loss for all tried paths."""
    p_tried, p_confirmed, p_worse_tried = p_values
    if gain.interval.low > 0 and p_confirmed <= alpha:
        return Finding.REAL if p_tried <= alpha else Finding.SUGGESTIVE
    if gain.interval.high < 0 and p_worse_tried <= alpha:
        return Finding.WORSE
    return Finding.NOT_CONFIRMED


def _benchmark_gains(deltas: Mapping[str, Delta], tests: int) -> tuple[BenchmarkGain, ...]:
    return tuple(
        BenchmarkGain(benchmark=name, delta=delta, p_corrected=min(1.0, delta.p * tests))
        for name, delta in deltas.items()
    )


def detectable_gain(stderrs: Sequence[float], level: float) -> float:
    """Gain that is detected with power 0.8 at this level, given the median standard error."""
    return float(stats.norm.isf(level) + stats.norm.isf(0.2)) * statistics.median(stderrs)
