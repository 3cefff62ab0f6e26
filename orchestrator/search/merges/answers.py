"""The answers of a run's candidates to the objectives' questions, item by item, from the stored samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from evals.engine import digest_of
from evals.probes import ItemResult, ProbeResult, Split
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.plan.job import EvalJob
from orchestrator.search.merges.objective_values import objective_jobs
from orchestrator.search.merges.search_file import Objective, SearchFile
from orchestrator.search.probe_answers import read_probe
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome

Question = tuple[str, str, int]
"""Benchmark, subset and number of a document."""


class RunAnswers:
    """Reads the answers of one run's candidates, each file once."""

    def __init__(self, store: Store, file: SearchFile, run_id: str, split: Split, home: Path) -> None:
        self._file = file
        self._split = split
        self._home = home
        names = {candidate.position: candidate.name for candidate in store.candidates(run_id)}
        self._jobs: dict[str, list[EvalJob]] = {name: [] for name in names.values()}
        for item in store.run_jobs(run_id):
            if isinstance(item.job, EvalJob):
                for position in item.candidates:
                    self._jobs[names[position]].append(item.job)
        self._outcomes = store.outcomes({job.digest for jobs in self._jobs.values() for job in jobs})

    def of(
        self, candidate: str, without: Mapping[str, Collection[Question]] | None = None
    ) -> tuple[ProbeResult, ...] | None:
        """A candidate's answers to every objective; None if one is not evaluated.

        `without` names, by objective, questions of suites that are left out.
        """
        results = []
        for objective in self._file.search.objectives:
            jobs = objective_jobs(self._file, objective, self._jobs.get(candidate, []), self._split)
            outcomes = [self._outcomes.get(job.digest) for job in jobs]
            pairs = [(j, o) for j, o in zip(jobs, outcomes, strict=True) if isinstance(o, EvalOutcome)]
            if not pairs or len(pairs) < len(jobs):
                return None
            if objective.probe is not None:
                results.append(read_probe(*pairs[0], self._home))
            else:
                result = self._of_suite(objective, pairs, (without or {}).get(objective.name, ()))
                if result is None:
                    return None
                results.append(result)
        return tuple(results)

    def questions(self, candidate: str) -> dict[str, set[Question]]:
        """The documents of suites that a candidate was asked, by objective."""
        asked: dict[str, set[Question]] = {}
        for objective in self._file.search.objectives:
            for job in objective_jobs(self._file, objective, self._jobs.get(candidate, []), self._split):
                outcome = self._outcomes.get(job.digest)
                if objective.suite is not None and isinstance(outcome, EvalOutcome):
                    samples = stored_samples(job.digest, outcome, self._home).read()
                    asked.setdefault(objective.name, set()).update(
                        (job.benchmark, sample.subset, sample.doc_id) for sample in samples
                    )
        return asked

    def _of_suite(
        self,
        objective: Objective,
        pairs: list[tuple[EvalJob, EvalOutcome]],
        without: Collection[Question],
    ) -> ProbeResult | None:
        """The documents of a suite as items, with the benchmarks' own credit; None if none is left."""
        items: list[ItemResult] = []
        asked: list[tuple[str, str, int, str]] = []
        for job, outcome in pairs:
            for sample in stored_samples(job.digest, outcome, self._home).read():
                if (job.benchmark, sample.subset, sample.doc_id) in without:
                    continue
                asked.append((job.benchmark, sample.subset, sample.doc_id, sample.doc_hash))
                items.append(
                    ItemResult(
                        item=len(items),
                        target=sample.target,
                        response=sample.response,
                        extracted=sample.extracted,
                        published=None,
                        corrected=sample.correct,
                    )
                )
        if not items:
            return None
        return ProbeResult(
            probe=f"{objective.name} {self._split}",
            key=objective.name,
            split=self._split,
            digest=digest_of(asked),
            items=tuple(items),
        )
