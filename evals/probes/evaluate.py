"""Runs one probe on one engine for many layer paths and returns evaluations and samples.

Probe values are stored as scores, so that they can be resumed and exported like scores; the suite `PROBE_SUITE`, the remark
and `comparable_to_board` mark them as probe values.
"""

from __future__ import annotations

import functools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from evals.early import EarlyEvaluation
from evals.engine import Frozen, GenerateRequest, PathEngine, ScoreRequest, ScoreResult, digest_of
from evals.journal import Journal, request_digest
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
from evals.stats.sequence import LookPlan, LookSequence, PartAnswers

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
        self,
        paths: Sequence[LayerPath | None],
        on_progress: Callable[[int, int], None] | None = None,
        journals: Sequence[Path] = (),
    ) -> list[ProbeEvaluation | ProbeError]:
        """The result of each path, or the error why it has none; a path of None is the unmodified checkpoint.

        `journals` are the paths' folders of answers: those that a race has asked are not asked again.
        """
        begun_at = time.monotonic()
        asked = [self._read(folder) for folder in journals] or [{} for _ in paths]
        replayed = [len(answers) for answers in asked]
        self._ask(paths, range(len(self._requests)), asked, on_progress)
        path_s = (time.monotonic() - begun_at) / len(paths)
        return [
            self._measurement([answers[i] for i in range(len(self._requests))], path_s, n)
            for answers, n in zip(asked, replayed, strict=True)
        ]

    def measure_part(
        self,
        paths: Sequence[LayerPath | None],
        items: Sequence[int],
        plan: LookPlan,
        journals: Sequence[Path],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[EarlyEvaluation | ProbeError]:
        """Each path's credits for these items alone; the answers are written to the paths' folders in `journals`."""
        begun_at = time.monotonic()
        requested = self.probe.requests_of(items)
        asked = [self._read(folder) for folder in journals]
        replayed = [sum(place in answers for place in requested) for answers in asked]
        before = [set(answers) for answers in asked]
        self._ask(paths, requested, asked, on_progress)
        path_s = (time.monotonic() - begun_at) / len(paths)
        results: list[EarlyEvaluation | ProbeError] = []
        for folder, answers, old, n in zip(journals, asked, before, replayed, strict=True):
            chosen = [answers[place] for place in requested]
            if (error := self._overflow(chosen)) is not None:
                results.append(error)
                continue
            with Journal(folder, self._identity, durable=False) as journal:
                for place in sorted(set(answers) - old):
                    journal.put(request_digest(self._requests[place]), answers[place])
            results.append(self._part(items, plan, chosen, path_s, n))
        return results

    def _ask(
        self,
        paths: Sequence[LayerPath | None],
        requested: Sequence[int],
        asked: list[dict[int, Result]],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        """Add the answers to the requests at the positions `requested` that a path does not have, by groups that lack the same."""
        lacking: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, answers in enumerate(asked):
            lacking[tuple(place for place in requested if place not in answers)].append(number)
        total, done = sum(len(places) * len(numbers) for places, numbers in lacking.items()), 0
        report = on_progress or (lambda done, total: None)
        report(0, total)
        for places, numbers in lacking.items():
            if not places:
                continue
            requests = [self._requests[place] for place in places]
            for path, index, result in self._answers([paths[n] for n in numbers], requests):
                asked[numbers[path]][places[index]] = result
                done += 1
                report(done, total)

    def _answers(
        self, paths: Sequence[LayerPath | None], requests: Sequence[Request]
    ) -> Iterator[tuple[int, int, Result]]:
        engine, scored = self._engine, [r for r in requests if isinstance(r, ScoreRequest)]
        written = [r for r in requests if isinstance(r, GenerateRequest)]
        if all(path is None for path in paths):
            engine.set_layer_path(None)
            pairs: Iterator[tuple[int, Result]] = engine.score(scored) if scored else engine.generate(written)
            for index, result in pairs:
                yield from ((path, index, result) for path in range(len(paths)))
            return
        unmodified = tuple(range(require_live_family(engine.checkpoint)))
        live = [unmodified if path is None else path for path in paths]
        yield from engine.score_paths(scored, live) if scored else engine.generate_paths(written, live)

    @property
    def _identity(self) -> str:
        """What the answers in a journal depend on, besides the job that its folder is named by."""
        return digest_of(
            {
                "engine": self._engine.spec.digest,
                "probe": self.probe.digest,
                "settings": self._settings.model_dump(mode="json"),
            }
        )

    def _read(self, folder: Path) -> dict[int, Result]:
        """The answers in a path's folder, by position of the request."""
        if not any(folder.glob("*.journal")):
            return {}
        with Journal(folder, self._identity, durable=False) as journal:
            stored = ((place, journal.get(request_digest(r))) for place, r in enumerate(self._requests))
            return {place: answer for place, answer in stored if answer is not None}

    def _overflow(self, results: Sequence[Result]) -> ProbeError | None:
        scored = [value for result in results if isinstance(result, ScoreResult) for value in result.logprobs]
        if all(math.isfinite(value) for value in scored):
            return None
        return ProbeError(
            f"The layer path gives no probabilities in {self._engine.spec.dtype}, its activations overflow: "
            "leave it out, or measure it in float32."
        )

    def _part(
        self,
        items: Sequence[int],
        plan: LookPlan,
        results: Sequence[Result],
        duration_s: float,
        replayed: int,
    ) -> EarlyEvaluation:
        """The record of the answers to some items, which has no value of the probe."""
        probe = self.probe
        credits = probe.with_items(items).score(results).credits(Scoring.CORRECTED)
        part = PartAnswers(items=tuple(items), credits=credits)
        return EarlyEvaluation(
            suite=PROBE_SUITE,
            benchmark=probe.name,
            title=probe.name,
            benchmark_digest=probe.digest,
            engine=self._engine.spec,
            settings=self._settings,
            sequence=LookSequence(plan=plan, n_whole=len(probe.items), looks=(), part=part),
            n_requests=len(results),
            n_replayed=replayed,
            duration_s=duration_s,
        )

    def _measurement(
        self, results: Sequence[Result], duration_s: float, replayed: int
    ) -> ProbeEvaluation | ProbeError:
        if (error := self._overflow(results)) is not None:
            return error
        return ProbeEvaluation(
            evaluation=self._evaluation(self.probe.score(results), len(results), duration_s, replayed),
            samples=self.probe.samples(results, self._prompts),
        )

    def _evaluation(
        self, result: ProbeResult, n_requests: int, duration_s: float, replayed: int
    ) -> Evaluation:
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
            n_replayed=replayed,
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
