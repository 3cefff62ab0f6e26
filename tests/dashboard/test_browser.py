"""The dashboard in a real browser: every page in light and dark, the clicks of the README, and hostile text.

The pictures are kept in test-output/screenshots. Skipped where there is no Chromium (`make browser` installs it).
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Request, expect

from orchestrator.store.pages import Pages
from tests.support.browser import (
    BOARD,
    GRID,
    PAGES,
    PLOT,
    Scheme,
    Served,
    board_click,
    opened,
    picture,
    settled,
    tick,
)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_every_page_is_drawn(served: Served, browser: Browser, scheme: Scheme) -> None:
    page = opened(browser, f"{served.address}/?run={served.run}", scheme)
    for name in PAGES:
        if name:
            page.goto(f"{served.address}/{name}?run={served.run}")
            settled(page)
        if name == "layers":
            expect(page.locator(PLOT).first).to_be_visible()
        if name == "leaderboard":
            expect(page.locator(BOARD)).to_be_visible()
        if name == "claims":
            expect(page.locator(GRID).first).to_be_visible()
        if name in ("compare", "recipe"):
            expect(page.locator(".st-key-verdict h3")).to_be_visible()
        if name == "job":
            expect(page.locator("table").first).to_be_visible()
        picture(page, f"{name or 'overview'}-{scheme}")
    page.context.close()
    served.no_error()


@pytest.mark.slow
def test_three_clicks_lead_to_a_question_that_flipped(served: Served, browser: Browser) -> None:
    """The pictures of the docs; tests/dashboard/test_clicks.py counts clicks on every run of the tests."""
    page = opened(browser, f"{served.address}/?run={served.run}")
    page.get_by_role("link", name="Leaderboard").click()
    expect(page.locator(BOARD)).to_contain_text("▼")
    picture(page, "click-1-leaderboard")
    board_click(page, "whole stack twice", "IFEval")
    page.wait_for_url("**/compare?**")
    expect(page.get_by_role("heading", name="Compare two")).to_be_visible()
    settled(page)
    assert f"run={served.run}" in page.url
    detail = page.locator(".st-key-side_by_side")
    expect(detail).to_contain_text("lost")
    expect(detail).to_contain_text("How many marbles are in it?")
    settled(page)
    picture(page, "click-2-compare")
    detail.scroll_into_view_if_needed()
    picture(page, "click-3-flipped")
    page.context.close()


def test_a_run_opens_its_leaderboard_and_a_ticked_recipe_its_comparison(
    served: Served, browser: Browser
) -> None:
    page = opened(browser, f"{served.address}/?run={served.run}")
    runs = page.get_by_test_id("stDataFrame").first
    runs.scroll_into_view_if_needed()
    tick(page, runs, row=0)
    page.wait_for_url("**/leaderboard?**")
    expect(page.get_by_role("heading", name="Leaderboard")).to_be_visible()
    settled(page)
    assert f"run={served.run}" not in page.url, "another run is newer, and first in the list"
    page.locator(f"{BOARD} tbody tr:not(.base) input").first.check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?**cand=1**")
    expect(page.locator(".st-key-side_by_side")).to_be_visible()
    page.context.close()
    served.no_error()


def test_hostile_text_does_nothing_in_the_browser(served: Served, browser: Browser) -> None:
    with Pages.open(f"sqlite:///{served.home / 'store.sqlite'}", create=False, read_only=True) as pages:
        run = next(run.id for run in pages.runs(limit=10) if run.id != served.run)
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page = opened(browser, f"{served.address}/compare?run={run}&cand=1&bench=ifeval")
    page.on("request", note)
    page.on("dialog", lambda _: asked.append("a dialog opened: x.invalid"))
    page.reload()
    settled(page)
    detail = page.locator(".st-key-side_by_side")
    expect(detail).to_contain_text("<script>alert(1)</script> ![x](http://x.invalid/y.png) **bold**")
    assert page.locator("img[src*=invalid], a[href*=invalid]").count() == 0
    assert page.locator(".st-key-side_by_side script").count() == 0
    assert "\u202e" not in detail.inner_text()
    assert len(detail.inner_text()) < 60_000
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Whole response").click()
    assert waiting.value.path().stat().st_size > 1_000_000
    picture(page, "hostile")
    for name in ("leaderboard", "recipe", "job", "card"):
        page.goto(f"{served.address}/{name}?run={run}&cand=1")
        settled(page)
        assert page.locator("b", has_text="</b>").count() == 0
        assert page.locator("a[href*=invalid]").count() == 0
    assert not any("x.invalid" in address for address in asked)
    page.context.close()
    served.no_error()
