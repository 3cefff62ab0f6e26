"""The jobs of a race of a sweep's candidates: parts of benchmarks, after which some candidates leave.

A plan of a sweep with `decide.race` holds the whole evaluations. Its run begins with the base's and the first parts, and grows.
"""

from __future__ import annotations

from collections.abc import Collection

from evals.race_rule import RaceRule
from evals.stats.sequence import LookPlan
from evals.stats.stopping import Rule
from orchestrator.plan.decide import pair_key
from orchestrator.plan.job import Decide, EvalJob
from orchestrator.plan.plan import Plan, PlannedEval
from orchestrator.plan.racing import racing


def race_rule(plan: Plan) -> RaceRule | None:
    """The rule of a plan whose candidates race; None for any other plan, and for that of the whole sweep."""
    decide = plan.sweep.decide
    return decide.race if decide is not None and not plan.whole else None


def racing_names(plan: Plan) -> tuple[str, ...]:
    """The candidates of a plan that race."""
    return racing([(p.candidate, p.job) for p in plan.evals], plan.candidates[0].name)


def first_round(plan: Plan, rule: RaceRule) -> Plan:
    """What the run of a race begins with: the base's evaluations, those of candidates that do not race, and the first parts."""
    names = frozenset(racing_names(plan))
    whole = tuple(p for p in plan.evals if p.candidate not in names)
    return plan.model_copy(update={"evals": (*whole, *part_evals(plan, rule, 0, names))})


def part_evals(plan: Plan, rule: RaceRule, look: int, names: Collection[str]) -> tuple[PlannedEval, ...]:
    """The named candidates' evaluations, cut to the documents that are asked until a look."""
    base = plan.candidates[0].name
    bases = {pair_key(p.job): p.job.digest for p in plan.evals if p.candidate == base}
    share = rule.shares[look]
    looks = LookPlan(rule=Rule(), first_share=share, slice_share=share, order_seed=rule.seed)

    def part(job: EvalJob) -> EvalJob:
        decide = Decide(plan=looks, against=bases[pair_key(job)], part=share)
        return job.model_copy(update={"decide": decide})

    return tuple(p.model_copy(update={"job": part(p.job)}) for p in whole_evals(plan, names))


def whole_evals(plan: Plan, names: Collection[str]) -> tuple[PlannedEval, ...]:
    """The named candidates' whole evaluations."""
    chosen = set(names)
    return tuple(p for p in plan.evals if p.candidate in chosen)
