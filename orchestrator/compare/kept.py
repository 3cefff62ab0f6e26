"""Comparisons kept in the store: computed once, when a candidate's evaluations are there, and read by all pages."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.compare import Side
from orchestrator.compare.candidate_races import n_left_out
from orchestrator.compare.comparison import Comparison
from orchestrator.compare.family import PairOfRun, RunFamily, pairs_of_run
from orchestrator.compare.run_comparisons import SideReader, compare_sides, require_fit, result_of_candidate
from orchestrator.store import Store
from orchestrator.store.comparisons import KeptComparison, ScoredCandidate
from orchestrator.store.records import CandidateRecord

_MOST_EVALUATIONS = 64
_AT_ONCE = 20


class PairReader:
    """Compares pairs of a run, reading the samples of each from disk."""

    def __init__(self, store: Store, reader: SideReader) -> None:
        self._store = store
        self._reader = reader
        self._candidates = functools.lru_cache(maxsize=2)(self._by_position)

    def sides(self, run_id: str, scored: ScoredCandidate) -> list[Side]:
        """The sides of a candidate's evaluations; those whose samples cannot be read are unfit."""
        record = self._candidates(run_id)[scored.position]
        result = result_of_candidate(self._store, run_id, record, scored.engine_key, scored.jobs)
        return [] if result is None else self._reader.sides(result)

    def compare(self, run_id: str, pair: PairOfRun) -> tuple[Comparison, bool]:
        """The comparison, uncorrected, and whether samples could not be read: then it must not be kept."""
        names = {position: record.name for position, record in self._candidates(run_id).items()}
        base, candidate = (self.sides(run_id, side) for side in (pair.base, pair.candidate))
        (comparison,) = compare_sides(base, {names[pair.candidate.position]: candidate})
        named = comparison.model_copy(update={"base": names[pair.base.position]})
        return named, any(side.unfit for side in (*base, *candidate))

    def _by_position(self, run_id: str) -> dict[int, CandidateRecord]:
        return {candidate.position: candidate for candidate in self._store.candidates(run_id)}


def fill_kept(store: Store, run_id: str, base: int, family: RunFamily) -> int:
    """Add what the store keeps of a family's missing comparisons; returns how many."""
    missing = {pair.at: pair.key for pair in family.missing}
    if not missing:
        return 0
    keys = store.kept_keys(run_id, base)
    current = {at for at, key in missing.items() if keys.get(at) == key}
    if not current:
        return 0
    positions = None if len(current) > len(keys) // 2 else {position for position, _ in current}
    for record in store.kept_comparisons(run_id, base, positions):
        at = (record.candidate, record.engine_key)
        if missing.get(at) == record.key:
            family.add(at, record.spec)
    return len(current)


def record_of(run_id: str, pair: PairOfRun, comparison: Comparison) -> KeptComparison:
    """The row that keeps an uncorrected comparison."""
    return KeptComparison(
        run_id=run_id,
        base=pair.base.position,
        candidate=pair.candidate.position,
        engine_key=pair.candidate.engine_key,
        key=pair.key,
        spec=comparison.model_dump_json(),
    )


def family_of_run(
    store: Store,
    run_id: str,
    home: Path,
    *,
    keep: Callable[[list[KeptComparison]], None] | None = None,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> RunFamily:
    """All comparisons of a run's candidates with its own base: those that the store keeps, and the rest computed.

    `keep` gets the computed ones, a few at a time; `show` is called with how many of how many there are.
    Raises RunError if no samples of one side can be read.
    """
    base = next((c.position for c in store.candidates(run_id) if c.is_base), None)
    scored: tuple[ScoredCandidate, ...] = () if base is None else store.scored_candidates(run_id)
    pairs = pairs_of_run(scored, base if base is not None else 0)
    engines = len({pair.candidate.engine_key for pair in pairs})
    family = RunFamily(
        pairs, engines * n_left_out(store, run_id, {pair.candidate.position for pair in pairs})
    )
    if base is None:
        return family
    fill_kept(store, run_id, base, family)
    reader = PairReader(store, SideReader(home, kept=_MOST_EVALUATIONS))
    for engine_key, reference in {p.base.engine_key: p.base for p in family.missing}.items():
        candidates = [p.candidate for p in family.missing if p.candidate.engine_key == engine_key]
        require_fit(reader.sides(run_id, reference))
        _require_any_fit(reader, run_id, candidates)
    computed: list[KeptComparison] = []
    for pair in family.missing:
        show(family.n_computed, len(family.pairs))
        comparison, unread = reader.compare(run_id, pair)
        family.add(pair.at, comparison.model_dump_json())
        if not unread:
            computed.append(record_of(run_id, pair, comparison))
        if keep is not None and len(computed) >= _AT_ONCE:
            keep(computed)
            computed = []
    if keep is not None and computed:
        keep(computed)
    show(len(family.pairs), len(family.pairs))
    return family


def _require_any_fit(reader: PairReader, run_id: str, candidates: Sequence[ScoredCandidate]) -> None:
    """Raise RunError if no samples of any of the candidates can be read; usually the first has some."""
    for candidate in candidates:
        sides = reader.sides(run_id, candidate)
        if any(not side.unfit for side in sides):
            return
    if candidates:
        require_fit(reader.sides(run_id, candidates[-1]))
