"""Inline SVG of forest plots and heatmaps; colours come from the page's style, except those of a heatmap's cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from orchestrator.charts.contrast import mixed
from orchestrator.report.deltas import signed
from orchestrator.report.page import DeltaLine, DeltaTable, ReportMap, ReportTone

WIDTH, HEIGHT = 180, 18
_MARGIN = 8
_MIDDLE = HEIGHT // 2
_CLASSES = {
    ReportTone.BETTER: "b",
    ReportTone.WORSE: "w",
    ReportTone.HINT: "h",
    ReportTone.HOLDS: "b",
    ReportTone.FAILS: "w",
    ReportTone.PLAIN: "n",
    ReportTone.REFUSED: "n",
    ReportTone.WARNING: "n",
}
STEPS = 24
"""Shades on each side of a heatmap's scale."""


def limits(rows: Sequence[DeltaLine]) -> tuple[float, float]:
    """Ends of the axis: all intervals and 0."""
    ends = [value for row in rows for value in (row.low, row.high, row.delta) if value is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return (low, high) if high - low > 1e-9 else (-1.0, 1.0)


class ForestScale:
    """Maps differences to the width of a plot."""

    def __init__(self, table: DeltaTable) -> None:
        self._low, self._high = limits(table.rows)
        self._decimals = table.decimals

    def x(self, value: float) -> int:
        """Position of a value, in units of the plot."""
        share = (value - self._low) / (self._high - self._low)
        return round(_MARGIN + share * (WIDTH - 2 * _MARGIN))

    def axis(self) -> Markup:
        """The axis: both ends and 0."""
        zero, parts = self.x(0.0), []
        for value, anchor in ((self._low, "start"), (self._high, "end")):
            at = 0 if anchor == "start" else WIDTH
            if abs(self.x(value) - zero) > 34:
                parts.append(
                    Markup("<text x={} y=13 text-anchor={}>{}</text>").format(at, anchor, self._text(value))
                )
        anchor = "start" if zero < 12 else "end" if zero > WIDTH - 12 else "middle"
        parts.append(Markup("<text x={} y=13 text-anchor={}>0</text>").format(_number(zero), anchor))
        return _svg(Markup("").join(parts), "f")

    def row(self, row: DeltaLine) -> Markup:
        """One difference: its interval and a mark; an empty plot without one."""
        zero = Markup("<path class=z d=M{},0V{} />").format(_number(self.x(0.0)), HEIGHT)
        if row.delta is None or row.low is None or row.high is None:
            return _svg(zero, "f")
        at, low, high = self.x(row.delta), self.x(row.low), self.x(row.high)
        line = Markup("<path d=M{},{}H{} />").format(_number(low), _MIDDLE, _number(high))
        body = zero + line + _mark(row, at)
        return _svg(body, f"f {_CLASSES[row.tone]}")

    def _text(self, value: float) -> str:
        return signed(value, 0 if abs(value) >= 10 and self._decimals <= 1 else self._decimals)


def heat_map(heat: ReportMap) -> Markup:
    """The heatmap; rows are the start i, downwards, columns the end j. A large one names each cell."""
    size = heat.n_layers + 1
    parts = [_ground(size), _cells(heat), _marks(heat), _axes(heat)]
    box = f"-{_label_room(size)} -0.5 {size + _label_room(size) + 0.5} {size + 1 + _label_room(size)}"
    label = f"{heat.title}: difference to the base by block; {heat.subtitle}"
    return Markup('<svg class="heat{}" viewBox="{}" role=img aria-label="{}">{}</svg>').format(
        " large" if heat.large else "", box, label, Markup("").join(parts)
    )


def heat_scale(heat: ReportMap) -> Markup:
    """The key of a heatmap's colours, from its lower limit by the base to the upper one."""
    stops = [
        Markup("<rect x={} width=6 height=10 class=k{} />").format(6 * n, step)
        for n, step in enumerate(range(-STEPS, STEPS + 1, 2))
    ]
    return Markup(
        '<svg class=key viewBox="0 0 {} 10" preserveAspectRatio=none aria-hidden=true>{}</svg>'
    ).format(6 * len(stops), Markup("").join(stops))


def shade(colours: Sequence[str], step: int) -> str:
    """The colour of a step of a scale: -STEPS is the lower limit, 0 the base, STEPS the upper limit."""
    middle = (len(colours) - 1) / 2
    at = middle + step / STEPS * middle
    first = min(len(colours) - 2, math.floor(at))
    left, right, part = colours[first], colours[first + 1], at - first
    return mixed(right, left, part)


def _ground(size: int) -> Markup:
    """The area of all blocks, in the colour of cells that were not measured."""
    steps = Markup("").join(Markup("v1h1") for _ in range(size - 2))
    return Markup('<path class=none d="M1 0{}v1H{}V0z"/>').format(steps, size)


def _cells(heat: ReportMap) -> Markup:
    by_shade: dict[str, list[Markup]] = {}
    for cell in heat.cells:
        colour = "bad" if cell.delta is None else f"k{_step(heat, cell.delta)}"
        if heat.large:
            text = Markup("<path d=M{0}.04,{1}.04h.92v.92h-.92z><title>{2}</title></path>").format(
                cell.j, cell.i, cell.text
            )
        else:
            text = Markup("M{0} {1}h1v1h-1z").format(cell.j, cell.i)
        by_shade.setdefault(colour, []).append(text)
    groups = []
    for colour, texts in by_shade.items():
        fill = Markup("class={}").format(colour)
        body = Markup("").join(texts)
        groups.append(
            Markup("<g {}>{}</g>").format(fill, body)
            if heat.large
            else Markup('<path {} d="{}"/>').format(fill, body)
        )
    return Markup("").join(groups)


def _step(heat: ReportMap, delta: float) -> int:
    """The step of the scale that is nearest to a difference; each side has a limit of its own."""
    share = delta / heat.high if delta > 0 else -delta / heat.low
    return round(max(-1.0, min(1.0, share)) * STEPS)


def _marks(heat: ReportMap) -> Markup:
    parts = [Markup("<circle class=base cx=.5 cy=.5 r={} />").format(_number(max(0.42, heat.n_layers / 60)))]
    if heat.best is not None:
        i, j = heat.best
        parts.append(
            Markup("<circle class=best cx={} cy={} r={} />").format(
                _number(j + 0.5), _number(i + 0.5), _number(max(0.8, heat.n_layers / 45))
            )
        )
    for cell in heat.cells:
        if cell.mark is not None:
            dash = "" if cell.mark in (ReportTone.BETTER, ReportTone.WORSE) else " dashed"
            parts.append(
                Markup(
                    '<rect class=halo x={1} y={2} width=1 height=1 /><rect class="found{0}" x={1} y={2} width=1 height=1 />'
                ).format(dash, cell.j, cell.i)
            )
    return Markup("").join(parts)


def _axes(heat: ReportMap) -> Markup:
    size = heat.n_layers + 1
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if size / step <= 12)
    font, room = size / 34, _label_room(size)
    parts = []
    for at in range(0, size, step):
        parts.append(
            Markup("<text x={} y={} font-size={} text-anchor=middle>{}</text>").format(
                _number(at + 0.5), _number(size + font * 1.3), _number(font), at
            )
        )
        parts.append(
            Markup("<text x={} y={} font-size={} text-anchor=end>{}</text>").format(
                _number(-font * 0.4), _number(at + 0.5 + font * 0.35), _number(font), at
            )
        )
    parts.append(
        Markup("<text x={} y={} font-size={} text-anchor=middle>end j of the repeated block</text>").format(
            _number(size / 2), _number(size + room * 0.85), _number(font)
        )
    )
    middle = _number(size / 2)
    parts.append(
        Markup(
            '<text x={0} y={1} font-size={2} text-anchor=middle transform="rotate(-90 {0} {1})">start i</text>'
        ).format(_number(-room * 0.72), middle, _number(font))
    )
    return Markup("").join(parts)


def _label_room(size: int) -> float:
    return round(size / 10, 2)


def _mark(row: DeltaLine, at: float) -> Markup:
    x, y = at, _MIDDLE
    if row.tone in (ReportTone.BETTER, ReportTone.HINT) and (row.delta or 0.0) > 0:
        path = f"M{_number(x - 5)},{y + 4}h10l-5-9z"
    elif row.tone in (ReportTone.WORSE, ReportTone.HINT):
        path = f"M{_number(x - 5)},{y - 4}h10l-5,9z"
    else:
        return Markup("<circle class=m cx={} cy={} r=3.5 />").format(_number(x), y)
    return Markup("<path class=m d={} />").format(path)


def _svg(body: Markup, name: str) -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" aria-hidden=true>{}</svg>').format(
        name, WIDTH, HEIGHT, body
    )


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
