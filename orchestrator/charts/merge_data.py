"""What the pictures of a merge search show, from the search and its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.charts.records import ChartError
from orchestrator.store.merge_report import SearchedParameter, SearchView
from orchestrator.store.trial_records import Arm, TrialRecord

MOST_SLICES = 12
SEARCH_WARNING = "Values of the search set: the best of many is the best by luck as well"
"""Warning on every picture of a search."""


class ProgressLine(NamedTuple):
    """The best value of one method so far."""

    arm: Arm
    costs_s: list[float]
    """Seconds of builds and evaluations until each trial."""
    best: list[float]
    trials: list[int]


class ObjectiveLevel(NamedTuple):
    """A reference's value."""

    name: str
    value: float


class ParameterSlice(NamedTuple):
    """Values of trials against one parameter."""

    parameter: SearchedParameter
    share: float | None
    """Share of the variance that the parameter explains; None if unknown."""
    x: list[float | str]
    y: list[float]
    trials: list[int]


class GradientLine(NamedTuple):
    """The points of a gradient in one trial."""

    gradient: str
    trial: int
    shares: list[float]
    """Depth of each point, 0 is the first layer and 1 the last."""
    values: list[float]


def progress_lines(view: SearchView) -> list[ProgressLine]:
    """One line per method with a complete trial; the cost of failed trials is counted."""
    lines = []
    for arm in Arm:
        line = ProgressLine(arm, [], [], [])
        cost_s, best = 0.0, float("-inf")
        for trial in (t for t in view.trials if t.arm is arm):
            cost_s += trial.cost_s or 0.0
            value = view.value(trial)
            if value is not None:
                best = max(best, value)
                line.costs_s.append(cost_s)
                line.best.append(best)
                line.trials.append(trial.number)
        if line.best:
            lines.append(line)
    if not lines:
        raise ChartError("No merge of the search has a value yet: wait for the first.")
    return lines


def levels(view: SearchView) -> list[ObjectiveLevel]:
    """Value of each reference on the search set."""
    return [
        ObjectiveLevel(r.name, view.report.together(r.objectives))
        for r in view.report.references
        if r.objectives is not None
    ]


def slices(view: SearchView) -> list[ParameterSlice]:
    """One slice per parameter, the most important first; at most `MOST_SLICES`."""
    complete = _complete(view)
    if not complete:
        raise ChartError("No merge of the search has a value yet: wait for the first.")
    shares = view.report.importance
    ordered = sorted(view.report.parameters, key=lambda p: -shares.get(p.name, 0.0))
    return [
        ParameterSlice(
            parameter,
            shares.get(parameter.name),
            [_number(trial.parameters[parameter.name], parameter) for trial in complete],
            [view.value(trial) or 0.0 for trial in complete],
            [trial.number for trial in complete],
        )
        for parameter in ordered[:MOST_SLICES]
    ]


def importances(view: SearchView) -> list[tuple[str, float]]:
    """Parameters and their shares of the variance, the largest last, as bars are drawn."""
    if not view.report.importance:
        raise ChartError("The search has too few trials to tell which parameter matters: try more merges.")
    return sorted(view.report.importance.items(), key=lambda item: item[1])[-MOST_SLICES:]


def front(view: SearchView) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Complete trials, and those of the Pareto front of the first two objectives from left to right."""
    complete = _complete(view)
    if len(view.report.objectives) < 2 or not complete:
        raise ChartError("A Pareto front needs two objectives and a merge with both values.")
    ordered = sorted(complete, key=_two, reverse=True)
    best: list[TrialRecord] = []
    for trial in ordered:
        if not best or _two(trial)[1] > _two(best[-1])[1]:
            best.append(trial)
    return complete, best[::-1]


def front_text(best: Sequence[TrialRecord]) -> str:
    """How many merges are on the front, in words."""
    return f"{len(best)} merge{'s' if len(best) != 1 else ''} on the front"


def gradient_lines(view: SearchView) -> list[GradientLine]:
    """The gradients of the best trials, the winner or the best first."""
    if not view.report.gradients:
        raise ChartError("The search has no gradient: give a searched number several `points`.")
    complete = sorted(_complete(view), key=lambda t: -(view.value(t) or 0.0))
    if not complete:
        raise ChartError("No merge of the search has a value yet: wait for the first.")
    winner = view.report.winner
    first = [t for t in complete if t.number == winner]
    return [
        GradientLine(
            name,
            trial.number,
            [n / (len(points) - 1) for n in range(len(points))],
            [float(trial.parameters[point]) for point in points],
        )
        for trial in [*first, *(t for t in complete if t.number != winner)][:5]
        for name, points in view.report.gradients.items()
    ]


def parameter_label(view: SearchView, name: str) -> str:
    """What a picture calls a parameter, at most 40 characters."""
    parameters = view.report.parameters
    label = next((p.label for p in parameters if p.name == name), None)
    return short(name, [p.name for p in parameters]) if label is None else _cut(label)


def gradient_label(view: SearchView, gradient: str) -> str:
    """What a picture calls a gradient: the label of its first point without the point's number."""
    first = view.report.gradients[gradient][0]
    label = next((p.label for p in view.report.parameters if p.name == first), None)
    return short(gradient, list(view.report.gradients)) if label is None else _cut(label.removesuffix("[0]"))


def short(name: str, names: Sequence[str]) -> str:
    """A parameter's name without what all names begin with, at most 40 characters."""
    parts = name.split(".")
    common = 0
    others = [other.split(".") for other in names]
    while len(names) > 1 and common < len(parts) - 1 and len({tuple(o[: common + 1]) for o in others}) == 1:
        common += 1
    return _cut(".".join(parts[common:]).replace(".parameters.", " "))


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"…{text[-39:]}"


def _complete(view: SearchView) -> list[TrialRecord]:
    return [trial for trial in view.trials if trial.objectives is not None]


def _two(trial: TrialRecord) -> tuple[float, float]:
    objectives = trial.objectives or (0.0, 0.0)
    return objectives[0], objectives[1]


def _number(value: bool | int | float | str, parameter: SearchedParameter) -> float | str:
    return str(value) if parameter.low is None else float(value)
