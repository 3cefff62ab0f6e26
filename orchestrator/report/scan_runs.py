"""Read a scan or search from the store: its search runs, its confirmation run, and what each path answered.

A search run asks the search sets of some probes, its confirmation the disjoint confirmation sets of the same probes. Given
either of them, the other is the newest run that fits: the same checkpoint, engine, template and probes, and paths that the
search has tried.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evals.layer_visits import VisitPath as Layers
from evals.probes import Measured, ProbeResult, RankMethod, Split, get_probe
from evals.probes.evaluate import result_of_samples
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.errors import RunError
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import CandidateRecord, EvalOutcome, RunRecord
from recipes.layer_path import LayerPath

_MOST_RUNS = 2_000
_MAX_REPORT_BYTES = 200_000_000


@dataclass(frozen=True)
class ProbeJobs:
    """The probe jobs of one run by layer path, all layers once for the unmodified checkpoint."""

    run: RunRecord
    n_layers: int
    candidates: tuple[CandidateRecord, ...]
    jobs: tuple[EvalJob, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of its probes, in order."""
        return tuple(dict.fromkeys(job.benchmark for job in self.jobs))

    @cached_property
    def setting(self) -> tuple[str, ...]:
        """What two runs of one scan share: checkpoint, engine, settings and probes, without the split."""
        first = self.jobs[0]
        keys = sorted(name.rpartition("-")[0] for name in self.names)
        return (first.weights_digest, first.engine.digest_without_length, str(first.settings), *keys)

    @cached_property
    def paths(self) -> frozenset[Layers]:
        """The paths that it asks."""
        return frozenset(self.layers(job) for job in self.jobs)

    def layers(self, job: EvalJob) -> Layers:
        """The layers of a job."""
        return job.layer_path or tuple(range(self.n_layers))

    def split(self, split: Split) -> bool:
        """Whether it asks this split."""
        return any(name.endswith(f"-{split}") for name in self.names)


@dataclass(frozen=True)
class ProbeScan:
    """A search with its confirmation, as far as there are any."""

    searches: tuple[ProbeJobs, ...]
    confirmation: ProbeJobs | None

    @property
    def n_layers(self) -> int:
        """Layers of the checkpoint."""
        return (*self.searches, *([self.confirmation] if self.confirmation else []))[0].n_layers

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """Its runs, searches first."""
        parts = (*self.searches, *([self.confirmation] if self.confirmation else []))
        return tuple(part.run for part in parts)

    @property
    def tried(self) -> frozenset[Layers]:
        """The paths that the search tried, without the unmodified checkpoint."""
        base = tuple(range(self.n_layers))
        return frozenset(path for search in self.searches for path in search.paths if path != base)


def asks_probes(store: Pages, run_id: str) -> bool:
    """Whether a run asks probes of layer paths."""
    return any(_split_of(column.benchmark) for column in store.columns(run_id) if column.suite == "probes")


def scan_of_run(store: Pages, run: RunRecord) -> ProbeScan:
    """The scan or search that a run is a part of. Raises RunError if the layers of its checkpoint are unknown."""
    own = _probe_jobs(store, run)
    if own is None:
        raise RunError(
            f"Run {run.id} measured no layer path of a checkpoint whose number of layers is known."
        )
    others = _related(store, own)
    if own.split(Split.SEARCH):
        later = [
            part
            for part in others
            if part.split(Split.CONFIRMATION) and part.run.created_at >= own.run.created_at
        ]
        confirmation = next((part for part in later if part.paths <= own.paths), None)
        return ProbeScan((own,), confirmation)
    searches = [part for part in others if part.split(Split.SEARCH)]
    whole = next((part for part in searches if own.paths <= part.paths), None)
    return ProbeScan((whole,) if whole is not None else tuple(reversed(searches)), own)


def read_measured(store: Store, parts: Iterable[ProbeJobs], split: Split, home: Path) -> list[Measured]:
    """The paths of runs with a result in every probe of a split, the unmodified checkpoint first.

    Raises SamplesError if a samples file is missing or altered.
    """
    results: dict[Layers, dict[str, ProbeResult]] = {}
    names: dict[str, None] = {}
    for part in parts:
        of_split = [job for job in part.jobs if job.benchmark.endswith(f"-{split}")]
        outcomes = store.outcomes(job.digest for job in of_split)
        for job in of_split:
            names[job.benchmark] = None
            outcome = outcomes.get(job.digest)
            by_probe = results.setdefault(part.layers(job), {})
            if isinstance(outcome, EvalOutcome) and job.benchmark not in by_probe:
                samples = stored_samples(job.digest, outcome, home).read()
                by_probe[job.benchmark] = result_of_samples(get_probe(job.benchmark), samples)
    measured = [
        Measured(layers=layers, results=tuple(by_probe[name] for name in names))
        for layers, by_probe in results.items()
        if all(name in by_probe for name in names)
    ]
    return sorted(measured, key=lambda path: path.layers != tuple(range(len(path.layers))))


def rank_method(run: RunRecord, home: Path) -> RankMethod:
    """How the scan ranked its paths, from its folder's report; the default where there is none."""
    path = home / "scans" / run.id / "report.json"
    try:
        if path.stat().st_size > _MAX_REPORT_BYTES:
            return RankMethod.BALANCED_Z
        request = json.loads(path.read_bytes()).get("request", {})
        return RankMethod(request.get("rank"))
    except (OSError, ValueError, AttributeError):
        return RankMethod.BALANCED_Z


def labels_of(paths: Iterable[Layers], n_layers: int) -> Mapping[Layers, LayerPath]:
    """The layer paths, which were validated when they were planned."""
    return {layers: LayerPath.of_validated(layers, n_layers) for layers in paths}


def _related(store: Pages, own: ProbeJobs) -> list[ProbeJobs]:
    """The other runs that ask the same probes in the same setting, the newest first."""
    keys = {name.rpartition("-")[0] for name in own.names}
    related = []
    for run in store.runs(limit=_MOST_RUNS):
        names = {c.benchmark for c in store.columns(run.id) if c.suite == "probes"}
        if run.id == own.run.id or {name.rpartition("-")[0] for name in names} != keys:
            continue
        part = _probe_jobs(store, run)
        if part is not None and part.setting == own.setting:
            related.append(part)
    return related


def _probe_jobs(store: Store, run: RunRecord) -> ProbeJobs | None:
    """The probe jobs of a run; None if it has none or its base's layers are unknown."""
    candidates = store.candidates(run.id)
    base = next((c for c in candidates if c.is_base), None)
    if base is None or not base.layers:
        return None
    jobs = tuple(
        item.job
        for item in store.run_jobs(run.id)
        if isinstance(item.job, EvalJob) and item.job.is_probe and _split_of(item.job.benchmark)
    )
    return ProbeJobs(run, base.layers, candidates, jobs) if jobs else None


def _split_of(name: str) -> str:
    split = name.rpartition("-")[2]
    return split if split in tuple(Split) else ""


def values_of(measured: Sequence[Measured]) -> list[tuple[Layers, dict[str, ProbeResult]]]:
    """Each path with its results by probe key."""
    return [(path.layers, {result.key: result for result in path.results}) for path in measured]
