"""One evaluation on several engines: nothing is asked twice, and who leads needs nobody."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.engine import EngineKind, EngineSpec, EngineTuning, PathEngine
from evals.engines import installed_version, open_engine
from evals.harness import Progress, adapter, evaluate, help_out
from evals.samples import read_samples
from evals.scores import ChatTemplate, Evaluation
from evals.sharing import STRETCH, StretchLocks
from evals.suite import load_suite
from tests.support.engines_before import Slow, answers_by_writer

SMOKE = load_suite("smoke")
SETTINGS = SMOKE.eval_settings(ChatTemplate.OFF)


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Iterator[PathEngine]:
    torch.set_num_threads(1)  # a child of a process with threads at work would wait for them for ever
    version = installed_version(EngineKind.TRANSFORMERS)
    spec = EngineSpec(kind=EngineKind.TRANSFORMERS, version=version, dtype="float32", max_length=1024)
    opened = open_engine(spec, tiny_llama, EngineTuning(batch_size=4, threads=1))
    yield opened
    opened.close()


def lead(engine: PathEngine, name: str, folder: Path, **more: Any) -> Evaluation:
    return evaluate(
        engine,
        SMOKE,
        SMOKE.benchmark(name),
        SETTINGS,
        mirror=None,
        journal_dir=folder / "journal",
        samples_path=folder / "samples.parquet",
        **more,
    )


def start_helper(engine: PathEngine, name: str, folder: Path) -> int:
    """A helper in a process of its own, as soon as somebody leads; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        while not (folder / "journal" / "claims").is_dir():
            time.sleep(0.01)
        more = help_out(
            Slow(engine),
            SMOKE.benchmark(name),
            SETTINGS,
            mirror=None,
            journal_dir=folder / "journal",
            seconds=600,
        )
        code = 3 if more else 0
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def same(one: Evaluation, other: Evaluation) -> bool:
    changes = {"n_replayed": 0, "duration_s": 0.0}
    return one.model_copy(update=changes) == other.model_copy(update=changes)


@pytest.mark.parametrize("name", ["bbh", "math"])
def test_a_helper_takes_its_share_and_the_result_is_the_same(
    engine: PathEngine, tmp_path: Path, name: str
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    expected = lead(engine, name, alone)
    child = start_helper(engine, name, shared)
    seen: list[Progress] = []
    found = lead(Slow(engine), name, shared, on_progress=seen.append)
    assert exit_code(child) == 0
    assert same(found, expected)
    both = [read_samples(folder / "samples.parquet") for folder in (shared, alone)]
    for mine, theirs in zip(*both, strict=True):
        # What was computed before a request shifts its last digits.
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        assert mine.model_copy(update={"logprobs": theirs.logprobs}) == theirs
    writers = answers_by_writer(shared / "journal")
    counts = Counter(digest for writer in writers for digest in writer)
    assert len(writers) == 2
    assert min(map(len, writers)) >= STRETCH
    assert set(counts.values()) == {1}, "what one has claimed the other leaves alone"
    assert 0 < found.n_replayed < found.n_requests
    assert (seen[-1].n_done, seen[-1].share_done) == (seen[-1].n_total, 1.0)


def test_what_a_helper_took_to_its_grave_is_asked_again(
    engine: PathEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "PATIENCE_S", 0.5)
    expected = lead(engine, "bbh", tmp_path / "alone")
    folder = tmp_path / "shared"
    child = start_helper(engine, "bbh", folder)

    def kill_helper() -> None:
        claims = list((folder / "journal" / "claims").iterdir())
        if len(claims) > 1 and len(list((folder / "journal").glob("*.journal"))) == 2:
            os.kill(child, signal.SIGKILL)

    found = lead(Slow(engine, kill_helper), "bbh", folder)
    assert exit_code(child) == -signal.SIGKILL
    assert same(found, expected)
    mine, theirs = sorted(map(len, answers_by_writer(folder / "journal")), reverse=True)
    assert theirs % STRETCH != 0, "it died in the middle of a stretch"
    assert mine + theirs == len(*answers_by_writer(tmp_path / "alone" / "journal"))


def test_claims_of_an_attempt_that_died_keep_nothing_from_the_next(
    engine: PathEngine, tmp_path: Path
) -> None:
    dead = StretchLocks(tmp_path / "journal")
    dead.clear()
    assert all(dead.take(str(number)) for number in range(100))
    begun = time.monotonic()
    found = lead(engine, "ifeval", tmp_path)
    assert found.n_replayed == 0
    assert time.monotonic() - begun < adapter.PATIENCE_S + 60


def test_a_stretch_has_one_owner(tmp_path: Path) -> None:
    one, other = StretchLocks(tmp_path), StretchLocks(tmp_path)
    assert not one.take("0"), "nobody leads yet"
    one = StretchLocks(tmp_path)
    one.clear()
    assert [one.take("1"), other.take("1"), one.take("1"), other.take("2"), one.take("2")] == [
        True,
        False,
        True,
        True,
        False,
    ]
    late = StretchLocks(tmp_path, until=lambda: True)
    assert not late.take("3")
    assert one.take("3")


def test_help_where_nobody_leads_is_asked_for_again(engine: PathEngine, tmp_path: Path) -> None:
    assert help_out(
        engine, SMOKE.benchmark("bbh"), SETTINGS, mirror=None, journal_dir=tmp_path / "journal", seconds=1
    )
    assert not (tmp_path / "journal").exists()


def test_a_helper_whose_time_is_over_says_so(engine: PathEngine, tmp_path: Path) -> None:
    StretchLocks(tmp_path / "journal").clear()
    assert help_out(
        engine, SMOKE.benchmark("bbh"), SETTINGS, mirror=None, journal_dir=tmp_path / "journal", seconds=0
    )
    assert answers_by_writer(tmp_path / "journal") == []
