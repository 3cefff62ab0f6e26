"""What stands between the browser and the pages: Streamlit's files from memory, and comparisons in a process of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from dashboard.comparing_process import ComparingProcess
from dashboard.server import FilesInMemory
from evals.suite import load_suite
from orchestrator.compare import Comparison
from orchestrator.compare.family import pairs_of_run
from orchestrator.compare.kept import PairReader
from orchestrator.compare.run_comparisons import SideReader
from orchestrator.errors import MergeboardError
from orchestrator.store import Store
from tests.support.demo_stores import Maker
from tests.support.made_results import Made


def asked(
    files: Path, path: str, method: str = "GET", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> tuple[dict[bytes, bytes], bytes]:
    """Headers and body of an answer; the body `passed on` if another application answers."""
    sent: list[Message] = []

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"passed on"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(FilesInMemory(other, files)(scope, receive, send))
    return dict(sent[0]["headers"]), sent[1]["body"]


def test_files_are_answered_from_memory_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "static" / "js").mkdir(parents=True)
    (tmp_path / "static" / "js" / "index.1a2b.js").write_text("let a;")
    (tmp_path / "index.html").write_text("<p>")
    headers, body = asked(tmp_path, "/static/js/index.1a2b.js")
    assert body == b"let a;"
    assert b"javascript" in headers[b"content-type"]
    assert headers[b"content-length"] == b"6"
    assert b"immutable" in headers[b"cache-control"]
    for path in ("/", "/index.html", "/static/js", "/static/js/../../index.html", "/static/other.js", "/etc"):
        assert asked(tmp_path, path)[1] == b"passed on", path
    assert asked(tmp_path, "/static/js/index.1a2b.js", "HEAD")[1] == b"passed on"
    part = ((b"range", b"bytes=0-1"),)
    assert asked(tmp_path, "/static/js/index.1a2b.js", headers=part)[1] == b"passed on"


def test_the_process_compares_as_the_pages_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    suite = load_suite("smoke")
    short = suite.model_copy(update={"benchmarks": suite.benchmarks[:1]})
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        run = Maker(store, tmp_path, short, n=6, whole=False).run((Made("base"), Made("good", built=True)))
        (pair,) = pairs_of_run(store.scored_candidates(run), 0)
        here, _ = PairReader(store, SideReader(tmp_path, kept=4)).compare(run, pair)
    process = ComparingProcess()
    spec, unread = process.compare(run, pair)
    assert Comparison.model_validate_json(spec) == here
    assert not unread
    with pytest.raises(MergeboardError):
        process.compare("no such run", pair)
    assert process.compare(run, pair)[0] == spec, "what fails ends one comparison, not the process"
    child = process._process
    assert child is not None
    child.kill()
    child.wait()
    assert process.compare(run, pair)[0] == spec, "it is started again"
    process.close()
