"""A run of thousands of layer paths with few evaluations, its comparisons kept: effects far from the first page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evals.scores import ChatTemplate
from evals.suite import load_suite
from orchestrator.compare.family import pairs_of_run
from orchestrator.compare.kept import PairReader, record_of
from orchestrator.compare.run_comparisons import SideReader
from orchestrator.store import Store
from orchestrator.store.comparisons import KeptComparison
from orchestrator.store.records import PlannedJob, RunState
from tests.support.demo_stores import Maker
from tests.support.made_results import Made, block

SMOKE = load_suite("smoke")
SUITE = SMOKE.model_copy(update={"benchmarks": SMOKE.benchmarks[:2]})
KINDS = {
    "base": Made("base", ability=0.4),
    "same": block(3, 6, ability=0.4, restless=0.02),
    "better": block(12, 14, ability=0.95),
    "worse": block(0, 9, ability=0.0, restless=0.9),
    "refused": Made("other template", template=ChatTemplate.OFF),
}
BETTER = (2890, 2904, 3100)
WORSE = (1501, 3050)
REFUSED = 2000


def kind_of(position: int) -> str:
    """What the path at a position shows."""
    if position == 0:
        return "base"
    if position == REFUSED:
        return "refused"
    return "better" if position in BETTER else "worse" if position in WORSE else "same"


def large_run(store: Store, home: Path, *, n: int = 3241, keep: bool = True) -> str:
    """Write the run; its id. Paths of one kind share their evaluations. Without `keep` no comparison is kept."""
    maker = Maker(store, home, SUITE, n=40, name="scan")
    made = [replace(KINDS[kind_of(p)], name=f"path {p:04d}" if p else "base") for p in range(n)]
    planned = [
        PlannedJob(
            job=maker._eval_job(kind, benchmark),
            candidates=tuple(p for p in range(n) if kind_of(p) == name),
        )
        for name, kind in KINDS.items()
        for benchmark in SUITE.benchmarks
    ]
    lease = maker.write(tuple(made), planned)
    for item in planned:
        maker.execute(lease, item, KINDS[kind_of(item.candidates[0])])
    store.finish_run(lease, RunState.DONE)
    if keep:
        keep_all(store, home, lease.run_id)
    return lease.run_id


def keep_all(store: Store, home: Path, run_id: str) -> None:
    """Keep the comparisons as the run's driver would; those of the same evaluations are computed once."""
    reader = PairReader(store, SideReader(home, kept=64))
    names = {candidate.position: candidate.name for candidate in store.candidates(run_id)}
    known, records = {}, []
    for pair in pairs_of_run(store.scored_candidates(run_id), 0):
        if pair.candidate.jobs not in known:
            known[pair.candidate.jobs] = reader.compare(run_id, pair)[0]
        named = known[pair.candidate.jobs].model_copy(update={"candidate": names[pair.candidate.position]})
        records.append(record_of(run_id, pair, named))
    store.keep_comparisons(records)


def forget_some(store: Store, run_id: str, n: int) -> None:
    """Make the last n kept comparisons out of date, as a further evaluation of their candidates does."""
    records = store.kept_comparisons(run_id, 0)
    store.keep_comparisons(
        [KeptComparison(**{**r.model_dump(), "key": "of an earlier evaluation"}) for r in records[-n:]]
    )
