"""A sweep whose candidates race: two tasks of a user, and an engine whose layer paths answer them as well as the test wants."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.engine import (
    EngineSpec,
    EngineTuning,
    GenerateRequest,
    GenerateResult,
    RequestFilter,
    ScoreRequest,
    ScoreResult,
    accept_all,
)
from evals.layer_visits import VisitPath
from orchestrator.worker import worker
from tests.support.rule_engine import RuleEngine, number_of

Skill = Callable[[VisitPath], float]
"""Share of the questions that a path answers rightly, about; the unmodified checkpoint is ()."""

N = 60
"""Questions of each task."""
GOOD = {(0, 1, 1, 2, 3), (0, 1, 2, 2, 3)}

FILES = {
    "scored.yaml": """
task: race_scored
dataset_path: json
dataset_kwargs: {data_files: {test: data/questions.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_choice: ["yes", "no"]
doc_to_target: a
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "first.yaml": "task: race_first\ninclude: scored.yaml\n",
    "second.yaml": "task: race_second\ninclude: scored.yaml\ndataset_kwargs: {data_files: {test: data/few.jsonl}}\n",
    "group.yaml": """
group: race_group
task: [race_first, race_second]
aggregate_metric_list:
  - {metric: acc, weight_by_size: false}
""",
    "written.yaml": """
task: race_written
dataset_path: json
dataset_kwargs: {data_files: {test: data/questions.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{q}}"
doc_to_target: a
generation_kwargs: {until: ["."], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
}

SWEEP = """\
name: candidates
base: {base}
recipes: [{{grid: all}}]
suites: [{{include: {tasks}, tasks: [race_group, race_written]}}]
engines: [{{kind: transformers, dtype: float32}}]
decide: {{race: {{keep: 2, shares: [0.2, 0.5], error_rate: 0.1}}}}
"""


def write_tasks(folder: Path) -> Path:
    """The task files and their data below a folder."""
    (folder / "data").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip("\n"))
    rows = [{"q": f"Question {n}. Say {('yes', 'no')[n % 2]}: ", "a": ("yes", "no")[n % 2]} for n in range(N)]
    _write(folder / "data/questions.jsonl", rows)
    _write(folder / "data/few.jsonl", [{**row, "q": f"Well. {row['q']}"} for row in rows[: N // 3]])
    return folder


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def skill(path: VisitPath) -> float:
    """Two paths are better than the others, of which long ones are worst."""
    return 0.95 if path in GOOD else 0.75 if not path else 0.7 if len(path) < 6 else 0.3


class SkilledEngine(RuleEngine):
    """Answers yes or no, rightly as often as its path's skill; half of what decides is the question's own difficulty."""

    def __init__(self, checkpoint: Path, spec: EngineSpec, of_path: Skill) -> None:
        super().__init__(checkpoint, spec)
        self._skill = of_path

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.checkpoint))

    def _answer(self, tokens: Sequence[int]) -> str:
        right = "yes" if "Say yes" in self._tokenizer.decode(tokens) else "no"
        difficulty = -(number_of(tokens) + number_of((*self._path, *tokens))) / 200
        return right if difficulty < self._skill(self._path) else {"yes": "no", "no": "yes"}[right]

    def score(
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        for number, _ in super().score(requests, accepts):
            answer = self._answer(requests[number].context)
            texts = [self._tokenizer.decode(c).strip() for c in requests[number].continuations]
            yield (
                number,
                ScoreResult(
                    logprobs=tuple(-1.0 if text == answer else -2.0 for text in texts),
                    is_greedy=(False,) * len(texts),
                ),
            )

    def generate(
        self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        for number, result in super().generate(requests, accepts):
            yield number, result.model_copy(update={"text": self._answer(requests[number].prompt)})


def open_skilled(monkeypatch: pytest.MonkeyPatch, of_path: Skill = skill) -> list[SkilledEngine]:
    """Workers open such engines from now on; returns those that were opened."""
    opened: list[SkilledEngine] = []

    def opening(spec: EngineSpec, checkpoint: Path, tuning: EngineTuning) -> SkilledEngine:
        opened.append(SkilledEngine(checkpoint, spec, of_path))
        return opened[-1]

    monkeypatch.setattr(worker, "open_engine", opening)
    return opened
