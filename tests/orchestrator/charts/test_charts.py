"""Charts from records: what is in them, that they are whole, and that names from outside stay text."""

import io
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure
from PIL import Image

from orchestrator.charts import (
    ChartError,
    ColourScale,
    DeltaBar,
    Measure,
    NullLine,
    PointStatus,
    Scan,
    ScanPoint,
    Theme,
    delta_bars,
    delta_bars_image,
    heat_grid,
    heatmap,
    heatmap_image,
    image_bytes,
    pareto,
    pareto_front,
    pareto_image,
    scatter,
    scatter_image,
    skyline,
    skyline_image,
    skylines,
    write_html,
    write_image,
)
from orchestrator.charts.grid import colour_limits
from orchestrator.charts.theme import LOOKS

NASTY = "<script>alert(1)</script> $x_1$ & Co"
MEASURES = (
    Measure(name="math", title="Arithmetic", nulls=(NullLine(name="random", value=0.1),), ceiling=1.0),
    Measure(name="eq", title=NASTY, nulls=(NullLine(name="constant", value=0.45),)),
)


def make_scan(n: int = 6, title: str = "base") -> Scan:
    points = []
    for i in range(n):
        for j in range(i + 1, n + 1):
            gain = 0.1 if (i, j) == (2, 4) else -0.01 * (j - i) - (0.3 if i == 0 else 0.0)
            values = {"math": 0.5 + gain, "eq": 0.6 - gain / 2}
            status = {(1, 3): PointStatus.FAILED, (3, 5): PointStatus.PENDING}.get(
                (i, j), PointStatus.MEASURED
            )
            points.append(
                ScanPoint(
                    label=f"({i}, {j})", block=(i, j), n_added=j - i, status=status,
                    values=values if status is PointStatus.MEASURED else {},
                )
            )  # fmt: skip
    points.append(ScanPoint(label="layers:0,0,1", block=None, n_added=1, values={"math": 0.55, "eq": 0.6}))
    return Scan(
        title=title, n_layers=n, measures=MEASURES, base={"math": 0.5, "eq": 0.6}, points=tuple(points)
    )


BARS = (
    DeltaBar(benchmark="IFEval", delta_points=-3.2, low=-5, high=-1.4, significant=True),
    DeltaBar(benchmark="MATH Lvl 5", delta_points=4, low=2, high=6, significant=True),
    DeltaBar(benchmark="MuSR", delta_points=-1.5, low=-2.8, high=-0.2, significant=False),
    DeltaBar(benchmark="BBH", delta_points=0.5, low=-1, high=2, significant=False),
    DeltaBar(benchmark=NASTY, delta_points=0, low=0, high=0, significant=False, incomparable=NASTY),
)

Interactive = Callable[[Scan, Theme], go.Figure]
IMAGES: dict[str, Callable[[Scan, Theme], Figure]] = {
    "heatmap": lambda scan, theme: heatmap_image(scan, "math", theme),
    "skyline": lambda scan, theme: skyline_image(scan, "math", theme),
    "scatter": lambda scan, theme: scatter_image(scan, "math", "eq", theme),
    "pareto": lambda scan, theme: pareto_image(scan, "eq", theme),
    "deltas": lambda scan, theme: delta_bars_image(BARS, scan.title, theme, NASTY),
}
FIGURES: dict[str, Interactive] = {
    "heatmap": lambda scan, theme: heatmap(scan, "math", theme),
    "skyline": lambda scan, theme: skyline(scan, "math", theme),
    "scatter": lambda scan, theme: scatter(scan, "math", "eq", theme),
    "pareto": lambda scan, theme: pareto(scan, "eq", theme),
    "deltas": lambda scan, theme: delta_bars(BARS, scan.title, theme, NASTY),
}


def test_the_grid_follows_the_published_convention() -> None:
    grid = heat_grid(make_scan(), "math")
    assert grid.deltas.shape == (7, 7)
    assert grid.deltas[0, 0] == 0  # the base
    assert grid.deltas[2, 4] == pytest.approx(0.1)  # row i, column j
    assert np.isnan(grid.deltas[4, 2])  # below the diagonal there is nothing
    assert np.isnan(grid.deltas[1, 1])
    assert grid.failed == ((1, 3),)
    assert grid.missing == ((3, 5),)
    assert grid.best is not None
    assert grid.best.label == "(2, 4)"


def test_a_block_that_does_not_fit_is_refused() -> None:
    scan = make_scan()
    wrong = scan.model_copy(
        update={"points": (ScanPoint(label="x", block=(3, 9), n_added=6, values={"math": 1}),)}
    )
    with pytest.raises(ChartError, match=r"Block \(3, 9\) does not fit"):
        heat_grid(wrong, "math")


def test_colours_are_centred_on_the_base_and_only_losses_are_clipped() -> None:
    deltas = [0.05, 0.02, -0.01, -0.02, -0.03, -0.9]
    assert colour_limits(deltas, ColourScale.FULL) == (-0.9, 0.9)
    low, high = colour_limits(deltas, ColourScale.PUBLISHED)
    assert high == 0.05
    assert -6 * 0.05 - 1e-9 <= low < 0
    assert colour_limits([-0.2, -0.1], ColourScale.PUBLISHED) == (-0.2, 0.2)
    assert colour_limits([0.0], ColourScale.PUBLISHED) == (-1.0, 1.0)
    for scale in ColourScale:
        grid = heat_grid(make_scan(), "math", scale)
        assert grid.clipped == int(np.sum(grid.deltas < grid.low - 1e-12))


def test_own_colours_leave_no_more_than_a_twentieth_below_them() -> None:
    losing = [-0.01 * n for n in range(1, 100)]
    assert colour_limits([0.01, *losing, -50.0], ColourScale.OWN) == (
        pytest.approx(-0.95),
        pytest.approx(0.95),
    )
    # Both sides end at the same difference: equal colours are equal differences.
    assert colour_limits([0.3, -0.2], ColourScale.OWN) == (-0.3, 0.3)
    assert colour_limits([0.6, 0.1], ColourScale.OWN) == (-0.6, 0.6)
    assert colour_limits([0.0], ColourScale.OWN) == (-1.0, 1.0)
    with pytest.raises(ChartError, match="own, published, full"):
        ColourScale.named("clipped")


def test_the_interactive_heatmap_has_rings_keys_and_nulls() -> None:
    figure = heatmap(make_scan(), "math", Theme.LIGHT, ColourScale.FULL)
    cells = next(t for t in figure.data if t.type == "heatmap" and t.showscale is not False)
    assert cells.zmin == -cells.zmax
    middle = [colour for at, colour in cells.colorscale if math.isclose(at, 0.5)]
    colours = LOOKS[Theme.LIGHT].diverging
    assert middle == [colours[5]]
    assert cells.colorscale[-1][1] == colours[-1]  # blue is better
    # A null level is marked on the colours where it lies within them, and always named in the title.
    assert not any("random" in text for text in cells.colorbar.ticktext)
    rings = {
        t.name: (t.x[0], t.y[0], t.marker.color)
        for t in figure.data
        if t.type == "scatter" and t.x[0] is not None
    }
    assert rings["Base"] == (0, 0, "#000000")
    assert rings["Best: (2, 4)"] == (4, 2, LOOKS[Theme.LIGHT].base)  # x is the end, y the start
    names = {t.name for t in figure.data}
    assert {"Not measured (1)", "Failed (1)"} <= names
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # downwards
    assert figure.layout.yaxis.scaleanchor == "x"
    assert "random 0.100" in figure.layout.title.text
    assert "ceiling 1.000" in figure.layout.title.text


@pytest.mark.parametrize(
    "scan", [make_scan(), make_scan().model_copy(update={"points": ()})], ids=["some", "none"]
)
@pytest.mark.parametrize("theme", list(Theme))
@pytest.mark.parametrize("name", IMAGES)
def test_images_are_drawn_in_both_themes(name: str, theme: Theme, scan: Scan) -> None:
    data = image_bytes(IMAGES[name](scan, theme))
    image = Image.open(io.BytesIO(data)).convert("RGB")
    paper = tuple(int(LOOKS[theme].paper[n : n + 2], 16) for n in (1, 3, 5))
    assert image.getpixel((2, 2)) == paper
    # Something is drawn, and it leaves the margins free: nothing is cut off.
    pixels = np.asarray(image)
    drawn = np.any(pixels != paper, axis=2)
    assert drawn.mean() > 0.01
    assert not drawn[:, -4:].any()
    assert not drawn[-4:].any()


@pytest.mark.parametrize(
    "scan", [make_scan(), make_scan().model_copy(update={"points": ()})], ids=["some", "none"]
)
@pytest.mark.parametrize("name", FIGURES)
def test_interactive_charts_show_names_as_text(name: str, scan: Scan) -> None:
    shown = FIGURES[name](scan.model_copy(update={"title": NASTY}), Theme.DARK)
    text = shown.to_json()
    assert "<script>" not in text.replace("\\u003c", "<").replace("\\u003e", ">")
    assert "alert(1)" in text
    assert shown.layout.paper_bgcolor == LOOKS[Theme.DARK].paper


@pytest.mark.parametrize("name", ["scatter", "pareto"])
def test_null_levels_are_lines(name: str) -> None:
    shown = FIGURES[name](make_scan(), Theme.LIGHT)
    lines = {(s.x0, s.y0) for s in shown.layout.shapes}
    assert any(y == 0.45 for _, y in lines)
    axes = IMAGES[name](make_scan(), Theme.LIGHT).axes[0]
    assert any(tuple(line.get_ydata()) == (0.45, 0.45) for line in axes.lines)


@pytest.mark.parametrize("name", ["heatmap", "skyline", "scatter", "pareto"])
def test_the_ceiling_is_named(name: str) -> None:
    capped = tuple(m.model_copy(update={"ceiling": 0.875}) for m in MEASURES)
    scan = make_scan().model_copy(update={"measures": capped})
    wanted = {"skyline": "ceiling +0.375", "scatter": "0.875"}.get(name, "ceiling 0.875")
    assert wanted in FIGURES[name](scan, Theme.LIGHT).layout.title.text
    assert any(wanted in text.get_text() for text in IMAGES[name](scan, Theme.LIGHT).texts)


def test_skylines_are_row_and_column_means() -> None:
    scan = make_scan()
    start, end = skylines(scan, "math")
    deltas = heat_grid(scan, "math").deltas.copy()
    deltas[0, 0] = np.nan
    assert list(start.positions) == [0, 1, 2, 3, 4, 5]
    assert list(end.positions) == [1, 2, 3, 4, 5, 6]
    assert start.means[2] == pytest.approx(np.nanmean(deltas[2]))
    assert end.means[3] == pytest.approx(np.nanmean(deltas[:, 4]))
    assert start.counts.sum() == end.counts.sum() == 19


def test_the_pareto_front() -> None:
    def point(added: int, value: float) -> ScanPoint:
        return ScanPoint(label=f"{added}/{value}", block=None, n_added=added, values={"m": value})

    points = [
        point(3, 0.6),
        point(1, 0.5),
        point(1, 0.4),
        point(2, 0.5),
        point(5, 0.7),
        point(4, 0.6),
        point(-2, 0.1),
    ]
    assert [p.label for p in pareto_front(points, "m")] == ["-2/0.1", "1/0.5", "3/0.6", "5/0.7"]
    assert pareto_front([], "m") == ()


def test_delta_bars_mark_what_is_significant_by_more_than_colour() -> None:
    figure = delta_bars(BARS, "candidate", Theme.LIGHT)
    symbols = {trace.name: trace.marker.symbol for trace in figure.data}
    assert symbols == {
        "Better": "triangle-up",
        "Worse": "triangle-down",
        "Worse before correction only": "triangle-down-open",
        "No difference shown": "circle-open",
    }
    shown = [y for trace in figure.data for y in trace.y]
    assert len(shown) == 4  # the incomparable one has its reason instead of a point
    assert any("not comparable" in a.text for a in figure.layout.annotations)
    better = next(t for t in figure.data if t.name == "Better")
    assert (better.error_x.array, better.error_x.arrayminus) == ((2,), (2,))
    with pytest.raises(ChartError, match="no benchmark to draw"):
        delta_bars((), "candidate", Theme.LIGHT)


def test_files(tmp_path: Path) -> None:
    figure = heatmap_image(make_scan(), "math", Theme.LIGHT)
    svg = write_image(figure, tmp_path / "a" / "map.svg").read_text(encoding="utf-8")
    assert "Arithmetic" in svg
    assert write_image(figure, tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    first, again = (heatmap_image(make_scan(), "math", Theme.LIGHT) for _ in range(2))
    assert image_bytes(again) == image_bytes(first)
    svg_again = image_bytes(heatmap_image(make_scan(), "math", Theme.LIGHT), "svg")
    assert svg_again == image_bytes(heatmap_image(make_scan(), "math", Theme.LIGHT), "svg")
    with pytest.raises(ChartError, match="png or svg"):
        write_image(figure, tmp_path / "map.jpg")
    html = write_html(heatmap(make_scan(), "math", Theme.LIGHT), tmp_path / "map.html").read_text(
        encoding="utf-8"
    )
    assert not re.search(r"<script[^>]+src=", html)


def test_a_large_scan_is_drawn_quickly() -> None:
    scan = make_scan(80)
    assert len(heatmap(scan, "math", Theme.LIGHT).to_json()) < 2_000_000
    assert len(image_bytes(heatmap_image(scan, "math", Theme.DARK))) > 10_000


def test_a_measure_without_base_or_name_is_refused() -> None:
    with pytest.raises(ChartError, match="base has no value of eq"):
        Scan(title="t", n_layers=2, measures=MEASURES, base={"math": 1.0}, points=())
    with pytest.raises(ChartError, match="no measure 'other'; it has math, eq"):
        heat_grid(make_scan(), "other")
