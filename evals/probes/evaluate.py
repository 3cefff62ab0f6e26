"""Runs one probe on one engine for many layer paths and returns evaluations and samples.

Probe values are stored as scores, so that they can be resumed and exported like scores; the suite `PROBE_SUITE`, the remark
and `comparable_to_board` mark them as probe values.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from evals.engine import Frozen, GenerateRequest, PathEngine, ScoreRequest, ScoreResult
from evals.layer_visits import VisitPath
from evals.live_paths import require_live_family
from evals.probes.catalog import get_probe
from evals.probes.probe import SCORING_VERSION, AnyProbe, Request, Result
from evals.probes.results import ItemResult, ProbeError, ProbeResult, Scoring
from evals.scores import (
    PROBE_SUITE,
    BenchmarkScore,
    ChatTemplate,
    EvalSettings,
    Evaluation,
    Sample,
    Score,
)

LayerPath = VisitPath

REMARK = "A probe, which screens layer paths with few questions of the project's own: no benchmark score."


class ProbeEvaluation(Frozen):
    """Result of one layer path in one probe."""

    evaluation: Evaluation = Field(description="The probe's values by scoring.")
    samples: tuple[Sample, ...] = Field(description="One sample per item.")


class ProbeRun:
    """A probe prepared for an engine; tokenised once for all layer paths."""

    def __init__(self, engine: PathEngine, name: str, settings: EvalSettings) -> None:
        self._engine = engine
        self._settings = settings
        self.probe, self._prompts, self._requests = _prepare(
            name, engine.checkpoint, settings.chat_template, engine.spec.trust_remote_code
        )

    def measure(
        self, paths: Sequence[LayerPath | None], on_progress: Callable[[int, int], None] | None = None
    ) -> list[ProbeEvaluation | ProbeError]:
        """The result of each path, or the error why it has none; a path of None is the unmodified checkpoint."""
        begun_at = time.monotonic()
        answers: list[dict[int, Result]] = [{} for _ in paths]
        total = len(paths) * len(self._requests)
        report = on_progress or (lambda done, total: None)
        report(0, total)
        for done, (path, index, result) in enumerate(self._answers(paths), start=1):
            answers[path][index] = result
            report(done, total)
        path_s = (time.monotonic() - begun_at) / len(paths)
        return [
            self._measurement([answer[i] for i in range(len(self._requests))], path_s) for answer in answers
        ]

    def _answers(self, paths: Sequence[LayerPath | None]) -> Iterator[tuple[int, int, Result]]:
        engine, scored = self._engine, [r for r in self._requests if isinstance(r, ScoreRequest)]
        written = [r for r in self._requests if isinstance(r, GenerateRequest)]
        if all(path is None for path in paths):
            engine.set_layer_path(None)
            pairs: Iterator[tuple[int, Result]] = engine.score(scored) if scored else engine.generate(written)
            for index, result in pairs:
                yield from ((path, index, result) for path in range(len(paths)))
            return
        unmodified = tuple(range(require_live_family(engine.checkpoint)))
        live = [unmodified if path is None else path for path in paths]
        yield from engine.score_paths(scored, live) if scored else engine.generate_paths(written, live)

    def _measurement(self, results: Sequence[Result], duration_s: float) -> ProbeEvaluation | ProbeError:
        scored = [value for result in results if isinstance(result, ScoreResult) for value in result.logprobs]
        if not all(math.isfinite(value) for value in scored):
            return ProbeError(
                f"The layer path gives no probabilities in {self._engine.spec.dtype}, its activations overflow: "
                "leave it out, or measure it in float32."
            )
        return ProbeEvaluation(
            evaluation=self._evaluation(self.probe.score(results), len(results), duration_s),
            samples=self.probe.samples(results, self._prompts),
        )

    def _evaluation(self, result: ProbeResult, n_requests: int, duration_s: float) -> Evaluation:
        probe = self.probe
        return Evaluation(
            suite=PROBE_SUITE,
            benchmark_digest=probe.digest,
            engine=self._engine.spec,
            settings=self._settings,
            scores=tuple(_score(probe, result, scoring) for scoring in probe.scorings),
            result=BenchmarkScore(
                benchmark=probe.name,
                title=probe.name,
                metric=Scoring.CORRECTED,
                raw=result.value(Scoring.CORRECTED),
                normalized=100.0 * result.value(Scoring.CORRECTED),
                n=len(result.items),
                partial=False,
                comparable_to_board=False,
                remark=REMARK,
            ),
            n_requests=n_requests,
            n_replayed=0,
            duration_s=duration_s,
        )


def result_of_samples(probe: AnyProbe, samples: Sequence[Sample]) -> ProbeResult:
    """Rebuild a probe's result from its stored samples."""
    if len(samples) != len(probe.items):
        raise ProbeError(f"{probe.name} has {len(probe.items)} items, but {len(samples)} samples are stored.")
    items = tuple(
        ItemResult(
            item=sample.doc_id,
            target=sample.target,
            response=sample.response,
            extracted=sample.extracted,
            published=sample.metrics.get(Scoring.PUBLISHED),
            corrected=sample.metrics[Scoring.CORRECTED],
        )
        for sample in samples
    )
    return ProbeResult(probe=probe.name, key=probe.key, split=probe.split, digest=probe.digest, items=items)


def _score(probe: AnyProbe, result: ProbeResult, scoring: Scoring) -> Score:
    n = len(result.items)
    return Score(
        benchmark=probe.name,
        subset=probe.name,
        metric=scoring,
        value=result.value(scoring),
        stderr=result.stderr(scoring),
        n=n,
        n_full=n,
        lower_bound=probe.null(scoring),
        task_version=str(SCORING_VERSION),
    )


@functools.lru_cache(maxsize=16)
def _prepare(
    name: str, checkpoint: Path, template: ChatTemplate, trust_remote_code: bool
) -> tuple[AnyProbe, tuple[str, ...], tuple[Request, ...]]:
    """A probe with its prompts as text and as requests."""
    probe, tokenizer = get_probe(name), _tokenizer(checkpoint, trust_remote_code)
    return probe, tuple(probe.prompts(tokenizer, template)), probe.requests(tokenizer, template)


def _tokenizer(checkpoint: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(checkpoint), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ProbeError(
            f"The tokenizer of {checkpoint} cannot be loaded ({reason}); put its tokenizer files beside the weights."
        ) from error
