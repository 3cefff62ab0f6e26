"""What the store holds of a run's probes: each layer path's answers, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from evals.probes import Measured, ProbeResult, get_probe
from evals.probes.evaluate import result_of_samples
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.errors import RunError
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome

LayerPath = tuple[int, ...]


class ProbesOfRun(Frozen):
    """The layer paths of a run and what they got in its probes."""

    n_layers: int = Field(description="Layers of the base.")
    paths: tuple[Measured, ...] = Field(
        description="Paths that have a result in every probe, the base among them."
    )
    lacking: tuple[LayerPath, ...] = Field(
        description="Paths that lack one, since their evaluation failed or is not done."
    )


def probes_of_run(store: Store, plan: Plan, home: Path) -> ProbesOfRun:
    """Read the answers of a plan's probes; SamplesError where a samples file is gone or not the one that was stored."""
    base = plan.candidates[0]
    if base.layers is None:
        raise RunError(
            f"The number of layers of {plan.sweep.base} is not known; scan a checkpoint whose config tells it."
        )
    whole = tuple(range(base.layers))
    jobs = {planned.job.digest: planned.job for planned in plan.evals if planned.job.is_probe}
    outcomes = store.outcomes(jobs)
    names = tuple(dict.fromkeys(job.benchmark for job in jobs.values()))
    found: dict[LayerPath, dict[str, ProbeResult]] = {}
    for digest, job in jobs.items():
        mine = found.setdefault(job.layer_path or whole, {})
        outcome = outcomes.get(digest)
        if isinstance(outcome, EvalOutcome):
            mine[job.benchmark] = read_probe(job, outcome, home)
    measured = {path: tuple(mine[n] for n in names) for path, mine in found.items() if _whole(mine, names)}
    return ProbesOfRun(
        n_layers=base.layers,
        paths=tuple(Measured(layers=path, results=results) for path, results in measured.items()),
        lacking=tuple(path for path in found if path not in measured),
    )


def read_probe(job: EvalJob, outcome: EvalOutcome, home: Path) -> ProbeResult:
    """A probe's result out of its stored samples; SamplesError where they are gone, altered or unreadable."""
    return result_of_samples(get_probe(job.benchmark), stored_samples(job.digest, outcome, home).read())


def _whole(mine: Mapping[str, ProbeResult], names: tuple[str, ...]) -> bool:
    return all(name in mine for name in names)
