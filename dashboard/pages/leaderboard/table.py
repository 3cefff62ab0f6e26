"""Rows of a leaderboard as cells of the grid: score, difference with its meaning, details of every benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dashboard.board import WAITING, Row, Shown, known_suite, marks, suite_of, title
from dashboard.comparisons import Broken
from dashboard.components.grid import Detail, DetailRow, GridCell, GridColumn, GridRow
from evals.suite import Suite
from orchestrator.compare import ComparisonRow
from orchestrator.display.format import duration, p_value, parameters
from orchestrator.display.text_safety import line
from orchestrator.store.pages import Column

NAME_KEY = "name"
MEAN_KEY = "mean"
FACTS = {
    "layers": ("Layers", "Layers that a forward pass visits"),
    "parameters": ("Parameters", "Parameters of the checkpoint"),
    "duration": ("Time", "Time of its evaluations, without engine starts"),
    "position": ("#", "Position in the sweep"),
}
"""Columns beside the scores: label and meaning by key."""
_SIGNS = {
    "better": "▲ ",
    "worse": "▼ ",
    "better-uncorrected": "△ ",
    "worse-uncorrected": "▽ ",
}
_WORDS = {
    "better": "better",
    "worse": "worse",
    "better-uncorrected": "better on its own, not after correction",
    "worse-uncorrected": "worse on its own, not after correction",
    "": "no difference shown",
}
_HEAD = (
    "",
    "Score",
    "Δ points",
    "95 % interval",
    "Δ %",
    "Base",
    "p",
    "p corrected",
    "Gained",
    "Lost",
    "n",
    "",
)
_NO_DELTA = "\N{NO-BREAK SPACE}"
Link = Callable[[int, str], str]


def grid_columns(
    columns: Sequence[Column],
    facts: Sequence[str],
    sort: str,
    *,
    worst_first: bool,
    title_of: Callable[[Column], str],
) -> list[GridColumn]:
    """The columns of the table; `sort` is the key of the one that its rows are sorted by."""

    def order(key: str) -> str | None:
        if key != sort:
            return None
        return "ascending" if (key in FACTS or key == NAME_KEY) != worst_first else "descending"

    hint = "; click for best first, again for worst first"
    mean = f"Mean of the suite's benchmarks, 0 to 100, and the difference to the base{hint}"
    return [
        GridColumn(
            NAME_KEY, "Recipe", f"Name of the recipe{hint}", False, order(NAME_KEY), phone=True, kind="name"
        ),
        GridColumn(MEAN_KEY, "Mean", mean, sorted=order(MEAN_KEY), phone=True),
        *(
            GridColumn(
                c.benchmark,
                title_of(c),
                f"Normalized score in {title_of(c)}, 0 to 100, and the difference to the base{hint}",
                sorted=order(c.benchmark),
            )
            for c in columns
        ),
        *(
            GridColumn(key, FACTS[key][0], FACTS[key][1] + hint, sorted=order(key), kind="fact")
            for key in facts
        ),
    ]


def grid_rows(
    rows: Sequence[Row], columns: Sequence[Column], facts: Sequence[str], shown: Shown, *, link: Link
) -> list[GridRow]:
    """The rows of the table; `link` gives the address behind a candidate's number in a column, or its name ("")."""
    suite = known_suite(columns[0].suite)
    return [_grid_row(row, columns, facts, shown, suite, link) for row in rows]


def meaning_of(row: ComparisonRow | None) -> str:
    """What a difference means, as the grid's word."""
    if row is None:
        return ""
    if row.delta is None:
        return "refused"
    if not row.significant and not row.alone:
        return ""
    word = "better" if row.improved else "worse"
    return word if row.significant else f"{word}-uncorrected"


def _grid_row(
    row: Row,
    columns: Sequence[Column],
    facts: Sequence[str],
    shown: Shown,
    suite: Suite | None,
    link: Link,
) -> GridRow:
    candidate = row.scores.candidate
    position = candidate.position
    cells = {}
    if suite is not None:
        cells[MEAN_KEY] = _mean(row, suite, shown, "" if row.is_base else link(position, MEAN_KEY))
    for column in columns:
        cells[column.benchmark] = _cell(
            row, column, shown, "" if row.is_base else link(position, column.benchmark)
        )
    texts = {
        "layers": "–" if candidate.layers is None else str(candidate.layers),
        "parameters": parameters(candidate.parameters),
        "duration": duration(sum(e.duration_s for e in row.scores.evaluations) or None),
        "position": str(position),
    }
    cells |= {key: GridCell(texts[key]) for key in facts}
    mark, mark_title = ("◆", "The base") if row.is_base else ("📌", "Pinned") if row.pinned else ("", "")
    return GridRow(
        id=position,
        name=line(candidate.name, 90),
        cells=cells,
        href=link(position, ""),
        mark=mark,
        mark_title=mark_title,
        kind="base" if row.is_base else "pinned" if row.pinned else "",
        detail=None if row.is_base else _detail(row, columns, suite, link),
    )


def _cell(row: Row, column: Column, shown: Shown, href: str) -> GridCell:
    """A benchmark's cell."""
    score = row.score(column)
    if score is None:
        return GridCell("–", _NO_DELTA if shown is not Shown.SCORES else "", title="No score")
    sign = marks(score)
    text = f"{sign} {score.normalized:.1f}" if sign else f"{score.normalized:.1f}"
    remarks = [f"partial: {score.n:,} questions"] if score.partial else []
    remarks += [f"{alarm.share:.0%} of the responses are {alarm.kind}" for alarm in score.alarms]
    return _with_delta(row, row.difference(column), text, shown, href, title(column), remarks)


def _mean(row: Row, suite: Suite, shown: Shown, href: str) -> GridCell:
    """The suite's average, or the mean of the measured benchmarks, marked as such."""
    score = suite_of(row, suite)
    if score is None or score.partial_average is None:
        return GridCell("–", _NO_DELTA if shown is not Shown.SCORES else "", title="No score")
    value = score.average if score.average is not None else score.partial_average
    mark, remarks = "", []
    if score.average is None:
        n, of = len(score.benchmarks), len(suite.benchmarks)
        mark = f"{n}/{of} " if score.missing else "◔ "
        remarks = [f"mean of {n} of {of} benchmarks" if score.missing else "partial"]
    return _with_delta(row, row.mean(suite.name), f"{mark}{value:.1f}", shown, href, "Mean", remarks)


def _with_delta(
    row: Row,
    difference: ComparisonRow | None,
    text: str,
    shown: Shown,
    href: str,
    name: str,
    remarks: Sequence[str],
) -> GridCell:
    about = "; ".join([f"{name} {text}", *remarks])
    if row.is_base or shown is Shown.SCORES:
        return GridCell(text, "" if shown is Shown.SCORES else _NO_DELTA, title=about, href=href)
    if isinstance(row.result, Broken):
        return GridCell(text, "⊘", "refused", f"{about}. Not compared: {line(row.result.reason, 300)}", href)
    if difference is None:
        waits = row.result is None
        return GridCell(
            text,
            WAITING if waits else _NO_DELTA,
            title=f"{about}; not compared yet" if waits else about,
            href=href,
        )
    meaning = meaning_of(difference)
    if difference.delta is None:
        reason = line("; ".join(difference.refused), 300)
        return GridCell(text, "⊘", meaning, f"{about}. Not compared: {reason}", href)
    delta = difference.delta
    forced = " !" if difference.forced else ""
    if shown is Shown.PERCENT:
        percent = "n/a" if delta.delta_percent is None else f"{delta.delta_percent:+z.1f} %"
        number = f"{_SIGNS.get(meaning, '')}{percent}{forced}"
    else:
        number = f"{_SIGNS.get(meaning, '')}{delta.delta_points:+z.1f}{forced}"
    tip = (
        f"{about}. {delta.delta_points:+z.1f} points, 95 % interval {_interval(difference)}, p {p_value(delta.p)}, "
        f"corrected {p_value(difference.p_corrected)}: {_WORDS[meaning]}"
        + (", forced although not comparable" if difference.forced else "")
    )
    return GridCell(text, number, meaning, tip, href)


def _detail(row: Row, columns: Sequence[Column], suite: Suite | None, link: Link) -> Detail:
    """What an opened row shows: every benchmark's difference with interval, p-values and flips; reasons below."""
    position = row.scores.candidate.position
    lines: list[DetailRow] = []
    notes: dict[str, list[str]] = {}
    if isinstance(row.result, Broken):
        notes[f"Not compared: {line(row.result.reason, 300)}"] = []
    mean = row.mean(suite.name) if suite is not None else None
    if mean is not None:
        lines.append(DetailRow(MEAN_KEY, _detail_texts("Mean", mean), link(position, MEAN_KEY)))
    for column in columns:
        difference = row.difference(column)
        if difference is None:
            continue
        texts = _detail_texts(title(column), difference)
        lines.append(DetailRow(column.benchmark, texts, link(position, column.benchmark)))
        for reason in difference.refused:
            state = "Forced although" if difference.forced else "Not compared"
            notes.setdefault(f"{state}: {line(reason, 300)}", []).append(title(column))
        for note in difference.notes:
            notes.setdefault(line(note, 300), []).append(title(column))
    if not lines:
        notes["Not compared with the base yet."] = []
    return Detail(
        _HEAD, tuple(lines), tuple(_note(text, about, len(columns)) for text, about in notes.items())
    )


def _note(text: str, benchmarks: Sequence[str], of: int) -> str:
    """A remark with the benchmarks that it is about; it alone if it is about all."""
    return text if len(benchmarks) in (0, of) else f"{', '.join(benchmarks)}: {text}"


def _detail_texts(name: str, row: ComparisonRow) -> tuple[str, ...]:
    score = "–" if row.candidate is None else f"{row.candidate:.1f}"
    base = "–" if row.base is None else f"{row.base:.1f}"
    delta = row.delta
    if delta is None:
        return (name, score, "⊘", "–", "–", base, "–", "–", "–", "–", "–", "not compared")
    meaning = meaning_of(row)
    return (
        name,
        score,
        f"{_SIGNS.get(meaning, '')}{delta.delta_points:+z.1f}",
        _interval(row),
        "–" if delta.delta_percent is None else f"{delta.delta_percent:+z.1f} %",
        base,
        p_value(delta.p),
        p_value(row.p_corrected),
        "–" if delta.gained is None else f"{delta.gained:,}",
        "–" if delta.lost is None else f"{delta.lost:,}",
        f"{delta.n:,}",
        _WORDS[meaning],
    )


def _interval(row: ComparisonRow) -> str:
    assert row.delta is not None
    span = row.delta.interval
    return f"{span.low:+z.1f} to {span.high:+z.1f}"
