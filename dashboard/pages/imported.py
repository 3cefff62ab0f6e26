"""Imported runs, shown below the runs of this store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import address, data, widgets
from dashboard.board import known_suite
from dashboard.components.code import show_code
from orchestrator.display.format import moment
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.claim_records import ImportedResultRecord, ImportedRunRecord
from orchestrator.store.pages import Pages

_MOST = 200
MARK = "⇣ imported"


def imported_runs(pages: Pages) -> None:
    """Draw all imported runs and the benchmarks of the selected one; nothing if there are none."""
    runs = data.slow(pages.imports, limit=_MOST)
    if not runs:
        return
    st.subheader("Imported runs", anchor=False)
    st.caption("Measured elsewhere, taken in by mergeboard import.")
    selected = widgets.table(
        [_row(run) for run in runs],
        "imported_runs",
        select=("single-row", "single-cell"),
        height=widgets.table_height(min(len(runs), 8)),
        name="Imported runs",
    )
    for index in widgets.picked(selected, len(runs)):
        if runs[index].id != address.value("import"):
            address.put(**{"import": runs[index].id})
    chosen = next((run for run in runs if run.id == address.value("import")), None)
    if chosen is None:
        st.caption("Select one to see its scores.")
        return
    _scores(pages, chosen)


def _row(run: ImportedRunRecord) -> dict[str, Any]:
    return {
        "Checkpoint": line(run.checkpoint, 70),
        "State": MARK,
        "Measured": moment(run.measured_at),
        "Imported": moment(run.imported_at),
        "File": line(run.source, 120),
        "Format": run.format.value,
        "Id": run.id,
    }


def _scores(pages: Pages, run: ImportedRunRecord) -> None:
    with st.container(border=True):
        st.markdown(f"**{escaped(run.checkpoint, 80)}** · {MARK}")
        results = data.slow(pages.imported_results, [run.id]).get(run.id, ())
        if results:
            rows = [_cells(result) for result in results]
            widgets.table(
                rows, "imported_scores", height=widgets.table_height(min(len(rows), 15)), name="Scores"
            )
        facts = ", ".join(f"{fact} {value}" for fact, value in run.facts.known.items())
        if facts:
            st.caption(escaped(f"Known of it: {facts}", 600))
        for text in _remarks(run, results):
            st.text(line(text, 400))
        show_code(f"mergeboard compare {run.id} --base BASE")


def _cells(result: ImportedResultRecord) -> dict[str, Any]:
    score, span = result.measurement.result, result.measurement.estimate.interval
    suite = known_suite(result.suite)
    return {
        "Suite": line(suite.title if suite else result.suite, 50),
        "Benchmark": line(score.title, 50) + (f", stage {result.stage}" if result.stage else ""),
        "Normalized score": round(score.normalized, 2),
        "95 % interval": f"[{span.low:.2f}, {span.high:.2f}]",
        "Raw": round(score.raw, 4),
        "n": score.n,
        "Samples": "yes" if result.samples_path else "no",
    }


def _remarks(run: ImportedRunRecord, results: Sequence[ImportedResultRecord]) -> list[str]:
    """Problems of an imported run, without duplicates."""
    remarks = [*run.problems, *(text for result in results for text in result.problems)]
    remarks += [
        f"Not the board's: {r.measurement.result.remark}" for r in results if r.measurement.result.remark
    ]
    remarks += [f"Not to be compared: {result.unfit}." for result in results if result.unfit]
    remarks += [f"Tasks without a usable metric: {', '.join(run.ignored[:8])}."] if run.ignored else []
    return list(dict.fromkeys(remarks))
