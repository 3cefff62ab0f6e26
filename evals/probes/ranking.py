"""Ranks layer paths by combined probe values. Pure functions.

`BALANCED_Z` is the published "balanced z-delta": per probe, the differences to the base over all other paths are scaled
to mean 0 and (population) standard deviation 1; the rank score is the sum over the probes. Its unit is the spread of the
ranked paths, so that scores of two scans are not comparable, and it is centred on the mean path, so that a positive score
does not mean better than the base. `MEAN_DELTA` has neither property: the mean over the probes of value minus base, in
probe units.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen
from evals.layer_visits import VisitPath, path_order_key
from evals.probes.results import ProbeError

_MIN_SPREAD = 1e-12


class RankMethod(StrEnum):
    """How the probe values of a path are combined."""

    BALANCED_Z = "balanced_z"
    MEAN_DELTA = "mean_delta"


class PathValues(Frozen):
    """Values of one layer path by probe."""

    layers: VisitPath = Field(description="Visits of source layers in the order in which they run.")
    values: dict[str, float] = Field(description="Probe value, 0 to 1, by the probe's name.")


class RankedPath(Frozen):
    """One path with its rank."""

    layers: VisitPath = Field(description="Visits of source layers in the order in which they run.")
    rank: int = Field(ge=1, description="Rank; 1 is the best.")
    score: float = Field(description="Rank score of the method; higher is better.")
    deltas: dict[str, float] = Field(description="Probe value minus the base's, by the probe's name.")


class Ranking(Frozen):
    """All paths of a scan except the base, best first."""

    method: RankMethod = Field(description="How the probes were combined.")
    probes: tuple[str, ...] = Field(description="The combined probes; ties are broken by the last one first.")
    base: PathValues = Field(description="The path that all others are compared with.")
    warning: str | None = Field(description="Why the base is doubtful; null if it is not.")
    spreads: dict[str, float] = Field(description="Population standard deviation of each probe's deltas.")
    paths: tuple[RankedPath, ...] = Field(description="The ranked paths, best first.")
    left_out: int = Field(ge=0, description="Paths without a value in every probe; they are not ranked.")

    def in_spreads(self, path: RankedPath) -> float:
        """All probes of a path together: the sum of its deltas, each in spreads of its probe; 0 is the base."""
        return sum(
            delta / (self.spreads[name] if self.spreads[name] > _MIN_SPREAD else 1.0)
            for name, delta in path.deltas.items()
        )

    @property
    def weights(self) -> dict[str, float]:
        """Probe weights (one over each spread) for which the mean gain ranks paths as the balanced z does."""
        return {
            name: 1.0 / spread if spread > _MIN_SPREAD and math.isfinite(spread) else 1.0
            for name, spread in self.spreads.items()
        }


def find_base(table: Sequence[PathValues], n_layers: int) -> tuple[PathValues, str | None]:
    """The path that runs every layer once or, if it is missing, the shortest path with a warning."""
    if not table:
        raise ProbeError("There is no path to rank: run the scan first.")
    for entry in table:
        if entry.layers == tuple(range(n_layers)):
            return entry, None
    shortest = min(table, key=lambda entry: (len(entry.layers), path_order_key(entry.layers)))
    return shortest, (
        f"The scan has no unmodified path: deltas are to the shortest one, of {len(shortest.layers)} layers."
    )


def rank(
    table: Sequence[PathValues],
    probes: Sequence[str],
    n_layers: int,
    method: RankMethod = RankMethod.BALANCED_Z,
    spreads: Mapping[str, float] | None = None,
) -> Ranking:
    """Rank all paths except the base. Ties are broken by the last probe's delta, then by the one before, as published.

    `spreads` are those of all paths where only the best are in the table (a race); they set the weights of the probes.
    """
    base, warning = find_base(table, n_layers)
    missing = [name for name in probes if name not in base.values]
    if missing or not probes:
        raise ProbeError(f"The base has no value for {', '.join(missing) or 'any probe'}: measure it first.")
    others = [entry for entry in table if entry.layers != base.layers]
    complete = [entry for entry in others if all(name in entry.values for name in probes)]
    deltas = [{name: entry.values[name] - base.values[name] for name in probes} for entry in complete]
    if spreads is None:
        spreads = {name: statistics.pstdev([d[name] for d in deltas]) if deltas else 0.0 for name in probes}
    scores = _z_scores(deltas, probes, spreads) if method is RankMethod.BALANCED_Z else _means(deltas, probes)
    order = sorted(
        range(len(complete)),
        key=lambda n: (scores[n], *(deltas[n][name] for name in reversed(probes))),
        reverse=True,
    )
    ranked = tuple(
        RankedPath(layers=complete[n].layers, rank=place, score=scores[n], deltas=deltas[n])
        for place, n in enumerate(order, start=1)
    )
    return Ranking(
        method=method,
        probes=tuple(probes),
        base=base,
        warning=warning,
        spreads=dict(spreads),
        paths=ranked,
        left_out=len(others) - len(complete),
    )


def _z_scores(
    deltas: Sequence[Mapping[str, float]], probes: Sequence[str], spreads: Mapping[str, float]
) -> list[float]:
    totals = [0.0] * len(deltas)
    for name in probes:
        mean = statistics.fmean(d[name] for d in deltas) if deltas else 0.0
        spread = spreads[name] if spreads[name] >= _MIN_SPREAD else 1.0
        for n, delta in enumerate(deltas):
            totals[n] += (delta[name] - mean) / spread
    return totals


def _means(deltas: Sequence[Mapping[str, float]], probes: Sequence[str]) -> list[float]:
    return [statistics.fmean(delta[name] for name in probes) for delta in deltas]
