"""The procedures by which MATH was scored: what each accepts, and that the board's parser is the one here."""

from __future__ import annotations

import importlib.metadata
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks.leaderboard.math.utils import process_results

from evals.datasets import check
from evals.errors import EvaluationError
from evals.harness.tasks import load_tasks
from evals.scores import ChatTemplate, EvalSettings
from evals.suite import load_suite

MATH = load_suite("leaderboard-v2").benchmark("math")
MIRROR = os.environ.get("MERGEBOARD_DATASETS")


@pytest.fixture(autouse=True, scope="module")
def parsers() -> None:
    """The parsers as an evaluation finds them."""
    smoke = load_suite("smoke").benchmark("math")
    load_tasks(smoke, EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False), None)


def scored(response: str, answer: str = "\\frac{1}{2}") -> tuple[int, int]:
    """Right or wrong at stage B and at stage C."""
    doc = {"problem": "?", "solution": f"It is $\\boxed{{{answer}}}$.", "answer": answer}
    found: dict[str, Any] = process_results(doc, [response])
    return found[MATH.stage("B").metric or ""], found[MATH.stage("C").metric or ""]


@pytest.mark.parametrize(
    ("response", "b", "c"),
    [
        ("Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.", 1, 1),
        ("Final Answer: The final answer is $0.5$. I hope it is correct.", 1, 1),
        ("So we get $\\boxed{\\frac{1}{2}}$.", 0, 1),
        ("The answer is 1/2.", 0, 1),
        ("Final Answer: The final answer is $\\frac{1}{3}$. I hope it is correct.", 0, 0),
        ("", 0, 0),
    ],
)
def test_stage_b_wants_its_phrase_and_stage_c_reads_the_answer(response: str, b: int, c: int) -> None:
    assert scored(response) == (b, c)


def test_the_parser_is_the_boards() -> None:
    assert importlib.metadata.version("math-verify") == "0.5.2"


def test_nothing_is_printed_for_each_answer(capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    scored("So we get $\\boxed{\\frac{1}{2}}$.")
    assert capfd.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not MIRROR, reason="MERGEBOARD_DATASETS names no mirror of the benchmark data")
def test_every_gold_answer_is_accepted() -> None:
    mirror = Path(MIRROR or "")
    assert check(MATH, mirror).location is not None
    tasks = load_tasks(MATH, EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False), mirror)
    docs = [doc for task in tasks.values() for doc in task.eval_docs]
    assert len(docs) == 1324
    assert sum(process_results(doc, [doc["solution"]])["exact_match"] for doc in docs) == 1324


def test_a_thread_cannot_judge_math() -> None:
    smoke = load_suite("smoke").benchmark("math")
    settings = EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False)
    with ThreadPoolExecutor(1) as pool, pytest.raises(EvaluationError, match="main thread"):
        pool.submit(load_tasks, smoke, settings, None).result()
