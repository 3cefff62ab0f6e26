"""Reproduction of a card's claims: the target to measure, the plan, and the verdicts."""

from orchestrator.reproduce.plan import Options, ReproductionPlan, plan_reproduction
from orchestrator.reproduce.target import Target, find_target
from orchestrator.reproduce.verdicts import reproduce, verdicts_of

__all__ = [
    "Options",
    "ReproductionPlan",
    "Target",
    "find_target",
    "plan_reproduction",
    "reproduce",
    "verdicts_of",
]
