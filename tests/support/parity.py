"""Our harness beside stock lm-eval on the same checkpoint: which samples differ, and by how much."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lm_eval.evaluator
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evals.engine import EngineKind, EngineSpec
from evals.engines import installed_version, open_engine
from evals.harness import evaluate
from evals.harness.collect import metric_label
from evals.harness.tasks import load_tasks, quiet
from evals.samples import read_samples
from evals.scores import ChatTemplate, EvalSettings, Evaluation, Sample
from evals.suite import Benchmark, Suite
from evals.vllm.environment import answer_for_cpu_build


@dataclass
class Parity:
    """What a comparison found."""

    n_samples: int = 0
    n_scores: int = 0
    worst_logprob: float = 0.0
    logprob_differences: list[float] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def mean_logprob(self) -> float:
        """Average difference of a log-probability."""
        return sum(self.logprob_differences) / max(1, len(self.logprob_differences))


def spec_of(suite: Suite, kind: EngineKind = EngineKind.TRANSFORMERS, dtype: str = "float32") -> EngineSpec:
    return EngineSpec(
        kind=kind,
        version=installed_version(kind),
        dtype=dtype,
        max_length=suite.settings.max_length,
    )


def stock_model(
    suite: Suite, checkpoint: Path, kind: EngineKind, batch_size: int = 1, dtype: str = "float32"
) -> LM:
    """lm-eval's own model on the same backend, on the CPU."""
    common = {"dtype": dtype, "add_bos_token": suite.settings.add_bos_token}
    if kind is EngineKind.TRANSFORMERS:
        return HFLM(
            pretrained=str(checkpoint),
            device="cpu",
            batch_size=batch_size,
            max_length=suite.settings.max_length,
            **common,
        )
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}
    answer_for_cpu_build()
    from lm_eval.models.vllm_causallms import VLLM

    return VLLM(pretrained=str(checkpoint), max_model_len=suite.settings.max_length, **common)


class SideBySide:
    """One checkpoint, loaded once by our engine and once by lm-eval's own model."""

    def __init__(
        self,
        suite: Suite,
        checkpoint: Path,
        *,
        batch_size: int = 1,
        kind: EngineKind = EngineKind.TRANSFORMERS,
        stock_kind: EngineKind | None = None,
        dtype: str = "float32",
        stock_dtype: str | None = None,
        stock: LM | None = None,
    ) -> None:
        """`stock_kind` is lm-eval's own model, by default that of the engine's kind; `stock` one that is loaded already."""
        self.suite = suite
        self.engine = open_engine(spec_of(suite, kind, dtype), checkpoint)
        self.stock = stock or stock_model(
            suite, checkpoint, stock_kind or kind, batch_size, stock_dtype or dtype
        )

    def compare(
        self,
        benchmark: Benchmark,
        settings: EvalSettings,
        mirror: Path | None,
        folder: Path,
        stock_folder: Path | None = None,
    ) -> Parity:
        """With `stock_folder`, lm-eval itself reads the tasks from there, by name."""
        samples_path = folder / f"{benchmark.name}-{settings.chat_template}.parquet"
        ours = evaluate(
            self.engine,
            self.suite,
            benchmark,
            settings,
            mirror=mirror,
            journal_dir=folder / f"journal-{benchmark.name}-{settings.chat_template}",
            samples_path=samples_path,
        )
        with quiet():
            theirs = lm_eval.evaluator.simple_evaluate(
                self.stock,
                tasks=[benchmark.name]
                if stock_folder
                else list(load_tasks(benchmark, settings, mirror).values()),
                # The default one reads 13,000 files.
                task_manager=TaskManager(include_defaults=False, include_path=stock_folder),
                limit=settings.limit,
                apply_chat_template=settings.chat_template is ChatTemplate.ON,
                fewshot_as_multiturn=settings.fewshot_as_multiturn,
                bootstrap_iters=1000,
            )
        found = Parity()
        _compare_samples(read_samples(samples_path), theirs, found)
        _compare_scores(ours, theirs, found)
        return found


def _compare_samples(ours: tuple[Sample, ...], theirs: dict[str, Any], found: Parity) -> None:
    stock = {
        (task, e["doc_id"], e["filter"]): e for task, entries in theirs["samples"].items() for e in entries
    }
    seen = set()
    for sample in ours:
        for (task, doc_id, name), entry in stock.items():
            if (task, doc_id) == (sample.subset, sample.doc_id):
                seen.add((task, doc_id, name))
                _compare_one(sample, entry, found)
        found.n_samples += 1
    found.differing += [f"only stock lm-eval has {key}" for key in stock if key not in seen]


def _compare_one(ours: Sample, theirs: dict[str, Any], found: Parity) -> None:
    where = f"{ours.subset} {ours.doc_id}"
    if ours.doc_hash != theirs["doc_hash"][:16] or ours.prompt_hash != theirs["prompt_hash"][:16]:
        found.differing.append(f"{where}: another document or prompt")
    for metric in theirs["metrics"]:
        value = theirs[metric]
        if isinstance(value, tuple):  # the log-probability and the words or bytes of a document
            logprob, size = value
            nats = {"bits_per_byte": math.log(2)}.get(metric)
            value = -logprob / size / nats if nats else math.exp(-logprob / size)
        stock = sum(value) / len(value) if isinstance(value, list) else float(value)
        mine = ours.metrics[metric_label(metric, theirs["filter"])]
        if abs(mine - stock) > (1e-9 if stock in (0.0, 1.0) else 1e-4 * max(1.0, abs(stock))):
            found.differing.append(f"{where}: {metric} {mine} here, {stock} there")
    if ours.logprobs:
        for mine, response in zip(ours.logprobs, theirs["resps"], strict=True):
            logprob = response[0] if isinstance(response[0], float) else response[0][0]
            found.logprob_differences.append(abs(mine - logprob))
            found.worst_logprob = max(found.worst_logprob, found.logprob_differences[-1])
    elif ours.response != theirs["resps"][0][0]:
        found.differing.append(f"{where}: {ours.response!r} here, {theirs['resps'][0][0]!r} there")


def _compare_scores(ours: Evaluation, theirs: dict[str, Any], found: Parity) -> None:
    for score in ours.scores:
        metric, _, name = score.metric.partition(",")
        stock = theirs["results"][score.subset]
        value, stderr = stock[f"{metric},{name or 'none'}"], stock[f"{metric}_stderr,{name or 'none'}"]
        same_stderr = (
            score.stderr is None
            if stderr == "N/A"
            else abs((score.stderr or 0.0) - stderr) < 1e-4 * max(1.0, stderr)
        )
        if abs(score.value - value) > 1e-4 * max(1.0, abs(value)) or not same_stderr:
            found.differing.append(f"{score.subset} {score.metric}: {score.value} here, {value} there")
        found.n_scores += 1
