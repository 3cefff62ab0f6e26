"""The report and the pictures of a search over merges."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.charts import ChartError, Theme, image_bytes
from orchestrator.charts.merge_data import front, importances, progress_lines, short
from orchestrator.charts.merge_images import merge_pictures
from orchestrator.report import ReportFormat, ReportRequest, build_report, rendered
from orchestrator.report.page import ReportPage, ReportTone
from orchestrator.store.merge_report import SearchView
from orchestrator.store.pages import Pages
from tests.support.merge_view import NAMES, merge_store, merge_view

ALL = {"progress", "objectives", "parameters", "importance", "gradients"}


def page_of(home: Path, view: SearchView) -> ReportPage:
    run = merge_store(home, view)
    with Pages.open(f"sqlite:///{home}/store.sqlite", create=False, read_only=True) as pages:
        assert isinstance(pages, Pages)
        return build_report(pages, ReportRequest(names=(run,)), home, now=datetime(2026, 11, 29, tzinfo=UTC))


def test_a_better_merge_heads_the_report(tmp_path: Path) -> None:
    page = page_of(tmp_path, merge_view())
    assert (
        page.verdict.headline
        == "1 of the 2 best of 18 merges beats every parent after the correction for all of them."
    )
    assert page.verdict.tone is ReportTone.BETTER
    assert [section.key for section in page.sections][:3] == ["confirmation", "pictures", "merges"]
    html, text = (rendered(page, form) for form in (ReportFormat.HTML, ReportFormat.MARKDOWN))
    assert html.count("data:image/png;base64,") >= 5
    assert "<i>left</i>" not in html
    assert "mergeboard build" in text
    assert "trial 5" in text


def without_pictures(view: SearchView) -> SearchView:
    """Without trials there is nothing to draw, which takes seconds."""
    report = view.report.model_copy(update={"importance": {}})
    bare = view.model_copy(update={"trials": (), "report": report})
    assert merge_pictures(bare, Theme.LIGHT) == []
    return bare


def test_no_better_merge_is_a_plain_result(tmp_path: Path) -> None:
    page = page_of(tmp_path, without_pictures(merge_view(real=False)))
    assert page.verdict.headline == "No merge here beats its better parent, arithmetic."
    assert page.verdict.tone is ReportTone.PLAIN
    assert "2 best of 18 merges none keeps a gain" in page.verdict.lines[0].text


def test_a_search_that_goes_on_claims_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, without_pictures(merge_view(confirmed=False)))
    assert "nothing is confirmed yet" in page.verdict.headline
    assert page.verdict.tone is ReportTone.HINT
    assert "confirmation" not in [section.key for section in page.sections]


@pytest.mark.parametrize("theme", [Theme.LIGHT, pytest.param(Theme.DARK, marks=pytest.mark.slow)])
def test_every_picture_is_drawn_in_both_ways(theme: Theme) -> None:
    pictures = merge_pictures(merge_view(), theme)
    assert {name for name, _, _ in pictures} == ALL
    for _, image, figure in pictures:
        assert image_bytes(image()).startswith(b"\x89PNG")
        drawn = figure()
        assert drawn.data
        assert "<b>specialists</b>" not in drawn.layout.title.text


def test_pictures_without_data_are_left_out() -> None:
    view = merge_view()
    report = view.report.model_copy(
        update={"importance": {}, "gradients": {}, "objectives": view.report.objectives[:1]}
    )
    single = tuple(
        t.model_copy(update={"objectives": t.objectives and t.objectives[:1]}) for t in view.trials
    )
    references = tuple(
        r.model_copy(update={"objectives": (r.objectives or ())[:1]}) for r in report.references
    )
    bare = SearchView(report=report.model_copy(update={"references": references}), trials=single)
    assert {name for name, _, _ in merge_pictures(bare, Theme.LIGHT)} == {"progress", "parameters"}
    with pytest.raises(ChartError, match="too few trials"):
        importances(bare)


def test_what_pictures_show() -> None:
    view = merge_view()
    lines = progress_lines(view)
    assert [len(line.best) for line in lines] == [11, 6]
    assert lines[0].costs_s[-1] == 24.0, "a failed merge has its cost too"
    assert lines[0].best == sorted(lines[0].best)
    _, best = front(view)
    values = [trial.objectives or (0.0, 0.0) for trial in best]
    assert values == sorted(values)
    assert [v[1] for v in values] == sorted((v[1] for v in values), reverse=True)
    assert short(NAMES[0], NAMES[:3]) == "0 weight[0]"
    assert short(NAMES[3], NAMES) == "merge_method"
