"""Converts a race to what its chart and the maps show."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evals.layer_visits import VisitPath
from evals.probes.race import Race, RaceLook, RacingPath
from evals.probes.ranking import RankMethod
from evals.stats.candidate_race import CandidateRace
from orchestrator.charts.race import RaceLine, RacePicture, RacePoint
from orchestrator.charts.records import PROBE_WARNING
from orchestrator.display.text_safety import line

EARLY_WARNING = "Early differences are without the floor at the lower bound; those of all questions are of scores, with it."
"""Of a race of candidates: why a line may jump at its last point."""


def early_texts(race: Race) -> dict[VisitPath, str]:
    """What is known of each path that left: an estimate, and no value."""
    return {path.layers: _early_text(path, look) for look in race.looks for path in look.paths if path.leaves}


def candidate_race_picture(race: CandidateRace, whole: Mapping[str, float], title: str) -> RacePicture:
    """The race of a sweep's candidates for its chart; `whole` holds the differences of the averages of those that were asked everything."""
    points: dict[str, list[RacePoint]] = {}
    for look in race.looks:
        for candidate in look.candidates:
            point = RacePoint(n=look.n, value=candidate.value, low=candidate.low, high=candidate.high)
            points.setdefault(candidate.name, []).append(point)
    n_whole = race.looks[-1].n_whole
    left = {candidate.name for candidate, _ in race.left}
    for name in points.keys() & whole.keys() - left:
        points[name].append(RacePoint(n=n_whole, value=whole[name]))
    order = sorted(points, key=lambda name: (name in left, -points[name][-1].value))
    ended = ((n_whole, len(race.contenders)),) if race.over and race.contenders else ()
    return RacePicture(
        title=title,
        subtitle=f"{race.sentence} \N{MIDDLE DOT} error rate {race.rule.error_rate:g} over all candidates and looks",
        unit="Average minus the base's, in points",
        counts=(*((look.n, len(look.candidates)) for look in race.looks), *ended),
        lines=tuple(
            RaceLine(label=line(name, 60), points=tuple(points[name]), left=name in left) for name in order
        ),
        warning=EARLY_WARNING,
        racer="candidate",
    )


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
