"""Evaluates one benchmark on one engine with lm-eval's prompts, filters, metrics and aggregation."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval.evaluator
from lm_eval.api.task import Task

from evals.datasets import content_digest, find_dataset
from evals.documents import documents_path, write_documents
from evals.early import EarlyEvaluation
from evals.engine import Engine, digest_of
from evals.errors import EvaluationError
from evals.harness.adapter import EngineLM, Helped
from evals.harness.code_process import CodeProcess
from evals.harness.collect import collect_samples, collect_scores
from evals.harness.progress import Progress, ProgressTracker
from evals.harness.questions import questions
from evals.harness.slices import DecidedEarly, Slices
from evals.harness.tasks import load_tasks, quiet, set_seeds
from evals.harness.tokenization import Tokenization
from evals.journal import Journal
from evals.normalize import benchmark_score
from evals.samples import write_samples
from evals.scores import ChatTemplate, EvalSettings, Evaluation, Sample, Score
from evals.sharing import StretchLocks, deadline, has_leader
from evals.stats.sequence import LookPlan, LookSequence
from evals.suite import Benchmark, Suite

_BOOTSTRAP = 1000


@dataclass(frozen=True)
class Until:
    """When an evaluation may stop early."""

    plan: LookPlan
    """When its comparison is looked at, and by which rule."""
    base: Sequence[Sample]
    """The base's samples of the same documents."""
    part: float | None = None
    """Share of the documents that is asked for a race of candidates; None to ask until the comparison is decided."""


def evaluate(
    engine: Engine,
    suite: Suite,
    benchmark: Benchmark,
    settings: EvalSettings,
    *,
    mirror: Path | None,
    journal_dir: Path,
    samples_path: Path,
    home: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    job: str = "",
) -> Evaluation:
    """Score one benchmark and write its samples.

    Answers in `journal_dir` are not computed again. If `home` is given, the questions are stored below it (`evals.documents`).
    `job` is the digest of the job; JournalError if the journal belongs to another job, engine, benchmark or settings. The
    checkpoint and layer path are the engine's, and only `job` covers them.
    """
    evaluation, _ = _evaluate(
        engine, suite, benchmark, settings, None, mirror, journal_dir, samples_path, home, on_progress, job
    )
    assert isinstance(evaluation, Evaluation)
    return evaluation


def evaluate_until_decided(
    engine: Engine,
    suite: Suite,
    benchmark: Benchmark,
    settings: EvalSettings,
    until: Until,
    *,
    mirror: Path | None,
    journal_dir: Path,
    samples_path: Path,
    home: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[Evaluation | EarlyEvaluation, LookSequence]:
    """Score one benchmark as `evaluate` does, slice after slice, until its comparison with a base is decided.

    Of a part for a race nothing is decided, and it is always early.

    An evaluation that stopped early has no samples file. The journal is that of the whole evaluation, which goes on where this stopped.
    """
    evaluation, sequence = _evaluate(
        engine, suite, benchmark, settings, until, mirror, journal_dir, samples_path, home, on_progress, ""
    )
    assert sequence is not None
    return evaluation, sequence


def _evaluate(
    engine: Engine,
    suite: Suite,
    benchmark: Benchmark,
    settings: EvalSettings,
    until: Until | None,
    mirror: Path | None,
    journal_dir: Path,
    samples_path: Path,
    home: Path | None,
    on_progress: Callable[[Progress], None] | None,
    job: str,
) -> tuple[Evaluation | EarlyEvaluation, LookSequence | None]:
    begun_at = time.monotonic()
    tasks = load_tasks(benchmark, settings, mirror)
    tracker = ProgressTracker(benchmark.name, on_progress)
    claims = StretchLocks(journal_dir)
    slices = Slices(until.plan, benchmark, tasks, until.base, until.part) if until is not None else None
    common = {
        "suite": suite.name,
        "benchmark_digest": benchmark.digest,
        "engine": engine.spec,
        "settings": settings,
    }
    with (
        CodeProcess(benchmark, tasks, settings, mirror),
        Journal(journal_dir, journal_identity(engine, benchmark, settings, job)) as journal,
    ):
        claims.clear()
        lm = EngineLM(
            engine,
            _tokenization(engine, settings),
            journal,
            tracker,
            claims,
            seed=settings.seeds.torch,
            slices=slices,
        )
        try:
            results = _run(lm, tasks, settings)
        except DecidedEarly:
            assert slices is not None
            sequence = slices.sequence
            early = EarlyEvaluation(
                **common,
                benchmark=benchmark.name,
                title=benchmark.title,
                sequence=sequence,
                n_requests=tracker.n_total,
                n_replayed=tracker.n_replayed,
                duration_s=time.monotonic() - begun_at,
            )
            return early, sequence
        scores: list[Score] = []
        samples: list[Sample] = []
        for subset in benchmark.subsets:
            subset_samples = collect_samples(
                benchmark,
                tasks[subset.task],
                results["samples"][subset.task],
                lm.written,
                results["results"][subset.task],
            )
            samples += subset_samples
            scores += collect_scores(benchmark, subset, results, subset_samples)
    write_samples(samples_path, samples)
    if home is not None:
        store_questions(home, benchmark, tasks, mirror)
    differences = (*suite.differences(settings, engine.max_length), *_document_differences(benchmark, tasks))
    evaluation = Evaluation(
        **common,
        scores=tuple(scores),
        result=benchmark_score(benchmark, scores, differences=differences),
        n_requests=tracker.n_total,
        n_replayed=tracker.n_replayed,
        duration_s=time.monotonic() - begun_at,
    )
    return evaluation, slices.sequence if slices is not None else None


def help_out(
    engine: Engine,
    benchmark: Benchmark,
    settings: EvalSettings,
    *,
    mirror: Path | None,
    journal_dir: Path,
    seconds: float,
    job: str = "",
) -> bool:
    """Answer requests of an evaluation that another process leads, into its journal.

    Returns when nothing is left to claim or `seconds` have passed; true in the latter case, or if the evaluation has not begun.
    """
    if not has_leader(journal_dir):
        return True
    timed_out = deadline(seconds)
    claims = StretchLocks(journal_dir, until=timed_out)
    identity = journal_identity(engine, benchmark, settings, job)
    # The folder is removed when the evaluation ends.
    with contextlib.suppress(FileNotFoundError, Helped), Journal(journal_dir, identity) as journal:
        tracker = ProgressTracker(benchmark.name, None)
        lm = EngineLM(
            engine,
            _tokenization(engine, settings),
            journal,
            tracker,
            claims,
            leads=False,
            seed=settings.seeds.torch,
        )
        _run(lm, load_tasks(benchmark, settings, mirror), settings)
    return timed_out()


def _tokenization(engine: Engine, settings: EvalSettings) -> Tokenization:
    return Tokenization(
        engine.checkpoint,
        trust_remote_code=engine.spec.trust_remote_code,
        add_bos_token=settings.add_bos_token,
    )


def _run(lm: EngineLM, tasks: Mapping[str, Task], settings: EvalSettings) -> Any:
    """Run lm-eval's evaluation loop."""
    with quiet():
        set_seeds(settings)
        results = lm_eval.evaluator.evaluate(
            lm,
            {"tasks": tasks, "groups": {}, "group_map": {}},
            limit=settings.limit,
            # For the errors of metrics that are no means; lm-eval's 100,000 take minutes.
            bootstrap_iters=_BOOTSTRAP,
            apply_chat_template=settings.chat_template is ChatTemplate.ON,
            fewshot_as_multiturn=settings.fewshot_as_multiturn,
            # `CodeProcess` has checked that it was allowed by name, and runs it elsewhere.
            confirm_run_unsafe_code=True,
        )
    if results is None:
        raise EvaluationError("lm-eval returned no results: LOCAL_RANK is set; unset it and run again.")
    return results


def store_questions(home: Path, benchmark: Benchmark, tasks: Mapping[str, Task], mirror: Path | None) -> None:
    """Write the benchmark's questions below `home` unless the file exists."""
    path = home / documents_path(benchmark.digest, content_digest(find_dataset(benchmark, mirror), benchmark))
    if not path.is_file():
        write_documents(path, questions(tasks))


def journal_identity(engine: Engine, benchmark: Benchmark, settings: EvalSettings, job: str) -> str:
    """Digest of everything that a journal's answers depend on."""
    return digest_of(
        {
            "job": job,
            "engine": engine.spec.digest,
            "benchmark": benchmark.digest,
            "settings": settings.model_dump(mode="json"),
            "harness": importlib.metadata.version("lm_eval"),
        }
    )


def _document_differences(benchmark: Benchmark, tasks: Mapping[str, Task]) -> list[str]:
    """Differences in the number of documents from the board's data, one sentence each."""
    sentences = []
    for subset in benchmark.subsets:
        task = tasks[subset.task]
        n_documents, sampler = len(task.eval_docs), getattr(task, "sampler", None)
        if subset.n_documents not in (None, n_documents):
            sentences.append(
                f"The board had {subset.n_documents} documents in {subset.task}, the data here {n_documents}."
            )
        if sampler is not None and subset.n_shot_documents not in (None, len(sampler.df)):
            sentences.append(
                f"The board drew the few-shot examples of {subset.task} from {subset.n_shot_documents} documents, the data "
                f"here has {len(sampler.df)} of them."
            )
    return sentences
