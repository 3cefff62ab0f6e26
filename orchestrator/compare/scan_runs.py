"""The runs of one scan or search, and what its confirmation shows, from the store.

A scan is stored as a run of its search and a run of its confirmation, a search beyond the grid as several of each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from evals.engine import Frozen
from evals.layer_visits import VisitPath as Layers
from evals.probes import (
    Confirmation,
    Measured,
    PathValues,
    ProbeResult,
    Ranking,
    RankMethod,
    Scoring,
    Split,
    confirm,
    get_probe,
    rank,
)
from evals.probes.evaluate import result_of_samples
from evals.probes.race import Race
from evals.scores import PROBE_SUITE
from orchestrator.compare.races import race_of_run
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.plan.plan import Confirms
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Column, Pages, ProbedRun


class ScanRuns(Frozen):
    """The runs of one scan or search."""

    searches: tuple[str, ...] = Field(description="Ids of the runs that searched, the first one first.")
    confirmation: str | None = Field(
        description="Id of the run on the confirmation set with the most paths; null if there is none."
    )
    rank: RankMethod = Field(description="How the search combined the probes of a path.")


def scan_runs(pages: Pages, run_id: str) -> ScanRuns | None:
    """The runs that belong together with this one; None if it asked no probes."""
    members = pages.probe_runs()
    member = next((m for m in members if m.run_id == run_id), None)
    if member is None:
        return None
    confirmations = [m for m in members if _split(m) is Split.CONFIRMATION and _related(m, member)]
    named = {m.run_id: _confirms(pages, m, members) for m in confirmations}
    if member.run_id in named:
        confirmed = named[member.run_id]
    else:
        matching = [c for c in named.values() if c is not None and run_id in c.runs]
        confirmed = matching[0] if matching else Confirms(runs=(run_id,), rank=RankMethod.BALANCED_Z)
    if confirmed is None:
        return ScanRuns(searches=(), confirmation=run_id, rank=RankMethod.BALANCED_Z)
    same_scan = [
        m for m in confirmations if (c := named[m.run_id]) is not None and set(c.runs) & set(confirmed.runs)
    ]
    most = max(same_scan, key=lambda m: (m.n_paths, m.created_at), default=None)
    stored = {m.run_id for m in members}
    return ScanRuns(
        searches=tuple(r for r in confirmed.runs if r in stored),
        confirmation=most.run_id if most else None,
        rank=confirmed.rank,
    )


def probe_key(name: str) -> str:
    """A probe's name without its split."""
    return name.rsplit("-", 1)[0]


def _split(member: ProbedRun) -> Split | None:
    """The split of a run's probes; None if it asked both."""
    splits = {split for name in member.probes for split in Split if name.endswith(f"-{split}")}
    return splits.pop() if len(splits) == 1 else None


def _keys(member: ProbedRun) -> frozenset[str]:
    """The probes' names without their split."""
    return frozenset(map(probe_key, member.probes))


def _related(one: ProbedRun, other: ProbedRun) -> bool:
    """Whether two runs asked the same probes of the same base on the same engine."""
    return (one.weights_digest, one.engine_key, _keys(one)) == (
        other.weights_digest,
        other.engine_key,
        _keys(other),
    )


def _confirms(pages: Pages, member: ProbedRun, members: Sequence[ProbedRun]) -> Confirms | None:
    """The search that a run confirms: as its plan says, else the newest one before it that tried all of its paths."""
    try:
        recorded = json.loads(member.plan).get("confirms")
        if recorded is not None:
            return Confirms.model_validate(recorded)
    except (ValueError, ValidationError, AttributeError):
        pass
    paths = {c.layer_path for c in pages.candidates(member.run_id)}
    for search in members:  # newest first
        if (
            _split(search) is Split.SEARCH
            and _related(search, member)
            and search.created_at <= member.created_at
            and paths <= {c.layer_path for c in pages.candidates(search.run_id)}
        ):
            return Confirms(runs=(search.run_id,), rank=RankMethod.BALANCED_Z)
    return None


def search_ranking(pages: Pages, run_id: str, method: RankMethod, race: Race | None = None) -> Ranking | None:
    """A search run's ranking, from its stored values; None if its base has none. A `race` gives the spreads of the probes."""
    base = pages.base_of(run_id)
    if base is None or not base.layers:
        return None
    columns = probe_columns(pages, run_id)
    values = {probe_key(c.benchmark): pages.column_scores(run_id, c) for c in columns}
    if not values or any(base.position not in by_position for by_position in values.values()):
        return None
    whole = tuple(range(base.layers))
    table = [
        PathValues(
            layers=whole if c.position == base.position else c.layer_path or whole,
            values={
                key: by_position[c.position]
                for key, by_position in values.items()
                if c.position in by_position
            },
        )
        for c in pages.candidates(run_id)
    ]
    return rank(table, tuple(values), base.layers, method, race.spreads if race is not None else None)


def probe_columns(pages: Pages, run_id: str) -> tuple[Column, ...]:
    """The probes of a run, of its first engine."""
    columns = [c for c in pages.columns(run_id) if c.suite == PROBE_SUITE]
    return tuple(c for c in columns if c.engine_key == columns[0].engine_key)


def tried_paths(pages: Pages, scan: ScanRuns) -> frozenset[Layers]:
    """Every layer path that the searches tried, without the base; a failed one counts."""
    return frozenset(
        candidate.layer_path
        for run_id in scan.searches
        for candidate in pages.candidates(run_id)
        if not candidate.is_base and candidate.layer_path is not None
    )


def stored_confirmation(pages: Pages, scan: ScanRuns, home: Path) -> Confirmation | None:
    """What the confirmation shows, as the command reports it; None while its base or all its paths have no answers.

    Reads the samples of the confirmed paths alone: their findings depend on the number of paths tried, not on the
    others' answers. The rank and the expected gain of a path are among the confirmed ones.

    Raises:
        SamplesError: samples are missing or altered.
        ProbeError: this version of mergeboard defines a probe differently.
    """
    if scan.confirmation is None or not scan.searches:
        return None
    race = race_of_run(pages, pages.run(scan.searches[0]), home)
    ranking = search_ranking(pages, scan.searches[0], scan.rank, race)
    base = pages.base_of(scan.confirmation)
    if ranking is None or base is None or not base.layers:
        return None
    whole = tuple(range(base.layers))
    confirmed = _measured(pages, scan.confirmation, None, whole, home)
    searched: dict[Layers, Measured] = {}
    for run_id in scan.searches:
        searched |= {
            m.layers: m for m in _measured(pages, run_id, {m.layers for m in confirmed}, whole, home)
        }
    both = [m for m in confirmed if m.layers in searched]
    if len(both) < 2 or whole not in searched or all(m.layers != whole for m in both):
        return None
    return confirm(
        [searched[m.layers] for m in both],
        both,
        base.layers,
        Scoring.CORRECTED,
        weights=ranking.weights if scan.rank is RankMethod.BALANCED_Z else None,
        n_tried=len(tried_paths(pages, scan)),
    )


def _measured(
    pages: Pages, run_id: str, layers: set[Layers] | None, whole: Layers, home: Path
) -> list[Measured]:
    """A run's paths with an answer to every probe, the base first; only these paths if given."""
    positions = {
        c.position: whole if c.is_base else c.layer_path
        for c in pages.candidates(run_id)
        if layers is None or c.is_base or c.layer_path in layers
    }
    names = tuple(c.benchmark for c in probe_columns(pages, run_id))
    measured: list[Measured] = []
    for scores in pages.scores_of_candidates(run_id, list(positions)):
        path = positions[scores.candidate.position]
        results = _results(scores, names, home)
        if path is not None and all(name in results for name in names):
            measured.append(Measured(layers=path, results=tuple(results[name] for name in names)))
    return measured


def _results(scores: CandidateScores, names: Sequence[str], home: Path) -> Mapping[str, ProbeResult]:
    return {
        record.result.benchmark: result_of_samples(
            get_probe(record.result.benchmark), stored_samples(record.job_digest, record, home).read()
        )
        for record in scores.evaluations
        if record.suite == PROBE_SUITE and record.result.benchmark in names
    }
