"""A plan's candidates and jobs as the store keeps them."""

from __future__ import annotations

from orchestrator.plan.plan import Plan
from orchestrator.store.records import CandidateRecord, PlannedJob


def candidate_records(plan: Plan) -> list[CandidateRecord]:
    """The candidates of a plan as the store keeps them."""
    return [
        CandidateRecord(
            position=position,
            name=candidate.name,
            is_base=candidate.is_base,
            weights_digest=candidate.weights_digest,
            layer_path=candidate.layer_path,
            recipe=candidate.recipe,
            layers=candidate.layers,
            parameters=candidate.parameters,
            made_from=candidate.made_from,
        )
        for position, candidate in enumerate(plan.candidates)
    ]


def planned_jobs(plan: Plan) -> list[PlannedJob]:
    """Every job once, with the positions of its candidates."""
    position = {candidate.name: number for number, candidate in enumerate(plan.candidates)}
    positions: dict[str, list[int]] = {}
    for candidate in plan.candidates:
        if candidate.build is not None:
            positions.setdefault(candidate.build.digest, []).append(position[candidate.name])
    for planned in plan.evals:
        positions.setdefault(planned.job.digest, []).append(position[planned.candidate])
    return [PlannedJob(job=job, candidates=tuple(positions[digest])) for digest, job in plan.jobs.items()]
