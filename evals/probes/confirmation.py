"""The honest end of a scan: what the best paths of the search set do on questions that nobody picked them by.

Three things separate a find from the luck of having tried many paths:

* the gain is measured again on a disjoint confirmation set, item by item against the base;
* its p-value is multiplied by the number of paths that were tried (Bonferroni), for *worse* as for *real*. The
  confirmation set would allow the milder correction for the paths that were confirmed (Holm), which is given beside it
  and called suggestive;
* what the search gains of all paths lead one to expect (empirical Bayes) stands beside what was found.

p is one-sided: "the true gain is not above 0", and for *worse* "not below 0". It comes from a t-test on the items'
differences, probes stratified, and never falls below that of all the items that changed having changed the same way by
chance, 2^-n. Real and suggestive need an interval above 0, worse one below 0, so that no finding contradicts the interval
beside it. "Nothing here is real" is a result like any other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum

from pydantic import Field
from scipy import stats

from evals.engine import Frozen
from evals.probes.results import Level, ProbeError, ProbeResult, Scoring
from evals.stats import Delta, Interval, Shrinkage, corrected, expected_after_search, shrinkage

ALPHA = 0.05


class Finding(StrEnum):
    """What the confirmation says about one path."""

    REAL = "real"
    SUGGESTIVE = "suggestive"
    NOT_CONFIRMED = "not confirmed"
    WORSE = "worse"


class Measured(Frozen):
    """What one layer path got in all probes of one split."""

    layers: tuple[int, ...] = Field(description="Source layers in the order in which they run.")
    results: tuple[ProbeResult, ...] = Field(description="One result per probe.")


class Gain(Frozen):
    """A path minus the base, in probe units (0 to 1), mean over the probes."""

    delta: float = Field(description="Mean over the probes of the mean difference of their items.")
    stderr: float = Field(ge=0, description="Standard error of delta over another choice of as many items.")
    interval: Interval = Field(description="95 % interval of delta, not corrected.")
    p: float = Field(ge=0, le=1, description="One-sided p-value of 'no gain', not corrected.")
    p_worse: float = Field(
        default=1.0, ge=0, le=1, description="One-sided p-value of 'no loss', not corrected."
    )
    n: int = Field(ge=1, description="Number of items that were compared.")
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
    """One of the best paths of the search set, measured again."""

    layers: tuple[int, ...] = Field(description="Source layers in the order in which they run.")
    rank: int = Field(ge=1, description="Its place among all paths tried, by gain on the search set.")
    search: Gain = Field(description="Gain on the search set, which it was picked by.")
    expected: float = Field(
        description="Gain that all search gains together lead one to expect of this path."
    )
    confirmation: Gain = Field(description="Gain on the confirmation set.")
    p_confirmed: float = Field(
        ge=0, le=1, description="p corrected for the paths that were confirmed (Holm)."
    )
    p_tried: float = Field(ge=0, le=1, description="p corrected for all paths that were tried (Bonferroni).")
    p_worse_tried: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="p of 'no loss' corrected for all paths that were tried (Bonferroni).",
    )
    finding: Finding = Field(description="What follows.")
    benchmarks: tuple[BenchmarkGain, ...] = Field(
        default=(), description="What benchmarks say, where they were run."
    )


class Confirmation(Frozen):
    """The end of a scan."""

    scoring: Scoring = Field(description="Scoring of the probes.")
    n_tried: int = Field(ge=1, description="Paths that were tried besides the base.")
    alpha: float = Field(
        gt=0,
        lt=1,
        description="Most probability of calling anything real, or anything worse, when nothing is.",
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
    paths: tuple[ConfirmedPath, ...] = Field(description="The confirmed paths, by their rank in the search.")
    shrinkage: Shrinkage = Field(description="What share of the search gains was kept.")
    detectable: float = Field(
        ge=0, description="Smallest true gain that is called real in 80 % of cases, in probe units."
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
    """Candidate minus base on the same items; `weights` by probe key, equal ones where there are none."""
    if [r.digest for r in base] != [r.digest for r in candidate] or not base:
        raise ProbeError("The two paths did not answer the same probes: measure both on the same ones.")
    shares = _shares(base, weights)
    delta, variance, spread, changed, means = 0.0, 0.0, 0.0, 0, {}
    for old, new in zip(base, candidate, strict=True):
        pairs = zip(old.credits(scoring), new.credits(scoring), strict=True)
        found = [b - a for a, b in pairs]
        mean, n = statistics.fmean(found), len(found)
        # One imaginary item with the greatest difference seen: equal differences are not known without error.
        square = (math.fsum((d - mean) ** 2 for d in found) + max(abs(d) for d in found) ** 2) / n
        part = shares[old.key] ** 2 * square / n
        delta += shares[old.key] * mean
        variance += part
        spread += part**2 / max(n - 1, 1)
        changed += sum(abs(d) > 1e-9 for d in found)
        means[old.key] = mean
    n_items = sum(len(r.items) for r in base)
    if variance == 0:
        nothing = Interval(low=delta, high=delta)
        return Gain(delta=delta, stderr=0.0, interval=nothing, p=1.0, n=n_items, by_probe=means)
    stderr, freedom = math.sqrt(variance), variance**2 / spread
    reach = float(stats.t.ppf(0.975, freedom)) * stderr
    p, p_worse = (
        min(1.0, max(float(stats.t.sf(way * delta / stderr, freedom)), 0.5**changed)) for way in (1, -1)
    )
    interval = Interval(low=delta - reach, high=delta + reach)
    return Gain(
        delta=delta, stderr=stderr, interval=interval, p=p, p_worse=p_worse, n=n_items, by_probe=means
    )


def _shares(base: Sequence[ProbeResult], weights: Mapping[str, float] | None) -> dict[str, float]:
    raw = {r.key: 1.0 if weights is None else weights.get(r.key, 0.0) for r in base}
    total = math.fsum(raw.values())
    if total <= 0 or min(raw.values()) < 0:
        raise ProbeError("The probes' weights need to be at least 0, and one of them above it.")
    return {key: weight / total for key, weight in raw.items()}


def confirm(
    search: Sequence[Measured],
    confirmation: Sequence[Measured],
    n_layers: int,
    scoring: Scoring = Scoring.CORRECTED,
    *,
    weights: Mapping[str, float] | None = None,
    n_tried: int | None = None,
    benchmarks: Mapping[tuple[int, ...], Mapping[str, Delta]] | None = None,
    levels: Mapping[str, tuple[Level, ...]] | None = None,
    alpha: float = ALPHA,
) -> Confirmation:
    """Compare the confirmed paths with the base. `search` holds every path that was tried, `confirmation` the picked ones;
    both hold the base. `n_tried` counts paths whose search results are not at hand, too."""
    base, again = _base(search, n_layers), _base(confirmation, n_layers)
    _check_disjoint(base, again)
    tried = [path for path in search if path.layers != base.layers]
    gains = {path.layers: measure_gain(base.results, path.results, scoring, weights) for path in tried}
    picked = [path for path in confirmation if path.layers != again.layers]
    strangers = [path for path in picked if path.layers not in gains]
    if strangers or not picked:
        raise ProbeError(
            "Nothing to confirm: give at least one path besides the base, and the search results of each of them."
        )
    order = sorted(gains, key=lambda layers: gains[layers].delta, reverse=True)
    shrunk = expected_after_search([gains[k].delta for k in order], [gains[k].stderr for k in order])
    expected = {layers: s.expected for layers, s in zip(order, shrunk, strict=True)}
    picked.sort(key=lambda path: order.index(path.layers))
    found = [measure_gain(again.results, path.results, scoring, weights) for path in picked]
    count = max(n_tried or 0, len(tried))
    holm = corrected([gain.p for gain in found])
    tests = count * len({name for gains in (benchmarks or {}).values() for name in gains})
    paths = []
    for path, gain, p_holm in zip(picked, found, holm, strict=True):
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
                finding=_finding(gain, (p_tried, p_holm, p_worse_tried), alpha),
                benchmarks=_benchmark_gains((benchmarks or {}).get(path.layers, {}), tests),
            )
        )
    return Confirmation(
        scoring=scoring,
        n_tried=count,
        alpha=alpha,
        search_digests={r.probe: r.digest for r in base.results},
        confirmation_digests={r.probe: r.digest for r in again.results},
        base_search={r.key: r.value(scoring) for r in base.results},
        base_confirmation={r.key: r.value(scoring) for r in again.results},
        levels=dict(levels or {}),
        paths=tuple(paths),
        shrinkage=shrinkage([path.search.delta for path in paths], [gain.delta for gain in found]),
        detectable=_detectable([gain.stderr for gain in found], alpha / count),
    )


def _base(measured: Sequence[Measured], n_layers: int) -> Measured:
    wanted = tuple(range(n_layers))
    for path in measured:
        if path.layers == wanted:
            return path
    raise ProbeError("The unmodified path has no results here: measure it on the same probes as the others.")


def _check_disjoint(search: Measured, confirmation: Measured) -> None:
    shared = {r.digest for r in search.results} & {r.digest for r in confirmation.results}
    if shared or {r.key for r in search.results} != {r.key for r in confirmation.results}:
        raise ProbeError(
            "Search and confirmation need the two splits of the same probes: take them from `probe_pair`."
        )


def _finding(gain: Gain, p_values: tuple[float, float, float], alpha: float) -> Finding:
    """What follows from p corrected for all tried, for those confirmed, and that of a loss corrected for all tried."""
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


def _detectable(stderrs: Sequence[float], level: float) -> float:
    """Gain that the typical standard error shows at this level with power 0.8."""
    return float(stats.norm.isf(level) + stats.norm.isf(0.2)) * statistics.median(stderrs)
