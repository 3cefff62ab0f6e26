"""Requests that an engine with a large batch takes at once, and what it leaves to engines that help it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.engine import GenerateRequest, GenerateResult, RequestFilter, accept_all
from evals.harness.adapter import EngineLM, Helped
from evals.harness.progress import ProgressTracker
from evals.journal import Journal
from evals.sharing import STRETCH, StretchLocks
from evals.vllm.environment import answer_for_cpu_build
from evals.vllm.generation import generations
from evals.vllm.path_generation import Text
from evals.vllm.queue import RequestQueue
from tests.support.engines_before import answers_by_writer

pytestmark = pytest.mark.vllm

BATCH = 256
IFEVAL = [GenerateRequest(prompt=(1,) * (600 - number), max_new_tokens=64) for number in range(541)]
"""As many prompts as IFEval has."""


class ScriptedScheduler:
    """vLLM's scheduler as the queue sees it: up to a batch runs, and a few of those end in each step."""

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.vllm_config = SimpleNamespace(use_v2_model_runner=False)
        self.output_processor = SimpleNamespace(request_states={})
        self._running: list[str] = []
        self._after_step = after_step
        self.most_running = 0

    def add_request(self, name: str, prompt: object, params: object) -> str:
        self._running.append(name)
        self.output_processor.request_states[name] = SimpleNamespace()
        return name

    def step(self) -> list[Any]:
        self.most_running = max(self.most_running, min(BATCH, len(self._running)))
        ended, self._running = self._running[:8], self._running[8:]
        self._after_step()
        answer = SimpleNamespace(token_ids=(1,), finish_reason="stop")
        return [SimpleNamespace(finished=True, request_id=name, outputs=[answer]) for name in ended]

    def has_unfinished_requests(self) -> bool:
        return bool(self._running)

    def abort_request(self, names: list[str]) -> None:
        self._running.clear()


class Spelled:
    """A tokenizer with one word."""

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        return "yes" * len(tokens)


class ScriptedEngine:
    """Our queue and generation around the scripted scheduler."""

    def __init__(self, after_step: Callable[[], None] = lambda: time.sleep(0.002)) -> None:
        self.scheduler = ScriptedScheduler(after_step)
        self._queue = RequestQueue(SimpleNamespace(llm_engine=self.scheduler), BATCH)  # type: ignore[arg-type]

    def generate(
        self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        return generations(self._queue, requests, 2048, Text(Spelled(), frozenset(), ""), accepts)


def answer_all(engine: ScriptedEngine, folder: Path, *, leads: bool) -> list[Any]:
    """All of IFEval's requests with the real claims and the real journal."""
    answer_for_cpu_build()
    claims = StretchLocks(folder)
    with Journal(folder, "job") as journal:
        if leads:
            claims.clear()
        tokenization: Any = SimpleNamespace(tokenizer=None)
        tracker = ProgressTracker("ifeval", None)
        lm = EngineLM(engine, tokenization, journal, tracker, claims, leads=leads)  # type: ignore[arg-type]
        return lm._answers(IFEVAL)


def test_a_leader_with_a_batch_of_256_leaves_requests_to_a_helper(tmp_path: Path) -> None:
    helps = threading.Event()
    left: list[Helped] = []
    claimed_before: list[int] = []

    def helper_steps() -> None:
        helps.set()
        time.sleep(0.002)

    def help_it() -> None:
        try:
            answer_all(ScriptedEngine(helper_steps), tmp_path, leads=False)
        except Helped as nothing_left:
            left.append(nothing_left)

    helper = threading.Thread(target=help_it)

    def leader_steps() -> None:
        if not claimed_before:
            claimed_before.append(len(list((tmp_path / "claims").iterdir())))
            helper.start()
            assert helps.wait(60), "the helper has begun"
        time.sleep(0.002)

    leader = ScriptedEngine(leader_steps)
    answers = answer_all(leader, tmp_path, leads=True)
    helper.join(60)
    assert left
    assert len(answers) == len(IFEVAL)
    assert leader.scheduler.most_running == BATCH, "its batch is full"
    assert claimed_before[0] * STRETCH <= BATCH + 2 * STRETCH
    counts = sorted(map(len, answers_by_writer(tmp_path)))
    assert sum(counts) == len(IFEVAL), "nothing is answered twice"
    assert counts[0] >= 100


def test_helpers_take_half_of_what_is_left_each_time(tmp_path: Path) -> None:
    leader = StretchLocks(tmp_path)
    leader.clear()
    stretches = [str(number) for number in range(34)]
    assert sum(map(leader.take, stretches[:14])) == 14
    first, second = StretchLocks(tmp_path), StretchLocks(tmp_path)
    assert first.limit(stretches)
    assert sum(map(first.take, stretches)) == 10
    assert second.limit(stretches)
    assert sum(map(second.take, stretches)) == 5
    assert sum(map(leader.take, stretches)) == 14 + 5, "who leads takes whatever is left"
    assert not first.limit(stretches)
    late = StretchLocks(tmp_path, until=lambda: True)
    assert not late.limit(["99"])
