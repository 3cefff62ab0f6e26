"""A merge search as tables: references and best merges, what each method reached, the confirmation, and the verdict."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from evals.probes import Finding
from orchestrator.charts.merge_data import short
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import Terminal, line
from orchestrator.store.merge_report import ConfirmedMerge, SearchView
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState

WIDTH = 140
_WORDS = {
    Finding.REAL: "real ▲",
    Finding.SUGGESTIVE: "suggestive",
    Finding.NOT_CONFIRMED: "not confirmed",
    Finding.WORSE: "worse ▼",
}
_MOST_SHOWN = 6


def print_merge_search(view: SearchView, console: Console, rows: int = 10) -> None:
    """Print all tables with the verdict below."""
    for table in (values_table(view, rows), methods_table(view), confirmation_table(view), suite_table(view)):
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


def values_table(view: SearchView, rows: int) -> Table:
    """Base, parents, plain average and the best merges on the search set."""
    report = view.report
    table = _table(
        f"Search set: references, and the best of {len(view.trials):,} merges (best by luck as well)"
    )
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=34)
    table.add_column("by", no_wrap=True)
    for objective in report.objectives:
        table.add_column(objective.name.removesuffix("-scored"), justify="right", no_wrap=True)
    if len(report.objectives) > 1:
        table.add_column("together", justify="right")
    names = [parameter.name for parameter in report.parameters]
    for name in names[:_MOST_SHOWN]:
        table.add_column(short(name, names), justify="right", no_wrap=True, overflow="ellipsis", max_width=16)
    blank = [""] * min(len(names), _MOST_SHOWN)
    for reference in report.references:
        kind = "parent" if reference.is_parent else ""
        table.add_row(reference.name, kind, *_values(view, reference.objectives), *blank)
    for trial in best_trials(view)[:rows]:
        shown = [_number(trial.parameters[name]) for name in names[:_MOST_SHOWN]]
        table.add_row(trial.candidate, str(trial.arm), *_values(view, trial.objectives), *shown)
    return table


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
        asked = next((m for m in merges if best is not None and m.number == best.number), None)
        table.add_row(
            view.report.sampler if arm is Arm.SEARCH else str(arm),
            f"{len(trials):,}",
            f"{sum(trial.cost_s or 0.0 for trial in trials):,.0f}",
            "–" if best is None else f"{view.value(best):.4f}",
            "–" if asked is None else f"{view.report.together(asked.confirmed):.4f}",
        )
    return table


def confirmation_table(view: SearchView) -> Table | None:
    """The best merges on other questions, against the better parent and the plain average."""
    c, parent = view.report.confirmation, view.report.better_parent
    if c is None or parent is None:
        return None
    average = next((r.name for r in view.report.references if not r.is_parent and r.confirmed), None)
    table = _table(
        f"Confirmation on {c.n_questions} other questions: difference to the better parent, {parent.name}"
    )
    table.add_column("merge", no_wrap=True)
    for name in ("by", "search Δ", "expected Δ", "confirmed Δ", "95 % interval", "p, all parents", "p Holm"):
        table.add_column(name, justify="left" if name == "by" else "right", no_wrap=True)
    table.add_column(f"p x {c.n_tried:,}", justify="right", no_wrap=True)
    if average is not None:
        table.add_column("Δ to the average", justify="right")
    table.add_column("finding", no_wrap=True)
    for merge in c.merges:
        beyond = [] if average is None else [f"{merge.gains[average].delta:+z.4f}"]
        table.add_row(*_confirmed(merge, parent.name), *beyond, _WORDS[merge.finding])
    return table


def suite_table(view: SearchView) -> Table | None:
    """The better half and the references on the benchmarks; None if none were run."""
    c = view.report.confirmation
    names = list(dict.fromkeys(name for row in c.benchmarks.values() for name in row)) if c else []
    if c is None or not names:
        return None
    table = _table(f"{c.suite}: Δ points to the base (p, not corrected)")
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=30)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for candidate, deltas in c.benchmarks.items():
        cells = [
            f"{deltas[name].delta_points:+z.2f} ({p_value(deltas[name].p)})" if name in deltas else "–"
            for name in names
        ]
        table.add_row(candidate, *cells)
    return table


def best_trials(view: SearchView) -> list[TrialRecord]:
    """Complete trials of all methods, the largest weighted mean first."""
    complete = [trial for trial in view.trials if trial.objectives is not None]
    return sorted(complete, key=lambda trial: -(view.value(trial) or 0.0))


def _confirmed(merge: ConfirmedMerge, parent: str) -> list[str]:
    gain = merge.gains[parent]
    return [
        f"trial {merge.number}",
        str(merge.arm),
        f"{merge.search.delta:+z.4f}",
        f"{merge.expected:+z.4f}",
        f"{gain.delta:+z.4f}",
        f"{gain.interval.low:+z.4f} … {gain.interval.high:+z.4f}",
        p_value(merge.p),
        p_value(merge.p_confirmed),
        p_value(merge.p_tried),
    ]


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


def _number(value: bool | int | float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
