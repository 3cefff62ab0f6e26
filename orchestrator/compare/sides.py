"""Compare candidates of runs and imported runs by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.compare import Comparison, Side
from orchestrator.compare.bos import Group, with_known_defaults
from orchestrator.compare.imported import imported_sides
from orchestrator.compare.lookup import find_result
from orchestrator.compare.measurement import with_metric
from orchestrator.compare.run_comparisons import (
    CandidateResult,
    compare_sides,
    comparisons,
    require_fit,
    sides,
)
from orchestrator.errors import RunError
from orchestrator.plan.candidates import BASE_NAME
from orchestrator.store import Store


def compare_names(
    store: Store,
    candidates: Sequence[str],
    base: str,
    home: Path,
    *,
    run_id: str | None = None,
    force: bool = False,
    metric: str | None = None,
) -> tuple[Comparison, ...]:
    """Compare candidates with a base; each name is a candidate of a run or an imported run.

    `metric` chooses one of the metrics of imported tasks that no suite contains; their main one by default.
    """
    stored = {name: _result(store, name, run_id) for name in candidates}
    # Read first, so that an unknown name is reported before any other error.
    imported = {n: _group(store, n, None, home) for n, result in stored.items() if result is None}
    runs = tuple(dict.fromkeys(result.run_id for result in stored.values() if result is not None))
    if base == BASE_NAME and len(runs) > 1:
        if imported:
            raise RunError(
                f"The candidates are of {len(runs)} runs, each with a base of its own, and {next(iter(imported))} is an "
                "imported run: name what to compare them with by --base."
            )
        return _each_against_its_base(store, stored, runs, home, force=force)
    first = next((result for result in stored.values() if result is not None), None)
    if base == BASE_NAME and first is None and _result(store, base, run_id) is None:
        raise RunError(
            f"--base names what to compare {candidates[0]} with: the checkpoint, id or path of an imported run, or a "
            "candidate."
        )
    reference = _reference(store, base, run_id, first)
    results = [result for result in stored.values() if result is not None]
    n_others = max(0, _tried(store, runs) - len(results))
    if reference is not None and len(results) == len(stored) and metric is None:
        return comparisons(reference, results, home, force=force, tried=n_others)
    groups = [_group(store, base, reference, home)]
    groups += [imported.get(n) or _group(store, n, result, home) for n, result in stored.items()]
    base_sides, *candidate_sides = with_known_defaults(groups, home)
    if metric is not None:
        _require_metric(metric, base_sides)
        base_sides, *candidate_sides = (
            [with_metric(side, metric) for side in group] for group in (base_sides, *candidate_sides)
        )
    named = dict(zip(stored, candidate_sides, strict=True))
    require_fit(base_sides, [side for group in named.values() for side in group])
    return compare_sides(base_sides, named, force=force, tried=n_others)


@dataclass(frozen=True)
class NamedSides:
    """The sides of a base and of one candidate, and how many candidates were tried besides it."""

    base: tuple[Side, ...]
    candidate: tuple[Side, ...]
    n_others: int


def sides_of_names(
    store: Store, candidate: str, base: str, home: Path, *, run_id: str | None = None
) -> NamedSides:
    """The sides that `compare_names` would compare. Raises RunError for unknown or ambiguous names."""
    result = _result(store, candidate, run_id)
    imported = _group(store, candidate, None, home) if result is None else None
    reference = _reference(store, base, run_id, result)
    groups = [_group(store, base, reference, home), imported or _group(store, candidate, result, home)]
    base_sides, sides_of_candidate = with_known_defaults(groups, home)
    require_fit(base_sides, sides_of_candidate)
    n_others = max(0, _tried(store, (result.run_id,)) - 1) if result is not None else 0
    return NamedSides(tuple(base_sides), tuple(sides_of_candidate), n_others)


def named_sides(
    store: Store, candidates: Sequence[str], base: str, home: Path, *, run_id: str | None = None
) -> dict[str, tuple[list[Side], list[Side]]]:
    """The sides of each candidate's base and of the candidate, by the candidate's name, as `compare_names` finds them."""
    named = {name: sides_of_names(store, name, base, home, run_id=run_id) for name in candidates}
    return {name: (list(sides.base), list(sides.candidate)) for name, sides in named.items()}


def _require_metric(metric: str, sides: Sequence[Side]) -> None:
    """Raise RunError if no task of these sides has the metric."""
    available = {s.metric for side in sides if side.benchmark is not None for s in side.measurement.scores}
    if metric not in available:
        names = ", ".join(sorted(available)) or "none: --metric chooses among those of imported tasks"
        raise RunError(f"No imported task of the base has the metric {metric}; it has {names}.")


def _each_against_its_base(
    store: Store,
    stored: Mapping[str, CandidateResult | None],
    runs: Sequence[str],
    home: Path,
    *,
    force: bool,
) -> tuple[Comparison, ...]:
    """Compare candidates with the bases of their runs, corrected over all candidates of the runs."""
    tried = _tried(store, runs)
    compared: dict[tuple[str, str], Comparison] = {}
    for run in runs:
        results = [result for result in stored.values() if result is not None and result.run_id == run]
        reference = find_result(store, _base_of(store, run), run, results[0].engine)
        n_others = max(0, tried - len(results))
        for comparison in comparisons(reference, results, home, force=force, tried=n_others):
            named = comparison.model_copy(update={"base": f"{comparison.base} of run {run}"})
            compared[run, comparison.candidate] = named
    return tuple(compared[f.run_id, f.candidate.name] for f in stored.values() if f is not None)


def _base_of(store: Store, run_id: str) -> str:
    """Name of a run's base: `base`, or the checkpoint of `mergeboard eval`."""
    return next((c.name for c in store.candidates(run_id) if c.is_base), BASE_NAME)


def _tried(store: Store, runs: Sequence[str]) -> int:
    """Number of candidates of these runs without their bases."""
    return sum(not candidate.is_base for run in runs for candidate in store.candidates(run))


def _reference(
    store: Store, base: str, run_id: str | None, first: CandidateResult | None
) -> CandidateResult | None:
    """The base's result: in the given run, else in the first candidate's run, else in any run."""
    preferred_run = run_id or (first.run_id if first is not None else None)
    if base == BASE_NAME and preferred_run is not None:
        base = _base_of(store, preferred_run)
        if first is not None and first.candidate.is_base and first.run_id == preferred_run:
            raise RunError(
                f"{first.candidate.name} was scored alone in run {preferred_run}: name by --base what to compare it with."
            )
    if preferred_run is not None and (
        base == BASE_NAME or store.find_candidates(base, run_id=preferred_run, scored=True, limit=1)
    ):
        return _result(store, base, preferred_run, first)
    return _result(store, base, run_id, first)


def _result(
    store: Store, name: str, run_id: str | None, like: CandidateResult | None = None
) -> CandidateResult | None:
    """A candidate's stored result, preferably with the engine of `like`; None if there is none."""
    if not store.find_candidates(name):
        return None
    try:
        return find_result(store, name, run_id, like.engine if like is not None else None)
    except RunError:
        if like is None:
            raise
        return find_result(store, name, run_id)


def _group(store: Store, name: str, result: CandidateResult | None, home: Path) -> Group:
    if result is not None:
        places = dict.fromkeys(job.place for job, _ in result.evaluated)
        references = [p.name or str(home / "artifacts" / str(p.artifact)) for p in places]
        return Group(tuple(sides(result, home, contain=True)), tuple(references))
    imported = imported_sides(store, name, home)
    if imported is None:
        raise RunError(
            f"There are no scores of {name} in the store: `mergeboard status` lists the runs, and `mergeboard import` "
            "takes in what was made elsewhere."
        )
    return Group(tuple(imported), tuple(dict.fromkeys(side.measurement.checkpoint for side in imported)))
