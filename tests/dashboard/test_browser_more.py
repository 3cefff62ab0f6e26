"""What takes longer in a real browser: links that restore every view, downloads, a click on the map, a run that is written."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from orchestrator.store import Store
from orchestrator.store.records import RunState
from tests.support.browser import (
    BOARD,
    GRID,
    PLOT,
    Served,
    board_click,
    opened,
    picture,
    serving,
    settled,
    stuttering,
)
from tests.support.demo_stores import Maker, load_suite
from tests.support.made_results import DEMO

pytestmark = pytest.mark.slow
WATCH_S = float(os.environ.get("MERGEBOARD_WATCH_S", "300"))
"""How long the run is watched that is written meanwhile."""


def test_a_click_on_the_map_opens_the_path(served: Served, browser: Browser) -> None:
    page = opened(browser, f"{served.address}/layers?run={served.run}")
    expect(page.locator(PLOT).first).to_be_visible()
    at = page.locator(".js-plotly-plot").first.evaluate(
        "p => { const l = p._fullLayout, b = p.getBoundingClientRect();"
        " return [b.x + l.xaxis._offset + l.xaxis.d2p(30), b.y + l.yaxis._offset + l.yaxis.d2p(0)] }"
    )
    page.mouse.click(*at)
    detail = page.locator(".st-key-path_detail")
    expect(detail).to_contain_text("whole stack twice")
    page.wait_for_url("**path=*")
    settled(page)
    detail.get_by_role("link", name="Compare with the base").click()
    expect(page.get_by_role("heading", name="Compare two")).to_be_visible()
    settled(page)
    assert "cand=4" in page.url
    page.context.close()


def test_a_number_opens_its_comparison_on_a_server_that_stands_still_again_and_again(
    served: Served, browser: Browser
) -> None:
    """The leaderboard asks for its refresh while the comparison is drawn: neither the page nor its address may break."""
    with stuttering(served, seed=2):
        for _ in range(12):
            page = opened(browser, f"{served.address}/leaderboard?run={served.run}")
            expect(page.locator(BOARD)).to_contain_text("▼")
            settled(page)
            board_click(page, "whole stack twice", "IFEval")
            page.wait_for_url("**/compare?**cand=4**")
            expect(page.locator(".st-key-side_by_side")).to_contain_text("lost")
            settled(page)
            assert "cand=4" in page.url
            assert "bench=ifeval" in page.url
            page.context.close()
    served.no_error()


def _leaderboard(page: Page) -> None:
    page.get_by_label("Search", exact=True).fill("e")
    page.keyboard.press("Enter")
    settled(page)
    page.locator(BOARD).get_by_role("button", name="BBH", exact=True).click()
    page.wait_for_url("**sort=bbh**")
    page.get_by_role("radio", name="Δ %").or_(page.get_by_text("Δ %")).first.click()


def _compare(page: Page) -> None:
    page.get_by_text("MATH Lvl 5", exact=True).last.click()
    settled(page)
    page.get_by_text("Both wrong").first.click()


def _layers(page: Page) -> None:
    page.get_by_text("Pareto front", exact=True).click()


def _claims(page: Page) -> None:
    box = page.locator(GRID).first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 100, box["y"] + 31 * 2.5)


def _job(page: Page) -> None:
    page.get_by_text("✓ done", exact=True).first.click()
    settled(page)
    page.get_by_role("button", name="Next").click()


def _card(page: Page) -> None:
    page.get_by_text("Markdown table").click()


@pytest.mark.parametrize(
    ("view", "act"),
    [
        ("leaderboard", _leaderboard),
        ("compare", _compare),
        ("layers", _layers),
        ("claims", _claims),
        ("job", _job),
        ("card", _card),
    ],
)
def test_a_link_restores_the_view(
    served: Served, browser: Browser, view: str, act: Callable[[Page], None]
) -> None:
    page = opened(browser, f"{served.address}/{view}?run={served.run}&cand=4")
    before = _seen(page)
    act(page)
    page.wait_for_timeout(1000)
    settled(page)
    after, link = _seen(page), page.url
    assert after != before
    page.context.close()
    again = opened(browser, link)
    again.wait_for_timeout(1000)
    settled(again)
    assert _seen(again) == after
    again.context.close()


def _seen(page: Page) -> str:
    """All text of a page, that of its tables among it."""
    cells = page.locator("[data-testid=stDataFrame] [role=gridcell]").all_text_contents()
    checked = page.locator("[aria-checked=true]").all_text_contents()
    return "\n".join([page.get_by_test_id("stMain").inner_text(), *cells, *checked])


def test_everything_can_be_taken_away(served: Served, browser: Browser) -> None:
    page = opened(browser, f"{served.address}/leaderboard?run={served.run}")
    expect(page.locator(".st-key-run_verdict")).to_contain_text("Mean")
    board = pd.read_csv(io.BytesIO(_download(page, "CSV")))
    assert len(board) == 36
    refused = board["not_compared_because"].str.startswith("quantisation", na=False)
    assert refused.sum() == 12, "the two recipes that are built have another quantisation than the base"
    assert board["delta_points"].notna().tolist() == (~board["is_base"] & ~refused).tolist()
    assert board["delta_points"].notna().sum() == 18
    assert len(pd.read_parquet(io.BytesIO(_download(page, "Parquet")))) == 36
    for view in ("compare", "layers"):
        page.goto(f"{served.address}/{view}?run={served.run}&cand=4")
        settled(page)
        if view == "compare":
            page.locator("summary", has_text="downloads").click()
        assert _download(page, "PNG").startswith(b"\x89PNG")
        assert b"<svg" in _download(page, "SVG")[:2000]
    page.goto(f"{served.address}/card?run={served.run}&cand=2")
    settled(page)
    card = yaml.safe_load(_download(page, "Download README.metadata.yaml"))
    assert card["model-index"][0]["name"] == "slerp-with-noise"
    assert len(pd.read_csv(io.BytesIO(_download(page, "Scores as CSV")))) == 6
    assert len(pd.read_parquet(io.BytesIO(_download(page, "Scores as Parquet")))) == 6
    page.goto(f"{served.address}/claims?run={served.run}")
    settled(page)
    claims = pd.read_csv(io.BytesIO(_download(page, "CSV")))
    assert claims["verdict"].tolist() == ["reproduced", "not reproduced", "not comparable"]
    page.context.close()
    served.no_error()


def _download(page: Page, label: str) -> bytes:
    button = page.get_by_test_id("stDownloadButton").get_by_role("button", name=label, exact=True).first
    with page.expect_download() as waiting:
        button.click()
    return Path(waiting.value.path()).read_bytes()


def test_a_run_is_watched_while_it_is_written(tmp_path: Path, browser: Browser) -> None:
    """Every page, again and again, while outcomes come in: no error on a page, in the browser's console or in the log."""
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        maker = Maker(store, tmp_path, load_suite("smoke"))
        lease, planned = maker.create()

        def write() -> None:
            for item in planned:
                maker.execute(lease, item, DEMO[item.candidates[0]])
                store.renew(lease)
                time.sleep(0.8 * WATCH_S / len(planned))
            store.finish_run(lease, RunState.DONE)

        writer = threading.Thread(target=write)
        writer.start()
        errors: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type == "error":
                errors.append(message.text)

        try:
            with serving(tmp_path, lease.run_id) as served:
                page = opened(browser, f"{served.address}/?run={lease.run_id}")
                page.on("console", note)
                page.on("pageerror", lambda error: errors.append(str(error)))
                _watch(page, time.monotonic() + WATCH_S)
                page.get_by_role("link", name="Overview").click()
                expect(page.get_by_text("38 of 38 jobs")).to_be_visible()
                served.no_error()
                page.context.close()
        finally:
            writer.join()
        assert not errors


def _watch(page: Page, until: float) -> None:
    done = -1
    while time.monotonic() < until:
        for name in ("Overview", "Leaderboard", "Compare two", "Recipe", "Layer map", "Job", "Card"):
            page.get_by_role("link", name=name, exact=True).click()
            if name != "Recipe":
                expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
            page.wait_for_timeout(4000)
            assert page.get_by_test_id("stException").count() == 0
            if name == "Overview":
                text = page.locator(".st-key-run_state").first.inner_text()
                now = int(text.split(" of ")[0].rsplit(" ", 1)[-1])
                assert now >= done
                done = now
        picture(page, "watched")
    assert done > 0
