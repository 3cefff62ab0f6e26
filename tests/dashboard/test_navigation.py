"""Back, two tabs, keys and addresses that name nothing, in a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, expect

from orchestrator.store.pages import Pages
from tests.support.browser import Served, opened, serving, settled


def test_back_undoes_one_change_after_another_and_two_tabs_keep_their_runs(
    served: Served, browser: Browser
) -> None:
    with Pages.open(f"sqlite:///{served.home / 'store.sqlite'}", create=False, read_only=True) as pages:
        other = next(run.id for run in pages.runs(limit=10) if run.id != served.run)
    page = opened(browser, served.address)
    page.goto(f"{served.address}/job?run={served.run}")
    settled(page)
    second = page.context.new_page()
    second.goto(f"{served.address}/job?run={other}")
    page.get_by_text("✓ done", exact=True).first.click()
    page.wait_for_url("**state=done**")
    settled(page)
    page.get_by_role("button", name="Next").click()
    page.wait_for_url("**jobs=1**")
    settled(page)
    page.go_back()
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    settled(page)
    assert "state=done" in page.url
    assert "jobs=" not in page.url
    page.go_back()
    expect(page.get_by_role("radio", name="all", checked=True)).to_be_visible()
    settled(page)
    assert "state=" not in page.url
    settled(second)
    second.get_by_role("link", name="Leaderboard", exact=True).click()
    second.wait_for_url("**/leaderboard?**")
    settled(second)
    assert other in second.url
    page.get_by_role("link", name="Card", exact=True).click()
    page.wait_for_url("**/card?**")
    settled(page)
    assert served.run in page.url
    page.context.close()
    served.no_error()


def test_an_address_that_names_nothing_says_so(served: Served, browser: Browser) -> None:
    page = opened(browser, served.address)
    for address, names in (
        ("job?run={run}&state=lost&jobs=99", "state “lost”"),
        ("job?run={run}&jobs=99", "page “99”"),
        ("job?run={run}&of=999", "recipe “999”"),
        ("leaderboard?run={run}&base=999", "base “999”"),
        ("compare?run={run}&cand=999", "candidate “999”"),
        ("compare?run={run}&base=x", "base “x”"),
        ("recipe?run={run}&cand=999", "recipe “999”"),
        ("card?run={run}&cand=77", "candidate “77”"),
        ("layers?run={run}&path=(99, 100)", "(99, 100)"),
        ("leaderboard?run=0000", "The run that this link names is not in this store"),
        ("nowhere?run={run}", "The page that you have requested does not seem to exist"),
    ):
        page.goto(f"{served.address}/{address.format(run=served.run)}")
        expect(page.locator("body")).to_contain_text(names)
    page.context.close()
    served.no_error()


def test_the_first_page_after_a_start_can_be_any(served: Served, browser: Browser, tmp_path: Path) -> None:
    """Before the first page was drawn, Streamlit answered links to all but the overview with "Page not found"."""
    shutil.copy(served.home / "store.sqlite", tmp_path)
    with serving(tmp_path, served.run) as fresh:
        page = opened(browser, f"{fresh.address}/job?run={fresh.run}")
        expect(page.get_by_role("heading", name="Job", exact=True)).to_be_visible()
        expect(page.get_by_text("Page not found")).to_have_count(0)
        expect(page.locator("table", has_text="Digest")).to_contain_text("✓ done")
        page.context.close()
        fresh.no_error()
