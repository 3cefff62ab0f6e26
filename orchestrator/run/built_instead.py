"""Builds the layer paths of a run that an engine refuses to run live.

An engine that opens for layer paths checks itself, and may refuse all paths of a checkpoint (`live_refused`) or one path
(`path_refused`). The refused evaluations, and all others of the checkpoint in engines of these settings, then read built
checkpoints, as a plan that builds paths would have it: their digests are the same, so that nothing is evaluated twice. What is
refused follows from the failed attempts in the store, where another driver of the run, and later runs, find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.plan.candidate import Candidate
from orchestrator.plan.estimate import EngineNeed
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.path_builds import PathBuilds
from orchestrator.plan.plan import Plan, place_of
from orchestrator.plan.shared_engines import SharedEngines
from orchestrator.plan.sizing import Sizes
from orchestrator.provenance import provenance
from orchestrator.run.remedies import refusal_note
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import Failure, FailureClass
from recipes.errors import RecipeError
from recipes.layer_visit import Layers
from recipes.sources import PinnedSource, SourceFacts, describe

_Engine = tuple[str, str]
"""Digest of the weights that an engine is opened with, and of its settings without the longest sequence."""


@dataclass(frozen=True)
class Changes:
    """How evaluations that have not started go on, by their digests."""

    evals: dict[str, EvalJob] = field(default_factory=dict)
    """Those that are changed."""
    builds: dict[str, tuple[BuildJob, list[str]]] = field(default_factory=dict)
    """Builds by digest, each with the digests of the evaluations that need it."""
    labels: dict[str, str] = field(default_factory=dict)
    """Descriptions of the builds for display."""
    needs: dict[str, EngineNeed] = field(default_factory=dict)
    """Memory needs of the engines of built checkpoints, by engine key."""
    unbuildable: dict[str, str] = field(default_factory=dict)
    """Those whose path no checkpoint can hold, with the build's refusal."""


class BuiltInstead:
    """The refusals of live layer paths in one run, and what is built instead."""

    def __init__(self, store: Store, plan: Plan, settings: Settings) -> None:
        self._store = store
        self._home = settings.home
        self._allow_pickles = plan.sweep.allow_pickles
        installed = {engine.kind: engine for engine in plan.engines}
        engines = [(entry, installed[entry.kind]) for entry in plan.sweep.engines if entry.kind in installed]
        self._builds = PathBuilds(plan.sweep, settings, SharedEngines(plan.sweep, engines))
        self._live: dict[str, tuple[EvalJob, Candidate]] = {}
        self._engines: dict[str, _Engine] = {}
        self._refused: set[tuple[_Engine, Layers | None]] = set()
        self._built: dict[tuple[str, Layers | None], Candidate | str] = {}
        self._jobs: dict[str, BuildJob] = {}
        self._labels: dict[str, str] = {}
        self._facts: dict[str, SourceFacts] = {}
        self._asked: set[str] = set()
        self._notes: list[str] = []
        self.is_due = False
        """Whether `changes` may have something new."""
        self.add(plan)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is built instead, and why: a sentence for each refusal."""
        return tuple(self._notes)

    def add(self, plan: Plan) -> None:
        """Take the evaluations of a plan."""
        candidates = {candidate.name: candidate for candidate in plan.candidates}
        for planned in plan.evals:
            if planned.job.tuning.sets_paths:
                self._live[planned.job.digest] = planned.job, candidates[planned.candidate]
                self.is_due = True

    def takes(self, job: BuildJob | EvalJob, failure: Failure) -> bool:
        """Whether a failed attempt was the refusal of a live layer path, so that `changes` tells how its job goes on."""
        if job.digest not in self._live or not isinstance(job, EvalJob) or not job.tuning.sets_paths:
            return False
        return self._refuse(job, failure.failure_class, failure.message)

    def changes(self, waiting: Mapping[str, EvalJob]) -> Changes:
        """How the evaluations among these go on that are refused; they set layer paths and have not started."""
        self._recall()
        changes = Changes()
        if not self._refused:
            return changes
        built_by_digest: dict[str, Candidate] = {}
        for digest, built in self._refused_paths():
            if digest not in waiting:
                continue
            if isinstance(built, str):
                changes.unbuildable[digest] = built
            else:
                built_by_digest[digest] = built
                changes.evals[digest] = _reading(waiting[digest], built)
        for digest, job in waiting.items():
            if job.layer_path is None and (self._engine_of(job), None) in self._refused:
                changes.evals[digest] = _without_paths(job)
        for digest in built_by_digest:
            for artifact in changes.evals[digest].artifacts:
                changes.builds.setdefault(artifact, (self._jobs[artifact], []))[1].append(digest)
        changes.labels.update({artifact: self._labels[artifact] for artifact in changes.builds})
        changes.needs.update(self._needs(changes.evals, built_by_digest))
        return changes

    def _refused_paths(self) -> Iterator[tuple[str, Candidate | str]]:
        """Evaluations of refused paths in the plan's order: digest, and the candidate built or why it cannot be.

        Those that have ended are among them: which path opens a shared engine must not depend on what has ended.
        """
        for digest, (job, candidate) in self._live.items():
            if candidate.layer_path is not None and self._is_refused(job):
                yield digest, self._built_of(candidate, job)

    def _refuse(self, job: EvalJob, kind: FailureClass, message: str) -> bool:
        """Take a refusal, and a note if it is the first of its words; False if it is none."""
        note = refusal_note(kind, message)
        path = None if kind is FailureClass.LIVE_REFUSED else job.live_layers
        if note is None or (path is None and kind is FailureClass.PATH_REFUSED):
            return False
        self._refused.add((self._engine_of(job), path))
        if note not in self._notes:
            self._notes.append(note)
        self.is_due = True
        return True

    def _recall(self) -> None:
        """Take the refusals that the store holds of the weights of this run."""
        weights = {
            digest for job, _ in self._live.values() for digest in (job.opened_digest, job.weights_digest)
        }
        if weights <= self._asked:
            return
        for refusal in self._store.live_refusals(weights - self._asked, provenance()):
            self._refuse(refusal.job, refusal.failure_class, refusal.message)
        self._asked |= weights

    def _is_refused(self, job: EvalJob) -> bool:
        engine = self._engine_of(job)
        return (engine, None) in self._refused or (engine, job.live_layers) in self._refused

    def _engine_of(self, job: EvalJob) -> _Engine:
        if job.engine_key not in self._engines:
            self._engines[job.engine_key] = job.opened_digest, job.engine.digest_without_length
        return self._engines[job.engine_key]

    def _built_of(self, candidate: Candidate, job: EvalJob) -> Candidate | str:
        """The candidate, its layer path built, or why no checkpoint can hold it."""
        key = candidate.weights_digest, candidate.layer_path
        if key not in self._built:
            try:
                facts = self._facts_of(job)
                built = self._builds.of(candidate, facts, job.place.name or "")
            except RecipeError as error:
                self._built[key] = str(error)
            else:
                self._built[key] = built
                for build in _builds_of(built):
                    self._jobs.setdefault(build.digest, build)
                    self._labels.setdefault(build.digest, f"build {candidate.name}")
        return self._built[key]

    def _facts_of(self, job: EvalJob) -> SourceFacts:
        """The checkpoint that a live job's engine is opened with."""
        where = job.place.name or ""
        if where not in self._facts:
            source = PinnedSource(reference=where, weights_digest=job.opened_digest)
            self._facts[where] = describe(source, home=self._home, allow_pickles=self._allow_pickles)
        return self._facts[where]

    def _needs(self, changed: Mapping[str, EvalJob], built: Mapping[str, Candidate]) -> dict[str, EngineNeed]:
        """Memory needs of the engines of the changed jobs, by engine key."""
        needs: dict[str, EngineNeed] = {}
        for where, facts in self._facts.items():
            here = {d: c for d, c in built.items() if self._live[d][0].place.name == where}
            sizes = Sizes(list(here.values()), facts, live=False)
            needs |= sizes.needs((candidate.name, changed[digest]) for digest, candidate in here.items())
        return needs


def _builds_of(built: Candidate) -> Iterator[BuildJob]:
    if built.build is not None:
        yield built.build
    if built.live_merge is not None:
        yield built.live_merge.build


def _without_paths(job: EvalJob) -> EvalJob:
    """The job in an engine without live layer paths."""
    tuning = job.tuning.model_copy(update={"live": False, "extra_layer_slots": 0})
    return job.model_copy(update={"tuning": tuning})


def _reading(job: EvalJob, built: Candidate) -> EvalJob:
    """The job of a live layer path, which reads the built one."""
    place, layers = place_of(built, live=False)
    return _without_paths(job).model_copy(
        update={"place": place, "live_layers": layers, "live_merge": built.live_merge}
    )
