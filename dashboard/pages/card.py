"""Card page: the scores of a candidate in the forms of a model card, to copy or to download."""

from __future__ import annotations

import io

import pandas as pd
import streamlit as st

from dashboard import address, data, widgets
from dashboard.board import Row, flat, known_suite
from dashboard.comparisons import comparer, comparison_of
from dashboard.pages.compare import choose_one
from dashboard.pages.leaderboard import scope, scores_of
from orchestrator.cards.candidate import CardRequest, written
from orchestrator.compare.run_comparisons import result_of_candidate
from orchestrator.display.text_safety import line
from orchestrator.errors import CardError
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateRecord, RunRecord

_FORMS = {
    "model-index": ("model-index", "yaml", "README.metadata.yaml", "application/yaml"),
    "eval-results": (".eval_results", "yaml", "mergeboard.yaml", "application/yaml"),
    "table": ("Markdown table", "markdown", "table.md", "text/markdown"),
    "improvement": ("Relative improvement", "markdown", "improvement.md", "text/markdown"),
}


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Card", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message(
            "No runs yet", "There is nothing to put in a card.", command="mergeboard run SWEEP.yaml"
        )
        return
    columns = data.fixed(pages.columns, run.id)
    base = data.fixed(pages.base_of, run.id)
    if not columns or base is None:
        widgets.show_message("No evaluations", "This run scores nothing that a card could take.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scoped = scope(columns)
        candidate = choose_one(pages, run, "Candidate", "cand", _first(pages, run, base))
    name = address.search("Name in the card", "name", candidate.name) or candidate.name
    form = address.segments("Form", "form", list(_FORMS), label_of=lambda f: _FORMS[f][0])
    _preview(pages, run, candidate, base, scoped, form, name)
    _numbers(pages, run, candidate, base, scoped)


def _first(pages: Pages, run: RunRecord, base: CandidateRecord) -> CandidateRecord:
    """The first candidate that is not the base; the base if there is no other."""
    some = data.fixed(pages.search_candidates, run.id, "", 2)
    return next((c for c in some if c.position != base.position), base)


def _preview(
    pages: Pages,
    run: RunRecord,
    candidate: CandidateRecord,
    base: CandidateRecord,
    columns: tuple[Column, ...],
    form: str,
    name: str,
) -> None:
    """Draw the output of `mergeboard card`, or its error."""
    result = result_of_candidate(pages, run.id, candidate, columns[0].engine_key)
    if result is None or columns[0].suite not in result.suites:
        widgets.show_message("No scores yet", f"{line(candidate.name)} has no scores in this run so far.")
        return
    other = result_of_candidate(pages, run.id, base, columns[0].engine_key)
    suite = known_suite(columns[0].suite)
    if suite is not None and suite.smoke:
        st.badge("smoke test data: not leaderboard scores", color="orange")
    request = CardRequest(result=result, base=other, suite=columns[0].suite, name=name)
    _, language, file, mime = _FORMS[form]
    try:
        text = written(request, form)
    except CardError as error:
        widgets.show_message("Not written", str(error), icon=":material/block:")
        return
    st.code(text, language=language, wrap_lines=form != "table", height=420)
    with st.container(horizontal=True):
        widgets.download(f"Download {file}", file, lambda: text, mime, "card_text")
    st.caption("The copy button is at the upper right of the text. The same from a shell, and into a README:")
    st.code(_command(run, candidate, columns, form, name), language="bash")


def _command(
    run: RunRecord, candidate: CandidateRecord, columns: tuple[Column, ...], form: str, name: str
) -> str:
    import shlex

    words = [
        "mergeboard",
        "card",
        candidate.name,
        "--run",
        run.id,
        "--suite",
        columns[0].suite,
        "--format",
        form,
    ]
    if name != candidate.name:
        words += ["--name", name]
    shell = " ".join(shlex.quote(word) for word in words)
    return shell if form != "model-index" else f"{shell}\n{shell} --update README.md"


def _numbers(
    pages: Pages,
    run: RunRecord,
    candidate: CandidateRecord,
    base: CandidateRecord,
    columns: tuple[Column, ...],
) -> None:
    """Draw downloads of all numbers of the candidate as CSV and Parquet."""
    left, right = (scores_of(pages, run.id, c.position, columns) for c in (base, candidate))
    comparing = comparer(pages, f"{pages.serial}", data.settings().home)
    is_base = base.position == candidate.position

    def rows() -> list[dict[str, object]]:
        result = None
        if not is_base and left.evaluations and right.evaluations:
            _, result = comparison_of(pages, comparing, run.id, base.position, candidate.position, columns[0])
        return flat([Row(scores=right, result=result, is_base=is_base)], columns)

    def parquet() -> bytes:
        buffer = io.BytesIO()
        pd.DataFrame(rows()).to_parquet(buffer, index=False)
        return buffer.getvalue()

    with st.container(horizontal=True):
        widgets.download(
            "Scores as CSV", "scores.csv", lambda: widgets.csv_of(rows()), "text/csv", "card_csv"
        )
        widgets.download(
            "Scores as Parquet", "scores.parquet", parquet, "application/vnd.apache.parquet", "card_parquet"
        )
