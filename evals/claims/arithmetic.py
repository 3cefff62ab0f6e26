"""Checks of a card's figures against each other: averages, changes, contradictions, parameter counts. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from pydantic import Field

from evals.claims.board import BoardRow
from evals.claims.records import CardCheck, CheckKind, CheckOutcome, Claim, Figure, Unit, Where
from evals.engine import Frozen
from evals.suite import Suite

_MARKED = " marked '%'"
_MOST_BESIDE = 200  # most figures that an average is checked against; no board has as many
Key = str | None  # a benchmark, or None for the average


class Base(Frozen):
    """Scores of a checkpoint that the changes in a card may be relative to."""

    name: str = Field(description="The checkpoint.")
    values: dict[str, tuple[float, ...]] = Field(
        description="Possible values by benchmark; '' is the average."
    )

    def of(self, benchmark: Key) -> tuple[float, ...]:
        """The published values of a benchmark, or of the average for None."""
        return self.values.get(benchmark or "", ())


class RecipeSize(Frozen):
    """Size of the checkpoint that a recipe builds."""

    name: str = Field(description="Display name of the recipe.")
    layers: int = Field(ge=1, description="Number of layers of the built checkpoint.")
    parameters: int = Field(ge=1, description="Number of parameters of the built checkpoint.")
    parameters_per_layer: int = Field(ge=1, description="Number of parameters of one layer.")


def base_of_row(row: BoardRow) -> Base:
    """A published row as a base of comparison."""
    keys: list[Key] = [*row.scores, None]
    return Base(name=row.checkpoint, values={k or "": tuple(row.values(k).values()) for k in keys})


def bases_in(figures: Sequence[Figure]) -> tuple[Base, ...]:
    """The scores of other checkpoints that the card shows, by checkpoint."""
    by_subject: dict[str, dict[str, tuple[float, ...]]] = defaultdict(dict)
    for figure in figures:
        if figure.subject is not None and _is_known(figure) and figure.unit is not Unit.CHANGE:
            by_subject[figure.subject].setdefault(figure.key or "", (figure.points,))
    return tuple(Base(name=name, values=values) for name, values in by_subject.items())


def check_averages(figures: Sequence[Figure], suites: Sequence[Suite]) -> tuple[CardCheck, ...]:
    """Check every average against the mean of the figures of its table."""
    checks = []
    tables: dict[tuple[int, str | None, Unit], list[Figure]] = defaultdict(list)
    columns: dict[tuple[int, str | None], list[Figure]] = defaultdict(list)
    for figure in figures:
        columns[figure.group, figure.subject].append(figure)
        if not figure.is_average:
            tables[figure.group, figure.subject, figure.unit].append(figure)
    for average in figures:
        if not average.is_average or average.unit is Unit.CHANGE:
            continue
        beside = tables[average.group, average.subject, average.unit]
        if not 2 <= len(beside) <= _MOST_BESIDE:
            continue
        board_scores = [f for f in beside if f.benchmark is not None]
        # A table may hold numbers that are not part of the average.
        if len(board_scores) >= 2 and _is_mean(average, board_scores):
            beside = board_scores
        column = columns[average.group, average.subject]
        section = None if _is_mean(average, beside) else _section(average, column)
        beside = beside if section is None else section
        mean, holds = fmean(f.points for f in beside), _is_mean(average, beside)
        size = _board_size(beside, suites)
        text = f"{_subject_prefix(average)}{average.label} {average.written}"
        if not holds and size is not None and len(beside) < size:
            sentence = f"{text} cannot be checked: only {len(beside)} of the {size} figures are beside it."
            outcome = CheckOutcome.NOTE
        elif holds and size is not None and len(beside) < size:
            sentence = (
                f"{text} is the mean of {len(beside)} of {size} benchmarks: it is not the board's average."
            )
            outcome = CheckOutcome.NOTE
        elif holds:
            sentence, outcome = (
                f"{text} is the mean of the {len(beside)} figures beside it.",
                CheckOutcome.HOLDS,
            )
        else:
            sentence = f"{text} is not the mean of the {len(beside)} figures beside it, which is {mean:.2f}."
            outcome = CheckOutcome.FAILS if _is_plain(average, beside, column) else CheckOutcome.NOTE
        checks.append(
            CardCheck(kind=CheckKind.AVERAGE, outcome=outcome, sentence=sentence, line=average.line)
        )
    return tuple(checks)


def check_readings(figures: Sequence[Figure], claims: Sequence[Claim]) -> tuple[CardCheck, ...]:
    """Report figures that are not scores, unclear claims, and tables whose models are not known to be the card's own."""
    checks = [
        _reading(CheckOutcome.FAILS, f"{f.error} (line {f.line}).", f.line)
        for f in figures
        if f.error is not None and f.subject is None
    ]
    checks += [
        _reading(
            CheckOutcome.NOTE,
            f"Unclear claim, {claim.title} {claim.value:g}: {remark} ({claim.source}).",
            None,
        )
        for claim in claims
        for remark in claim.unclear
    ]
    own_groups = {f.group for f in figures if f.subject is None}
    subjects_by_group: dict[int, dict[str, int]] = defaultdict(dict)
    for f in figures:
        if f.subject is not None and f.group not in own_groups and _is_known(f) and f.where is Where.TABLE:
            subjects_by_group[f.group].setdefault(f.subject, f.line)
    for subjects in subjects_by_group.values():
        line = min(subjects.values())
        names = list(subjects)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text = f"The table at line {line} gives scores of {', '.join(names[:3])}{more}: none is known to be the card's own model."
        checks.append(_reading(CheckOutcome.NOTE, text, line))
    return tuple(checks)


def _section(average: Figure, column: Sequence[Figure]) -> list[Figure] | None:
    """The scores of the same model between an average and the one before or after it in its table, if it is their mean."""
    column = [f for f in column[:_MOST_BESIDE] if f.unit is average.unit]
    if not any(f is average for f in column):
        return None
    at = next(i for i, f in enumerate(column) if f is average)
    for step in (-1, 1):
        scores: list[Figure] = []
        i = at + step
        while 0 <= i < len(column) and not column[i].is_average and len(scores) < _MOST_BESIDE:
            scores.append(column[i])
            i += step
        if len(scores) >= 2 and _is_mean(average, scores):
            return scores
    return None


def _is_plain(average: Figure, beside: Sequence[Figure], column: Sequence[Figure]) -> bool:
    """Whether an average can only be meant as the mean of its table: of a board, the only average, or outside of all scores."""
    if all(f.suite is not None for f in beside):
        return True
    points = [f.points for f in beside]
    if not min(points) <= average.points <= max(points):
        return True
    own_range = any(f.unit is not average.unit for f in column[:_MOST_BESIDE])
    return sum(f.is_average for f in column[:_MOST_BESIDE]) == 1 and not own_range


def _is_known(figure: Figure) -> bool:
    """Whether a figure is of a known benchmark or an average."""
    return figure.is_average or figure.benchmark is not None or figure.known_as is not None


def _reading(outcome: CheckOutcome, sentence: str, line: int | None) -> CardCheck:
    return CardCheck(kind=CheckKind.READING, outcome=outcome, sentence=sentence, line=line)


def check_contradictions(figures: Sequence[Figure]) -> tuple[CardCheck, ...]:
    """Report benchmarks to which two places of the card give different scores."""
    checks = []
    first_figures: dict[tuple[str, str | None], Figure] = {}
    for figure in figures:
        if figure.subject is not None or figure.suite is None or figure.benchmark is None:
            continue
        if figure.unit is Unit.CHANGE or figure.error is not None or figure.unclear is not None:
            continue
        first_figure = first_figures.setdefault((figure.suite, figure.benchmark), figure)
        slack = first_figure.rounding_points + figure.rounding_points
        if _measured_differently(first_figure, figure):
            continue
        if abs(first_figure.points - figure.points) > slack + 1e-9:
            sentence = (
                f"{figure.label} is {figure.written} in the {figure.where} (line {figure.line}) and "
                f"{first_figure.written} in the {first_figure.where} (line {first_figure.line})."
            )
            checks.append(
                CardCheck(
                    kind=CheckKind.CONTRADICTION,
                    outcome=CheckOutcome.FAILS,
                    sentence=sentence,
                    line=figure.line,
                )
            )
    return tuple(checks)


def _measured_differently(left: Figure, right: Figure) -> bool:
    """Whether the card states different settings or scales for two figures, so that both may be correct."""
    shots, scales = {left.shots, right.shots} - {None}, {left.scale, right.scale} - {None}
    return len(shots) > 1 or len(scales) > 1 or bool(left.facts.differences(right.facts))


def check_changes(figures: Sequence[Figure], bases: Sequence[Base]) -> tuple[CardCheck, ...]:
    """Classify every list of signed percentages: relative changes, differences in points, or neither."""
    groups: dict[tuple[int, str | None], list[Figure]] = defaultdict(list)
    for figure in figures:
        if figure.unit is Unit.CHANGE and _is_known(figure):
            groups[figure.group, figure.subject].append(figure)
    return tuple(_check_group(group, _new_scores(figures, group[0]), bases) for group in groups.values())


def fitting_base(figures: Sequence[Figure], bases: Sequence[Base]) -> Base | None:
    """The base whose scores explain all changes of a card, relative or in points; None if there is none."""
    changes = [f for f in figures if f.unit is Unit.CHANGE and _is_known(f)]
    if not changes:
        return None
    scores = _new_scores(figures, changes[0])
    for base in bases:
        if any(all(_fits(c, scores, base, relative) for c in changes) for relative in (True, False)):
            return base
    return None


def check_parameters(published_b: float, rounding_b: float, recipe: RecipeSize, source: str) -> CardCheck:
    """Check a published number of parameters (in 1e9) against the size of the built checkpoint."""
    expected_b = recipe.parameters / 1e9
    makes = f"{recipe.name} makes {recipe.layers} layers and {_size(expected_b)} parameters"
    if abs(published_b - expected_b) <= rounding_b + 1e-9:
        sentence = f"{makes}, as {source} says ({_size(published_b)})."
        return CardCheck(kind=CheckKind.PARAMETERS, outcome=CheckOutcome.HOLDS, sentence=sentence)
    per_layer_b = recipe.parameters_per_layer / 1e9
    layers = (published_b - expected_b) / per_layer_b
    sentence = f"{makes}, but {source} says {_size(published_b)}"
    exact = rounding_b / per_layer_b < 0.05 and abs(layers - round(layers)) < 0.05
    if exact and recipe.layers + round(layers) > 0:
        sentence += f", which is {recipe.layers + round(layers)} layers"
    sentence += ": the described recipe and the published file disagree."
    return CardCheck(kind=CheckKind.PARAMETERS, outcome=CheckOutcome.FAILS, sentence=sentence)


def _size(parameters_b: float) -> str:
    return f"{parameters_b:.3f} B" if parameters_b >= 1 else f"{parameters_b * 1000:.1f} M"


def _check_group(changes: Sequence[Figure], scores: Mapping[Key, float], bases: Sequence[Base]) -> CardCheck:
    percent = any("%" in change.written for change in changes)
    title = f"{_subject_prefix(changes[0])}{_count_text(changes)}{_MARKED if percent else ''}"
    line = changes[0].line
    for base in bases:
        relative = [_fits(c, scores, base, relative=True) for c in changes]
        points = [_fits(c, scores, base, relative=False) for c in changes]
        if all(relative) and not all(points):
            largest = max(changes, key=lambda c: abs(c.value))
            gain = _change(largest, scores, base, relative=False)
            sentence = (
                f"{title} follow from {base.name} as relative changes (score / base - 1); "
                f"{largest.label} {largest.written} is {gain:+z.2f} points."
            )
            if not percent:
                sentence = f"{sentence[:-1]}, and the card does not mark it as relative."
            return CardCheck(
                kind=CheckKind.RELATIVE_CHANGE,
                outcome=CheckOutcome.NOTE if percent else CheckOutcome.FAILS,
                sentence=sentence,
                line=line,
            )
        if all(points):
            sentence = f"{title} follow from {base.name} as differences in points."
            return CardCheck(
                kind=CheckKind.RELATIVE_CHANGE, outcome=CheckOutcome.HOLDS, sentence=sentence, line=line
            )
    comparable = [b for b in bases if any(_change(c, scores, b, relative=True) is not None for c in changes)]
    if not scores or not comparable:
        sentence = f"{title} cannot be checked: the scores that they are relative to are not known."
        return CardCheck(
            kind=CheckKind.RELATIVE_CHANGE, outcome=CheckOutcome.NOTE, sentence=sentence, line=line
        )
    return _unexplained_changes(title, changes, scores, comparable)


def _unexplained_changes(
    title: str, changes: Sequence[Figure], scores: Mapping[Key, float], bases: Sequence[Base]
) -> CardCheck:
    """The check for changes that follow from no base; its sentence names the closest base and the first mismatch."""
    base = max(bases, key=lambda b: sum(_fits(c, scores, b, relative=True) for c in changes))
    mismatch = next(c for c in changes if not _fits(c, scores, base, relative=True))
    relative, points = (_change(mismatch, scores, base, relative=r) for r in (True, False))
    if relative is None or points is None:
        detail = f"{base.name} has no {mismatch.label}"
    else:
        detail = f"against {base.name}, {mismatch.label} {mismatch.written} would be {relative:+z.2f} % or {points:+z.2f} points"
    return CardCheck(
        kind=CheckKind.RELATIVE_CHANGE,
        outcome=CheckOutcome.FAILS,
        sentence=f"{title} do not follow from the scores: {detail}.",
        line=mismatch.line,
    )


def _fits(change: Figure, scores: Mapping[Key, float], base: Base, relative: bool) -> bool:
    closest = _closest(change, scores, base, relative)
    if closest is None:
        return False
    expected, from_value = closest
    # Scores are rounded to two decimals.
    slack = 0.005 * (1 + abs(scores[change.key]) / from_value) * 100 / from_value if relative else 0.01
    return abs(expected - change.value) <= change.rounding_points + slack + 1e-9


def _change(change: Figure, scores: Mapping[Key, float], base: Base, relative: bool) -> float | None:
    """The change computed from the scores; None if one of them is unknown."""
    closest = _closest(change, scores, base, relative)
    return closest[0] if closest is not None else None


def _closest(
    change: Figure, scores: Mapping[Key, float], base: Base, relative: bool
) -> tuple[float, float] | None:
    """The computed change and the base's value; if several values were published, the one that fits best."""
    if change.key not in scores:
        return None
    score = scores[change.key]
    options = [((score / v - 1) * 100 if relative else score - v, v) for v in base.of(change.key) if v > 0]
    return min(options, key=lambda o: abs(o[0] - change.value), default=None)


def _new_scores(figures: Sequence[Figure], change: Figure) -> dict[Key, float]:
    """The scores after the change: from the same table first, then the card's own model, then the change's subject."""
    scores = [f for f in figures if f.unit is not Unit.CHANGE and _is_known(f)]
    beside = [f for f in scores if f.group == change.group]
    values: dict[Key, float] = {}
    for subject in (None, change.subject):
        for figure in (*beside, *scores):
            if figure.subject == subject:
                values.setdefault(figure.key, figure.points)
    return values


def _is_mean(average: Figure, beside: Sequence[Figure]) -> bool:
    slack = average.rounding_points + fmean(f.rounding_points for f in beside)
    return abs(fmean(f.points for f in beside) - average.points) <= slack + 1e-9


def _board_size(beside: Sequence[Figure], suites: Sequence[Suite]) -> int | None:
    """Number of benchmarks of the board that all figures belong to; None if they are not of one board."""
    names = {f.suite for f in beside}
    sizes = [len(s.benchmarks) for s in suites if names == {s.name}]
    return sizes[0] if sizes else None


def _subject_prefix(figure: Figure) -> str:
    return f"{figure.subject}: " if figure.subject is not None else ""


def _count_text(changes: Sequence[Figure]) -> str:
    return "the figure" if len(changes) == 1 else f"the {len(changes)} figures"
