"""What is behind one number of a comparison: the benchmark's subsets and its questions."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from dashboard import address, data, widgets
from dashboard.board import known_suite
from dashboard.comparisons import ComparedPair, Comparer, Scored
from dashboard.pages import questions
from dashboard.pages.questions import Asked
from dashboard.pairing import SubsetRow, questions_of, subset_rows
from evals.documents import documents_path, read_documents
from evals.errors import EvaluationError
from evals.suite import Benchmark
from orchestrator.compare import Comparison, ComparisonRow, Side
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.leaderboard import CandidateScores, EvaluationRecord
from orchestrator.store.pages import Pages


def show_questions(
    pages: Pages, comparing: Comparer, comparison: Comparison, pair: ComparedPair, benchmark: str | None
) -> None:
    """Draw one benchmark's subsets and questions."""
    row = next((r for r in comparison.rows if r.benchmark == benchmark and benchmark is not None), None)
    if row is None:
        return
    st.subheader(f"Questions of {escaped(row.title, 40)}", anchor=False)
    base, candidate = (_side(comparing, scored, row) for scored in (pair.base, pair.candidate))
    if base is None or candidate is None or not base.samples or not candidate.samples:
        widgets.show_message(
            "No samples", "The samples of this benchmark are not on this machine: there are only scores."
        )
        return
    digests = [e.job_digest for scored in (pair.base, pair.candidate) for e in _records(scored.scores, row)]
    subset = _subsets(row, base, candidate, "|".join(digests))
    asked = _asked(pages, pair.base.scores, row)
    pairs = questions_of(base.samples, candidate.samples, subset, lower_is_better=row.lower_is_better)
    worse = row.delta is not None and row.delta.delta_points != 0 and not row.improved
    questions.show(pairs, comparison.base, comparison.candidate, asked, lost_first=worse)


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
    """Draw the choice of a subset, with the subsets' differences; `name` is the cache key of both evaluations."""
    suite = known_suite(row.suite)
    if suite is None or row.benchmark is None:
        return None
    benchmark = suite.benchmark(row.benchmark)
    if len(benchmark.subsets) < 2:
        return None
    tasks = [s.task for s in benchmark.subsets]
    chosen = address.choose(
        "Questions of",
        "subset",
        ["", *tasks],
        label_of=lambda task: line(task, 80) if task else f"all {len(tasks)} subsets",
        resets=("doc",),
    )
    rows = _subset_rows(name, benchmark, base, candidate) if row.delta else ()
    if rows:
        _subset_table(rows)
    return chosen or None


def _subset_table(rows: tuple[SubsetRow, ...]) -> None:
    with st.expander(f"Differences of the {len(rows)} subsets"):
        shown = [
            {
                "Subset": line(r.subset, 80),
                "Δ points": round(r.delta.delta_points, 2) if r.delta else None,
                "95 % interval": f"[{r.delta.interval.low:+z.2f}, {r.delta.interval.high:+z.2f}]"
                if r.delta
                else line(r.reason or "", 120),
                "Gained": r.delta.gained if r.delta else None,
                "Lost": r.delta.lost if r.delta else None,
                "Questions": r.delta.n if r.delta else None,
                "p corrected": p_value(r.p_corrected),
                "Detectable, points": round(r.delta.detectable_points, 2) if r.delta else None,
            }
            for r in rows
        ]
        widgets.table(shown, "subsets", height=widgets.table_height(min(len(shown), 10)), name="Subsets")
        n_tests = sum(r.delta is not None for r in rows)
        st.caption(
            f"p is corrected (Holm) over the {n_tests} subsets of this benchmark, for these two alone."
        )
