"""The comparison page: its choices, and what is drawn in which order."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.board import known_suite
from dashboard.comparisons import Broken, Comparer, comparer, comparison_of
from dashboard.components.rows import VERDICT_MEANING, show_rows
from dashboard.pages import probes
from dashboard.pages.candidate_race import show_left
from dashboard.pages.candidates import MOST_NAMES, requested_candidate
from dashboard.pages.compare.behind import show_questions
from dashboard.pages.compare.decided import show_decided
from dashboard.pages.compare.details import show_details
from dashboard.pages.compare.refused import show_refusal
from dashboard.pages.leaderboard import scope, scores_of
from dashboard.report_button import report_button
from evals.scores import PROBE_SUITE
from orchestrator.compare import Comparison
from orchestrator.compare.sentence import comparison_sentence
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateRecord, RunRecord


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Compare two", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message(
            "No runs yet", "There is nothing to compare.", command="mergeboard run SWEEP.yaml"
        )
        return
    columns = data.fixed(pages.columns, run.id)
    base = requested_candidate(pages, run, "base") or data.fixed(pages.base_of, run.id)
    if not columns or base is None:
        widgets.show_message(
            "No evaluations", "This run scores nothing, so that there is nothing to compare."
        )
        return
    base, candidate, scoped = _choose(pages, run, base, columns)
    if candidate is None:
        widgets.show_message(
            "Only one candidate", "This run has no second candidate to compare the base with."
        )
        return
    if candidate.position == base.position:
        widgets.show_message(
            "The same recipe twice", f"{line(base.name)} is both base and candidate: choose two."
        )
        return
    left, right = (scores_of(pages, run.id, c.position, scoped) for c in (base, candidate))
    if not left.evaluations or not right.evaluations:
        lacking = base if not left.evaluations else candidate
        if not show_left(pages, run, lacking):
            _no_scores(run, lacking)
        show_decided(pages, run, candidate, scoped[0].suite)
        return
    if scoped[0].suite == PROBE_SUITE:
        probes.show(left, right, scoped, data.fixed(pages.count_candidates, run.id) - 1)
        return
    comparing = comparer(pages, f"{pages.serial}", data.settings().home)
    address.left_by_go(lambda: _compared(pages, comparing, run, left, right, scoped[0]))
    show_decided(pages, run, candidate, scoped[0].suite)


def _no_scores(run: RunRecord, candidate: CandidateRecord) -> None:
    widgets.show_message("No scores yet", f"{line(candidate.name)} has no scores in this run so far.")
    address.link(View.JOB, "See its jobs, and why they failed", run=run.id, of=candidate.position)


def _choose(
    pages: Pages, run: RunRecord, base: CandidateRecord, columns: Sequence[Column]
) -> tuple[CandidateRecord, CandidateRecord | None, tuple[Column, ...]]:
    """Draw the choice of base and candidate, with a search field in large runs."""
    total = data.fixed(pages.count_candidates, run.id)
    resets = ("bench", "subset", "doc", "flips")
    requested = requested_candidate(pages, run, "cand")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scoped = scope(columns)
        text = ""
        if total > MOST_NAMES:
            text = address.search("Narrow the lists", "q", "part of a recipe's name")
        named = {str(c.position): c for c in data.slow(pages.search_candidates, run.id, text, MOST_NAMES)}
        named |= {str(base.position): base}
        second = requested or next((c for c in named.values() if c.position != base.position), None)
        if second is not None:
            named |= {str(second.position): second}
        order = sorted(named, key=int)

        def label(position: str) -> str:
            return line(named[position].name, 70)

        first = address.choose(
            "Base", "base", order, default=str(base.position), label_of=label, resets=resets
        )
        if second is None:
            return base, None, scoped
        other = address.choose(
            "Candidate", "cand", order, default=str(second.position), label_of=label, resets=resets
        )
    return named[first], named[other], scoped


def _compared(
    pages: Pages,
    comparing: Comparer,
    run: RunRecord,
    left: CandidateScores,
    right: CandidateScores,
    shown: Column,
) -> None:
    pair, comparison = comparison_of(
        pages, comparing, run.id, left.candidate.position, right.candidate.position, shown
    )
    if isinstance(comparison, Broken):
        widgets.show_message("These two cannot be compared", comparison.reason, icon=":material/block:")
        return
    _sentence(run, comparison, shown, left.candidate, right.candidate)
    benchmark = _benchmark(comparison)
    if all(row.delta is None for row in (*comparison.rows, *comparison.averages)):
        show_refusal(pages, run, comparison, left, right)
    else:
        show_rows(
            comparison,
            key="compared",
            selected=benchmark,
            bring=bool(address.value("bench")),
            opens="Show the questions behind this number",
            on_open=_open,
        )
        st.caption(VERDICT_MEANING)
        show_details(run, comparison)
        if any(row.refused and not row.forced for row in comparison.rows):
            show_refusal(pages, run, comparison, left, right)
    show_questions(pages, comparing, comparison, pair, benchmark)


def _sentence(
    run: RunRecord, comparison: Comparison, shown: Column, base: CandidateRecord, candidate: CandidateRecord
) -> None:
    suite = known_suite(shown.suite)
    with st.container(key="verdict", gap="small"):
        st.subheader(escaped(comparison_sentence(comparison), 900), anchor=False)
        if suite is not None and suite.smoke:
            st.badge("smoke test data: not leaderboard scores", color="orange")
        with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
            position = candidate.position
            address.link(View.RECIPE, "The candidate's recipe", run=run.id, base=base.position, cand=position)
            address.link(View.CARD, "Its card", run=run.id, base=base.position, cand=position)
            address.link(View.JOB, "Its jobs", run=run.id, of=candidate.position)
            report_button(
                f"{candidate.name}-{base.name}", run_id=run.id, candidates=(candidate.name,), base=base.name
            )


def _open(benchmark: str) -> None:
    """Show the questions of a benchmark that was clicked."""
    if benchmark != address.value("bench"):
        address.put(bench=benchmark, subset=None, doc=None, flips=None)


def _benchmark(comparison: Comparison) -> str | None:
    """The benchmark of the address, or the first one with a shown difference; None if no question is shared."""
    shared = [r for r in comparison.rows if r.base is not None and r.candidate is not None and r.benchmark]
    requested = address.value("bench")
    if any(row.benchmark == requested for row in shared):
        return requested
    if not shared:
        return None
    chosen = next((row for row in shared if row.significant), shared[0])
    if requested:
        address.say_unknown("benchmark", requested, chosen.title)
    return chosen.benchmark
