"""Alarms: shares of unhealthy responses that make a score doubtful."""

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
"""Below this many samples a share says nothing."""


def find_alarms(benchmark: Benchmark, samples: Sequence[Sample]) -> tuple[Alarm, ...]:
    """The alarms that a subset's samples raise."""
    if len(samples) < MIN_SAMPLES:
        return ()
    shares = (
        _chosen(samples) if benchmark.output is OutputKind.MULTIPLE_CHOICE else _written(benchmark, samples)
    )
    return tuple(
        Alarm(kind=kind, share=share, threshold=THRESHOLDS[kind])
        for kind, share in shares.items()
        if share > THRESHOLDS[kind]
    )


def _chosen(samples: Sequence[Sample]) -> dict[AlarmKind, float]:
    """A model that works gives no two questions the same log-probabilities, and never none. A favourite choice is not
    unhealthy: weak models have one, and the leaderboards count it."""
    vectors = [s.logprobs for s in {s.prompt_hash: s for s in samples}.values()]
    return {
        AlarmKind.EMPTY: _share(samples, lambda s: not all(math.isfinite(value) for value in s.logprobs)),
        AlarmKind.IDENTICAL: _most_frequent(vectors),
    }


def _written(benchmark: Benchmark, samples: Sequence[Sample]) -> dict[AlarmKind, float]:
    responses = {s.prompt_hash: s.response.strip() for s in samples if s.response.strip()}
    parsed = benchmark.extraction is not Extraction.NONE
    return {
        AlarmKind.EMPTY: _share(samples, lambda s: not s.response.strip()),
        AlarmKind.TRUNCATED: _share(samples, lambda s: s.truncated),
        AlarmKind.UNPARSED: _share(samples, lambda s: s.extracted is None) if parsed else 0.0,
        AlarmKind.REPETITIVE: _share(samples, lambda s: is_repetitive(s.response)),
        AlarmKind.IDENTICAL: _most_frequent(list(responses.values())),
    }


def is_repetitive(text: str) -> bool:
    """Whether a response goes round in circles: long, and with little in it that is new.

    Ordinary prose of some hundred words shrinks to a half or a third when compressed, a loop to a tenth or less.
    """
    data = text.encode("utf-8", "replace")
    return len(data) >= 400 and len(zlib.compress(data)) < len(data) / 8


def _share(samples: Sequence[Sample], unhealthy: Callable[[Sample], bool]) -> float:
    return sum(unhealthy(s) for s in samples) / len(samples)


def _most_frequent(values: Sequence[Hashable]) -> float:
    """Share of the most frequent value."""
    return Counter(values).most_common(1)[0][1] / len(values) if len(values) >= MIN_SAMPLES else 0.0
