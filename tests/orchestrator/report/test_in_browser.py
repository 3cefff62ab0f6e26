"""A report opened from the file system in Chromium without network: quiet, sortable, printable, accessible, harmless.

The pictures and PDFs are kept in test-output/reports.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from orchestrator.report import ReportFormat, ReportRequest, build_report, write_report
from orchestrator.store.pages import Pages
from tests.orchestrator.report.conftest import Stored
from tests.support.accessibility import serious_findings
from tests.support.browser import ROOT, Scheme

SHOTS = ROOT / "test-output" / "reports"
A4_PX = 718
"""Width of A4 without its margins, at 96 pixels an inch."""
CUT = """() => [...document.querySelectorAll("table, section, pre, figure, .scroll, details, dl")]
  .filter((part) => part.scrollWidth > part.clientWidth + 1 && !part.classList.contains("sr"))
  .map((part) => `${part.tagName} ${part.className} ${part.scrollWidth} > ${part.clientWidth}`)"""
BEYOND = """(width) => [...document.querySelectorAll("td, th, p, li, h2, svg")]
  .filter((part) => part.getBoundingClientRect().right > width + 1 && getComputedStyle(part).position !== "absolute")
  .map((part) => part.textContent.slice(0, 40))"""


class Watched:
    """A page without network, and what it asked for and said."""

    def __init__(self, browser: Browser, path: Path, scheme: Scheme = "light", width: int = 1440) -> None:
        self.context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 1000}, offline=True
        )
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.own = path.as_uri()

    def close(self) -> None:
        """Fail where it asked for anything or said anything."""
        self.context.close()
        assert self.said == []
        assert self.asked == [self.own]


@pytest.fixture(scope="module")
def written(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every kind of report."""
    from tests.support.demo_stores import store_url

    folder = tmp_path_factory.mktemp("written")
    names = {
        "run": ReportRequest(names=(stored.demo,)),
        "hostile": ReportRequest(names=(stored.hostile,), force=True),
        "comparison": ReportRequest(names=("whole stack twice", "block (12, 14)"), run=stored.demo),
        "scan": ReportRequest(names=(stored.search,)),
        "claims": ReportRequest(names=("ca4d0001",)),
    }
    files = {}
    with Pages.open(store_url(stored.home), create=False, read_only=True) as store:
        for name, request in names.items():
            files[name] = folder / f"{name}.html"
            write_report(build_report(store, request, stored.home), files[name], ReportFormat.HTML)
    return files


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "scan",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("hostile", "comparison", "claims")),
    ],
)
def test_a_report_is_quiet_readable_and_printable(
    browser: Browser, written: dict[str, Path], name: str
) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    for scheme, width in (("light", 1440), ("dark", 1100), ("light", 390)):
        seen = Watched(browser, written[name], scheme, width)  # type: ignore[arg-type] # one of the two schemes
        for button in seen.page.locator("button.all").all():
            button.click()
        if width > 390:
            assert serious_findings(seen.page) == []
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert seen.page.evaluate(wide) == 0
        seen.page.screenshot(path=SHOTS / f"{name}-{scheme}-{width}.png")
        seen.close()
    seen = Watched(browser, written[name], width=A4_PX)
    seen.page.emulate_media(media="print")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert seen.page.evaluate(CUT) == []
    assert seen.page.evaluate(BEYOND, A4_PX) == []
    seen.page.emulate_media(media="null")
    data = seen.page.pdf(path=SHOTS / f"{name}.pdf", format="A4", prefer_css_page_size=True)
    assert data.startswith(b"%PDF")
    seen.close()


def test_the_table_sorts_numbers_as_numbers_by_mouse_and_key(
    browser: Browser, written: dict[str, Path]
) -> None:
    seen = Watched(browser, written["run"])
    page = seen.page

    def names() -> list[str]:
        return page.locator("table.rows > tbody > tr:first-child > th").all_inner_texts()

    def values(column: int) -> list[float]:
        cells = page.locator(f"table.rows > tbody:not(.pinned) > tr:first-child > td:nth-child({column + 1})")
        return [float(cell.get_attribute("data-v") or "nan") for cell in cells.all()]

    means = values(2)
    assert means == sorted(means, reverse=True)
    head = page.locator("table.rows > thead > tr > th")
    for column in range(2, 9):
        head.nth(column).get_by_role("button").click()
        first = values(column)
        assert first in (sorted(first), sorted(first, reverse=True))
        head.nth(column).get_by_role("button").click()
        assert values(column) in (sorted(first), sorted(first, reverse=True))
        assert values(column) != first or len(set(first)) == 1
    # 8.3 sorts before 45.8, which text would not.
    head.nth(3).get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.nth(3).get_attribute("aria-sort") in ("ascending", "descending")
    assert names()[0] == "base"
    row = page.get_by_role("button", name="whole stack twice")
    row.focus()
    page.keyboard.press("Enter")
    assert row.get_attribute("aria-expanded") == "true"
    assert page.locator("tbody.opened .deltas th", has_text="MATH Lvl 5").is_visible()
    page.get_by_role("button", name="▼ worse 2").click()
    assert page.locator(".count").inner_text() == "2 of 5 shown"
    shown = page.locator("table.rows > tbody:visible > tr:first-child > th").all_inner_texts()
    assert {name.strip("› \n") for name in shown} == {"base", "whole stack twice", "ten layers left out"}
    seen.close()


def test_hostile_text_is_shown_as_text(browser: Browser, written: dict[str, Path]) -> None:
    seen = Watched(browser, written["hostile"])
    page = seen.page
    assert page.locator("main img, main script, main iframe").count() == 0
    assert "<script>alert(1)</script>" in page.locator("main").inner_text()
    assert "\x1b" not in page.content()
    assert "\u202e" not in page.content()
    assert page.locator("html").evaluate("e => e.outerHTML.length") < 300_000
    seen.close()
