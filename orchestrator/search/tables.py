"""A scan's tables: probe levels, ranking and confirmation. Null levels are shown beside the values."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from evals.layer_visits import VisitPath
from evals.probes import (
    Confirmation,
    ConfirmedPath,
    Finding,
    Level,
    LevelKind,
    RankMethod,
    Scoring,
    get_probe,
)
from evals.probes.race import Race
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import Terminal
from orchestrator.search.report import ScanReport
from recipes.layer_path import LayerPath

if TYPE_CHECKING:
    from orchestrator.search.beam import SearchReport

WIDTH = 118
_WORDS = {
    Finding.REAL: "real ▲",
    Finding.SUGGESTIVE: "suggestive",
    Finding.NOT_CONFIRMED: "not confirmed",
    Finding.WORSE: "worse ▼",
}


def print_report(report: ScanReport, console: Console, rows: int = 15) -> None:
    """Print all tables with the conclusion below."""
    for table in (levels_table(report), ranking_table(report, rows)):
        console.print(table)
        console.print()
    if report.failed:
        shown = ", ".join(path.label for path in report.failed[:8])
        more = f" and {len(report.failed) - 8:,} more" if len(report.failed) > 8 else ""
        console.print(f"Not measured: {shown}{more}. {report.failed[0].reason}", markup=False, soft_wrap=True)
        console.print()
    if report.race is not None:
        console.print(race_table(report.race))
        console.print(_below_race(report.race), markup=False, soft_wrap=True)
        console.print()
    if report.confirmation is not None:
        _print_confirmation(report.confirmation, report.n_layers, report.request.suite, console)
    console.print(report.conclusion, markup=False, soft_wrap=True)


def print_search(report: SearchReport, console: Console) -> None:
    """Print a search: beam depths, halving, confirmation and conclusion."""
    table = _table("The beam, on the search set (picked by luck as well)")
    for name in ("depth", "paths", "best gain"):
        table.add_column(name, justify="right")
    table.add_column("best path", overflow="ellipsis", no_wrap=True)
    for depth in report.depths:
        table.add_row(str(depth.depth), f"{depth.tried:,}", f"{depth.best_gain:+z.4f}", depth.best)
    console.print(table)
    console.print()
    for rung in report.rungs:
        console.print(
            f"Asked {rung.what}: {len(rung.paths)} paths (run {rung.run_id})", markup=False, soft_wrap=True
        )
    console.print()
    suite = report.request.scan.suite
    _print_confirmation(report.confirmation, report.n_layers, suite, console)
    console.print(report.conclusion, markup=False, soft_wrap=True)


def _print_confirmation(
    confirmation: Confirmation, n_layers: int, suite: str | None, console: Console
) -> None:
    console.print(confirmation_table(confirmation, n_layers))
    console.print(_below(confirmation), markup=False, soft_wrap=True)
    benchmarks = benchmark_table(confirmation, n_layers, suite)
    if benchmarks is not None:
        console.print()
        console.print(benchmarks)
    console.print()


def report_text(report: ScanReport, rows: int = 30) -> str:
    """The report as plain text."""
    buffer = io.StringIO()
    print_report(
        report,
        Terminal(file=buffer, width=WIDTH, color_system=None, legacy_windows=False, highlight=False),
        rows,
    )
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def levels_table(report: ScanReport) -> Table:
    """Per probe: null levels, value of the base, value of the best path, and ceiling."""
    table = _table("Probes, search set (fractions of 1; no benchmark scores)")
    table.add_column("Probe", no_wrap=True)
    nulls = [kind for kind in LevelKind if kind.is_null]
    for name in ("items", *nulls, "base", "best path", "ceiling"):
        table.add_column(str(name), justify="right", no_wrap=True)
    base, path_values = report.table[0], report.table[1:]
    for key, levels in report.levels.items():
        values = {level.kind: level.value for level in levels if level.scoring is Scoring.CORRECTED}
        best = max((path.values[key] for path in path_values), default=None)
        table.add_row(
            key,
            str(len(get_probe(f"{key}-search").items)),
            *(_value(values.get(kind)) for kind in nulls),
            _value(base.values[key]),
            _value(best),
            _value(max(values.values())),
        )
    return table


def ranking_table(report: ScanReport, rows: int) -> Table:
    """The best paths of the search set."""
    ranking = report.ranking
    n_paths = report.race.n_paths if report.race is not None else len(ranking.paths)
    title = f"The best {min(rows, len(ranking.paths))} of {n_paths:,} layer paths on the search set, by {ranking.method}"
    table = _table(f"{title} (picked by luck as well)")
    table.add_column("#", justify="right")
    table.add_column("Layer path", no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column("layers", justify="right")
    for key in ranking.probes:
        table.add_column(f"Δ {key.removesuffix('-scored')}", justify="right", no_wrap=True)
    table.add_column("score", justify="right")
    for path in ranking.paths[:rows]:
        layer_path = report.path(path.layers)
        table.add_row(
            str(path.rank),
            layer_path.label,
            f"{layer_path.n_added:+d}",
            *(f"{path.deltas[key]:+z.4f}" for key in ranking.probes),
            f"{path.score:+z.3f}",
        )
    return table


def confirmation_table(confirmation: Confirmation, n_layers: int) -> Table:
    """Results of the best paths on the confirmation set, whose items were not used to pick them."""
    table = _table(f"The best {len(confirmation.paths)} of {confirmation.n_tried:,} on the confirmation set")
    table.add_column("#", justify="right")
    table.add_column("Layer path", no_wrap=True, overflow="ellipsis", max_width=40)
    for name in (
        "search Δ",
        "expected Δ",
        "confirmed Δ",
        "95 % interval",
        "p",
        f"p x {confirmation.n_tried:,}",
        "p Holm",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("finding", no_wrap=True)
    for path in confirmation.paths:
        table.add_row(*_confirmed(path, n_layers))
    return table


def benchmark_table(confirmation: Confirmation, n_layers: int, suite: str | None) -> Table | None:
    """The confirmed paths on benchmarks, in points; None if none was run."""
    names = list(dict.fromkeys(gain.benchmark for path in confirmation.paths for gain in path.benchmarks))
    if not names:
        return None
    table = _table(
        f"The same paths on {suite}: Δ points, p corrected for {confirmation.n_tried:,} paths x {len(names)} in brackets"
    )
    table.add_column("Layer path", no_wrap=True, overflow="ellipsis", max_width=30)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for path in confirmation.paths:
        gains = {gain.benchmark: gain for gain in path.benchmarks}
        cells = [
            f"{gains[n].delta.delta_points:+z.2f} ({p_value(gains[n].p_corrected)})" if n in gains else "–"
            for n in names
        ]
        table.add_row(_label(path.layers, n_layers), *cells)
    return table


def race_table(race: Race) -> Table:
    """How many paths were left after how many questions."""
    table = _table(f"The race: who can still be among the best {race.plan.keep}")
    for name in ("questions a path", "paths asked", "left", "went on", "best value", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for look in race.looks:
        best = look.paths[0] if look.paths else None
        table.add_row(
            f"{look.n} of {look.n_whole}",
            f"{len(look.paths):,}",
            f"{len(look.left):,}",
            f"{len(look.kept):,}",
            f"{best.value:+z.2f}" if best else "–",
            f"{best.low:+z.2f} … {best.high:+z.2f}" if best else "–",
        )
    return table


def _below_race(race: Race) -> str:
    unit = (
        "sums of differences in spreads of each probe"
        if race.plan.rank is RankMethod.BALANCED_Z
        else "mean differences"
    )
    return (
        f"  {race.sentence}. Error rate {race.plan.error_rate:g}: the probability that any of the best {race.plan.keep} of all questions left.\n"
        f"  Values are {unit} on the questions asked until then; paths that left have no value of the search set."
    )


def null_text(levels: Sequence[Level]) -> str:
    """The null levels as one line of text."""
    nulls = [level for level in levels if level.scoring is Scoring.CORRECTED and level.kind.is_null]
    return ", ".join(f"{level.kind} {level.value:.3f}" for level in nulls)


def _confirmed(path: ConfirmedPath, n_layers: int) -> list[str]:
    gain = path.confirmation
    return [
        str(path.rank),
        _label(path.layers, n_layers),
        f"{path.search.delta:+z.4f}",
        f"{path.expected:+z.4f}",
        f"{gain.delta:+z.4f}",
        f"{gain.interval.low:+z.4f} … {gain.interval.high:+z.4f}",
        p_value(gain.p),
        p_value(path.p_tried),
        p_value(path.p_confirmed),
        _WORDS[path.finding],
    ]


def _below(c: Confirmation) -> str:
    """Explanations below the confirmation table."""
    kept = c.shrinkage.kept if c.shrinkage.search_mean > 0 else None
    share = "" if kept is None else f", {kept:.0%} of it"
    lines = [
        f"  Shrinkage: the mean gain was {c.shrinkage.search_mean:+z.4f} on the search set and is "
        f"{c.shrinkage.confirmation_mean:+z.4f} on the confirmation set{share}.",
        f"  p is one-sided against 'no gain'; real is p x {c.n_tried:,} <= {c.alpha}, suggestive is p Holm <= {c.alpha} "
        f"(for the {len(c.paths)} confirmed), worse is the p of 'no loss' x {c.n_tried:,} <= {c.alpha}.",
        "  Intervals: each for its path alone; after so many were tried, one that leaves out 0 is no finding by itself.",
    ]
    for key, value in c.base_confirmation.items():
        levels = c.levels.get(f"{key}-confirmation", ())
        lines.append(f"  {key}, confirmation set: base {value:.3f}; {null_text(levels)}.")
    return "\n".join(lines)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))


def _label(layers: VisitPath, n_layers: int) -> str:
    return LayerPath.of_validated(layers, n_layers).label


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
