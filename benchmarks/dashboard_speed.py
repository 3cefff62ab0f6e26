"""How fast the dashboard is in a browser, on a large store: medians of ten.

    python benchmarks/make_store.py --home DIR
    python benchmarks/dashboard_speed.py --home DIR
    python benchmarks/dashboard_speed.py --home DIR --queries       only what the pages ask of the store, without a browser

First paint: a fresh browser context opens a view's link, until its first data is visible. Interaction: from the click or
the key until what it asks for is visible. Needs Chromium (`make browser`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from dashboard.queries import JobState, Pages
from orchestrator.records import LeaderboardQuery, SortKey

ROOT = Path(__file__).parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
REPEATS = 10
PORT = 8777
ADDRESS = f"http://127.0.0.1:{PORT}"
GRID = "[data-testid=stDataFrame] canvas"
FIRST = {
    "overview": ("", "[data-testid=stMetricValue]"),
    "leaderboard": ("leaderboard", GRID),
    "compare two": ("compare?cand=1500", GRID),
    "layer map": ("layers", GRID),
    "claims": ("claims", "[data-testid=stHeading]"),
    "jobs": ("job", GRID),
    "card": ("card?cand=1500", "[data-testid=stCode]"),
}


def main() -> None:
    """Start the dashboard on a store, drive it, print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder made by make_store.py")
    parser.add_argument("--queries", action="store_true", help="time the store's answers only")
    options = parser.parse_args()
    home = options.home
    if options.queries:
        _queries(home)
        return
    words = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(ROOT / "dashboard/app.py"),
        "--server.port",
        str(PORT),
    ]
    server = subprocess.Popen(
        words,
        env={**os.environ, "MERGEBOARD_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait()
        with sync_playwright() as playwright:
            flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            for name, (path, there) in FIRST.items():
                _report(f"first paint, {name}", [_first(browser, path, there) for _ in range(REPEATS)])
            for name, took in _interactions(browser).items():
                _report(f"interaction, {name}", took)
            browser.close()
    finally:
        server.terminate()


def _wait() -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{ADDRESS}/_stcore/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.25)
    sys.exit("The dashboard does not start; run `mergeboard dashboard` to see why.")


def _first(browser: Browser, path: str, there: str) -> float:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    start = time.perf_counter()
    page.goto(f"{ADDRESS}/{path}", wait_until="commit")
    page.locator(there).first.wait_for(state="visible", timeout=60_000)
    took = time.perf_counter() - start
    page.context.close()
    return took


def _interactions(browser: Browser) -> dict[str, list[float]]:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{ADDRESS}/leaderboard")
    page.locator(GRID).first.wait_for()
    took: dict[str, list[float]] = {}

    def timed(name: str, act: Callable[[], None], there: Callable[[], None]) -> None:
        start = time.perf_counter()
        act()
        there()
        took.setdefault(name, []).append(time.perf_counter() - start)

    for number in range(REPEATS):
        timed(
            "next page of the leaderboard",
            page.get_by_role("button", name="Next").click,
            _range(page, number + 1),
        )
    for number in range(REPEATS):
        text = f"({20 + number}, "
        box = page.get_by_label("Search", exact=True)
        box.fill(text)
        timed(
            "search in the leaderboard", lambda: page.keyboard.press("Enter"), _count(page, 80 - 20 - number)
        )
    box.fill("")
    page.keyboard.press("Enter")
    for _ in range(REPEATS):
        timed(
            "to the layer map", page.get_by_role("link", name="Layer map").click, _heading(page, "Layer map")
        )
        timed("to the jobs", page.get_by_role("link", name="Job", exact=True).click, _heading(page, "Job"))
        timed(
            "to the leaderboard",
            page.get_by_role("link", name="Leaderboard").click,
            _heading(page, "Leaderboard"),
        )
    page.context.close()
    return took


def _range(page: Page, number: int) -> Callable[[], None]:
    text = f"{number * 25 + 1:,} to"
    return page.get_by_text(text).first.wait_for


def _count(page: Page, count: int) -> Callable[[], None]:
    alone = page.get_by_text(f"{count:,} recipes", exact=True)
    return page.get_by_text(f"of {count:,} recipes").or_(alone).first.wait_for


def _heading(page: Page, text: str) -> Callable[[], None]:
    def there() -> None:
        page.get_by_role("heading", name=text, exact=True).wait_for()
        page.locator(GRID).first.wait_for()

    return there


def _queries(home: Path) -> None:
    """Every question that a page asks, about the newest run of the store."""
    with Pages.open(f"sqlite:///{home / 'store.sqlite'}", create=False, read_only=True) as pages:
        run = pages.runs(limit=1)[0]
        columns = pages.columns(run.id)
        first = columns[0]
        board = LeaderboardQuery(
            run_id=run.id, suite=first.suite, engine_digest=first.engine_digest, limit=25, descending=True
        )
        by_benchmark = board.model_copy(
            update={"sort": SortKey.BENCHMARK, "benchmark": first.benchmark, "offset": 1000}
        )
        asked: dict[str, Callable[[], object]] = {
            "runs": lambda: pages.runs(limit=200),
            "progress": lambda: pages.progress(run.id),
            "cost": lambda: pages.cost(run.id),
            "arrivals": lambda: pages.arrivals(run.id, run.created_at, 60),
            "failures": lambda: pages.failures(run.id),
            "failed attempts": lambda: pages.failed_work(run.id),
            "what runs": lambda: pages.running_work(run.id),
            "columns": lambda: pages.columns(run.id),
            "all candidates": lambda: pages.candidates(run.id),
            "search": lambda: pages.search_candidates(run.id, "(20, ", 300),
            "leaderboard": lambda: pages.leaderboard(board),
            "leaderboard by mean": lambda: pages.leaderboard(board.model_copy(update={"sort": SortKey.MEAN})),
            "leaderboard by benchmark": lambda: pages.leaderboard(by_benchmark),
            "a candidate's scores": lambda: pages.candidate_scores(run.id, 1500),
            "a column of the map": lambda: pages.column_scores(run.id, first),
            "jobs": lambda: pages.job_list(run.id, limit=15),
            "jobs that wait": lambda: pages.job_list(run.id, state=JobState.WAITING, limit=15),
            "a card's numbers": lambda: pages.result_of(run.id, 1500, columns),
        }
        for name, ask in asked.items():
            _report(f"question, {name}", [_seconds(ask) for _ in range(REPEATS)])


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _report(name: str, took: list[float]) -> None:
    print(
        f"{name:36s} median {statistics.median(took):6.3f} s   worst {max(took):6.3f} s   n {len(took)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
