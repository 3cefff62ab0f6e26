"""Find stored results by the name of their candidate; an ambiguous name is an error that lists the runs."""

from __future__ import annotations

from collections.abc import Sequence

from evals.engine import EngineSpec
from orchestrator.compare.run_comparisons import CandidateResult, results_of_candidate
from orchestrator.errors import RunError
from orchestrator.store import Store
from orchestrator.store.records import CandidateInRun
from recipes.layer_visit import Layers

# High enough to search all runs, not only the newest.
_ALL = 100_000
_NAMED = 4


def find_result(
    store: Store, name: str, run_id: str | None = None, engine: EngineSpec | None = None
) -> CandidateResult:
    """The newest stored result of a candidate by its name or weights digest, optionally of one run or engine.

    Raises RunError if there is none, or if the name stands for different checkpoints.
    """
    scored = store.find_candidates(name, run_id=run_id, scored=True, limit=_ALL)
    # Layer paths over the same weights share the weights digest: the checkpoint itself comes first.
    matches = _first_of(
        [m for m in scored if m.candidate.name == name],
        [m for m in scored if m.candidate.layer_path is None],
        scored,
    )
    _require_one_checkpoint(name, matches)
    for match in matches:
        for result in results_of_candidate(store, match):
            if engine in (None, result.engine):
                return result
    where = f" in run {run_id}" if run_id else ""
    raise RunError(f"There are no scores of {name}{where} in the store; `mergeboard status` lists the runs.")


def _first_of(*groups: Sequence[CandidateInRun]) -> Sequence[CandidateInRun]:
    """The first group that is not empty."""
    return next((group for group in groups if group), ())


def _require_one_checkpoint(name: str, matches: Sequence[CandidateInRun]) -> None:
    """Raise RunError if the matches are different checkpoints: every run reuses names such as `base`."""
    newest: dict[tuple[str, Layers | None], CandidateInRun] = {}
    for match in matches:
        newest.setdefault((match.candidate.weights_digest, match.candidate.layer_path), match)
    if len(newest) <= 1:
        return
    found_in = [f"{_describe(m)} in run {m.run_id}" for m in list(newest.values())[:_NAMED]]
    more = f" and {len(newest) - _NAMED} more" if len(newest) > _NAMED else ""
    raise RunError(
        f"{name} stands for {len(newest)} different checkpoints: {'; '.join(found_in)}{more}; name one run with --run."
    )


def _describe(match: CandidateInRun) -> str:
    candidate = match.candidate
    layers = f", {len(candidate.layer_path)} layers" if candidate.layer_path is not None else ""
    return f"{candidate.weights_digest}{layers}"
