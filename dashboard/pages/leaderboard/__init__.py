"""The leaderboard: the verdict of a run, then recipes x benchmarks with differences to a base."""

from dashboard.pages.leaderboard.page import show
from dashboard.pages.leaderboard.scope import base_candidate, scope, scores_of, within

__all__ = ["base_candidate", "scope", "scores_of", "show", "within"]
