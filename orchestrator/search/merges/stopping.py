"""Stops a merge as soon as it is shown to be worse than the best one before it, by the sequential rule of `decide:`.

The whole objective is asked in slices, and compared with the answers of the best merge among the results that count: those of the trials
before n - window + 1. A merge that is shown to be worse leaves with an estimate, which is no score; one that is shown to be better is
asked the rest, so that every value of the search's tables is of all questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from evals.engine import Frozen
from evals.stats.sequence import LookPlan
from evals.stats.stopping import Decision, Rule
from orchestrator.plan.job import Decide, EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.store.records import EarlyOutcome, Success


class StopEntry(Frozen):
    """When a merge that loses is asked no further questions."""

    error_rate: float = Field(
        default=0.05,
        ge=1e-3,
        le=0.25,
        description="Probability of a wrong decision about one merge, over all looks: half of it that one leaves that is not worse.",
    )
    smallest_share: float = Field(
        default=0.1, gt=0, le=1, description="Share of the documents before the first look."
    )
    slice: float = Field(default=0.1, gt=0, le=1, description="Share of the documents between two looks.")

    @property
    def looks(self) -> LookPlan:
        """When a comparison with the best merge is looked at, and by which rule."""
        rule = Rule(error_rate=self.error_rate)
        return LookPlan(rule=rule, first_share=self.smallest_share, slice_share=self.slice)


def decided_against(plan: Plan, best: str, stop: StopEntry) -> Plan:
    """The plan of a merge's whole objective, which may stop early against the evaluation `best` of the best merge before it."""
    decide = Decide(plan=stop.looks, against=best)

    def decided(job: EvalJob) -> EvalJob:
        return job if job.is_probe else job.model_copy(update={"decide": decide})

    evals = tuple(e.model_copy(update={"job": decided(e.job)}) for e in plan.evals)
    return plan.model_copy(update={"evals": evals})


def asked_whole(plan: Plan) -> Plan:
    """The plan without early stops; it goes on where those stopped."""
    evals = tuple(e.model_copy(update={"job": e.job.whole}) for e in plan.evals)
    return plan.model_copy(update={"evals": evals})


def early_of(jobs: Sequence[EvalJob], outcomes: Mapping[str, Success]) -> EarlyOutcome | None:
    """The early stop among a merge's evaluations, if there is one."""
    ended = (outcomes.get(job.digest) for job in jobs if job.decide is not None)
    return next((outcome for outcome in ended if isinstance(outcome, EarlyOutcome)), None)


def lost(outcome: EarlyOutcome) -> tuple[float, str] | None:
    """Estimated objective, 0 to 1, and the reason, of a merge that was shown to be worse than the best one; None for another decision."""
    sequence = outcome.early.sequence
    if sequence.decision is not Decision.WORSE or sequence.score is None:
        return None
    return sequence.score.value / 100, sequence.text
