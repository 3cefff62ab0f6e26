"""Statistics of scores: intervals on the leaderboards' scale, paired tests, corrections and shrinkage."""

from evals.stats.aggregates import (
    estimate_from_scores,
    missing_error,
    unknown_estimate,
    unpaired_delta,
)
from evals.stats.estimates import (
    Delta,
    Estimate,
    Flips,
    Interval,
    Shrinkage,
    Shrunk,
    SignificanceTest,
)
from evals.stats.many import corrected, expected_after_search, shrinkage
from evals.stats.margins import MarginOutcome, MarginTest, margin_test
from evals.stats.paired import (
    Documents,
    PairedDraws,
    average_draws,
    average_estimate,
    bootstrap_p,
    delta,
    delta_of,
    detectable,
    documents,
    estimate,
    flips,
    has_sums,
    paired_draws,
)

__all__ = [
    "Delta",
    "Documents",
    "Estimate",
    "Flips",
    "Interval",
    "MarginOutcome",
    "MarginTest",
    "PairedDraws",
    "Shrinkage",
    "Shrunk",
    "SignificanceTest",
    "average_draws",
    "average_estimate",
    "bootstrap_p",
    "corrected",
    "delta",
    "delta_of",
    "detectable",
    "documents",
    "estimate",
    "estimate_from_scores",
    "expected_after_search",
    "flips",
    "has_sums",
    "margin_test",
    "missing_error",
    "paired_draws",
    "shrinkage",
    "unknown_estimate",
    "unpaired_delta",
]
