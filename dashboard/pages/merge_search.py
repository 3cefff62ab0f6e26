"""Search page: what a search over merges ended with, its confirmation, its pictures, and every merge."""

from __future__ import annotations

import streamlit as st

from dashboard import address, charts, data, widgets
from dashboard.report_button import report_button
from evals.probes import Finding
from orchestrator.charts import Theme
from orchestrator.charts.merge_images import merge_pictures
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.merge_report import SearchView
from orchestrator.store.pages import Pages
from orchestrator.store.records import ENDED, RunRecord
from orchestrator.store.trial_records import TrialState

_REFRESH_S = 5.0
_NAMES = {
    "progress": "Best against cost",
    "objectives": "Pareto front",
    "parameters": "Parameters",
    "importance": "Importance",
    "gradients": "Weights by layer",
}
_HEIGHTS = {"objectives": 640, "parameters": 620}


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Search", line(run.name, 100) if run else "")
    view = data.live(pages.search_view, run.id) if run is not None else None
    if run is None or view is None:
        widgets.show_message(
            "No search over merges",
            "This run does not belong to one; choose another run, or search.",
            command="mergeboard search SEARCH.yaml",
        )
        return
    if run.state in ENDED:
        _draw(view, run)
    else:
        st.fragment(_draw_again, run_every=_REFRESH_S)(pages, run)


def _draw_again(pages: Pages, run: RunRecord) -> None:
    view = pages.search_view(run.id)
    if view is not None:
        _draw(view, run)


def _draw(view: SearchView, run: RunRecord) -> None:
    show_merge_verdict(view)
    report_button(run.name, run_id=run.id)
    pictures = {name: (image, figure) for name, image, figure in merge_pictures(view, Theme.LIGHT)}
    if view.report.confirmation is not None:
        st.subheader("Confirmation")
        st.dataframe(_confirmation_rows(view), hide_index=True)
    st.subheader("Merges")
    st.dataframe(_rows(view), hide_index=True, height=320)
    if not pictures:
        st.caption("No merge has a value yet.")
        return
    chosen = address.choose("Picture", "chart", list(pictures), label_of=lambda name: _NAMES[name])
    image, figure = pictures[chosen]
    charts.plot(
        figure,
        f"merge-{chosen}",
        height=_HEIGHTS.get(chosen, 520),
        alt=f"{_NAMES[chosen]} of the search {line(view.report.name, 80)}",
    )
    charts.images(f"merge_{chosen}", f"{view.report.run_id}-{chosen}", image)


def show_merge_verdict(view: SearchView) -> None:
    """Draw what a search over merges ended with."""
    report, text = view.report, escaped(view.report.conclusion, 2_000)
    merges = report.confirmation.merges if report.confirmation is not None else ()
    if any(merge.finding is Finding.REAL for merge in merges):
        st.success(text, icon=":material/check_circle:")
    else:
        st.info(text, icon=":material/info:")
    failed = sum(trial.state is TrialState.FAILED for trial in view.trials)
    if view.stopped is not None:
        st.caption(escaped(view.stopped, 400))
    st.caption(
        f"{len(view.trials):,} merges{f', {failed:,} without a value' if failed else ''} · {report.sampler}, {report.budget}, seed "
        f"{report.seed}, {report.parallel} in work at once"
    )


def _confirmation_rows(view: SearchView) -> list[dict[str, object]]:
    parent = view.report.better_parent
    c = view.report.confirmation
    if c is None or parent is None:
        return []
    return [
        {
            "merge": f"trial {merge.number}",
            "by": str(merge.arm),
            "search Δ": round(merge.search.delta, 4),
            "expected Δ": round(merge.expected, 4),
            f"Δ to {line(parent.name, 60)}": round(merge.gains[parent.name].delta, 4),
            "from": round(merge.gains[parent.name].interval.low, 4),
            "to": round(merge.gains[parent.name].interval.high, 4),
            "p, all parents": merge.p,
            "p, all tried": merge.p_tried,
            "finding": str(merge.finding),
        }
        for merge in c.merges
    ]


def _rows(view: SearchView) -> list[dict[str, object]]:
    report = view.report
    names = [objective.name for objective in report.objectives]
    rows: list[dict[str, object]] = [
        {
            "merge": line(reference.name, 80),
            "by": "parent" if reference.is_parent else "average",
            **dict(zip(names, reference.objectives or (None,) * len(names), strict=True)),
            "together": None if reference.objectives is None else report.together(reference.objectives),
        }
        for reference in report.references
    ]
    trials = sorted(view.trials, key=lambda trial: -(view.value(trial) or 0.0))
    for trial in trials:
        rows.append(
            {
                "merge": trial.candidate,
                "by": str(trial.arm),
                **dict(zip(names, trial.objectives or (None,) * len(names), strict=True)),
                "together": view.value(trial),
                "seconds": trial.cost_s,
                **{line(p.label or p.name, 80): trial.parameters[p.name] for p in report.parameters},
                "state": line(trial.message or str(trial.state), 160),
            }
        )
    return rows
