"""Converts a race to what its chart and the maps show."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evals.layer_visits import VisitPath
from evals.probes.race import Race, RaceLook, RacingPath
from evals.probes.ranking import RankMethod
from orchestrator.charts.race import RaceLine, RacePicture, RacePoint
from orchestrator.charts.records import PROBE_WARNING


def early_texts(race: Race) -> dict[VisitPath, str]:
    """What is known of each path that left: an estimate, and no value."""
    return {path.layers: _early_text(path, look) for look in race.looks for path in look.paths if path.leaves}


def _early_text(path: RacingPath, look: RaceLook) -> str:
    return (
        f"left after {look.n} of {look.n_whole} questions; early estimate {path.value:+.2f}, "
        f"{path.low:+.2f} to {path.high:+.2f}"
    ).replace("-", "\N{MINUS SIGN}")


def race_picture(
    race: Race, whole: Mapping[VisitPath, float], title: str, label_of: Callable[[VisitPath], str]
) -> RacePicture:
    """The race for its chart; `whole` holds the combined values of the paths that were asked everything."""
    points: dict[VisitPath, list[RacePoint]] = {}
    for look in race.looks:
        for path in look.paths:
            point = RacePoint(n=look.n, value=path.value, low=path.low, high=path.high)
            points.setdefault(path.layers, []).append(point)
    n_whole = race.looks[-1].n_whole
    left = {layers for look in race.looks for layers in look.left}
    for layers, value in whole.items():
        if layers in points:
            points[layers].append(RacePoint(n=n_whole, value=value))
    order = sorted(points, key=lambda layers: (layers in left, -points[layers][-1].value))
    balanced = race.plan.rank is RankMethod.BALANCED_Z
    return RacePicture(
        title=title,
        subtitle=f"{race.sentence} · error rate {race.plan.error_rate:g} over all paths and looks",
        unit="All probes minus base, in spreads" if balanced else "Mean difference to the base",
        counts=(*((look.n, len(look.paths)) for look in race.looks), (n_whole, len(race.contenders))),
        lines=tuple(
            RaceLine(
                label=label_of(layers),
                points=tuple(points[layers]),
                left=layers in left,
            )
            for layers in order
        ),
        warning=PROBE_WARNING,
    )
