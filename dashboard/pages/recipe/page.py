"""The recipe page: verdict, scores, path, contents, jobs, card and commands of one candidate."""

from __future__ import annotations

import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.board import known_suite
from dashboard.comparisons import Broken, comparer, comparison_of
from dashboard.components.code import show_code, show_command
from dashboard.components.colours import component_colours
from dashboard.components.facts import show_facts
from dashboard.components.rows import VERDICT_MEANING, show_rows, show_table
from dashboard.pages.candidates import choose_one, first_recipe, requested_candidate
from dashboard.pages.card import card_text
from dashboard.pages.compare.refused import evaluated_side, show_refusal
from dashboard.pages.job import STATES, base_place, failure_messages
from dashboard.pages.leaderboard import scope, scores_of
from dashboard.pages.recipe.made_of import commands, made_of, read_recipe, recipe_text
from dashboard.pages.recipe.path import diagram_html, diagram_of
from dashboard.repeat import EvaluatedSide
from evals.scores import PROBE_SUITE
from orchestrator.compare.sentence import comparison_sentence
from orchestrator.display.format import parameters
from orchestrator.display.text_safety import escaped, line, plain
from orchestrator.errors import CardError
from orchestrator.plan.job import JobKind
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Column, JobRow, Pages
from orchestrator.store.records import CandidateRecord, RunRecord

_MOST_JOBS = 200


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    if run is None:
        widgets.heading("Recipe")
        widgets.show_message(
            "No runs yet", "There is no recipe to look at.", command="mergeboard run SWEEP.yaml"
        )
        return
    base = requested_candidate(pages, run, "base") or data.fixed(pages.base_of, run.id)
    some = data.fixed(pages.search_candidates, run.id, "", 1)
    if base is None and not some:
        widgets.heading("Recipe", line(run.name, 100))
        widgets.show_message("No recipes", "This run has no recipe.")
        return
    base = base or some[0]
    if address.value("base") not in ("", str(base.position)):
        address.say_unknown("base", address.value("base"), base.name)
    heading = st.container()
    candidate = choose_one(pages, run, "Recipe", "cand", first_recipe(pages, run, base))
    with heading:
        size = f"{candidate.layers} layers, " if candidate.layers else ""
        widgets.heading(
            line(candidate.name, 100),
            f"Recipe of {line(run.name, 80)}, {size}{parameters(candidate.parameters)} parameters",
        )
    columns = data.fixed(pages.columns, run.id)
    scoped = scope(columns) if columns else ()
    address.left_by_go(lambda: _dossier(pages, run, base, candidate, scoped))


def _dossier(
    pages: Pages,
    run: RunRecord,
    base: CandidateRecord,
    candidate: CandidateRecord,
    columns: tuple[Column, ...],
) -> None:
    sides = [scores_of(pages, run.id, c.position, columns) for c in (base, candidate)]
    _scores(pages, run, sides[0], sides[1], columns)
    evaluated = [side for scores in sides if (side := evaluated_side(pages, run, scores)) is not None]
    own = [side for side in evaluated if side.candidate.position == candidate.position][-1:]
    _contents(pages, run, base, candidate, own)
    left, right = st.columns(2, gap="medium")
    with left:
        _jobs(pages, run, candidate)
    with right:
        _card(pages, run, base, candidate, columns)
    suites = tuple(dict.fromkeys(c.suite for c in columns if c.suite != PROBE_SUITE)) or ("leaderboard-v2",)
    st.subheader("Commands", anchor=False)
    layers = base.layers if base.layer_path is None else None
    with_base = evaluated if candidate.position != base.position else evaluated[:1]
    texts = commands(run, candidate, base, with_base, base_place(pages, run), suites, layers)
    for title, text in texts.items():
        st.caption(title)
        show_command(text)


def _scores(
    pages: Pages, run: RunRecord, left: CandidateScores, right: CandidateScores, columns: tuple[Column, ...]
) -> None:
    """Draw what it scores, against the base."""
    base, candidate = left.candidate, right.candidate
    if not right.evaluations:
        widgets.show_message("No scores yet", f"{line(candidate.name)} has no scores in this run so far.")
        return
    if base.position == candidate.position or columns[0].suite == PROBE_SUITE or not left.evaluations:
        _plain_scores(run, base, right, columns)
        return
    comparing = comparer(pages, f"{pages.serial}", data.settings().home)
    _, comparison = comparison_of(pages, comparing, run.id, base.position, candidate.position, columns[0])
    if isinstance(comparison, Broken):
        widgets.show_message("It cannot be compared", comparison.reason, icon=":material/block:")
        return
    with st.container(key="verdict", gap="small"):
        st.subheader(escaped(comparison_sentence(comparison), 900), anchor=False)
        _smoke(columns[0])
        address.link(
            View.COMPARE, "Compare with the base", run=run.id, base=base.position, cand=candidate.position
        )
    if all(row.delta is None for row in (*comparison.rows, *comparison.averages)):
        show_refusal(pages, run, comparison, left, right)
        return

    def opened(benchmark: str) -> None:
        address.go(
            View.COMPARE,
            run=run.id,
            base=base.position,
            cand=candidate.position,
            bench=benchmark,
            suite=address.value("suite"),
            engine=address.value("engine"),
        )

    show_rows(
        comparison,
        key="recipe_rows",
        selected=None,
        bring=False,
        opens="Compare on this benchmark, down to its questions",
        on_open=opened,
    )
    st.caption(VERDICT_MEANING)


def _smoke(column: Column) -> None:
    suite = known_suite(column.suite)
    if suite is not None and suite.smoke:
        st.badge("smoke test data: not leaderboard scores", color="orange")


def _plain_scores(
    run: RunRecord, base: CandidateRecord, scores: CandidateScores, columns: tuple[Column, ...]
) -> None:
    """Draw scores without a comparison: of the base, and of probes."""
    probes = columns[0].suite == PROBE_SUITE
    what = (
        "Probe values, 0 to 1, which are no benchmark's scores." if probes else "Normalized scores, 0 to 100."
    )
    is_base = base.position == scores.candidate.position
    st.subheader("This is the base: the others are compared with it." if is_base else what, anchor=False)
    if not probes:
        _smoke(columns[0])
    rows = [
        {
            "Probe" if probes else "Benchmark": line(e.result.title, 60),
            "Value" if probes else "Score": round(e.result.raw, 3)
            if probes
            else round(e.result.normalized, 1),
            "Questions": e.result.n,
            "Partial": "yes" if e.result.partial else "",
        }
        for e in scores.evaluations
    ]
    widgets.table(rows, "plain_scores", height=widgets.table_height(len(rows)), name="Scores")
    if not is_base:
        address.link(
            View.COMPARE,
            "Compare with the base",
            run=run.id,
            base=base.position,
            cand=scores.candidate.position,
        )


def _contents(
    pages: Pages, run: RunRecord, base: CandidateRecord, candidate: CandidateRecord, own: list[EvaluatedSide]
) -> None:
    """Draw the path, the text and what it is made of."""
    recipe = read_recipe(candidate)
    layers = base.layers if base.layer_path is None else None
    st.subheader("Path", anchor=False)
    diagram = diagram_of(candidate, layers, recipe)
    if diagram is None:
        st.caption("Its layers are known once it is built.")
    else:
        st.html(diagram_html(diagram, component_colours()))
        st.text(plain(diagram.words(), 2000))
    place = base_place(pages, run)
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Text", anchor=False)
        text = recipe_text(candidate, place, layers)
        if text is None:
            st.caption("An unchanged checkpoint has no recipe.")
        else:
            show_code(text, "yaml", height=300)
            if recipe is None and candidate.layer_path is None:
                st.caption("This version of mergeboard cannot read this text as a recipe.")
    with right:
        st.subheader("Made of", anchor=False)
        source = own[0].job.place.name if own else None
        show_facts(made_of(candidate, recipe, own[0].build if own else None, source or place))


def _jobs(pages: Pages, run: RunRecord, candidate: CandidateRecord) -> None:
    st.subheader("Jobs", anchor=False)
    total, rows = data.live(pages.job_list, run.id, position=candidate.position, limit=_MOST_JOBS)
    if not rows:
        st.caption("It has no job in this run.")
        return
    why = failure_messages(pages, run, rows)
    titles = ["Job", "State", *(["Why"] if why else [])]

    def opened(digest: str) -> None:
        address.go(View.JOB, run=run.id, job=digest, of=candidate.position)

    with st.container(height=330 if len(rows) > 9 else "content", border=False):
        show_table(
            {
                row.digest: [_what(row), STATES[row.state], *([why.get(row.digest, "")] if why else [])]
                for row in rows
            },
            titles,
            key="recipe_jobs",
            name="Jobs of this recipe",
            opens="Show its attempts, logs and results",
            on_open=opened,
            long=("Why",),
        )
    if total > len(rows):
        st.caption(f"The first {len(rows)} of {total:,} jobs.")


def _what(row: JobRow) -> str:
    """What a job of this recipe does."""
    return "build" if row.kind is JobKind.BUILD else f"{row.suite} {row.benchmark}"


def _card(
    pages: Pages,
    run: RunRecord,
    base: CandidateRecord,
    candidate: CandidateRecord,
    columns: tuple[Column, ...],
) -> None:
    st.subheader("Card", anchor=False)
    if not columns or columns[0].suite == PROBE_SUITE:
        st.caption("A card takes benchmark scores, and this run has none of them.")
        return
    try:
        text = card_text(pages, run, candidate, base, columns, "model-index", candidate.name)
    except CardError as error:
        st.text(f"Not written: {error}")
        return
    show_code(text, "yaml", height=300)
    address.link(
        View.CARD, "Other forms of the card", run=run.id, base=base.position, cand=candidate.position
    )
