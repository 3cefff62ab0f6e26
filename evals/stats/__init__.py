"""Statistics of scores: intervals on the leaderboards' scale, paired tests, corrections and shrinkage."""

from evals.stats.aggregates import estimate_from_scores, unpaired_delta
from evals.stats.many import corrected, expected_after_search, shrinkage
from evals.stats.paired import (
    Documents,
    average_delta,
    average_estimate,
    bootstrap_p,
    delta,
    detectable,
    detectable_with,
    documents,
    estimate,
    flips,
    mcnemar_p,
)
from evals.stats.records import (
    Delta,
    Estimate,
    Flips,
    Interval,
    Shrinkage,
    Shrunk,
    SignificanceTest,
)

__all__ = [
    "Delta",
    "Documents",
    "Estimate",
    "Flips",
    "Interval",
    "Shrinkage",
    "Shrunk",
    "SignificanceTest",
    "average_delta",
    "average_estimate",
    "bootstrap_p",
    "corrected",
    "delta",
    "detectable",
    "detectable_with",
    "documents",
    "estimate",
    "estimate_from_scores",
    "expected_after_search",
    "flips",
    "mcnemar_p",
    "shrinkage",
    "unpaired_delta",
]
