"""How fast the dashboard is in a browser, on a large store: medians of ten.

    python benchmarks/make_store.py --home DIR                              a million scores
    python benchmarks/dashboard_speed.py --home DIR
    python benchmarks/make_store.py --home TEN --runs 80                    ten times as many
    python benchmarks/dashboard_speed.py --home DIR --queries --against TEN what the pages ask of both stores, without a browser

First paint: a fresh browser profile opens a view's link, until its first data is visible; where a view has a chart, until
that is drawn as well, as a figure of its own. Interaction: from the click or the key until what it asks for is visible.
Needs Chromium (`make browser`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from orchestrator.compare.run_comparisons import result_of_candidate
from orchestrator.store.leaderboard import LeaderboardQuery, SortKey
from orchestrator.store.pages import JobState, Pages

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PORT = 8777
ADDRESS = f"http://127.0.0.1:{PORT}"
GRID = "[data-testid=stDataFrame] canvas"
BOARD = "table.board"
BOARD_ROWS = "table.board tbody th.name"
VERDICT = ".st-key-run_verdict"
CELLS = "[data-testid=stDataFrame] [role=gridcell]"
PLOT = ".js-plotly-plot .main-svg"
AXIS = ".js-plotly-plot .xtitle, .js-plotly-plot .x2title"
SIDES = ".st-key-side_by_side"
SENTENCE = ".st-key-verdict h3"
JOBS = ".st-key-jobs_table"
CANDIDATE = 1500
FIRST = {
    "overview": ("", (".st-key-run_state",)),
    "leaderboard": ("leaderboard", (BOARD,)),
    "compare two": (f"compare?cand={CANDIDATE}", (SENTENCE, SIDES)),
    "recipe": (f"recipe?cand={CANDIDATE}", (SENTENCE, "[data-testid=stCode]")),
    "layer map": ("layers", (GRID, PLOT)),
    "claims": ("claims", ("[data-testid=stCode]",)),
    "jobs": ("job", (JOBS,)),
    "card": (f"card?cand={CANDIDATE}", ("[data-testid=stCode]",)),
}
"""Each view's address, what its first data are, and its chart where it has one."""


def main() -> None:
    """Start the dashboard on a store, drive it, print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder made by make_store.py")
    parser.add_argument("--rounds", type=int, default=10, help="how often everything is done")
    parser.add_argument("--queries", action="store_true", help="time the store's answers only")
    parser.add_argument("--against", type=Path, help="with --queries: another such folder, asked in turn")
    options = parser.parse_args()
    if options.queries:
        _queries([options.home, *([options.against] if options.against else [])], options.rounds)
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with _served(options.home):
            _report("first page after the start", [_first(browser, *FIRST["leaderboard"])[0]])
            for name, (path, seen) in FIRST.items():
                _first(browser, path, seen)
                times = [_first(browser, path, seen) for _ in range(options.rounds)]
                for what, each in zip(("", ", its chart"), zip(*times, strict=True), strict=False):
                    _report(f"first paint, {name}{what}", list(each))
            _verdicts(browser, options.home, options.rounds)
            clicks = Clicks(browser)
            try:
                for _ in range(options.rounds):
                    clicks.round()
            finally:
                for name, took in clicks.took.items():
                    _report(f"interaction, {name}", took)
        browser.close()


def _verdicts(browser: Browser, home: Path, rounds: int) -> None:
    """From opening the leaderboard of the whole run until its verdict is there, the first time after a start apart."""
    store = Pages.open(f"sqlite:///{home / 'store.sqlite'}", create=False, read_only=True)
    assert isinstance(store, Pages)
    run = next(run.id for run in store.runs(limit=200) if store.kept_keys(run.id, 0))
    store.close()
    took = []
    for number in range(rounds + 1):
        page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        start = time.perf_counter()
        page.goto(f"{ADDRESS}/leaderboard?run={run}", wait_until="commit")
        seen_in(page, VERDICT, "Single benchmarks")
        took.append(time.perf_counter() - start)
        if not number:
            _report("verdict of 3,241 paths, first time after the start", took)
        page.context.close()
    _report("verdict of 3,241 paths", took[1:])


@contextmanager
def _served(home: Path) -> Iterator[None]:
    words = [sys.executable, "-P", "-m", "dashboard", "--server.port", str(PORT)]
    environment = {**os.environ, "MERGEBOARD_HOME": str(home)}
    environment.pop("MERGEBOARD_DATABASE_URL", None)
    server = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{ADDRESS}/_stcore/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.25)
        else:
            sys.exit("The dashboard does not start; run `mergeboard dashboard` to see why.")
        yield
    finally:
        server.terminate()
        server.wait(20)


def _first(browser: Browser, path: str, seen: tuple[str, ...]) -> tuple[float, ...]:
    """Seconds until each of these is visible in a browser that knows nothing of the page."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    start, took = time.perf_counter(), []
    page.goto(f"{ADDRESS}/{path}", wait_until="commit")
    for there in seen:
        seen_in(page, there)
        took.append(time.perf_counter() - start)
    page.context.close()
    return tuple(took)


_EVERYWHERE = (
    "(s => [...document.querySelectorAll(s), ...[...document.querySelectorAll('*')]"
    ".flatMap(e => e.shadowRoot ? [...e.shadowRoot.querySelectorAll(s)] : [])])"
)


def seen_in(page: Page, selector: str, text: str = "", *, exactly: bool = False) -> None:
    """Wait for the frame in which such an element with such a text in it, or exactly such a text, is visible.

    Elements of components are looked for in their shadow trees too.

    A locator would ask ever more rarely, at last twice a second: too coarse to measure with.
    """
    page.wait_for_function(
        f"([selector, text, exactly]) => {_EVERYWHERE}(selector).some(e => e.checkVisibility()"
        " && (exactly ? e.textContent.trim() === text : e.textContent.includes(text))"
        " && e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().height > 0)",
        arg=[selector, text, exactly],
        timeout=60_000,
    )


class Clicks:
    """One person at work in one window: the same round of clicks again and again."""

    def __init__(self, browser: Browser) -> None:
        self.took: dict[str, list[float]] = {}
        self.page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        self.page.set_default_timeout(60_000)
        self.page.goto(f"{ADDRESS}/leaderboard")
        self.page.locator(BOARD).first.wait_for()
        self._settle()

    def round(self) -> None:
        """Every kind of click once, on all pages."""
        self._leaderboard()
        self._compare()
        self._layer_map()
        self._others()

    def _leaderboard(self) -> None:
        page = self.page
        self._go("Leaderboard", BOARD)
        self._timed("next page of the leaderboard", self._button("Next"), self._text("26 to 50"))
        box = page.get_by_label("Search", exact=True)
        box.fill("(33, ")
        self._timed("search", lambda: page.keyboard.press("Enter"), self._text("of 47 recipes"))
        box.fill("")
        box.focus()
        self._timed("search is taken back", lambda: page.keyboard.press("Enter"), self._text("of 3,240"))
        header = page.locator(BOARD).get_by_role("button", name="MATH Lvl 5")
        self._timed("sorted by a benchmark", header.click, self._changed(BOARD_ROWS))
        self._timed("worst first", header.click, self._changed(BOARD_ROWS))
        tick = page.locator(BOARD).get_by_role("checkbox").nth(1)
        self._timed("a tick", tick.click, self._seen("[data-testid=stCaptionContainer]", "1 ticked"))
        self._timed("untick", tick.click, self._seen("[data-testid=stCaptionContainer]", "0 ticked"))
        back = page.locator(BOARD).get_by_role("button", name="Mean")
        self._timed("back to the mean", back.click, self._changed(BOARD_ROWS))
        self._timed("Δ % in its cells", self._word("Δ %"), self._seen(".delta", " %"))
        self._word("Δ points")()
        self._settle()

    def _compare(self) -> None:
        self._go("Compare two", SIDES)
        self._timed("another benchmark", self._word("MATH Lvl 5"), self._changed(SIDES))
        self._timed("questions both right", self._word("Both right"), self._changed(SIDES))

    def _layer_map(self) -> None:
        page = self.page
        self._go("Layer map", PLOT)
        self._timed("next page of its ranking", self._button("Next"), self._changed(CELLS))
        self._timed("a cell of the map", self._map_cell, self._changed(".st-key-path_detail"))
        for name, title in (
            ("Skylines", "Layer"),
            ("Pareto front", "Layers added"),
        ):
            self._timed(f"picture {name}", self._word(name), self._seen(AXIS, title))
        page.get_by_role("combobox", name="Measure").click()
        another = page.get_by_role("option", name="MuSR")
        self._timed(
            "another measure", another.click, self._changed(".stMain [data-testid=stCaptionContainer]")
        )

    def _others(self) -> None:
        self._go("Claims", "[data-testid=stCode]")
        self._go("Recipe", SENTENCE)
        self._go("Job", JOBS)
        self._timed("failed jobs", self._word("✗ failed"), self._changed("[data-testid=stCaptionContainer]"))
        self._go("Card", "[data-testid=stCode]")
        self._timed("a card's table", self._word("Markdown table"), self._seen("[data-testid=stCode]", "| "))
        self._go("Overview", ".st-key-run_state")

    def _go(self, name: str, there: str = GRID) -> None:
        link = self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True)
        self._timed(f"to {name.lower()}", link.click, self._there(name, there))

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

    def _there(self, heading: str, there: str) -> Callable[[], None]:
        def wait() -> None:
            seen_in(self.page, "[data-testid=stHeading]", heading, exactly=True)
            seen_in(self.page, there)

        return wait

    def _text(self, text: str) -> Callable[[], None]:
        return self._seen("[data-testid=stCaptionContainer]", text)

    def _seen(self, selector: str, text: str) -> Callable[[], None]:
        return lambda: seen_in(self.page, selector, text)

    def _button(self, name: str) -> Callable[[], None]:
        return self.page.get_by_role("button", name=name).first.click

    def _word(self, text: str) -> Callable[[], None]:
        return self.page.get_by_text(text).last.click

    def _map_cell(self) -> None:
        """A place in the upper right half, another one in each round."""
        j = 40 + len(self.took["a cell of the map"]) if "a cell of the map" in self.took else 40
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
                f"before => {{ const now = {text}; return now && now !== before }}", arg=before
            )

        return wait


def _queries(homes: list[Path], rounds: int) -> None:
    """Every question that a page asks, about the newest run of each store; the stores take turns."""
    stores = [
        Pages.open(f"sqlite:///{home / 'store.sqlite'}", create=False, read_only=True) for home in homes
    ]
    asked = [_questions(pages) for pages in stores if isinstance(pages, Pages)]
    for name in asked[0]:
        took: list[list[float]] = [[] for _ in asked]
        for number in range(rounds + 1):
            for questions, mine in zip(asked, took, strict=True):
                start = time.perf_counter()
                questions[name]()
                if number:
                    mine.append(time.perf_counter() - start)
        medians = [statistics.median(mine) for mine in took]
        more = f"   times {medians[-1] / medians[0]:.1f}" if len(medians) > 1 else ""
        print(f"{name:32s} " + "   ".join(f"{m:7.4f} s" for m in medians) + more, flush=True)
    for pages in stores:
        pages.close()


def _questions(pages: Pages) -> dict[str, Callable[[], object]]:
    run = pages.runs(limit=1)[0]
    columns = pages.columns(run.id)
    first, base = columns[0], pages.base_of(run.id)
    candidate = pages.candidate(run.id, CANDIDATE)
    assert base is not None
    assert candidate is not None
    some = pages.job_list(run.id, limit=1)[1][0].digest
    board = LeaderboardQuery(
        run_id=run.id, suite=first.suite, engine_digest=first.engine_digest, limit=25, descending=True
    )
    by_benchmark = board.model_copy(
        update={"sort": SortKey.BENCHMARK, "benchmark": first.benchmark, "offset": 1000}
    )
    return {
        "overview: all runs": lambda: pages.runs(limit=200),
        "overview: progress": lambda: pages.progress(run.id),
        "overview: GPU-hours": lambda: pages.usage(run.id),
        "overview: pace": lambda: pages.pace(run.id),
        "overview: outcomes over time": lambda: pages.arrivals(run.id, run.created_at, 60),
        "overview: failures": lambda: pages.failures(run.id),
        "overview: failed attempts": lambda: pages.failed_work(run.id),
        "overview: what runs": lambda: pages.running_work(run.id),
        "overview: imported runs": lambda: pages.imports(limit=200),
        "leaderboard: columns": lambda: pages.columns(run.id),
        "leaderboard: a page": lambda: pages.leaderboard(board),
        "leaderboard: by mean": lambda: pages.leaderboard(board.model_copy(update={"sort": SortKey.MEAN})),
        "leaderboard: by a benchmark": lambda: pages.leaderboard(by_benchmark),
        "leaderboard: evaluated jobs": lambda: pages.scored_candidates(run.id),
        "leaderboard: kept comparisons": lambda: pages.kept_comparisons(run.id, base.position),
        "leaderboard: search": lambda: pages.leaderboard(board.model_copy(update={"search": "(20, "})),
        "compare: names": lambda: pages.search_candidates(run.id, "(20, ", 300),
        "compare: a candidate's scores": lambda: pages.candidate_scores(run.id, CANDIDATE),
        "map: all candidates": lambda: pages.candidates(run.id),
        "map: one measure": lambda: pages.column_scores(run.id, first),
        "map: what failed": lambda: pages.unscored(run.id, first),
        "claims: cards": lambda: pages.cards(limit=200),
        "jobs: a page": lambda: pages.job_list(run.id, limit=15),
        "jobs: those that wait": lambda: pages.job_list(run.id, state=JobState.WAITING, limit=15),
        "jobs: one": lambda: (pages.job_detail(some, run.id), pages.attempts(some), pages.outcomes([some])),
        "card: its numbers": lambda: result_of_candidate(pages, run.id, candidate, first.engine_key),
    }


def _report(name: str, took: list[float]) -> None:
    print(
        f"{name:58s} median {statistics.median(took):5.2f} s   worst {max(took):5.2f} s   n {len(took)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
