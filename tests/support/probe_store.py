"""A small scan as the product writes one: a base and some layer paths, asked a probe; answers by rule, scored by the probe."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evals.probes import AnyProbe, LevelKind, ProbeResult, Result, Scoring, get_probe
from evals.samples import write_samples
from evals.scores import PROBE_SUITE, BenchmarkScore, ChatTemplate, EvalSettings, Evaluation, Score
from orchestrator.plan.job import CheckpointPlace, EvalJob
from orchestrator.store import Store
from orchestrator.store.records import (
    AttemptRecord,
    CandidateRecord,
    EvalOutcome,
    NewRun,
    PlannedJob,
    RunState,
)
from recipes.layer_path import LayerPath
from tests.support.demo_stores import store_url
from tests.support.made_results import BASE_DIGEST, ENGINE, HARDWARE, N_LAYERS, provenance

PROBE = "reasoning-easy-scored-search"
RIGHT = {None: 0.5, (3, 6): 0.8, (10, 14): 0.6, (0, 30): 0.0, (20, 25): 0.45}
"""Share of the items that each block answers right; None is the base."""


def probe_store(home: Path) -> str:
    """A store with one finished scan; its id."""
    home.mkdir(parents=True, exist_ok=True)
    probe = get_probe(PROBE)
    paths = {b: None if b is None else LayerPath.of_block(*b, N_LAYERS).layers for b in RIGHT}
    records, planned = [], []
    for position, (block, layers) in enumerate(paths.items()):
        n_layers = len(layers) if layers else N_LAYERS
        name = "base" if block is None else f"({block[0]}, {block[1]})"
        records.append(
            CandidateRecord(
                position=position, name=name, is_base=block is None, weights_digest=BASE_DIGEST,
                layer_path=layers, layers=n_layers, parameters=28_311_552 + 3_540_000 * n_layers,
            )
        )  # fmt: skip
        planned.append(PlannedJob(job=_job(probe, layers), candidates=(position,)))
    run = NewRun(
        name="scan", sweep="name: scan\nbase: demo/SmolLM2-135M-Instruct\n", sweep_digest="5ca4",
        provenance=provenance(), plan='{"folder": "/sweeps", "jobs": 5, "missing": []}',
    )  # fmt: skip
    with Store.open(store_url(home)) as store:
        store.create_run(run, records, planned)
        lease = store.take_lease(run.id, "host:1:00")
        assert lease is not None
        for item, share in zip(planned, RIGHT.values(), strict=True):
            attempt = store.start_attempt(lease, item.job.digest, node="node-1", worker="actor-1")
            assert isinstance(attempt, AttemptRecord)
            assert isinstance(item.job, EvalJob)
            store.finish_attempt(attempt.id, _outcome(home, probe, item.job, share))
        store.finish_run(lease, RunState.DONE)
    return run.id


def _job(probe: AnyProbe, layers: tuple[int, ...] | None) -> EvalJob:
    return EvalJob(
        weights_digest=BASE_DIGEST, layer_path=layers, suite=PROBE_SUITE, benchmark=probe.name,
        benchmark_digest=probe.digest, dataset_digest=probe.digest, engine=ENGINE, scorer=PROBE_SUITE,
        settings=EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False),
        place=CheckpointPlace(name="demo/SmolLM2-135M-Instruct"), live_layers=layers,
    )  # fmt: skip


def _answers(probe: AnyProbe, share: float) -> tuple[Result, ...]:
    """Right answers to the first items, one and the same answer to the others."""
    right = next(iter(probe.level_answers(LevelKind.RIGHT)))
    wrong = next(iter(probe.level_answers(LevelKind.CONSTANT)))
    n_right = round(share * len(right))
    return (*right[:n_right], *wrong[n_right:])


def _outcome(home: Path, probe: AnyProbe, job: EvalJob, share: float) -> EvalOutcome:
    answers = _answers(probe, share)
    found: ProbeResult = probe.score(answers)
    path = home / "samples" / f"{job.digest}.parquet"
    write_samples(path, probe.samples(answers, ["?"] * len(answers)))
    now, value = datetime.now(UTC), found.value(Scoring.CORRECTED)
    score = Score(
        benchmark=probe.name, subset=probe.name, metric=Scoring.CORRECTED, value=value, stderr=found.stderr(Scoring.CORRECTED),
        n=len(found.items), n_full=len(found.items), lower_bound=0.0, task_version="1",
    )  # fmt: skip
    result = BenchmarkScore(
        benchmark=probe.name, title=probe.name, metric=Scoring.CORRECTED, raw=value, normalized=100 * value,
        n=len(found.items), partial=False, comparable_to_board=False, remark="A probe is no benchmark.",
    )  # fmt: skip
    return EvalOutcome(
        evaluation=Evaluation(
            suite=PROBE_SUITE, benchmark_digest=probe.digest, engine=job.engine, settings=job.settings,
            scores=(score,), result=result, n_requests=len(answers), n_replayed=0, duration_s=2.0,
        ),
        samples_path=str(path.relative_to(home)), samples_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        hardware=HARDWARE, started_at=now - timedelta(seconds=2), ended_at=now,
    )  # fmt: skip
