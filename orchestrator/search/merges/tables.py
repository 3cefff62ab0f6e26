"""A merge search as tables: references and best merges, what each method reached, the confirmation, and the verdict."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from evals.probes import Finding
from evals.stats import Delta
from orchestrator.charts.merge_data import parameter_label
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import Terminal, line
from orchestrator.search.merges.fitted_table import TableColumn, fitted_table
from orchestrator.store.merge_report import SearchView
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState

WIDTH = 140
_WORDS = {
    Finding.REAL: "real ▲",
    Finding.SUGGESTIVE: "suggestive",
    Finding.NOT_CONFIRMED: "not confirmed",
    Finding.WORSE: "worse ▼",
}
_PARAMETERS_KEEP = 6
"""Most parameters that are shown; they are left out before the objectives."""


def print_merge_search(view: SearchView, console: Console, rows: int = 10) -> None:
    """Print all tables with the verdict below."""
    width = console.width
    for table in (
        values_table(view, rows, width),
        methods_table(view),
        confirmation_table(view, width),
        suite_table(view, width),
    ):
        if table is not None:
            console.print(table)
            console.print()
    failed = [trial for trial in view.trials if trial.state is TrialState.FAILED]
    if failed:
        console.print(
            f"{len(failed)} of {len(view.trials)} merges have no value, for example {failed[0].candidate}: "
            f"{line(failed[0].message or 'without a reason', 300)}",
            markup=False,
            soft_wrap=True,
        )
        console.print()
    if view.stopped is not None:
        console.print(line(view.stopped, 400), markup=False, soft_wrap=True)
        console.print()
    if view.report.confirmation is not None:
        console.print(_below(view), markup=False, soft_wrap=True)
    console.print(view.report.conclusion, markup=False, soft_wrap=True)


def merge_search_text(view: SearchView, rows: int = 20) -> str:
    """The tables as plain text."""
    buffer = io.StringIO()
    terminal = Terminal(file=buffer, width=WIDTH, color_system=None, legacy_windows=False, highlight=False)
    print_merge_search(view, terminal, rows)
    return "\n".join(text.rstrip() for text in buffer.getvalue().splitlines()) + "\n"


def values_table(view: SearchView, rows: int, width: int = WIDTH) -> Table:
    """Base, parents, plain average and the best merges on the search set."""
    report, best = view.report, best_trials(view)[:rows]
    names = [*(r.name for r in report.references), *(t.candidate for t in best)]
    kinds = [*("parent" if r.is_parent else "" for r in report.references), *(str(t.arm) for t in best)]
    objectives = [*(r.objectives for r in report.references), *(t.objectives for t in best)]
    values = [_values(view, each) for each in objectives]
    headers = [objective.name.removesuffix("-scored") for objective in report.objectives]
    headers += ["together"] if len(headers) > 1 else []
    columns = [
        TableColumn("", names, "left", most=34),
        TableColumn("by", kinds, "left", keep=_PARAMETERS_KEEP + 1),
    ]
    columns += [
        TableColumn(header, cells, keep=2 * _PARAMETERS_KEEP)
        for header, cells in zip(headers, zip(*values, strict=True), strict=True)
    ]
    blank = [""] * len(report.references)
    columns += [
        TableColumn(
            parameter_label(view, parameter.name),
            [*blank, *(_number(trial.parameters[parameter.name]) for trial in best)],
            keep=_PARAMETERS_KEEP - place,
            most=24,
        )
        for place, parameter in enumerate(report.parameters[:_PARAMETERS_KEEP])
    ]
    title = f"Search set: references, and the best of {len(view.trials):,} merges (best by luck as well)"
    return fitted_table(title, columns, width)


def methods_table(view: SearchView) -> Table | None:
    """What each method reached at which cost; None for a search without rivals."""
    arms = [arm for arm in Arm if any(trial.arm is arm for trial in view.trials)]
    if len(arms) < 2:
        return None
    table = _table("The same number of evaluations by each method")
    for name in ("method", "evaluations", "seconds", "best, search set", "confirmed"):
        table.add_column(name, justify="left" if name == "method" else "right")
    confirmation = view.report.confirmation
    merges = confirmation.merges if confirmation else ()
    for arm in arms:
        trials = [trial for trial in view.trials if trial.arm is arm]
        best = view.best(arm)
        asked = next((m for m in merges if best is not None and _is_same(view.trials[m.number], best)), None)
        table.add_row(
            view.report.sampler if arm is Arm.SEARCH else str(arm),
            f"{len(trials):,}",
            f"{sum(trial.cost_s or 0.0 for trial in trials):,.0f}",
            "–" if best is None else f"{view.value(best):.4f}",
            "–" if asked is None else f"{view.report.together(asked.confirmed):.4f}",
        )
    return table


def confirmation_table(view: SearchView, width: int = WIDTH) -> Table | None:
    """The best merges on other questions, against the better parent and the plain average."""
    c, parent = view.report.confirmation, view.report.better_parent
    if c is None or parent is None:
        return None
    average = next((r.name for r in view.report.references if not r.is_parent and r.confirmed), None)
    gains = [merge.gains[parent.name] for merge in c.merges]
    intervals = [f"{gain.interval.low:+z.4f} … {gain.interval.high:+z.4f}" for gain in gains]
    columns = [
        TableColumn("merge", [f"trial {merge.number}" for merge in c.merges], "left"),
        TableColumn("by", [str(merge.arm) for merge in c.merges], "left", keep=9),
        TableColumn("search Δ", [f"{merge.search.delta:+z.4f}" for merge in c.merges], keep=6),
        TableColumn("expected Δ", [f"{merge.expected:+z.4f}" for merge in c.merges], keep=2),
        TableColumn("confirmed Δ", [f"{gain.delta:+z.4f}" for gain in gains], keep=10),
        TableColumn("95 % interval", intervals, keep=8),
        TableColumn("p, all parents", [p_value(merge.p) for merge in c.merges], keep=3),
        TableColumn("p Holm", [p_value(merge.p_confirmed) for merge in c.merges], keep=1),
        TableColumn(f"p x {c.n_tried:,}", [p_value(merge.p_tried) for merge in c.merges], keep=7),
    ]
    if average is not None:
        beyond = [f"{merge.gains[average].delta:+z.4f}" for merge in c.merges]
        columns.append(TableColumn("Δ to the average", beyond, keep=5))
    columns.append(TableColumn("finding", [_WORDS[merge.finding] for merge in c.merges], "left", keep=11))
    title = f"Confirmation on {c.n_questions} other questions: difference to the better parent, {parent.name}"
    return fitted_table(title, columns, width)


def suite_table(view: SearchView, width: int = WIDTH) -> Table | None:
    """The better half and the references on the benchmarks; None if none were run."""
    c = view.report.confirmation
    names = list(dict.fromkeys(name for row in c.benchmarks.values() for name in row)) if c else []
    if c is None or not names:
        return None
    candidates, deltas = list(c.benchmarks), list(c.benchmarks.values())

    def table_of(*, with_p: bool) -> Table:
        columns = [TableColumn("", candidates, "left", most=30)]
        for name in names:
            cells = [_delta(row.get(name), with_p=with_p) for row in deltas]
            columns.append(TableColumn(name, cells))
        p = " (p, not corrected)" if with_p else "; in a wider terminal also p"
        return fitted_table(f"{c.suite}: Δ points to the base{p}", columns, width)

    table = table_of(with_p=True)
    return table_of(with_p=False) if table.caption else table


def best_trials(view: SearchView) -> list[TrialRecord]:
    """Complete trials of all methods, the largest weighted mean first."""
    complete = [trial for trial in view.trials if trial.objectives is not None]
    return sorted(complete, key=lambda trial: -(view.value(trial) or 0.0))


def _below(view: SearchView) -> str:
    c = view.report.confirmation
    assert c is not None
    share = (
        "" if c.shrinkage.kept is None or c.shrinkage.search_mean <= 0 else f", {c.shrinkage.kept:.0%} of it"
    )
    return (
        f"  Shrinkage: the mean gain was {c.shrinkage.search_mean:+z.4f} on the search set and is "
        f"{c.shrinkage.confirmation_mean:+z.4f} on the other questions{share}.\n"
        f"  p is one-sided against 'not better than every parent'; real is p x {c.n_tried:,} <= 0.05, suggestive is p Holm <= 0.05 for "
        "the confirmed.\n"
    )


def _values(view: SearchView, values: tuple[float, ...] | None) -> list[str]:
    count = len(view.report.objectives)
    if values is None:
        return ["–"] * (count + (count > 1))
    together = [f"{view.report.together(values):.4f}"] if count > 1 else []
    return [*(f"{value:.4f}" for value in values), *together]


def _is_same(trial: TrialRecord, other: TrialRecord) -> bool:
    """Whether both tried the same merge, which is confirmed once."""
    if trial.recipe_digest is None:
        return trial.number == other.number
    return trial.recipe_digest == other.recipe_digest


def _delta(delta: Delta | None, *, with_p: bool) -> str:
    if delta is None:
        return "–"
    return f"{delta.delta_points:+z.2f}" + (f" ({p_value(delta.p)})" if with_p else "")


def _number(value: bool | int | float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
