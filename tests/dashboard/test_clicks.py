"""What a reader comes for, and the number of clicks that it costs, counted by the browser itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import BOARD, Served, board_rows, opened, settled
from tests.support.task_store import BETTER

_COUNT = """
addEventListener("pointerdown", (event) => {
  if (event.isTrusted) sessionStorage.clicks = Number(sessionStorage.clicks || 0) + 1;
}, true);
"""


def begin(page: Page, address: str) -> None:
    """Open a page and count from zero."""
    page.goto(address)
    settled(page)
    page.evaluate("() => { sessionStorage.clicks = 0 }")


def clicks(page: Page) -> int:
    """Number of times that a button of the mouse was pressed since `begin`, over all pages of this tab."""
    return int(page.evaluate("() => sessionStorage.clicks"))


@pytest.mark.slow
def test_what_a_reader_comes_for_costs_few_clicks(two: tuple[Served, str], browser: Browser) -> None:
    served, scan = two
    overview, leaderboard = (f"{served.address}/{view}?run={served.run}" for view in ("", "leaderboard"))
    page = opened(browser, overview)
    page.add_init_script(_COUNT)

    # The best on MATH, and a question that it solves and the base does not.
    begin(page, overview)
    page.get_by_role("link", name="All recipes and scores").click()
    expect(page.locator(BOARD)).to_contain_text("▲")
    page.locator(BOARD).get_by_role("button", name="MATH Lvl 5", exact=True).click()
    expect(page.locator(f"{BOARD} th[aria-sort=descending]")).to_contain_text("MATH")
    best = page.locator(f"{BOARD} > tbody > tr:not(.base, .details)").first
    assert board_rows(page)[1] == "block (10, 17)"
    best.locator("td[title^='MATH Lvl 5 '] a").click()
    reader = page.locator(".st-key-side_by_side")
    expect(reader).to_contain_text("gained")
    expect(page.get_by_role("heading", name="Questions of MATH Lvl 5")).to_be_visible()
    assert clicks(page) == 3

    # Why a comparison is refused, and what to do.
    begin(page, leaderboard)
    expect(page.locator(f"{BOARD} .refused").first).to_be_visible()
    page.locator(f"{BOARD} tr", has_text="other template").locator("td[title^='Mean '] a").first.click()
    refused = page.locator(".st-key-refused")
    expect(refused).to_contain_text("chat template: on (base), off")
    expect(refused).to_contain_text("Evaluate both with the same chat template")
    expect(refused).to_contain_text("mergeboard run sweep.yaml")
    assert clicks(page) == 1

    # The model-index of a recipe, to copy.
    begin(page, overview)
    page.get_by_role("link", name="All recipes and scores").click()
    page.locator(BOARD).get_by_role("link", name="block (10, 17)", exact=True).first.click()
    text = page.locator(".mb-code", has_text="model-index:").locator("code")
    expect(text).to_be_visible()
    assert clicks(page) == 2
    assert yaml.safe_load(text.inner_text())["model-index"][0]["name"] == "block (10, 17)"
    assert f"cand={BETTER}" in page.url

    # What failed, why and what to do: on the overview itself; the failed jobs one by one, one click away.
    begin(page, overview)
    expect(page.locator(".st-key-failure_0")).to_contain_text("The engine ran out of memory.")
    expect(page.locator(".st-key-failure_0")).to_contain_text("To do:")
    page.get_by_role("link", name="All failed jobs").click()
    jobs = page.locator("table", has_text="Digest")
    expect(jobs).to_contain_text("The engine ran out of memory.")
    expect(jobs).not_to_contain_text("✓ done")
    assert clicks(page) == 1

    # The best (i, j) of a scan with the command that builds it.
    begin(page, f"{served.address}/?run={scan}")
    page.get_by_role("link", name="Map and best path").click()
    detail = page.locator(".st-key-path_detail")
    expect(detail).to_contain_text("Best: (3, 6)")
    expect(detail).to_contain_text("mergeboard build '(3, 6)' --base")
    assert clicks(page) == 1

    # A file to send, of the run, of a comparison and of a scan.
    for address, said in (
        (overview, "worse than base|better than base"),
        (leaderboard, "worse than base|better than base"),
        (f"{served.address}/compare?run={served.run}&cand={BETTER}", r"block \(10, 17\)"),
        (f"{served.address}/?run={scan}", r"has a real gain: \(3, 6\)"),
    ):
        begin(page, address)
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Report", exact=True).click()
        assert clicks(page) == 1
        assert waiting.value.suggested_filename.endswith(".html")
        html = Path(waiting.value.path()).read_text()
        assert re.search(said, html), address
        assert "No report" not in html, address
    page.context.close()
    served.no_error()
