"""Comparison page: two candidates on every benchmark and subset, with flips in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard import address, charts, data, widgets
from dashboard.board import known_suite
from dashboard.comparisons import Broken, ComparedPair, Comparer, Scored, comparer, comparison_of
from dashboard.pages import probes, questions
from dashboard.pages.leaderboard import base_candidate, scope, scores_of
from dashboard.pages.questions import Asked
from dashboard.pairing import SubsetRow, bars, questions_of, subset_rows
from evals.documents import documents_path, read_documents
from evals.errors import EvaluationError
from evals.scores import PROBE_SUITE
from evals.suite import Benchmark
from orchestrator.charts import ChartError, delta_bars, delta_bars_image
from orchestrator.compare import SIGNIFICANT, Comparison, ComparisonRow, Side, correction_text
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.leaderboard import CandidateScores, EvaluationRecord
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateRecord, RunRecord

_MOST_NAMES = 300


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Compare two", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message(
            "No runs yet", "There is nothing to compare.", command="mergeboard run SWEEP.yaml"
        )
        return
    columns = data.fixed(pages.columns, run.id)
    base = base_candidate(pages, run)
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
    left, right = (scores_of(pages, run.id, c.position, scoped) for c in (base, candidate))
    if not left.evaluations or not right.evaluations:
        who = base if not left.evaluations else candidate
        widgets.show_message("No scores yet", f"{line(who.name)} has no scores in this run so far.")
        return
    if scoped[0].suite == PROBE_SUITE:
        probes.show(left, right, scoped, data.fixed(pages.count_candidates, run.id) - 1)
        return
    comparing = comparer(pages, f"{pages.serial}", data.settings().home)
    _compared(pages, comparing, run, left, right, scoped[0])


def _choose(
    pages: Pages, run: RunRecord, base: CandidateRecord, columns: Sequence[Column]
) -> tuple[CandidateRecord, CandidateRecord | None, tuple[Column, ...]]:
    """Draw the choice of base and candidate, with a search field in large runs."""
    total = data.fixed(pages.count_candidates, run.id)
    resets = ("bench", "subset", "doc", "flips")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scoped = scope(columns)
        text = ""
        if total > _MOST_NAMES:
            text = address.search("Narrow the lists", "q", "part of a recipe's name")
        named = {str(c.position): c for c in data.slow(pages.search_candidates, run.id, text, _MOST_NAMES)}
        named |= {str(base.position): base}
        second = _second(pages, run, base, named)
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


def choose_one(
    pages: Pages, run: RunRecord, label: str, name: str, default: CandidateRecord
) -> CandidateRecord:
    """Draw the choice of one candidate, with a search field in large runs."""
    text = ""
    if data.fixed(pages.count_candidates, run.id) > _MOST_NAMES:
        text = address.search("Narrow the list", "q", "part of a recipe's name")
    named = {str(c.position): c for c in data.slow(pages.search_candidates, run.id, text, _MOST_NAMES)}
    requested = data.fixed(pages.candidate, run.id, address.number(name)) if address.value(name) else None
    for candidate in (default, requested):
        if candidate is not None:
            named[str(candidate.position)] = candidate
    chosen = address.choose(
        label,
        name,
        sorted(named, key=int),
        default=str(default.position),
        label_of=lambda position: line(named[position].name, 70),
    )
    return named[chosen]


def _second(
    pages: Pages, run: RunRecord, base: CandidateRecord, named: dict[str, CandidateRecord]
) -> CandidateRecord | None:
    """The candidate of the URL, or the first that is not the base."""
    if address.value("cand"):
        chosen = data.fixed(pages.candidate, run.id, address.number("cand"))
        if chosen is not None:
            return chosen
    return next((c for c in named.values() if c.position != base.position), None)


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
    _table(comparison)
    _chart(run, comparison)
    if not charts.put_off():
        _benchmark(pages, comparing, comparison, pair)


def _table(comparison: Comparison) -> None:
    better, worse, forbidden = widgets.tints()
    rows = [*comparison.rows, *comparison.averages]

    def colour(index: int, name: str) -> str:
        row = rows[index]
        if row.delta is None:
            return f"background-color: {forbidden}" if name == "Verdict" else ""
        if not row.significant or name not in ("Verdict", "delta_points"):
            return ""
        return f"background-color: {better if row.delta.delta_points > 0 else worse}"

    selected = widgets.table(
        [_cells(row) for row in rows],
        "compared",
        tint=colour,
        select=("single-row", "single-cell"),
        height=widgets.table_height(len(rows)),
        name="Comparison by benchmark",
    )
    picked = [index for index, _ in selected.selection.cells] or list(selected.selection.rows)
    for index in picked:
        if index < len(comparison.rows) and comparison.rows[index].benchmark != address.value("bench"):
            address.put(bench=comparison.rows[index].benchmark, subset=None, doc=None, questions=None)
    st.caption(
        "Candidate minus base, normalized points, 95 % intervals from paired samples, each for its row alone. p corrected: "
        f"{correction_text(comparison.n_tests, comparison.n_candidates)}; better or worse is p corrected < {SIGNIFICANT}. "
        "Detectable: the smallest true difference that such a run would mostly have found."
    )
    for text in _remarks(rows):
        st.text(text)
    with st.container(horizontal=True):
        flat = [_flat(comparison, row) for row in rows]
        widgets.download("CSV", "comparison.csv", lambda: widgets.csv_of(flat), "text/csv", "compared_csv")


def _remarks(rows: Sequence[ComparisonRow]) -> list[str]:
    """Remarks on the rows without duplicates, each with its benchmarks."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for text in (*(f"⊘ {reason}" for reason in row.refused), *row.notes):
            about.setdefault(text, []).append(row.title)
    return [f"{line(', '.join(titles), 120)}: {line(text, 300)}" for text, titles in about.items()]


def _cells(row: ComparisonRow) -> dict[str, Any]:
    d = row.delta
    return {
        "Benchmark": line(row.title, 60),
        "Verdict": _verdict(row),
        "Base": _number(row.base),
        "Candidate": _number(row.candidate),
        "delta_points": f"{d.delta_points:+z.2f}" if d else "",
        "95 % interval": f"[{d.interval.low:+z.2f}, {d.interval.high:+z.2f}]" if d else "",
        "delta_percent": f"{d.delta_percent:+z.1f} %" if d and d.delta_percent is not None else "",
        "Gained": d.gained if d else None,
        "Lost": d.lost if d else None,
        "n": d.n if d else None,
        "p corrected": p_value(row.p_corrected),
        "Detectable": f"{d.detectable_points:.2f}" if d else "",
        "p": p_value(d.p) if d else "",
        "Test": d.test.value if d else "",
    }


def _verdict(row: ComparisonRow) -> str:
    sign = {"better": "▲ ", "worse": "▼ ", "not compared": "⊘ "}.get(row.verdict, "")
    return f"{sign}{row.verdict}{' (forced)' if row.forced else ''}"


def _flat(comparison: Comparison, row: ComparisonRow) -> dict[str, Any]:
    """A row as a record for export, with every field."""
    values = row.delta.model_dump(mode="json", exclude={"interval"}) if row.delta else {}
    span = row.delta.interval if row.delta else None
    return {
        "base_name": comparison.base,
        "candidate_name": comparison.candidate,
        "suite": row.suite,
        "benchmark": row.benchmark or row.title,
        "base": row.base,
        "candidate": row.candidate,
        **{k: v for k, v in values.items() if k not in ("base", "candidate")},
        "interval_low": span.low if span else None,
        "interval_high": span.high if span else None,
        "p_corrected": row.p_corrected,
        "n_tests": comparison.n_tests,
        "n_candidates": comparison.n_candidates,
        "verdict": row.verdict,
        "not_compared_because": "; ".join(row.refused),
        "notes": "; ".join(row.notes),
    }


def _chart(run: RunRecord, comparison: Comparison) -> None:
    title = f"{line(comparison.candidate, 60)} against {line(comparison.base, 60)}"
    drawn, theme = bars(comparison), widgets.theme()
    height = 130 + 46 * len(drawn)
    try:
        charts.plot(
            lambda: delta_bars(drawn, title, theme),
            "delta_bars",
            height=height,
            alt="Differences with their intervals",
        )
    except ChartError as error:
        st.caption(escaped(str(error), 300))
        return
    charts.images("delta_bars", f"compare-{run.id}", lambda: delta_bars_image(drawn, title, theme))


def _benchmark(pages: Pages, comparing: Comparer, comparison: Comparison, pair: ComparedPair) -> None:
    """Draw one benchmark's subsets and questions."""
    shared = [r for r in comparison.rows if r.base is not None and r.candidate is not None and r.benchmark]
    if not shared:
        return
    st.subheader("Behind a number", anchor=False)
    titles = {str(r.benchmark): r.title for r in shared}
    first = next((str(r.benchmark) for r in shared if r.significant), str(shared[0].benchmark))
    name = address.segments(
        "Benchmark",
        "bench",
        list(titles),
        default=first,
        label_of=lambda b: escaped(titles[b], 40),
        resets=("subset", "doc", "questions"),
    )
    row = next(r for r in shared if r.benchmark == name)
    base, candidate = (_side(comparing, scored, row) for scored in (pair.base, pair.candidate))
    if base is None or candidate is None or not base.samples or not candidate.samples:
        widgets.show_message(
            "No samples", "The samples of this benchmark are not on this machine: there are only scores."
        )
        return
    digests = [e.job_digest for scored in (pair.base, pair.candidate) for e in _records(scored.scores, row)]
    subset = _subsets(row, base, candidate, "|".join(digests))
    asked = _asked(pages, pair.base.scores, row)
    pairs = questions_of(base.samples, candidate.samples, subset)
    questions.show(pairs, comparison.base, comparison.candidate, asked)


def _asked(pages: Pages, scores: CandidateScores, row: ComparisonRow) -> Asked:
    """The stored questions of a benchmark; empty if there are none."""
    record = next(iter(_records(scores, row)), None)
    if record is None:
        return {}
    protocol = data.fixed(pages.protocols, [record.protocol_digest]).get(record.protocol_digest)
    if protocol is None:
        return {}
    path = data.settings().home / documents_path(protocol.benchmark_digest, protocol.dataset_digest)
    try:
        return data.fixed(read_documents, path) if path.is_file() else {}
    except EvaluationError as error:
        widgets.notes([str(error)])
        return {}


def _records(scores: CandidateScores, row: ComparisonRow) -> tuple[EvaluationRecord, ...]:
    """A side's evaluations of a benchmark."""
    return tuple(e for e in scores.evaluations if (e.suite, e.result.benchmark) == (row.suite, row.benchmark))


def _side(comparing: Comparer, scored: Scored, row: ComparisonRow) -> Side | None:
    narrowed = scored.scores.model_copy(update={"evaluations": _records(scored.scores, row)})
    return next(iter(comparing.sides(replace(scored, scores=narrowed))), None)


@st.cache_resource(max_entries=256, show_spinner=False)
def _subset_rows(name: str, _benchmark: Benchmark, _base: Side, _candidate: Side) -> tuple[SubsetRow, ...]:
    """The subsets' differences, cached: about 10 ms each. `name` is the cache key of both evaluations."""
    return subset_rows(_benchmark, _base, _candidate)


def _subsets(row: ComparisonRow, base: Side, candidate: Side, name: str) -> str | None:
    """Draw the subsets' table; returns the selected subset. `name` is the cache key of both evaluations."""
    suite = known_suite(row.suite)
    if suite is None or row.benchmark is None:
        return None
    benchmark = suite.benchmark(row.benchmark)
    if len(benchmark.subsets) < 2:
        return None
    rows = _subset_rows(name, benchmark, base, candidate) if row.delta else ()
    if rows:
        shown = [
            {
                "Subset": line(r.subset, 80),
                "delta_points": f"{r.delta.delta_points:+z.2f}" if r.delta else "",
                "95 % interval": f"[{r.delta.interval.low:+z.2f}, {r.delta.interval.high:+z.2f}]"
                if r.delta
                else "",
                "Gained": r.delta.gained if r.delta else None,
                "Lost": r.delta.lost if r.delta else None,
                "n": r.delta.n if r.delta else None,
                "p corrected": p_value(r.p_corrected),
                "Detectable": f"{r.delta.detectable_points:.2f}" if r.delta else line(r.reason or "", 120),
            }
            for r in rows
        ]
        selected = widgets.table(
            shown,
            "subsets",
            select="single-row",
            height=widgets.table_height(min(len(shown), 10)),
            name="Subsets",
        )
        n_tests = sum(r.delta is not None for r in rows)
        st.caption(
            f"p is corrected (Holm) over the {n_tests} subsets of this benchmark, for these two alone. Select one to see only its questions."
        )
        for index in selected.selection.rows:
            if index < len(rows) and rows[index].subset != address.value("subset"):
                address.put(subset=rows[index].subset, doc=None, questions=None)
    names = ["", *(s.task for s in benchmark.subsets)]
    chosen = address.choose(
        "Questions of",
        "subset",
        names,
        label_of=lambda task: line(task, 80) if task else "all subsets",
        resets=("doc", "questions"),
    )
    return chosen or None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
