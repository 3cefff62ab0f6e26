"""Plans for the stand-in engine: kept apart from it, so that its processes start fast."""

from __future__ import annotations

from collections.abc import Sequence

from evals.engine import EngineKind, EngineSpec
from orchestrator.plan.candidate import Candidate
from orchestrator.plan.job import CheckpointPlace, EvalJob
from orchestrator.plan.plan import Plan, PlannedEval
from orchestrator.plan.sweep import Sweep
from tests.support.store_data import HUB_BASE, SETTINGS, candidate_name


def stand_in_plan(
    jobs: int,
    gpus: Sequence[int] = (1,),
    *,
    hangs: bool = False,
    name: str = "stand-in",
    version: str = "0",
) -> Plan:
    """A base and layer paths of it, two benchmarks each; engines of the given sizes in turn.

    `version` is that of the engine; nodes that are asked what they have take jobs for their own version alone.
    """
    paths: list[tuple[int, ...] | None] = [None]
    paths += [tuple([*range(j), *range(i, 12)]) for i in range(12) for j in range(i + 1, 13)]
    candidates = [
        Candidate(
            name=candidate_name(number),
            is_base=number == 0,
            place=CheckpointPlace(name=HUB_BASE),
            weights_digest=HUB_BASE,
            layer_path=path,
            layers=len(path or range(12)),
        )
        for number, path in enumerate(paths[: -(-jobs // 2)])
    ]
    evals = [
        PlannedEval(
            candidate=candidate.name,
            job=EvalJob(
                weights_digest=HUB_BASE,
                layer_path=candidate.layer_path,
                suite="smoke",
                benchmark="hangs" if hangs and number == 1 and benchmark == "bbh" else benchmark,
                benchmark_digest="d" * 16,
                dataset_digest="d" * 16,
                engine=EngineSpec(
                    kind=EngineKind.VLLM, version=version, tensor_parallel=gpus[number % len(gpus)]
                ),
                settings=SETTINGS,
                scorer="none",
                place=candidate.place,
                live_layers=candidate.layer_path,
            ),
        )
        for number, candidate in enumerate(candidates)
        for benchmark in ("bbh", "ifeval")
    ]
    sweep = Sweep.model_validate({"name": name, "base": HUB_BASE, "suites": ["smoke"]})
    return Plan(
        sweep=sweep, text="", folder="/nowhere", candidates=tuple(candidates), evals=tuple(evals[:jobs])
    )
