"""Who is compared with whom: candidates of runs and imported runs, by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.compare import Comparison
from orchestrator.compare.bos import Group, with_known_defaults
from orchestrator.compare.imported import imported_sides
from orchestrator.compare.lookup import find_result
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
) -> tuple[Comparison, ...]:
    """Candidates against a base, each a candidate of a run or an imported run."""
    ours = {name: _result(store, name, run_id) for name in candidates}
    # Read first: a name that is neither is the thing to say.
    imported = {n: _group(store, n, None, home) for n, found in ours.items() if found is None}
    runs = tuple(dict.fromkeys(found.run_id for found in ours.values() if found is not None))
    if base == BASE_NAME and len(runs) > 1:
        if imported:
            raise RunError(
                f"The candidates are of {len(runs)} runs, each with a base of its own, and {next(iter(imported))} is an "
                "imported run: name what to compare them with by --base."
            )
        return _each_against_its_base(store, ours, runs, home, force=force)
    first = next((found for found in ours.values() if found is not None), None)
    if base == BASE_NAME and first is None and _result(store, base, run_id) is None:
        raise RunError(
            f"--base names what to compare {candidates[0]} with: the checkpoint, id or path of an imported run, or a "
            "candidate."
        )
    reference = _reference(store, base, run_id, first)
    results = [found for found in ours.values() if found is not None]
    beside = max(0, _tried(store, runs) - len(results))
    if reference is not None and len(results) == len(ours):
        return comparisons(reference, results, home, force=force, tried=beside)
    groups = [_group(store, base, reference, home)]
    groups += [imported.get(n) or _group(store, n, found, home) for n, found in ours.items()]
    against, *others = with_known_defaults(groups, home)
    named = dict(zip(ours, others, strict=True))
    require_fit(against, [side for group in named.values() for side in group])
    return compare_sides(against, named, force=force, tried=beside)


def _each_against_its_base(
    store: Store,
    ours: Mapping[str, CandidateResult | None],
    runs: Sequence[str],
    home: Path,
    *,
    force: bool,
) -> tuple[Comparison, ...]:
    """Candidates of several runs, each against the base of its own run, corrected for all candidates of all of them."""
    tried = _tried(store, runs)
    compared: dict[tuple[str, str], Comparison] = {}
    for run in runs:
        results = [found for found in ours.values() if found is not None and found.run_id == run]
        reference = find_result(store, BASE_NAME, run, results[0].engine)
        others = max(0, tried - len(results))
        for comparison in comparisons(reference, results, home, force=force, tried=others):
            named = comparison.model_copy(update={"base": f"{comparison.base} of run {run}"})
            compared[run, comparison.candidate] = named
    return tuple(compared[f.run_id, f.candidate.name] for f in ours.values() if f is not None)


def _tried(store: Store, runs: Sequence[str]) -> int:
    """How many candidates these runs tried, their bases aside."""
    return sum(not candidate.is_base for run in runs for candidate in store.candidates(run))


def _reference(
    store: Store, base: str, run_id: str | None, first: CandidateResult | None
) -> CandidateResult | None:
    """What candidates are compared with: of the run that is given, else of the first candidate's, else of any."""
    own = run_id or (first.run_id if first is not None else None)
    if own is not None and (
        base == BASE_NAME or store.find_candidates(base, run_id=own, scored=True, limit=1)
    ):
        return _result(store, base, own, first)
    return _result(store, base, run_id, first)


def _result(
    store: Store, name: str, run_id: str | None, like: CandidateResult | None = None
) -> CandidateResult | None:
    """A candidate's stored result, with the same engine as another where that is given; None where there is none."""
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
    found = imported_sides(store, name, home)
    if found is None:
        raise RunError(
            f"There are no scores of {name} in the store: `mergeboard status` lists the runs, and `mergeboard import` "
            "takes in what was made elsewhere."
        )
    return Group(tuple(found), tuple(dict.fromkeys(side.measurement.checkpoint for side in found)))
