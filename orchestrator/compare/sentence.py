"""What a comparison of two candidates shows, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.compare.comparison import Comparison, ComparisonRow
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import line

_MOST_NAMED = 6
_NAME = 60


def comparison_sentence(comparison: Comparison) -> str:
    """One sentence without markup; names are one line each, cut to 60 characters.

    For example `slerp-with-noise is better than base on IFEval (+17.0, p 0.045); no difference shown on the other 5 and
    on the average.`
    """
    candidate, base = line(comparison.candidate, _NAME), line(comparison.base, _NAME)
    rows = (*comparison.rows, *comparison.averages)
    compared = [row for row in rows if row.delta is not None]
    if not compared:
        reasons = dict.fromkeys(reason for row in rows for reason in row.refused)
        reason = line(next(iter(reasons), "they share no benchmark"), 200)
        return f"{candidate} is not compared with {base}: {reason}."
    shown = {kind: [r for r in compared if r.verdict == kind] for kind in ("better", "worse")}
    silent = [row for row in compared if not row.significant]
    refused = sum(row.delta is None for row in comparison.rows)
    missing = f"; {_number(refused, 'benchmark')} not compared" if refused else ""
    if not any(shown.values()):
        return f"No difference between {candidate} and {base} is shown{_everywhere(silent)}{missing}."
    verdicts = [
        f"{kind} than {base} on {_list([_effect(r) for r in rows_of_kind])}"
        for kind, rows_of_kind in shown.items()
        if rows_of_kind
    ]
    only_averages = not any(row.benchmark for rows_of_kind in shown.values() for row in rows_of_kind)
    others = f"any of the {len(silent)} benchmarks" if only_averages else _others(silent) if silent else ""
    rest = f"; no difference shown on {others}" if silent else ""
    return f"{candidate} is {' and '.join(verdicts)}{rest}{missing}."


def _effect(row: ComparisonRow) -> str:
    assert row.delta is not None
    forced = ", forced" if row.forced else ""
    return f"{_title(row)} ({row.delta.delta_points:+z.1f}, p {p_value(row.p_corrected)}{forced})"


def _title(row: ComparisonRow) -> str:
    if row.benchmark is not None:
        return line(row.title, 40)
    return "the average" if row.title == "Average" else f"the {row.title[:1].lower()}{row.title[1:40]}"


def _others(rows: Sequence[ComparisonRow]) -> str:
    """For example `the other 5 and on the average`."""
    single = [row for row in rows if row.benchmark is not None]
    parts = [] if not single else [_title(single[0]) if len(single) == 1 else f"the other {len(single)}"]
    return " and on ".join([*parts, *(_title(row) for row in rows if row.benchmark is None)])


def _everywhere(rows: Sequence[ComparisonRow]) -> str:
    single = [row for row in rows if row.benchmark is not None]
    averages = [_title(row) for row in rows if row.benchmark is None]
    if len(single) == 1:
        return f" on {_list([_title(single[0]), *averages])}"
    return f" on any of {len(single)} benchmarks" + (f" or on {_list(averages)}" if averages else "")


def _list(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMED:
        return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
