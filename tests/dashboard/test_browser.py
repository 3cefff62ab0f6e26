"""The dashboard in a real browser: every page in light and dark, and the clicks that lead to a question that flipped.

The pictures are kept in test-output/screenshots. Skipped where there is no Chromium (`make browser` installs it).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.dashboard.stores import demo_store

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "test-output" / "screenshots"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PAGES = ("", "leaderboard", "compare", "layers", "claims", "job", "card")
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason="no Chromium here: `make browser` installs it"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """The dashboard on a demo store: its address, the run, the server's log."""
    home = tmp_path_factory.mktemp("home")
    run = demo_store(home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home / "server.log"
    words = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(ROOT / "dashboard/app.py"),
        "--server.port",
        str(port),
    ]
    with log.open("wb") as out:
        server = subprocess.Popen(
            words, stdout=out, stderr=out, env={**os.environ, "MERGEBOARD_HOME": str(home)}
        )
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health")
            yield f"http://127.0.0.1:{port}", run, log
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


def _wait(address: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"nothing answers at {address}")


def _open(browser: Browser, address: str, scheme: str) -> Page:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1440, "height": 1000})  # type: ignore[arg-type] # "light" or "dark"
    page = context.new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page.goto(address)
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    return page


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_drawn(served: tuple[str, str, Path], browser: Browser, scheme: str) -> None:
    address, run, log = served
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        page = _open(browser, f"{address}/{name}?run={run}", scheme)
        if name in ("compare", "layers"):
            expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
        elif name in ("leaderboard", "job"):
            expect(page.locator("canvas").first).to_be_visible()
        page.wait_for_timeout(1500)
        page.screenshot(path=SHOTS / f"{name or 'overview'}-{scheme}.png", timeout=60_000)
        assert page.get_by_test_id("stException").count() == 0
        page.context.close()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_three_clicks_lead_to_a_question_that_flipped(
    served: tuple[str, str, Path], browser: Browser
) -> None:
    address, run, _ = served
    page = _open(browser, f"{address}/?run={run}", "light")
    page.get_by_role("link", name="Leaderboard").click()
    frame = page.locator("[data-testid=stDataFrame]").first
    expect(frame.locator("[data-testid^=glide-cell]", has_text="▼").first).to_be_attached()
    box = frame.locator("canvas").first.bounding_box()
    assert box is not None
    # The grid is drawn on a canvas: the fifth row (the whole stack twice), the second wide column (IFEval).
    page.mouse.click(box["x"] + 153 + 188 + 90, box["y"] + 35 * 5.5)
    page.wait_for_url("**/compare?**")
    expect(page.get_by_role("heading", name="Compare two")).to_be_visible()
    expect(page.locator(".st-key-side_by_side")).to_contain_text("lost")
    page.locator(".st-key-side_by_side").scroll_into_view_if_needed()
    page.screenshot(path=SHOTS / "flipped.png", timeout=60_000)
