"""How fast the dashboard is in a browser, on a large store: medians.

    python benchmarks/make_store.py --home DIR                              a million scores
    python benchmarks/dashboard_speed.py --home DIR                         all of the below
    python benchmarks/dashboard_speed.py --home DIR --before CHECKOUT       and the same of another version, in turn
    python benchmarks/make_store.py --home TEN --runs 80                    ten times as many
    python benchmarks/dashboard_speed.py --home DIR --queries --against TEN what the pages ask of both stores, without a browser

First paint: a fresh browser profile opens a view's link, until its first data is visible; where a view has a chart, until
that is drawn as well, as a figure of its own. An empty Streamlit page, measured in the same rounds, is the floor of all
first paints. Interaction: from the click or the key until what it asks for is visible.

Beside each figure: seconds of CPU that the server and the browser needed, and the share of the machine that other
processes took meanwhile; on a busy machine seconds of CPU tell more than seconds of the clock. Needs Chromium (`make browser`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.dashboard_clicks import (
    BOARD,
    CODE,
    JOBS,
    PLOT,
    RANKING,
    READER,
    SENTENCE,
    SIZE,
    Clicks,
    seen_in,
)
from benchmarks.dashboard_queries import time_queries
from orchestrator.store.pages import Pages

T = TypeVar("T")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PORT = 8777
VERDICT = ".st-key-run_verdict"
CANDIDATE = 1500
HERE = Path(__file__).parents[1]
FIRST = {
    "overview": ("", (".st-key-run_state",)),
    "leaderboard": ("leaderboard", (BOARD,)),
    "compare two": (f"compare?cand={CANDIDATE}", (SENTENCE, READER)),
    "recipe": (f"recipe?cand={CANDIDATE}", (SENTENCE, CODE)),
    "layer map": ("layers", (RANKING, PLOT)),
    "claims": ("claims", (CODE,)),
    "jobs": ("job", (JOBS,)),
    "card": (f"card?cand={CANDIDATE}", (CODE,)),
}
"""Each view's address, what its first data are, and what comes after them."""
EMPTY = ("", ("[data-testid=stMarkdown]",))


@dataclass
class Figure:
    """What was measured of one thing."""

    wall_s: list[float] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)
    """CPU of the server."""
    browser_s: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    """Share of the machine's CPU that other processes took."""


@dataclass
class Served:
    """A server of Streamlit."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The URL of its first page."""
        return f"http://127.0.0.1:{self.port}"

    def figure(self, name: str) -> Figure:
        """The figure of this name."""
        return self.figures.setdefault(name, Figure())

    @contextmanager
    def cpu_of(self, figure: Figure) -> Iterator[None]:
        """Add the CPU that server, browser and others need meanwhile to a figure."""
        before, busy, start = _cpu_s(self.process.pid), _machine_cpu_s(), time.perf_counter()
        yield
        wall_s = time.perf_counter() - start
        server_s, browser_s, own_s = (b - a for a, b in zip(before, _cpu_s(self.process.pid), strict=True))
        figure.server_s.append(server_s)
        figure.browser_s.append(browser_s)
        others_s = _machine_cpu_s() - busy - own_s
        figure.others.append(max(0.0, others_s / wall_s / (os.cpu_count() or 1)))


def main() -> None:
    """Start the dashboard on a store, drive it, print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder made by make_store.py")
    parser.add_argument("--rounds", type=int, default=10, help="how often everything is done")
    parser.add_argument("--before", type=Path, help="checkout of another version, measured in turn")
    parser.add_argument("--only", help="names of first paints, separated by commas; or `interactions`")
    parser.add_argument("--queries", action="store_true", help="time the store's answers only")
    parser.add_argument("--against", type=Path, help="with --queries: another such folder, asked in turn")
    options = parser.parse_args()
    if options.queries:
        homes = [options.home, *([options.against] if options.against else [])]
        time_queries(homes, options.rounds, CANDIDATE)
        return
    run = _whole_run(options.home)
    with sync_playwright() as playwright, ExitStack() as stack:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        empty = stack.enter_context(_served("empty page", PORT, _empty_words(stack), HERE, options.home))
        boards = {"now": HERE} | ({"before": options.before.resolve()} if options.before else {})
        served = [
            stack.enter_context(_served(name, PORT + n, ["-m", "dashboard"], checkout, options.home))
            for n, (name, checkout) in enumerate(boards.items(), start=1)
        ]
        if options.only != "interactions":
            _first_paints(browser, empty, served, run, options)
        if options.only in (None, "interactions"):
            _interactions(browser, served, run, options.rounds)
        browser.close()


def _first_paints(
    browser: Browser, empty: Served, served: list[Served], run: str, options: argparse.Namespace
) -> None:
    """Every view in turn, the versions in turn; the first answer of each view after the start is apart."""
    only = options.only.split(",") if options.only else None
    views = {name: view for name, view in FIRST.items() if only is None or name in only}
    for board in served:
        _paint(browser, board, "first page after the start", FIRST["leaderboard"])
    for number in range(options.rounds + 1):
        apart = " (first time)" if number == 0 else ""
        _paint(browser, empty, f"empty page{apart}", EMPTY)
        for name, view in views.items():
            for board in served:
                _paint(browser, board, f"{name}{apart}", view)
        for board in served if only is None or "verdict" in only else ():
            _verdict(browser, board, f"verdict of 3,241 paths{apart}", run)
    for board in (empty, *served):
        for name, figure in board.figures.items():
            _report(f"{board.name}: {name}", figure)


def _paint(browser: Browser, board: Served, name: str, view: tuple[str, tuple[str, ...]]) -> None:
    """Open a view in a browser that knows nothing of the page, until each of its parts is visible."""
    path, parts = view

    def show(page: Page) -> list[float]:
        start, took = time.perf_counter(), []
        page.goto(f"{board.address}/{path}", wait_until="commit")
        for part in parts:
            seen_in(page, part)
            took.append(time.perf_counter() - start)
        return took

    took = _in_new_window(browser, board, board.figure(name), show)
    board.figure(name).wall_s.append(took[0])
    for later in took[1:]:
        board.figure(f"{name}, all of it").wall_s.append(later)


def _verdict(browser: Browser, board: Served, name: str, run: str) -> None:
    """From opening the leaderboard of the whole run until its verdict is visible."""

    def show(page: Page) -> float:
        start = time.perf_counter()
        page.goto(f"{board.address}/leaderboard?run={run}", wait_until="commit")
        seen_in(page, VERDICT, "Single benchmarks")
        return time.perf_counter() - start

    figure = board.figure(name)
    figure.wall_s.append(_in_new_window(browser, board, figure, show))


def _in_new_window(browser: Browser, board: Served, figure: Figure, show: Callable[[Page], T]) -> T:
    page = browser.new_context(viewport=SIZE).new_page()
    try:
        with board.cpu_of(figure):
            return show(page)
    finally:
        page.context.close()
        time.sleep(0.3)  # the server ends the session


def _interactions(browser: Browser, served: list[Served], run: str, rounds: int) -> None:
    """The same clicks on every version, in turn."""
    clicks = {board.name: Clicks(browser, board.address, run, CANDIDATE) for board in served}
    try:
        for _ in range(rounds):
            for board in served:
                clicks[board.name].round()
    finally:
        for board in served:
            for name, took in clicks[board.name].took.items():
                _report(f"{board.name}: interaction, {name}", Figure(wall_s=took))


def _whole_run(home: Path) -> str:
    """The run whose comparisons the store keeps."""
    store = Pages.open(f"sqlite:///{home / 'store.sqlite'}", create=False, read_only=True)
    assert isinstance(store, Pages)
    run = next(run.id for run in store.runs(limit=200) if store.kept_keys(run.id, 0))
    store.close()
    return run


def _empty_words(stack: ExitStack) -> list[str]:
    """The words that serve a page with one line."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    script = folder / "empty.py"
    script.write_text('import streamlit as st\n\nst.markdown("One line")\n')
    options = ("--server.headless=true", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false")
    return ["-m", "streamlit", "run", str(script), *options]


@contextmanager
def _served(name: str, port: int, words: list[str], checkout: Path, home: Path) -> Iterator[Served]:
    environment = {**os.environ, "MERGEBOARD_HOME": str(home), "PYTHONPATH": str(checkout)}
    environment.pop("MERGEBOARD_DATABASE_URL", None)
    command = [sys.executable, "-P", *words, "--server.port", str(port)]
    server = subprocess.Popen(
        command, env=environment, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    board = Served(name, port, server)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{board.address}/_stcore/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.25)
        else:
            sys.exit(
                f"The server of {name} does not start; run `mergeboard dashboard` in {checkout} to see why."
            )
        yield board
    finally:
        server.terminate()
        server.wait(20)


def _cpu_s(server: int) -> tuple[float, float, float]:
    """CPU seconds of a server, of the browser, and of all that this process started."""
    totals = {"server": 0.0, "browser": 0.0, "all": 0.0}
    this_process = psutil.Process()
    for process in (this_process, *this_process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds = times.user + times.system
            totals["all"] += seconds
            totals["server"] += seconds if process.pid == server else 0.0
            totals["browser"] += seconds if "chrom" in process.name() else 0.0
    return totals["server"], totals["browser"], totals["all"]


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _report(name: str, figure: Figure) -> None:
    cpu = ""
    if figure.server_s:
        server, browser = statistics.median(figure.server_s), statistics.median(figure.browser_s)
        others = 100 * statistics.median(figure.others)
        cpu = f"   CPU server {server:4.2f} browser {browser:4.2f} s, others {others:3.0f} %"
    wall_s = figure.wall_s
    print(
        f"{name:52s} median {statistics.median(wall_s):5.2f} s   worst {max(wall_s):5.2f} s   n {len(wall_s)}{cpu}",
        flush=True,
    )


if __name__ == "__main__":
    main()
