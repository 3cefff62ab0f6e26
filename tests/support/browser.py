"""A dashboard that is served, and a real browser that looks at it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Locator, Page, expect

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "test-output" / "screenshots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PATIENCE_MS = 60_000
PAGES = ("", "leaderboard", "compare", "recipe", "layers", "claims", "job", "card")
GRID = "[data-testid=stDataFrame] canvas"
CELLS = "[data-testid=stDataFrame] [data-testid^=glide-cell]"
BOARD = "table.board"
PLOT = ".js-plotly-plot .main-svg"
Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Served:
    """A dashboard on a store."""

    address: str
    run: str
    home: Path
    log: Path
    pid: int

    def no_error(self) -> None:
        """Fail where the server has logged one."""
        text = self.log.read_text()
        assert "Traceback" not in text, text[-4000:]


@contextmanager
def serving(home: Path, run: str) -> Iterator[Served]:
    """Serve a store's dashboard on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home / "server.log"
    words = [sys.executable, "-P", "-m", "dashboard", "--server.port", str(port)]
    environment = {**os.environ, "MERGEBOARD_HOME": str(home)}
    environment.pop("MERGEBOARD_DATABASE_URL", None)
    with log.open("wb") as out:
        server = subprocess.Popen(words, stdout=out, stderr=out, env=environment)
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health", server)
            yield Served(f"http://127.0.0.1:{port}", run, home, log, server.pid)
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def stuttering(served: Served, seed: int) -> Iterator[None]:
    """A server that stands still again and again, up to two and a half seconds, as on a machine that has too much to do."""
    over = threading.Event()
    dice = random.Random(seed)

    def stutter() -> None:
        while not over.wait(dice.uniform(0.05, 1.2)):
            os.kill(served.pid, signal.SIGSTOP)
            over.wait(dice.uniform(0.1, 2.5))
            os.kill(served.pid, signal.SIGCONT)

    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(480):
        assert server.poll() is None, "the dashboard's server has ended"
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"nothing answers at {address}")


def opened(browser: Browser, address: str, scheme: Scheme = "light") -> Page:
    """A page in a window of its own, settled."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page.goto(address)
    settled(page)
    return page


def settled(page: Page) -> None:
    """Wait until a page has been drawn: nothing runs, nothing is still being loaded."""
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    quiet = page.locator("[data-testid=stApp][data-test-script-state=notRunning]")
    for _ in range(2):
        expect(quiet).to_have_count(1)
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
        expect(page.get_by_text("Drawing …")).to_have_count(0)
        page.wait_for_timeout(150)
    assert page.get_by_test_id("stException").count() == 0


def picture(page: Page, name: str) -> Path:
    """A screenshot among the test's output."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    page.screenshot(path=path, timeout=PATIENCE_MS)
    return path


def board_click(page: Page, name: str, benchmark: str) -> None:
    """Click a number of the leaderboard: that of a recipe in a benchmark, by its title."""
    cell = page.locator(f"{BOARD} tbody tr", has=page.get_by_role("rowheader", name=name, exact=True))
    cell.first.locator(f"td[title^='{benchmark} '] a").click()


def board_rows(page: Page) -> list[str]:
    """Names of the leaderboard's rows, top to bottom."""
    names = page.locator(f"{BOARD} > tbody > tr > th.name")
    return [text.lstrip("◆📌 ") for text in names.all_inner_texts()]


def tick(page: Page, table: Locator, row: int) -> None:
    """Tick a row at its left."""
    box = table.locator("canvas").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 15, box["y"] + 31 * (row + 1.5))
