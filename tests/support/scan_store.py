"""A scan of all blocks with its confirmation, as two runs of a store; answers by rule, scored by the probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from evals.probes import get_probe
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.records import AttemptRecord, CandidateRecord, NewRun, PlannedJob, RunState
from recipes.layer_path import LayerPath
from tests.support.demo_stores import store_url
from tests.support.made_results import BASE_DIGEST, provenance
from tests.support.probe_store import _job, _outcome

KEYS = ("reasoning-easy-scored", "emotion-easy-scored")
Block = tuple[int, int] | None


def share_of(block: Block, n_layers: int) -> float:
    """Share of right answers by place: best around the middle, bad at both ends; None is the base."""
    if block is None:
        return 0.5
    i, j = block
    middle = abs((i + j) / 2 / n_layers - 0.55)
    return max(0.0, min(1.0, 0.62 - 0.9 * middle - 0.02 * (j - i)))


def scan_store(
    home: Path,
    *,
    n_layers: int = 6,
    confirmed: Mapping[Block, float] | None = None,
    blocks: Iterable[Block] | None = None,
    end: RunState | None = RunState.DONE,
    variant: str = "",
) -> tuple[str, str | None]:
    """Ids of the search run and of the confirmation run; `confirmed` maps the confirmed blocks to their shares.

    `variant` is the suffix of every block, for example ":attention".
    """
    home.mkdir(parents=True, exist_ok=True)
    grid = [(i, j) for i in range(n_layers) for j in range(i + 1, n_layers + 1)]
    shares = {block: share_of(block, n_layers) for block in [None, *(blocks or grid)]}
    with Store.open(store_url(home)) as store:
        search = _run(store, home, "search", shares, n_layers, end, variant)
        if confirmed is None:
            return search, None
        shares = {None: 0.5, **confirmed}
        return search, _run(store, home, "confirmation", shares, n_layers, RunState.DONE, variant)


def _run(
    store: Store,
    home: Path,
    split: str,
    shares: Mapping[Block, float],
    n_layers: int,
    end: RunState | None,
    variant: str,
) -> str:
    records, planned, answers = [], [], []
    for position, (block, share) in enumerate(shares.items()):
        name = "base" if block is None else f"({block[0]}, {block[1]}){variant}"
        layers = None if block is None else LayerPath.parse(name, n_layers).layers
        records.append(
            CandidateRecord(
                position=position, name=name, is_base=block is None,
                weights_digest=BASE_DIGEST, layer_path=layers, layers=len(layers) if layers else n_layers,
            )
        )  # fmt: skip
        for key in KEYS:
            planned.append(PlannedJob(job=_job(get_probe(f"{key}-{split}"), layers), candidates=(position,)))
            answers.append(share)
    part = "" if split == "search" else " confirmation"
    run = NewRun(
        name=f"scan tiny{part}", sweep=f"name: scan tiny{part}\nbase: demo/SmolLM2-135M-Instruct\n", sweep_digest=f"5ca4{split}",
        provenance=provenance(), plan="{}",
    )  # fmt: skip
    store.create_run(run, records, planned)
    lease = store.take_lease(run.id, "host:1:00")
    assert lease is not None
    for item, share in zip(planned, answers, strict=True):
        assert isinstance(item.job, EvalJob)
        attempt = store.start_attempt(lease, item.job.digest, node="node-1", worker="actor-1")
        assert isinstance(attempt, AttemptRecord)
        store.finish_attempt(attempt.id, _outcome(home, get_probe(item.job.benchmark), item.job, share))
    if end is not None:
        store.finish_run(lease, end)
    return run.id
