"""Comparison of two candidates: one sentence, forest plot, benchmarks, and the questions behind a number."""

from dashboard.pages.compare.page import show

__all__ = ["show"]
