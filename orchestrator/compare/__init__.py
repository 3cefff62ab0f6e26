"""Comparisons of candidates with a base: comparability checks, differences, correction and the table."""

from orchestrator.compare.comparison import SIGNIFICANT, Comparison, ComparisonRow
from orchestrator.compare.correction import correct, correction_text
from orchestrator.compare.measurement import (
    Side,
    all_stages,
    measurement_of,
    sides_of_import,
    suite_measurement,
)
from orchestrator.compare.pairs import comparability, compare, sample_differences
from orchestrator.compare.table import comparison_text, print_comparisons

__all__ = [
    "SIGNIFICANT",
    "Comparison",
    "ComparisonRow",
    "Side",
    "all_stages",
    "comparability",
    "compare",
    "comparison_text",
    "correct",
    "correction_text",
    "measurement_of",
    "print_comparisons",
    "sample_differences",
    "sides_of_import",
    "suite_measurement",
]
