"""What the pages of a run are about: its base, and the columns of one suite and one engine."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard import address, data
from dashboard.board import known_suite
from orchestrator.display.text_safety import line
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateRecord, RunRecord


def base_candidate(pages: Pages, run: RunRecord) -> CandidateRecord | None:
    """The base of the URL, or the run's own."""
    if address.value("base"):
        chosen = data.fixed(pages.candidate, run.id, address.number("base"))
        if chosen is not None:
            return chosen
        address.say_unknown("base", address.value("base"), "the run's own base")
    return data.fixed(pages.base_of, run.id)


def scope(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns of one suite and one engine; draws a choice if there are several."""
    suites = list(dict.fromkeys(c.suite for c in columns))
    engines = {c.engine_key: c.engine for c in columns}
    suite, engine = suites[0], next(iter(engines))
    if len(suites) > 1:
        suite = address.choose(
            "Suite", "suite", suites, label_of=_suite_title, resets=("page", "bench", "sort")
        )
    if len(engines) > 1:
        engine = address.choose(
            "Engine", "engine", list(engines), label_of=lambda key: engines[key], resets=("page",)
        )
    return tuple(c for c in columns if c.suite == suite and c.engine_key == engine)


def scores_of(pages: Pages, run_id: str, position: int, columns: Sequence[Column]) -> CandidateScores:
    """A candidate's scores in these columns."""
    scores = data.live(pages.candidate_scores, run_id, position)
    return within(scores, columns)


def within(scores: CandidateScores, columns: Sequence[Column]) -> CandidateScores:
    """The scores with the evaluations of these columns only."""
    keys = {(c.suite, c.benchmark, c.engine_digest) for c in columns}
    kept = tuple(e for e in scores.evaluations if (e.suite, e.result.benchmark, e.engine_digest) in keys)
    return scores.model_copy(update={"evaluations": kept})


def _suite_title(name: str) -> str:
    suite = known_suite(name)
    return line(suite.title if suite else name, 60)
