"""One person at work in one browser window on the dashboard: each kind of click and key, timed."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Browser, Page, ViewportSize

GRID = "[data-testid=stDataFrame] canvas"
BOARD = "table.board"
BOARD_ROWS = "table.board tbody th.name"
CAPTION = "[data-testid=stCaptionContainer]"
RANKING = f"{GRID}, .rows tbody button"
"""Earlier versions drew the ranking as a grid."""
RANKED = "[data-testid=stDataFrame] [role=gridcell], .rows tbody button"
PLOT = ".js-plotly-plot .main-svg"
AXIS = ".js-plotly-plot .xtitle, .js-plotly-plot .x2title"
READER = ".st-key-side_by_side"
SENTENCE = ".st-key-verdict h3"
JOBS = ".st-key-jobs_table"
CODE = "[data-testid=stCode], .mb-code"
SIZE: ViewportSize = {"width": 1440, "height": 1000}
_POLL_MS = 30

_EVERYWHERE = (
    "(s => [...document.querySelectorAll(s), ...[...document.querySelectorAll('*')]"
    ".flatMap(e => e.shadowRoot ? [...e.shadowRoot.querySelectorAll(s)] : [])])"
)


def seen_in(page: Page, selector: str, text: str = "", *, exactly: bool = False) -> None:
    """Wait for the frame in which such an element with such a text in it, or exactly such a text, is visible.

    Elements of components are looked for in their shadow trees too.

    A locator would ask ever more rarely, at last twice a second: too coarse to measure with. In every frame would
    slow down what is measured.
    """
    page.wait_for_function(
        f"([selector, text, exactly]) => {_EVERYWHERE}(selector).some(e => e.checkVisibility()"
        " && (exactly ? e.textContent.trim() === text : e.textContent.includes(text))"
        " && e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().height > 0)",
        arg=[selector, text, exactly],
        timeout=60_000,
        polling=_POLL_MS,
    )


class Clicks:
    """The same round of clicks again and again, on a run that has its comparisons."""

    def __init__(self, browser: Browser, address: str, run: str, candidate: int) -> None:
        self.took: dict[str, list[float]] = {}
        self.page = browser.new_context(viewport=SIZE).new_page()
        self.page.set_default_timeout(60_000)
        self._candidate = candidate
        self._address = address
        self._run = run

    def round(self) -> None:
        """Every kind of click once, on all pages."""
        self._leaderboard()
        self._compare()
        self._layer_map()
        self._others()

    def _open(self, path: str, *seen: str) -> None:
        self.page.goto(f"{self._address}/{path}{'&' if '?' in path else '?'}run={self._run}")
        for selector in seen:
            seen_in(self.page, selector)
        self._settle()

    def _leaderboard(self) -> None:
        page = self.page
        self._open("leaderboard", BOARD)
        board = page.locator(BOARD)
        self._timed("next page of the leaderboard", self._button("Next"), self._text("26 to 50"))
        box = page.get_by_label("Search", exact=True)
        box.fill("(33, ")
        self._timed("search", lambda: page.keyboard.press("Enter"), self._text("of 47 recipes"))

        def take_back() -> None:
            box.fill("")
            box.press("Enter")

        self._timed("search is taken back", take_back, self._text("1 to 25 of 3,240"))
        header = board.get_by_role("button", name="MATH Lvl 5")
        self._timed("sorted by a benchmark", header.click, self._changed(BOARD_ROWS))
        self._timed("worst first", header.click, self._changed(BOARD_ROWS))
        mean = board.get_by_role("button", name="Mean")
        self._timed("back to the mean", mean.click, self._changed(BOARD_ROWS))
        self._timed("filter: better", self._filter("better"), self._changed(CAPTION))
        self._timed("filter: all", self._filter("All"), self._text("of 3,240"))
        tick = board.get_by_role("checkbox").nth(1)
        self._timed("a tick", tick.click, self._seen(CAPTION, "1 ticked"))
        self._timed("untick", tick.click, self._seen(CAPTION, "0 ticked"))
        self._timed("Δ % in its cells", self._word("Δ %"), self._seen(".delta", " %"))
        row = board.get_by_role("button", name="Details of").nth(1)
        self._timed("a row is opened", row.click, self._seen("table.detail", ""))

    def _compare(self) -> None:
        page = self.page
        self._open(f"compare?cand={self._candidate}", SENTENCE, READER)
        benchmark = page.locator("tr[data-key=math] button")
        self._timed("another benchmark", benchmark.click, self._heading("Questions of MATH Lvl 5"))
        page.get_by_text("Both right").last.click()
        self._settle()
        question = page.get_by_role("option").nth(3)
        self._timed("a question is opened", question.click, self._changed(READER))
        key = "next question by key"
        self._timed(key, lambda: page.keyboard.press("j"), self._changed(READER))
        self._timed("questions both wrong", self._word("Both wrong"), self._changed(READER))
        link = page.get_by_role("link", name="The candidate's recipe")
        self._timed("to its recipe", link.click, self._seen(CODE, ""))

    def _layer_map(self) -> None:
        page = self.page
        self._open("layers", RANKING, PLOT)
        self._timed("next page of its ranking", self._button("Next"), self._changed(RANKED))
        self._timed("a cell of the map", self._map_cell, self._changed(".st-key-path_detail"))
        for name, title in (("Skylines", "Layer"), ("Pareto front", "Layers added")):
            self._timed(f"picture {name}", self._word(name), self._seen(AXIS, title))
        page.get_by_role("combobox", name="Measure").click()
        another = page.get_by_role("option", name="MuSR")
        self._timed("another measure", another.click, self._changed(f".stMain {CAPTION}"))

    def _others(self) -> None:
        for name, selector in (
            ("Leaderboard", BOARD),
            ("Compare two", READER),
            ("Layer map", RANKING),
            ("Claims", CODE),
            ("Recipe", SENTENCE),
            ("Job", JOBS),
            ("Card", CODE),
        ):
            self._go(name, selector)
            if name == "Job":
                self._timed("failed jobs", self._word("✗ failed"), self._changed(CAPTION))
        self._timed("a card's table", self._word("Markdown table"), self._seen(CODE, "| "))
        self._go("Overview", ".st-key-run_state")

    def _go(self, name: str, selector: str) -> None:
        link = self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True)

        def there() -> None:
            if name != "Recipe":  # its heading is the name of the recipe
                seen_in(self.page, "[data-testid=stHeading]", name, exactly=True)
            seen_in(self.page, selector)

        self._timed(f"to {name.lower()}", link.click, there)

    def _timed(self, name: str, act: Callable[[], object], there: Callable[[], object]) -> None:
        start = time.perf_counter()
        act()
        there()
        self.took.setdefault(name, []).append(time.perf_counter() - start)
        self._settle()

    def _settle(self) -> None:
        """Let what still comes (charts below, comparisons) come, so that the next click is measured alone."""
        self.page.wait_for_timeout(400)
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        self.page.wait_for_timeout(200)

    def _heading(self, text: str) -> Callable[[], None]:
        return lambda: seen_in(self.page, "[data-testid=stHeading]", text, exactly=True)

    def _text(self, text: str) -> Callable[[], None]:
        return self._seen(CAPTION, text)

    def _seen(self, selector: str, text: str) -> Callable[[], None]:
        return lambda: seen_in(self.page, selector, text)

    def _button(self, name: str) -> Callable[[], None]:
        return self.page.get_by_role("button", name=name).first.click

    def _filter(self, text: str) -> Callable[[], None]:
        filters = self.page.get_by_test_id("stButtonGroup").filter(has_text="All")
        return filters.get_by_text(text).first.click

    def _word(self, text: str) -> Callable[[], None]:
        return self.page.get_by_text(text).last.click

    def _map_cell(self) -> None:
        """A place in the upper right half, another one in each round."""
        j = 40 + len(self.took.get("a cell of the map", ()))
        at = self.page.locator(".js-plotly-plot").first.evaluate(
            f"p => {{ const l = p._fullLayout, b = p.getBoundingClientRect();"
            f" return [b.x + l.xaxis._offset + l.xaxis.d2p({j}), b.y + l.yaxis._offset + l.yaxis.d2p(20)] }}"
        )
        self.page.mouse.click(*at)

    def _changed(self, selector: str) -> Callable[[], None]:
        """Wait until the text of these elements is another than now."""
        text = f"{_EVERYWHERE}({selector!r}).map(e => e.textContent).join('|')"
        before = self.page.evaluate(text)

        def wait() -> None:
            self.page.wait_for_function(
                f"before => {{ const now = {text}; return now && now !== before }}",
                arg=before,
                polling=_POLL_MS,
            )

        return wait
