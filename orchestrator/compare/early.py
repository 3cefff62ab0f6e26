"""What comparisons that were decided early, and a race of candidates, add to a run's verdict."""

from __future__ import annotations

from collections.abc import Sequence

from evals.stats.candidate_race import CandidateRace, left_text
from evals.stats.stopping import Decision
from orchestrator.compare.verdict import RunVerdict, Standing
from orchestrator.store.sequences import SequenceRecord

_SHOWN = {Decision.BETTER: Standing.BETTER, Decision.WORSE: Standing.WORSE}
_SIGNS = {
    Standing.BETTER: {Standing.BETTER},
    Standing.WORSE: {Standing.WORSE},
    Standing.MIXED: {Standing.BETTER, Standing.WORSE},
}


def with_early(verdict: RunVerdict, records: Sequence[SequenceRecord]) -> RunVerdict:
    """The verdict with the decisions of evaluations that stopped early, of candidates that it knows.

    Such a decision holds over all candidates, benchmarks and looks of its sweep, as a corrected p-value does.
    """
    early = [record for record in records if record.early and record.candidate in verdict.standings]
    if not early:
        return verdict
    standings = dict(verdict.standings)
    for name in dict.fromkeys(record.candidate for record in early):
        decisions = [record.sequence.decision for record in early if record.candidate == name]
        standings[name] = _with(standings[name], decisions)
    sentences = (
        f"{record.candidate}, {record.title}: {record.sequence.text}"
        for record in early
        if record.sequence.left is None
    )
    return verdict.model_copy(update={"standings": standings, "early": (*verdict.early, *sentences)})


def with_race(verdict: RunVerdict, race: CandidateRace | None) -> RunVerdict:
    """The verdict with the candidates that left a race: they have no scores, and will get none in this run."""
    left = [] if race is None else [(c, at) for c, at in race.left if c.name in verdict.standings]
    if race is None or not left:
        return verdict
    standings = {**verdict.standings, **{c.name: Standing.LEFT for c, _ in left}}
    sentences = (f"{c.name} {left_text(c, at, race.rule.keep)}" for c, at in left)
    return verdict.model_copy(update={"standings": standings, "early": (*verdict.early, *sentences)})


def _with(standing: Standing, decisions: Sequence[Decision]) -> Standing:
    """A candidate's standing with decisions on further benchmarks."""
    shown = {_SHOWN[decision] for decision in decisions if decision in _SHOWN}
    signs = shown | _SIGNS.get(standing, set())
    if len(signs) == 2:
        return Standing.MIXED
    if signs:
        return signs.pop()
    return Standing.UNSHOWN
