"""Infer the unit of a table's numbers: scores in points, scores as fractions, or changes; report ambiguity.

A number has the scale of the numbers beside it. A value of at most 1 among percentages is a percentage below
1 if it is written like its neighbours; otherwise both readings are possible and it is marked as unclear.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evals.claims.records import Unit

# Whole words only: a model can be called Delta-7B.
_CHANGE = re.compile(
    r"[Δ∆]|(?<![\w./-])(?:improve\w{0,10}|changes?|delta|gains?|differ\w{0,8}|diff|vs)(?![\w/-])",
    re.IGNORECASE,
)
_FEW = 3  # minimum length of a list of small numbers that is read as fractions


@dataclass(frozen=True)
class Entry:
    """One number of a table or list."""

    series: str  # the model or column that it belongs to
    label: str
    known: bool  # whether the label names a benchmark or an average
    near_zero: bool  # whether a score of that benchmark can be below 1 %
    written: str
    value: float
    digits: int
    signed: bool
    percent: bool

    @property
    def is_small(self) -> bool:
        """Whether it can be a fraction or a percentage below 1."""
        return 0 < self.value <= 1 and not self.percent and not self.signed

    @property
    def is_large(self) -> bool:
        """Whether it can only be in points."""
        return self.percent or self.value > 1


@dataclass(frozen=True)
class Reading:
    """The unit of a number."""

    unit: Unit
    unclear: str | None = None
    error: str | None = None  # why it is not a score


def readings(entries: Sequence[Entry]) -> list[Reading]:
    """The reading of each number of one table, in the same order."""
    changes = _changes(entries)
    scores = [i for i in range(len(entries)) if i not in changes]
    large = [entries[i] for i in scores if entries[i].known and entries[i].is_large]
    small = [entries[i] for i in scores if entries[i].known and entries[i].is_small]
    by_series: dict[str, list[int]] = defaultdict(list)
    for i in scores:
        by_series[entries[i].series].append(i)
    by_index = dict.fromkeys(changes, Reading(Unit.CHANGE))
    finest = max((e.digits for e in large), default=None)
    for members in by_series.values():
        series = [entries[i] for i in members]
        by_index.update(zip(members, _of_series(series, finest, len(small)), strict=True))
    return [by_index[i] for i in range(len(entries))]


def says_change(header: str, values: Sequence[float]) -> bool:
    """Whether a header marks its numbers as changes; numbers that are all above 20 are scores anyway."""
    return _CHANGE.search(header) is not None and not all(v > 20 for v in values)


def _changes(entries: Sequence[Entry]) -> set[int]:
    """Indices of the changes: by words of their label or series, else if most of the numbers are signed."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for i, entry in enumerate(entries):
        by_label[entry.label].append(i)
    changes: set[int] = set()
    for label, members in by_label.items():
        numbers = [entries[i] for i in members]
        unknown = not any(n.known for n in numbers)
        if says_change(label, [n.value for n in numbers]) or (unknown and _mostly_signed(numbers)):
            changes.update(members)
    by_series: dict[str, list[int]] = defaultdict(list)
    for i, entry in enumerate(entries):
        if i not in changes:
            by_series[entry.series].append(i)
    for series, members in by_series.items():
        numbers = [entries[i] for i in members]
        if says_change(series, [n.value for n in numbers]) or _mostly_signed(numbers):
            changes.update(members)
    return changes


def _mostly_signed(numbers: Sequence[Entry]) -> bool:
    counted = [n for n in numbers if n.signed or n.value != 0]
    return 2 * sum(n.signed for n in counted) > len(counted)


def _of_series(series: Sequence[Entry], finest: int | None, n_small: int) -> list[Reading]:
    """The readings of one model's scores.

    `finest` is the largest number of decimals of the table's large numbers, None if it has none; `n_small` is
    the number of its small ones.
    """
    unit, ambiguous = _scale(series, finest, n_small)
    unclear = frozenset(ambiguous)
    signed = [e for e in series if e.signed]
    mixed = (
        f"{len(signed)} of the {len(series)} numbers are signed: they may be scores or changes"
        if len(signed) > 1
        else None
    )
    result = []
    for entry in series:
        if entry.signed:
            error = f"{entry.label} {entry.written} is signed among scores: it is read as no claim"
            result.append(Reading(Unit.POINTS, error=error))
        elif entry.known and entry.value > 100:
            error = f"{entry.label} {entry.written} is above 100: it is read as no claim"
            result.append(Reading(Unit.POINTS, error=error))
        elif entry.is_large:
            result.append(Reading(Unit.POINTS, unclear=mixed))
        elif entry in unclear:
            remark = f"{entry.written} may be {entry.value:g} % or {100 * entry.value:.6g} %, and the scores beside it do not settle which"
            result.append(Reading(unit, unclear=remark))
        else:
            result.append(Reading(unit, unclear=mixed))
    return result


def _scale(series: Sequence[Entry], finest: int | None, n_small: int) -> tuple[Unit, list[Entry]]:
    """The unit of a series' small numbers, and those that are ambiguous."""
    low = [e for e in series if e.known and e.is_small]
    high = [e for e in series if e.known and e.is_large]
    if not low:
        unknown = [e for e in series if e.is_small]
        fractions = unknown and not high and all(e.digits > 2 for e in unknown)
        return (Unit.FRACTION if fractions else Unit.POINTS), []
    digits = max(e.digits for e in low)
    can_be_points = all(e.near_zero for e in low)
    if high:
        high_digits = max(e.digits for e in high)
        odd = [e for e in low if e.digits > high_digits or not e.near_zero]
        mostly_low = len(low) > len(high) and len(low) >= _FEW and bool(odd)
        return (Unit.FRACTION if mostly_low else Unit.POINTS), (low if mostly_low else odd)
    if finest is None:
        sure = n_small >= _FEW or digits > 2 or not can_be_points
        return Unit.FRACTION, ([] if sure else low)
    finer = digits > finest
    if not can_be_points:
        return Unit.FRACTION, []
    if len(low) >= _FEW:
        return Unit.FRACTION, ([] if finer else low)
    return (Unit.FRACTION, low) if finer else (Unit.POINTS, [])
