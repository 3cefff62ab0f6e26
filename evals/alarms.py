"""Alarms: shares of abnormal responses above which a score is doubtful."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from evals.scores import Alarm, AlarmKind, Sample
from evals.suite import Benchmark, Extraction, OutputKind

THRESHOLDS = {
    AlarmKind.EMPTY: 0.05,
    AlarmKind.TRUNCATED: 0.30,
    AlarmKind.UNPARSED: 0.50,
    AlarmKind.REPETITIVE: 0.30,
    AlarmKind.IDENTICAL: 0.50,
}
"""Share of a subset's responses above which each alarm is raised."""

MIN_SAMPLES = 5
"""Below this number of samples no alarm is raised."""


def find_alarms(benchmark: Benchmark, samples: Sequence[Sample]) -> tuple[Alarm, ...]:
    """The alarms that a subset's samples raise."""
    if len(samples) < MIN_SAMPLES:
        return ()
    shares = (
        _choice_shares(samples)
        if benchmark.output is not OutputKind.GENERATION
        else _text_shares(benchmark, samples)
    )
    return tuple(
        Alarm(kind=kind, share=share, threshold=THRESHOLDS[kind])
        for kind, share in shares.items()
        if share > THRESHOLDS[kind]
    )


def _choice_shares(samples: Sequence[Sample]) -> dict[AlarmKind, float]:
    """Shares for multiple choice. A working model gives finite log-probabilities, different for each question. A preferred
    choice raises no alarm: weak models have one, and the leaderboards count it."""
    vectors = [s.logprobs for s in {s.prompt_hash: s for s in samples}.values()]
    return {
        AlarmKind.EMPTY: _share(samples, lambda s: not all(math.isfinite(value) for value in s.logprobs)),
        AlarmKind.IDENTICAL: _most_frequent_share(vectors),
    }


def _text_shares(benchmark: Benchmark, samples: Sequence[Sample]) -> dict[AlarmKind, float]:
    responses = {s.prompt_hash: s.response.strip() for s in samples if s.response.strip()}
    parsed = benchmark.extraction is not Extraction.NONE
    return {
        AlarmKind.EMPTY: _share(samples, lambda s: not s.response.strip()),
        AlarmKind.TRUNCATED: _share(samples, lambda s: s.truncated),
        AlarmKind.UNPARSED: _share(samples, lambda s: s.extracted is None) if parsed else 0.0,
        AlarmKind.REPETITIVE: _share(samples, lambda s: is_repetitive(s.response)),
        AlarmKind.IDENTICAL: _most_frequent_share(list(responses.values())),
    }


def is_repetitive(text: str) -> bool:
    """Whether a response is long and mostly repetition.

    Compression shrinks prose of a few hundred words to a half or a third, a loop to a tenth or less.
    """
    data = text.encode("utf-8", "replace")
    return len(data) >= 400 and len(zlib.compress(data)) < len(data) / 8


def _share(samples: Sequence[Sample], unhealthy: Callable[[Sample], bool]) -> float:
    return sum(unhealthy(s) for s in samples) / len(samples)


def _most_frequent_share(values: Sequence[Hashable]) -> float:
    """Share of the most frequent value."""
    return Counter(values).most_common(1)[0][1] / len(values) if len(values) >= MIN_SAMPLES else 0.0
