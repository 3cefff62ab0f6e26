"""What all tests share: a home of their own, tiny real checkpoints, and the embedded language model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.demo import BASE, NOISE, ensure_demo_checkpoint
from tests.support.tiny_checkpoints import tiny_checkpoint

# Nothing in a test may reach for the hub by accident; tests that want a hub start one and say so.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DEMO_HOME = (
    Path(os.environ.get("MERGEBOARD_TEST_CACHE", Path(__file__).parent.parent / "test-output")) / "home"
)
"""Where the embedded checkpoint is converted to once and kept between test runs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files for `--dist loadfile`: the few slow tests in Triton's interpreter first, then the longest files."""
    count = Counter(item.path for item in items)
    order = {path: position for position, path in enumerate(count)}
    items.sort(
        key=lambda item: (
            item.get_closest_marker("gpu_runner") is None,
            -count[item.path],
            order[item.path],
        )
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, one at a time: playwright's synchronous interface allows no second one in a process."""
    from playwright.sync_api import sync_playwright

    from tests.support.browser import CHROMIUM, FLAGS

    if CHROMIUM is None:
        pytest.skip("no Chromium here: `make browser` installs it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty MERGEBOARD_HOME."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("MERGEBOARD_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama checkpoint of four layers with untied embeddings; read only."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny-llama")


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """SmolLM2-135M-Instruct as an ordinary directory; read only."""
    return ensure_demo_checkpoint(DEMO_HOME, BASE)


@pytest.fixture(scope="session")
def demo_noise_checkpoint() -> Path:
    """Its noisy sibling; read only."""
    return ensure_demo_checkpoint(DEMO_HOME, NOISE)
