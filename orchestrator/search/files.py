"""Write a scan's folder: report, ranking, tables as text, charts as PNG and as one interactive page."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from evals.probes import Level, RankMethod, Scoring
from orchestrator.charts import (
    MEANINGS,
    PROBE_WARNING,
    ChartError,
    ColourScale,
    Measure,
    NullLine,
    Picture,
    PointStatus,
    Scan,
    ScanPoint,
    Theme,
    early_texts,
    heatmap,
    heatmap_image,
    pareto,
    pareto_image,
    race_chart,
    race_image,
    race_picture,
    scatter,
    scatter_image,
    skyline,
    skyline_image,
    write_image,
    write_page,
)
from orchestrator.display.text_safety import cell
from orchestrator.search.report import ScanReport
from orchestrator.search.request import short_name
from orchestrator.search.tables import report_text
from recipes.layer_path import map_variant
from recipes.layer_visit import Variant

TOGETHER = "together"
"""Name of the combined measure: sum over probes of the difference to the base over its spread."""


def write_scan(report: ScanReport, folder: Path, colours: ColourScale = ColourScale.OWN) -> list[Path]:
    """Write all files and return their paths, human-readable ones first."""
    folder.mkdir(parents=True, exist_ok=True)
    text = report_text(report)
    title = f"Layer paths of {short_name(report.request.checkpoint)}"
    files = [_write(folder / "report.txt", text)]
    figures, images = [], []
    for name, image, figure in (*_race_pictures(report), *_pictures(chart_scan(report), colours)):
        try:
            images.append(write_image(image(), folder / f"{name}.png"))
            figures.append(figure())
        except ChartError:
            continue  # not enough data for this chart, for example no blocks
    files.append(write_page(title, [text], figures, folder / "scan.html"))
    files += [*images, _ranking_csv(report, folder / "ranking.csv")]
    files.append(_write(folder / "report.json", report.model_dump_json(indent=1)))
    return files


def chart_scan(report: ScanReport) -> Scan:
    """Convert a scan report to chart data."""
    base, path_values = report.table[0], report.table[1:]
    scores = {path.layers: report.ranking.in_spreads(path) for path in report.ranking.paths}
    confirmed = (
        {p.layers: MEANINGS[p.finding] for p in report.confirmation.paths} if report.confirmation else {}
    )
    points = []
    left = report.race.left if report.race is not None else ()
    shown = map_variant(report.path(layers) for layers in (*(path.layers for path in path_values), *left))
    for path in path_values:
        entry = report.path(path.layers)
        values = dict(path.values) | ({TOGETHER: scores[path.layers]} if path.layers in scores else {})
        points.append(
            ScanPoint(
                label=entry.label,
                block=entry.block_of(shown),
                n_added=entry.n_added,
                values=values,
                confirmed=confirmed.get(path.layers),
            )
        )
    points += _left_points(report, shown)
    for failed in report.failed:
        entry = report.path(failed.layers)
        points.append(
            ScanPoint(
                label=entry.label,
                block=entry.block_of(shown),
                n_added=entry.n_added,
                status=PointStatus.FAILED,
                reason=failed.reason,
            )
        )
    measures = [_measure(key, report.levels[key]) for key in report.ranking.probes]
    together = Measure(name=TOGETHER, title="all probes, in spreads", decimals=2)
    return Scan(
        title=short_name(report.request.checkpoint),
        n_layers=report.n_layers,
        measures=(*measures, together),
        base={**base.values, TOGETHER: 0.0},
        points=tuple(points),
        warning=PROBE_WARNING,
    )


def _left_points(report: ScanReport, shown: Variant) -> Iterator[ScanPoint]:
    """The paths that left a race: an early estimate, and no value."""
    for layers, text in early_texts(report.race).items() if report.race is not None else ():
        entry = report.path(layers)
        yield ScanPoint(
            label=entry.label,
            block=entry.block_of(shown),
            n_added=entry.n_added,
            status=PointStatus.LEFT,
            reason=text,
        )


def _race_pictures(report: ScanReport) -> Iterator[Picture]:
    if report.race is None:
        return
    ranking = report.ranking
    by_delta = report.race.plan.rank is RankMethod.MEAN_DELTA
    whole = {p.layers: p.score if by_delta else ranking.in_spreads(p) for p in ranking.paths}
    title = short_name(report.request.checkpoint)
    picture = race_picture(report.race, whole, title, lambda layers: report.path(layers).label)
    yield "race", partial(race_image, picture, Theme.LIGHT), partial(race_chart, picture, Theme.LIGHT)


def _measure(key: str, levels: tuple[Level, ...]) -> Measure:
    corrected = [level for level in levels if level.scoring is Scoring.CORRECTED]
    nulls = tuple(
        NullLine(name=str(level.kind), value=level.value) for level in corrected if level.kind.is_null
    )
    return Measure(
        name=key,
        title=f"probe {key}",
        nulls=nulls,
        ceiling=max(level.value for level in corrected),
        decimals=3,
    )


def _pictures(scan: Scan, colours: ColourScale) -> Iterator[Picture]:
    theme, names = Theme.LIGHT, [measure.name for measure in scan.measures]
    for name in (TOGETHER, *names[:-1]):
        yield (
            f"heatmap-{name}",
            partial(heatmap_image, scan, name, theme, colours),
            partial(heatmap, scan, name, theme, colours),
        )
        yield (
            f"skyline-{name}",
            partial(skyline_image, scan, name, theme),
            partial(skyline, scan, name, theme),
        )
    for a, b in itertools.combinations(names[:-1], 2):
        yield (
            f"scatter-{a}-{b}",
            partial(scatter_image, scan, a, b, theme),
            partial(scatter, scan, a, b, theme),
        )
    yield (
        f"pareto-{TOGETHER}",
        partial(pareto_image, scan, TOGETHER, theme),
        partial(pareto, scan, TOGETHER, theme),
    )


def _ranking_csv(report: ScanReport, path: Path) -> Path:
    values = {entry.layers: entry.values for entry in report.table}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        probes = report.ranking.probes
        writer.writerow(
            [
                "rank",
                "layer_path",
                "i",
                "j",
                "layers_added",
                *map(cell, probes),
                *(f"delta {p}" for p in probes),
                "score",
                "data",
            ]
        )
        for ranked in report.ranking.paths:
            full = report.path(ranked.layers)
            i, j, *_ = full.varied_block or full.block or ("", "")
            writer.writerow(
                [ranked.rank, cell(full.canonical), i, j, full.n_added, *(values[ranked.layers][p] for p in probes),
                 *(ranked.deltas[p] for p in probes), ranked.score, PROBE_WARNING]
            )  # fmt: skip
    return path


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
