"""Card page: the scores of a candidate in the forms of a model card, to copy or to download."""

from __future__ import annotations

import io

import pandas as pd
import streamlit as st

from dashboard import address, data, widgets
from dashboard.board import Row, flat, known_suite
from dashboard.comparisons import comparer, comparison_of
from dashboard.components.code import Language, show_code
from dashboard.pages.candidates import choose_one, first_recipe, requested_candidate
from dashboard.pages.job import base_place
from dashboard.pages.leaderboard import scope, scores_of
from dashboard.repeat import path_command
from evals.scores import PROBE_SUITE
from orchestrator.cards.candidate import CardRequest, written
from orchestrator.compare.run_comparisons import result_of_candidate
from orchestrator.display.text_safety import line
from orchestrator.errors import CardError
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateRecord, RunRecord

_FORMS: dict[str, tuple[str, Language | None, str, str]] = {
    "model-index": ("model-index", "yaml", "README.metadata.yaml", "application/yaml"),
    "eval-results": (".eval_results", "yaml", "mergeboard.yaml", "application/yaml"),
    "table": ("Markdown table", None, "table.md", "text/markdown"),
    "improvement": ("Relative improvement", None, "improvement.md", "text/markdown"),
}


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Card", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message(
            "No runs yet", "There is nothing to put in a card.", command="mergeboard run SWEEP.yaml"
        )
        return
    all_columns = data.fixed(pages.columns, run.id)
    columns = tuple(column for column in all_columns if column.suite != PROBE_SUITE)
    base = requested_candidate(pages, run, "base") or data.fixed(pages.base_of, run.id)
    if all_columns and not columns:
        _probes_only(pages, run)
        return
    if not columns or base is None:
        widgets.show_message("No evaluations", "This run scores nothing that a card could take.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scoped = scope(columns)
        candidate = choose_one(pages, run, "Candidate", "cand", first_recipe(pages, run, base))
    name = address.search("Name in the card", "name", candidate.name) or candidate.name
    form = address.segments("Form", "form", list(_FORMS), label_of=lambda f: _FORMS[f][0])
    _preview(pages, run, candidate, base, scoped, form, name)
    _numbers(pages, run, candidate, base, scoped)


def _probes_only(pages: Pages, run: RunRecord) -> None:
    """Say why a run of probes has no card, and how to get one."""
    chosen = requested_candidate(pages, run, "cand")
    suite = ("leaderboard-v2",)
    base = data.fixed(pages.base_of, run.id)
    command = "mergeboard eval CHECKPOINT --suite leaderboard-v2"
    if chosen is not None and chosen.layer_path is not None:
        layers = base.layers if base is not None and base.layer_path is None else None
        command = path_command(chosen, base_place(pages, run), layers, suite).splitlines()[-1]
    widgets.show_message(
        "Probes only: no card",
        "A card states benchmark scores, and this run asked probes, which only screen layer paths. "
        "Evaluate the recipe on a suite, and its card is here:",
        command=command,
    )


def card_text(
    pages: Pages,
    run: RunRecord,
    candidate: CandidateRecord,
    base: CandidateRecord,
    columns: tuple[Column, ...],
    form: str,
    name: str,
) -> str:
    """The output of `mergeboard card`. Raises CardError if there are no scores, or not those that the form needs."""
    result = result_of_candidate(pages, run.id, candidate, columns[0].engine_key)
    if result is None or columns[0].suite not in result.suites:
        raise CardError(f"{line(candidate.name)} has no scores in this run so far.")
    other = result_of_candidate(pages, run.id, base, columns[0].engine_key)
    return written(CardRequest(result=result, base=other, suite=columns[0].suite, name=name), form)


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
    suite = known_suite(columns[0].suite)
    if suite is not None and suite.smoke:
        st.badge("smoke test data: not leaderboard scores", color="orange")
    _, language, file, mime = _FORMS[form]
    try:
        text = card_text(pages, run, candidate, base, columns, form, name)
    except CardError as error:
        widgets.show_message("Not written", str(error), icon=":material/block:")
        return
    show_code(text, language, wrap_lines=form != "table", height=420)
    with st.container(horizontal=True):
        widgets.download(f"Download {file}", file, lambda: text, mime, "card_text")
    st.caption("The copy button is at the upper right of the text. The same from a shell, and into a README:")
    show_code(_command(run, candidate, columns, form, name), "bash")


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
