"""Small scans as the product writes them: a base and some layer paths, asked probes; answers by rule, scored by the probe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evals.probes import AnyProbe, LevelKind, ProbeResult, Result, Scoring, Split, get_probe
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

Block = tuple[int, int]
Shares = Mapping[Block | None, float]
"""Share of the items that each block answers right; None is the base."""

KEYS = ("reasoning-easy-scored", "emotion-easy-scored")
PROBE = f"{KEYS[0]}-search"
RIGHT: Shares = {None: 0.5, (3, 6): 0.8, (10, 14): 0.6, (0, 30): 0.0, (20, 25): 0.45}
HELD_OUT: Shares = {None: 0.5, (3, 6): 0.9, (10, 14): 0.5, (0, 30): 0.0}
"""The confirmation: one gain is real, one was luck, one loss is real."""
LUCK: Shares = {None: 0.5, (3, 6): 0.5, (10, 14): 0.45}
"""A confirmation of which nothing is real."""


def probe_store(home: Path) -> str:
    """A store with one finished search by one probe; its id."""
    home.mkdir(parents=True, exist_ok=True)
    with Store.open(store_url(home)) as store:
        return probe_run(store, home, RIGHT, [PROBE])


def scan_store(
    home: Path, held_out: Shares | None = HELD_OUT, *, name: str = "scan"
) -> tuple[str, str | None]:
    """A store with a scan by two probes: ids of its search, and of its confirmation unless there is none."""
    home.mkdir(parents=True, exist_ok=True)
    with Store.open(store_url(home)) as store:
        search = probe_run(store, home, RIGHT, _names(Split.SEARCH), name=name)
        if held_out is None:
            return search, None
        confirms = {"runs": [search], "rank": "balanced_z"}
        names = _names(Split.CONFIRMATION)
        return search, probe_run(store, home, held_out, names, name=f"{name} confirmation", confirms=confirms)


def _names(split: Split) -> list[str]:
    return [f"{key}-{split}" for key in KEYS]


def probe_run(
    store: Store,
    home: Path,
    shares: Shares,
    probes: Sequence[str],
    *,
    name: str = "scan",
    confirms: Mapping[str, object] | None = None,
    end: RunState | None = RunState.DONE,
) -> str:
    """A run that asks its layer paths some probes; its id."""
    paths = {b: None if b is None else LayerPath.of_block(*b, N_LAYERS).layers for b in shares}
    records, planned = [], []
    for position, (block, layers) in enumerate(paths.items()):
        n_layers = len(layers) if layers else N_LAYERS
        records.append(
            CandidateRecord(
                position=position, name="base" if block is None else f"({block[0]}, {block[1]})", is_base=block is None,
                weights_digest=BASE_DIGEST, layer_path=layers, layers=n_layers,
                parameters=28_311_552 + 3_540_000 * n_layers,
            )
        )  # fmt: skip
        planned += [
            (
                PlannedJob(job=_job(get_probe(probe), layers), candidates=(position,)),
                get_probe(probe),
                shares[block],
            )
            for probe in probes
        ]
    plan = {
        "folder": "/sweeps",
        "jobs": len(planned),
        "missing": [],
        **({"confirms": confirms} if confirms else {}),
    }
    run = NewRun(
        name=name, sweep=f"name: {name}\nbase: demo/SmolLM2-135M-Instruct\nsuites: [probes]\n", sweep_digest="5ca4",
        provenance=provenance().model_copy(update={"command": "mergeboard scan demo/SmolLM2-135M-Instruct"}),
        plan=json.dumps(plan),
    )  # fmt: skip
    store.create_run(run, records, [item for item, _, _ in planned])
    lease = store.take_lease(run.id, "host:1:00")
    assert lease is not None
    for item, probe, share in planned:
        attempt = store.start_attempt(lease, item.job.digest, node="node-1", worker="actor-1")
        if not isinstance(attempt, AttemptRecord):
            continue  # another run has measured it
        assert isinstance(item.job, EvalJob)
        store.finish_attempt(attempt.id, _outcome(home, probe, item.job, share))
    if end is not None:
        store.finish_run(lease, end)
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
