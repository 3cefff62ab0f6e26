"""Early decisions in a run's verdict, in the report and as charts."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from evals.stats.sequence import LookPlan, LookSequence
from evals.stats.stopping import Decision, Rule
from orchestrator.charts import (
    ChartError,
    Meaning,
    Theme,
    image_bytes,
    meaning_of_sequence,
    sequence_chart,
    sequence_image,
)
from orchestrator.compare.early import with_early
from orchestrator.compare.verdict import RunVerdict, Standing, verdict_sentences
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.page import ReportKind, ReportPage, ReportVerdict
from orchestrator.report.sequences import sequences_section
from orchestrator.report.verdicts import run_text
from orchestrator.store.sequences import Savings, SequenceRecord
from tests.support.decided import decided_plan, sequence

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def early() -> LookSequence:
    job = next(e.job for e in decided_plan(6).evals if len(e.job.layer_path or ()) == 13)
    looks = sequence(job)
    assert (looks.early, looks.decision) == (True, Decision.WORSE)
    return looks


def record(looks: LookSequence, candidate: str = "a") -> SequenceRecord:
    return SequenceRecord(
        run_id="r",
        position=1,
        candidate=candidate,
        job_digest="d",
        engine_key="e",
        suite="smoke",
        benchmark="bbh",
        title="BBH",
        early=looks.early,
        n_requests=looks.n,
        duration_s=3.0,
        sequence=looks,
    )


def verdict(**standings: Standing) -> RunVerdict:
    return RunVerdict(
        base="base", standings=standings, average_effects=(), benchmark_effects=(), n_averages=0
    )


def with_decision(looks: LookSequence, decision: Decision) -> LookSequence:
    last = looks.looks[-1].model_copy(update={"decision": decision})
    return looks.model_copy(update={"looks": (*looks.looks[:-1], last)})


@pytest.mark.parametrize(
    ("before", "decision", "after"),
    [
        (Standing.UNSCORED, Decision.WORSE, Standing.WORSE),
        (Standing.PENDING, Decision.BETTER, Standing.BETTER),
        (Standing.BETTER, Decision.WORSE, Standing.MIXED),
        (Standing.MIXED, Decision.WORSE, Standing.MIXED),
        (Standing.UNSHOWN, Decision.WORSE, Standing.WORSE),
        (Standing.UNSCORED, Decision.EQUIVALENT, Standing.UNSHOWN),
    ],
)
def test_a_decision_counts_as_a_difference_that_is_shown(
    early: LookSequence, before: Standing, decision: Decision, after: Standing
) -> None:
    shown = with_early(verdict(a=before, b=Standing.UNSCORED), [record(with_decision(early, decision))])
    assert shown.standings == {"a": after, "b": Standing.UNSCORED}
    assert len(shown.early) == 1


def test_what_was_asked_whole_or_is_of_another_run_adds_nothing(early: LookSequence) -> None:
    plain = verdict(a=Standing.WORSE)
    whole = record(early).model_copy(update={"early": False})
    assert with_early(plain, [whole, record(early, "somebody else")]) == plain


def test_the_verdict_says_what_was_decided_early(early: LookSequence) -> None:
    shown = with_early(verdict(a=Standing.UNSCORED), [record(early)])
    assert verdict_sentences(shown) == (f"Decided early, without scores: a, BBH: {early.text}",)
    text = run_text(shown, ended=True)
    assert text.headline == "1 of 1 recipe is worse than base; none is better."
    assert any(early.text in line.text for line in text.lines)


def test_the_section_marks_early_scores_and_says_what_was_saved(early: LookSequence) -> None:
    saved = Savings(comparisons=2, early=1, asked=240, whole=400, spent_s=24, saved_s=16)
    section = sequences_section([record(early, NASTY)], saved, "run-1")
    assert section is not None
    assert sequences_section([], None, "run-1") is None
    page = ReportPage(
        kind=ReportKind.RUN,
        title="t",
        made_at=datetime(2026, 11, 29, tzinfo=UTC),
        verdict=ReportVerdict(headline="h"),
        sections=(section,),
    )
    html = render_html(page)
    assert NASTY not in html
    assert early.text in html
    (plot,) = (part for part in html.split("<svg") if 'class="seq w"' in part)
    svg = ElementTree.fromstring(
        ("<svg" + plot.split("</svg>")[0] + "</svg>")
        .replace("=a ", '="a" ')
        .replace("=z ", '="z" ')
        .replace("=e ", '="e" ')
        .replace("role=img", 'role="img"')
    )
    (line,) = svg.iter("polyline")
    assert len(line.attrib["points"].split()) == len(early.looks)
    assert sum(path.attrib.get("class") == "e" for path in svg.iter("path")) == 1
    markdown = render_markdown(page)
    for part in ("| early |", "240 of 400 documents asked (40% saved", "mergeboard resume run-1 --whole"):
        assert part in markdown.replace("\\", ""), part


@pytest.mark.parametrize("theme", list(Theme))
def test_the_chart_of_a_sequence_shows_every_look_and_the_stop(early: LookSequence, theme: Theme) -> None:
    figure = sequence_chart(early, NASTY, theme)
    line = figure.data[1]
    assert list(line.x) == [look.n for look in early.looks]
    assert list(line.y) == [look.delta_points for look in early.looks]
    assert NASTY not in figure.to_json()
    assert "stopped here" in figure.to_json()
    assert image_bytes(sequence_image(early, NASTY, theme), "png")[:4] == b"\x89PNG"
    assert meaning_of_sequence(early) is Meaning.WORSE


def test_a_sequence_without_looks_is_no_chart() -> None:
    empty = LookSequence(plan=LookPlan(rule=Rule()), n_whole=10, looks=())
    assert empty.text == "not looked at in parts; all 10 asked"
    for draw in (sequence_chart, sequence_image):
        with pytest.raises(ChartError, match="not looked at in parts"):
            draw(empty, "t", Theme.LIGHT)
