"""A gate over what the store has: evaluations of runs and imported results, found as `compare` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.suite import Suite, load_suite, suite_names
from orchestrator.compare import Side
from orchestrator.compare.gate import GateReport, gate_report
from orchestrator.compare.gate_policy import Policy
from orchestrator.compare.pairs import compare_with_draws
from orchestrator.compare.sides import sides_of_names
from orchestrator.store import Store


def gate_of_names(
    store: Store,
    policy: Policy,
    candidate: str,
    base: str,
    home: Path,
    *,
    run_id: str | None = None,
    force: bool = False,
) -> GateReport:
    """Judge a candidate by its stored evaluations. Raises RunError for unknown or ambiguous names, PolicyError for a policy that does not fit."""
    named = sides_of_names(store, candidate, base, home, run_id=run_id)
    return gate_of_sides(policy, named.base, candidate, named.candidate, n_others=named.n_others, force=force)


def gate_of_sides(
    policy: Policy,
    base: Sequence[Side],
    candidate: str,
    sides: Sequence[Side],
    *,
    n_others: int = 0,
    force: bool = False,
    budget_ended: str | None = None,
) -> GateReport:
    """Judge sides; `n_others` is the number of further candidates among which this one may have been chosen."""
    suite = policy_suite(policy)
    compared, draws = compare_with_draws(
        base, candidate, sides, [suite] if suite is not None else [], force=force
    )
    tried = compared.model_copy(update={"n_candidates": 1 + n_others})
    return gate_report(policy, tried, draws, suite, budget_ended=budget_ended)


def policy_suite(policy: Policy) -> Suite | None:
    """The suite of a policy; None if no suite has this name, as for imported results of other tasks."""
    return load_suite(policy.suite) if policy.suite in suite_names() else None
