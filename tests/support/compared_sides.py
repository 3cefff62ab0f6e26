"""Sides of comparisons over made answers, as short as a test needs them."""

from __future__ import annotations

import numpy as np

from evals.engine import EngineKind, EngineSpec
from evals.normalize import benchmark_score
from evals.scores import ChatTemplate, EvalSettings, Evaluation, Sample, Score
from evals.suite import load_suite
from orchestrator.compare import (
    Comparison,
    Side,
    compare,
    measurement_of,
)

V2 = load_suite("leaderboard-v2")
MUSR = V2.benchmark("musr")
ENGINE = EngineSpec(kind=EngineKind.VLLM, version="0.32.0+cpu")
SETTINGS = EvalSettings(chat_template=ChatTemplate.ON, fewshot_as_multiturn=True)


def answers(name: str, seed: int = 0, share: float = 0.6) -> dict[str, np.ndarray]:
    """Right or wrong for every document of a benchmark."""
    rng = np.random.default_rng(seed)
    return {s.task: rng.random(s.n_documents or 100) < share for s in V2.benchmark(name).subsets}


def flipped(right: dict[str, np.ndarray], lose: int = 0, gain: int = 0) -> dict[str, np.ndarray]:
    """The same answers but for this many lost and gained in each subset."""
    changed = {}
    for task, values in right.items():
        new = values.copy()
        new[np.flatnonzero(values)[:lose]] = False
        new[np.flatnonzero(~values)[:gain]] = True
        changed[task] = new
    return changed


def side(
    name: str,
    right: dict[str, np.ndarray],
    *,
    engine: EngineSpec = ENGINE,
    settings: EvalSettings = SETTINGS,
    limit: int | None = None,
    prompt: str = "p",
    digest: str | None = None,
) -> Side:
    """One of our own evaluations with its samples."""
    b = V2.benchmark(name)
    metrics = {m: 0.0 for m in (*b.metrics, *(s.metric for s in b.stages if s.metric))}
    samples, scores = [], []
    for subset in b.subsets:
        values = right[subset.task][:limit]
        for i, is_right in enumerate(values):
            samples.append(
                Sample(
                    benchmark=name,
                    subset=subset.task,
                    doc_id=i,
                    doc_hash=f"{i:016x}",
                    prompt_hash=f"{prompt}{i:x}",
                    target="A",
                    response="A",
                    metrics=dict.fromkeys(metrics, float(is_right)),
                    correct=float(is_right),
                )
            )
        for metric in metrics:
            scores.append(
                Score(
                    benchmark=name,
                    subset=subset.task,
                    metric=metric,
                    value=float(values.mean()),
                    stderr=None,
                    n=len(values),
                    n_full=subset.n_documents or 100,
                    lower_bound=subset.lower_bound,
                    task_version="1.0",
                )
            )
    evaluation = Evaluation(
        suite=V2.name,
        benchmark_digest=digest or b.digest,
        engine=engine,
        settings=settings.model_copy(update={"limit": limit}),
        scores=tuple(scores),
        result=benchmark_score(b, scores),
        n_requests=len(samples),
        n_replayed=0,
        duration_s=1.0,
    )
    return Side(measurement_of(evaluation, b, "base", samples), tuple(samples))


def compare_one(base: Side, candidate: Side, **options: object) -> Comparison:
    (found,) = compare([base], {"candidate": [candidate]}, [V2], **options)
    return found


def several(names: tuple[str, ...], gain: int, lose: int = 0) -> list[Side]:
    return [side(n, flipped(answers(n), gain=gain, lose=lose)) for n in names]
