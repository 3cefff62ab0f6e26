"""The jobs of a race of a sweep's candidates: parts of benchmarks, after which some candidates leave.

A plan of a sweep with `decide.race` holds the whole evaluations. Its run begins with the base's and the first parts, and grows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from evals.benchmark import OutputKind
from evals.race_rule import RaceRule
from evals.stats.candidate_race import EvalKey
from evals.stats.sequence import LookPlan
from evals.stats.stopping import Rule
from evals.suite import suite_with
from orchestrator.errors import SweepError
from orchestrator.plan.decide import pair_key
from orchestrator.plan.job import Decide, EvalJob
from orchestrator.plan.sweep import SweepFile

if TYPE_CHECKING:
    from orchestrator.plan.plan import Plan, PlannedEval


def race_rule(plan: Plan) -> RaceRule | None:
    """The rule of a plan whose candidates race; None for any other plan, and for that of the whole sweep."""
    decide = plan.sweep.decide
    return decide.race if decide is not None and not plan.whole else None


def eval_key(job: EvalJob) -> EvalKey:
    """Which of a candidate's evaluations a job is."""
    return job.suite, job.benchmark, job.engine.digest


def racing(evals: Sequence[PlannedEval], base: str) -> dict[str, tuple[PlannedEval, ...]]:
    """The evaluations of each candidate that races, by name, in the plan's order; `base` is the base's name.

    A candidate whose engine is not the base's, as a quantised one, cannot be asked in parts; one that is the base itself need not be.
    """
    bases = {pair_key(p.job): p.job.digest for p in evals if p.candidate == base}
    by_name: dict[str, list[PlannedEval]] = {}
    for planned in evals:
        if planned.candidate != base:
            by_name.setdefault(planned.candidate, []).append(planned)
    return {
        name: tuple(planned)
        for name, planned in by_name.items()
        if all(bases.get(pair_key(p.job), p.job.digest) != p.job.digest for p in planned)
    }


def first_round(plan: Plan, rule: RaceRule) -> Plan:
    """What the run of a race begins with: the base's evaluations, those of candidates that do not race, and the first parts."""
    names = racing(plan.evals, plan.candidates[0].name)
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


def check_race(file: SweepFile, evals: Sequence[PlannedEval], base: str) -> tuple[str, ...]:
    """Notes on candidates that do not race; SweepError if the sweep's benchmarks cannot be asked in parts, or nobody could leave."""
    rule = file.sweep.decide.race if file.sweep.decide is not None else None
    if rule is None:
        return ()
    place = file.place("decide", "race")
    for job in {(p.job.suite, p.job.benchmark): p.job for p in evals}.values():
        if (reason := _not_in_parts(job)) is not None:
            raise SweepError(
                f"{place}: {job.benchmark} cannot be asked in parts ({reason}): leave it out, or leave out the race."
            )
    names = racing(evals, base)
    if len(names) <= rule.keep:
        raise SweepError(
            f"{place}: {len(names)} candidates race and the best {rule.keep} are kept, so that none can leave: lower `keep`, or leave out "
            "the race."
        )
    return tuple(_notes({p.candidate for p in evals if p.candidate != base} - set(names)))


def _notes(names: Iterable[str]) -> Iterable[str]:
    for name in sorted(names):
        yield f"{name} does not race and is asked whole: its engine is not the base's, or it is the base."


def _not_in_parts(job: EvalJob) -> str | None:
    """Why a benchmark cannot be asked in parts, as far as its definition tells; None if it can."""
    if job.is_probe:
        return "a probe is no benchmark: `mergeboard scan --race` races over probes"
    benchmark = suite_with(job.suite, job.benchmark, job.benchmark_digest).benchmark(job.benchmark)
    if benchmark.lower_is_better or benchmark.output is OutputKind.PERPLEXITY:
        return "it is a perplexity"
    if benchmark.formula is not None:
        return "its metric is over all documents"
    return None
