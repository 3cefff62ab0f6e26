"""The jobs of a race of layer paths: parts of probes, after which some paths leave."""

from __future__ import annotations

from evals.probes import get_probe
from evals.probes.race import RacePlan
from evals.stats.sequence import LookPlan
from evals.stats.stopping import Rule
from orchestrator.plan.job import Decide
from orchestrator.plan.plan import Plan, PlannedEval


def part_evals(plan: Plan, race: RacePlan, look: int) -> tuple[PlannedEval, ...]:
    """Every path's evaluations, cut to the items that are asked until a look; `plan` is that of the whole scan."""
    base = plan.candidates[0].name
    against = {p.job.benchmark: p.job.digest for p in plan.evals if p.candidate == base}
    items = {name: race.items(get_probe(name), look) for name in against}
    share = race.shares[look]
    looks = LookPlan(
        rule=Rule(error_rate=race.error_rate), first_share=share, slice_share=share, order_seed=race.seed
    )
    return tuple(
        planned.model_copy(
            update={
                "job": planned.job.model_copy(
                    update={
                        "decide": Decide(
                            plan=looks,
                            against=against[planned.job.benchmark],
                            items=items[planned.job.benchmark],
                        )
                    }
                )
            }
        )
        for planned in plan.evals
        if planned.candidate != base
    )
