"""What a card's figures say against each other. Pure functions over figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from pydantic import Field

from evals.claims.board import BoardRow
from evals.claims.records import CardCheck, CheckKind, CheckOutcome, Claim, Figure, Unit
from evals.engine import Frozen
from evals.suite import Suite

_MOST_BESIDE = 200  # figures of one model that an average is checked against; no board has as many
Key = str | None  # a benchmark, or None for the average


class Base(Frozen):
    """Figures of a checkpoint that changes may be relative to."""

    name: str = Field(description="The checkpoint.")
    values: dict[str, tuple[float, ...]] = Field(
        description="Possible values by benchmark; '' is the average."
    )

    def of(self, benchmark: Key) -> tuple[float, ...]:
        """The values that a benchmark, or for None the average, was published with."""
        return self.values.get(benchmark or "", ())


class RecipeSize(Frozen):
    """What a recipe makes."""

    name: str = Field(description="The recipe, for people.")
    layers: int = Field(ge=1, description="Layers of the checkpoint that it makes.")
    parameters: int = Field(ge=1, description="Parameters of the checkpoint that it makes.")
    parameters_per_layer: int = Field(ge=1, description="Parameters of one of its layers.")


def base_of_row(row: BoardRow) -> Base:
    """A published row as a base of comparison."""
    keys: list[Key] = [*row.scores, None]
    return Base(name=row.checkpoint, values={k or "": tuple(row.values(k).values()) for k in keys})


def bases_in(figures: Sequence[Figure]) -> tuple[Base, ...]:
    """Every other checkpoint whose scores stand in the card."""
    by_subject: dict[str, dict[str, tuple[float, ...]]] = defaultdict(dict)
    for figure in figures:
        known = figure.benchmark is not None or figure.is_average
        if figure.subject is not None and known and figure.unit is not Unit.CHANGE:
            by_subject[figure.subject].setdefault(figure.benchmark or "", (figure.points,))
    return tuple(Base(name=name, values=values) for name, values in by_subject.items())


def check_averages(figures: Sequence[Figure], suites: Sequence[Suite]) -> tuple[CardCheck, ...]:
    """Every average against the mean of the figures beside it."""
    checks = []
    tables: dict[tuple[int, str | None, Unit], list[Figure]] = defaultdict(list)
    for figure in figures:
        if not figure.is_average:
            tables[figure.group, figure.subject, figure.unit].append(figure)
    for average in figures:
        if not average.is_average or average.unit is Unit.CHANGE:
            continue
        beside = tables[average.group, average.subject, average.unit]
        if not 2 <= len(beside) <= _MOST_BESIDE:
            continue
        known = [f for f in beside if f.benchmark is not None]
        # A table may hold further numbers that the average leaves out.
        if len(known) >= 2 and _is_mean(average, known):
            beside = known
        mean, holds = fmean(f.points for f in beside), _is_mean(average, beside)
        whole = _board_size(beside, suites)
        text = f"{_whose(average)}{average.label} {average.written}"
        if not holds and whole is not None and len(beside) < whole:
            sentence = f"{text} cannot be checked: only {len(beside)} of the {whole} figures are beside it."
            outcome = CheckOutcome.NOTE
        elif holds and whole is not None and len(beside) < whole:
            sentence = (
                f"{text} is the mean of {len(beside)} of {whole} benchmarks: it is not the board's average."
            )
            outcome = CheckOutcome.NOTE
        elif holds:
            sentence, outcome = (
                f"{text} is the mean of the {len(beside)} figures beside it.",
                CheckOutcome.HOLDS,
            )
        else:
            sentence = f"{text} is not the mean of the {len(beside)} figures beside it, which is {mean:.2f}."
            outcome = CheckOutcome.FAILS
        checks.append(
            CardCheck(kind=CheckKind.AVERAGE, outcome=outcome, sentence=sentence, line=average.line)
        )
    return tuple(checks)


def check_readings(figures: Sequence[Figure], claims: Sequence[Claim]) -> tuple[CardCheck, ...]:
    """What of the own model's figures is no score, what of its claims is unclear, and whose figures were not taken."""
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
    own = {f.group for f in figures if f.subject is None}
    others: dict[int, dict[str, int]] = defaultdict(dict)
    for f in figures:
        if f.subject is not None and f.group not in own and (f.benchmark is not None or f.is_average):
            others[f.group].setdefault(f.subject, f.line)
    for subjects in others.values():
        line = min(subjects.values())
        names = list(subjects)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text = f"The table at line {line} gives scores of {', '.join(names[:3])}{more}: none is known to be the card's own model."
        checks.append(_reading(CheckOutcome.NOTE, text, line))
    return tuple(checks)


def _reading(outcome: CheckOutcome, sentence: str, line: int | None) -> CardCheck:
    return CardCheck(kind=CheckKind.READING, outcome=outcome, sentence=sentence, line=line)


def check_contradictions(figures: Sequence[Figure]) -> tuple[CardCheck, ...]:
    """The same score in two places of the card, with different values."""
    checks = []
    first: dict[tuple[str, str | None], Figure] = {}
    for figure in figures:
        if figure.subject is not None or figure.suite is None or figure.benchmark is None:
            continue
        if figure.unit is Unit.CHANGE or figure.error is not None or figure.unclear is not None:
            continue
        before = first.setdefault((figure.suite, figure.benchmark), figure)
        slack = before.rounding_points + figure.rounding_points
        if _measured_otherwise(before, figure):
            continue
        if abs(before.points - figure.points) > slack + 1e-9:
            sentence = (
                f"{figure.label} is {figure.written} in the {figure.where} (line {figure.line}) and "
                f"{before.written} in the {before.where} (line {before.line})."
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


def _measured_otherwise(one: Figure, other: Figure) -> bool:
    """Whether two figures say that they were measured or scaled in different ways, so that both may be right."""
    shots, scales = {one.shots, other.shots} - {None}, {one.scale, other.scale} - {None}
    return len(shots) > 1 or len(scales) > 1 or bool(one.facts.differences(other.facts))


def check_changes(figures: Sequence[Figure], bases: Sequence[Base]) -> tuple[CardCheck, ...]:
    """Every list of signed percentages: relative changes, differences in points, or neither."""
    groups: dict[tuple[int, str | None], list[Figure]] = defaultdict(list)
    for figure in figures:
        if figure.unit is Unit.CHANGE and (figure.benchmark is not None or figure.is_average):
            groups[figure.group, figure.subject].append(figure)
    return tuple(_check_group(group, _own_values(figures, group[0]), bases) for group in groups.values())


def fitting_base(figures: Sequence[Figure], bases: Sequence[Base]) -> Base | None:
    """The base from which all changes that a card gives follow, relatively or in points."""
    changes = [f for f in figures if f.unit is Unit.CHANGE and (f.benchmark is not None or f.is_average)]
    if not changes:
        return None
    own = _own_values(figures, changes[0])
    for base in bases:
        if any(all(_fits(c, own, base, relative) for c in changes) for relative in (True, False)):
            return base
    return None


def check_parameters(published_b: float, rounding_b: float, recipe: RecipeSize, source: str) -> CardCheck:
    """A published count of parameters (in 1e9) against what the recipe makes."""
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


def _check_group(changes: Sequence[Figure], own: Mapping[Key, float], bases: Sequence[Base]) -> CardCheck:
    what = f"{_whose(changes[0])}{_count(changes)}"
    line = changes[0].line
    for base in bases:
        relative = [_fits(c, own, base, relative=True) for c in changes]
        points = [_fits(c, own, base, relative=False) for c in changes]
        if all(relative) and not all(points):
            largest = max(changes, key=lambda c: abs(c.value))
            gain = _change(largest, own, base, relative=False)
            sentence = (
                f"{what} marked '%' follow from {base.name} as relative changes (score / base - 1); "
                f"{largest.label} {largest.written} is {gain:+z.2f} points."
            )
            return CardCheck(
                kind=CheckKind.RELATIVE_CHANGE, outcome=CheckOutcome.NOTE, sentence=sentence, line=line
            )
        if all(points):
            sentence = f"{what} follow from {base.name} as differences in points."
            return CardCheck(
                kind=CheckKind.RELATIVE_CHANGE, outcome=CheckOutcome.HOLDS, sentence=sentence, line=line
            )
    comparable = [b for b in bases if any(_change(c, own, b, relative=True) is not None for c in changes)]
    if not own or not comparable:
        sentence = f"{what} marked '%' cannot be checked: the scores that they are relative to are not known."
        return CardCheck(
            kind=CheckKind.RELATIVE_CHANGE, outcome=CheckOutcome.NOTE, sentence=sentence, line=line
        )
    return _wrong_changes(what, changes, own, comparable)


def _wrong_changes(
    what: str, changes: Sequence[Figure], own: Mapping[Key, float], bases: Sequence[Base]
) -> CardCheck:
    """The sentence for changes that follow from no base: the closest one and the first figure that is off."""
    base = max(bases, key=lambda b: sum(_fits(c, own, b, relative=True) for c in changes))
    wrong = next(c for c in changes if not _fits(c, own, base, relative=True))
    relative, points = (_change(wrong, own, base, relative=r) for r in (True, False))
    if relative is None or points is None:
        detail = f"{base.name} has no {wrong.label}"
    else:
        detail = f"against {base.name}, {wrong.label} {wrong.written} would be {relative:+z.2f} % or {points:+z.2f} points"
    return CardCheck(
        kind=CheckKind.RELATIVE_CHANGE,
        outcome=CheckOutcome.FAILS,
        sentence=f"{what} marked '%' do not follow from the scores: {detail}.",
        line=wrong.line,
    )


def _fits(change: Figure, own: Mapping[Key, float], base: Base, relative: bool) -> bool:
    found = _closest(change, own, base, relative)
    if found is None:
        return False
    expected, from_value = found
    # What is left open by scores that are known to two decimals.
    slack = 0.005 * (1 + abs(own[change.benchmark]) / from_value) * 100 / from_value if relative else 0.01
    return abs(expected - change.value) <= change.rounding_points + slack + 1e-9


def _change(change: Figure, own: Mapping[Key, float], base: Base, relative: bool) -> float | None:
    """The change that the scores give; None where one of them is unknown."""
    found = _closest(change, own, base, relative)
    return found[0] if found is not None else None


def _closest(
    change: Figure, own: Mapping[Key, float], base: Base, relative: bool
) -> tuple[float, float] | None:
    """The change that the scores give and the base's value; of several published ones the value that fits best."""
    if change.benchmark not in own:
        return None
    mine = own[change.benchmark]
    options = [
        ((mine / v - 1) * 100 if relative else mine - v, v) for v in base.of(change.benchmark) if v > 0
    ]
    return min(options, key=lambda o: abs(o[0] - change.value), default=None)


def _own_values(figures: Sequence[Figure], change: Figure) -> dict[Key, float]:
    """The scores that a change is of: beside it in its table first, then the card's own, then its subject's."""
    scores = [f for f in figures if f.unit is not Unit.CHANGE and (f.benchmark is not None or f.is_average)]
    beside = [f for f in scores if f.group == change.group]
    own: dict[Key, float] = {}
    for subject in (None, change.subject):
        for figure in (*beside, *scores):
            if figure.subject == subject:
                own.setdefault(figure.benchmark, figure.points)
    return own


def _is_mean(average: Figure, beside: Sequence[Figure]) -> bool:
    slack = average.rounding_points + fmean(f.rounding_points for f in beside)
    return abs(fmean(f.points for f in beside) - average.points) <= slack + 1e-9


def _board_size(beside: Sequence[Figure], suites: Sequence[Suite]) -> int | None:
    """How many benchmarks the board has that all these figures belong to; None if they are not of one board."""
    names = {f.suite for f in beside}
    sizes = [len(s.benchmarks) for s in suites if names == {s.name}]
    return sizes[0] if sizes else None


def _whose(figure: Figure) -> str:
    return f"{figure.subject}: " if figure.subject is not None else ""


def _count(changes: Sequence[Figure]) -> str:
    return "the figure" if len(changes) == 1 else f"the {len(changes)} figures"
