"""Make a large store to try the dashboard on: runs of all (i, j) of an 80-layer checkpoint, a million scores in all.

    python benchmarks/make_store.py --home DIR                   eight runs of 3,241 paths: a million scores
    python benchmarks/make_store.py --home DIR --runs 80         ten times as many

Two runs are written by the store itself, their outcomes in bulk: a whole one, and the newest, which goes on. The others
are copies of the whole one inside the database, under digests of their own. Scores follow from samples that are on
disk: a pool of answer sheets, from hopeless to able, that the paths share by how well their place in the map does.
The whole run has its comparisons with the base as its driver would have kept them; because paths share answer sheets,
each pair of sheets is compared once (`--no-comparisons` leaves them out).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evals.engine import EngineKind, EngineSpec
from evals.normalize import benchmark_score
from evals.samples import write_samples
from evals.scores import BenchmarkScore, ChatTemplate, EvalSettings, Sample, Score
from evals.suite import Benchmark, OutputKind, Suite, load_suite
from orchestrator.compare import Side, pairs
from orchestrator.compare.kept import family_of_run
from orchestrator.plan.job import CheckpointPlace, EvalJob
from orchestrator.provenance import Hardware, Provenance
from orchestrator.store import Store
from orchestrator.store.ids import new_id
from orchestrator.store.records import (
    AttemptState,
    CandidateRecord,
    FailureClass,
    NewRun,
    PlannedJob,
    RunState,
)
from orchestrator.store.rows import score_rows
from orchestrator.store.tables import (
    attempts,
    candidate_jobs,
    candidates,
    comparisons,
    evaluations,
    jobs,
    outcomes,
    run_jobs,
    runs,
    scores,
)
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath

N_LAYERS = 80
LEVELS = 40
N_DOCUMENTS = 20
NODE = Hardware(
    host="gpu-7", cpu="AMD EPYC 9654", cpu_count=96, memory_bytes=2**40, gpus=("NVIDIA H200",) * 8
)
ENGINE = EngineSpec(kind=EngineKind.VLLM, version="0.32.0", dtype="bfloat16", max_length=4096)


def main() -> None:
    """Make the store and say how large it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder of the store; must not hold one yet")
    parser.add_argument("--runs", type=int, default=8, help="runs of 3,241 paths each")
    parser.add_argument("--layers", type=int, default=N_LAYERS, help="layers of the checkpoint")
    parser.add_argument("--no-comparisons", action="store_true", help="as a store of an earlier version")
    options = parser.parse_args()
    made = make(
        options.home, n_runs=options.runs, n_layers=options.layers, compared=not options.no_comparisons
    )
    print(json.dumps(made, indent=1))


def make(home: Path, *, n_runs: int = 8, n_layers: int = N_LAYERS, compared: bool = True) -> dict[str, Any]:
    """Make the store; what is in it."""
    file = home / "store.sqlite"
    if file.exists():
        sys.exit(f"There is a store at {file}; name another folder.")
    home.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    suite = load_suite("leaderboard-v2")
    pool = {b.name: [_sheet(home, b, level) for level in range(LEVELS)] for b in suite.benchmarks}
    blocks = [p.block or (0, 0) for p in LayerPathGrid.parse("all").paths(n_layers)]
    with Store.open(f"sqlite:///{file}") as store:
        if n_runs > 1:
            whole = _run(store, suite, pool, blocks, 0, n_layers, last=False)
            _copies(file, whole, n_runs - 2)
            if compared:
                keep_comparisons(store, home, whole)
        _run(store, suite, pool, blocks, n_runs - 1, n_layers, last=True)
    with sa.create_engine(f"sqlite:///{file}").connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        counts = {
            t.name: connection.scalar(sa.select(sa.func.count()).select_from(t))
            for t in (runs, outcomes, scores, comparisons)
        }
    return {
        "home": str(home),
        "paths": len(blocks),
        **counts,
        "size_bytes": file.stat().st_size,
        "duration_s": round(time.monotonic() - started, 1),
    }


def keep_comparisons(store: Store, home: Path, run_id: str) -> None:
    """Keep the comparisons of a run with its base; rows of the same two answer sheets are computed once."""
    known: dict[tuple[str, str, str], Any] = {}
    plain = pairs._pair

    def once(suite: str, benchmark: Benchmark | None, sides: Any, force: bool, seed: int) -> Any:
        base, candidate = sides
        key = (benchmark.name if benchmark else "", _answers(base), _answers(candidate))
        if key not in known:
            known[key] = plain(suite, benchmark, sides, force, seed)
        return known[key]

    pairs._pair = once
    try:
        family_of_run(store, run_id, home, keep=store.keep_comparisons)
    finally:
        pairs._pair = plain


def _answers(side: Side) -> str:
    """The answers of a side: sheets of one benchmark differ in them."""
    return "".join(str(int(sample.correct)) for sample in side.samples)


class _Sheet:
    """The answers of one level to one benchmark, their file and the scores that follow."""

    def __init__(self, path: str, sha256: str, found: tuple[Score, ...], result: BenchmarkScore) -> None:
        self.path = path
        self.sha256 = sha256
        self.scores = found
        self.result = result


def _sheet(home: Path, benchmark: Benchmark, level: int) -> _Sheet:
    samples = tuple(_samples(benchmark, level))
    path = home / "samples" / f"{benchmark.name}-{level:02d}.parquet"
    write_samples(path, samples)
    found = []
    for subset in benchmark.subsets:
        mine = [s for s in samples if s.subset == subset.task]
        for metric in benchmark.metrics:
            value = sum(s.metrics[metric] for s in mine) / len(mine)
            found.append(
                Score(
                    benchmark=benchmark.name,
                    subset=subset.task,
                    metric=metric,
                    value=value,
                    stderr=math.sqrt(value * (1 - value) / len(mine)),
                    n=len(mine),
                    n_full=len(mine),
                    lower_bound=subset.lower_bound,
                    task_version="1.0",
                )
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return _Sheet(str(path.relative_to(home)), digest, tuple(found), benchmark_score(benchmark, found))


def _samples(benchmark: Benchmark, level: int) -> Iterator[Sample]:
    able = 0.05 + 0.85 * level / (LEVELS - 1)
    for subset in benchmark.subsets:
        for doc_id in range(N_DOCUMENTS):
            question, own = (
                random.Random(f"{subset.task}{doc_id}"),
                random.Random(f"{level}{subset.task}{doc_id}"),
            )
            right = 0.85 * question.random() + 0.15 * own.random() < able
            choices: tuple[str, ...] = ()
            target, response = "42", f"The answer is {42 if right else own.randrange(41)}. " * 6
            if benchmark.output is OutputKind.MULTIPLE_CHOICE:
                choices = (" (A)", " (B)", " (C)", " (D)")
                target, response = choices[doc_id % 4], choices[(doc_id + (not right)) % 4]
            yield Sample(
                benchmark=benchmark.name,
                subset=subset.task,
                doc_id=doc_id,
                doc_hash=f"{doc_id:016x}",
                prompt_hash=f"{doc_id:016x}",
                target=target,
                choices=choices,
                logprobs=tuple(-float(c != response) for c in choices),
                response=response,
                extracted=response.strip() if choices else None,
                n_tokens=0 if choices else 60,
                metrics=dict.fromkeys(benchmark.metrics, float(right)),
                correct=float(right),
                weights=dict.fromkeys(benchmark.metrics, 1.0) if len(benchmark.metrics) > 1 else {},
            )


def _level(block: tuple[int, int], n_layers: int, benchmark: str, number: int) -> int:
    """How well a path does: a useful band in the middle, harm at the ends and with many added layers."""
    i, j = block
    if (i, j) == (0, 0):
        return LEVELS // 2
    middle, width = (i + j) / 2 / n_layers, (j - i) / n_layers
    good = 0.25 * math.exp(-(((middle - 0.6) / 0.12) ** 2)) * math.exp(-((width / 0.15) ** 2))
    harm = 0.5 * width + 0.5 * math.exp(-i / (0.05 * n_layers)) * (j - i > 0)
    chance = random.Random(f"{block}{benchmark}{number}").gauss(0, 0.02)
    return max(0, min(LEVELS - 1, round((0.5 + good - harm + chance) * (LEVELS - 1))))


def _run(
    store: Store,
    suite: Suite,
    pool: dict[str, list[_Sheet]],
    blocks: list[tuple[int, int]],
    number: int,
    n_layers: int,
    *,
    last: bool,
) -> str:
    """A run that the store itself writes; its id."""
    settings = EvalSettings(chat_template=ChatTemplate.ON, fewshot_as_multiturn=True)
    records, planned = [], []
    for position, block in enumerate(blocks):
        path = None if block == (0, 0) else LayerPath.of_block(*block, n_layers).layers
        layers = n_layers if path is None else len(path)
        records.append(
            CandidateRecord(
                position=position,
                name="base" if path is None else f"({block[0]}, {block[1]})",
                is_base=path is None,
                weights_digest=f"{number:016x}",
                layer_path=path,
                layers=layers,
                parameters=2_500_000_000 + 877_685_000 * layers,
            )
        )
        for benchmark in suite.benchmarks:
            job = EvalJob(
                weights_digest=f"{number:016x}",
                layer_path=path,
                suite=suite.name,
                benchmark=benchmark.name,
                benchmark_digest=benchmark.digest,
                dataset_digest="da7a",
                engine=ENGINE,
                settings=settings,
                scorer="mergeboard-scorer=1",
                place=CheckpointPlace(name="MaziyarPanahi/calme-2.1-qwen2-72b"),
                live_layers=path,
            )
            planned.append(PlannedJob(job=job, candidates=(position,)))
    run = NewRun(
        name=f"scan {number}",
        sweep=f"name: scan {number}\nbase: MaziyarPanahi/calme-2.1-qwen2-72b\nrecipes: [{{grid: all}}]\n",
        sweep_digest=f"{number:016x}",
        provenance=Provenance(
            versions={"mergeboard": "0.1.0"},
            python="3.11.9",
            commit=None,
            hardware=NODE,
            command="mergeboard run scan.yaml",
        ),
        plan=json.dumps({"folder": ".", "jobs": len(planned), "missing": []}),
    )
    store.create_run(run, records, planned, owner="gpu-7:1:00")
    _outcomes(store, run.id, pool, blocks, planned, number, n_layers, last=last)
    if not last:
        lease = store.take_lease(run.id, "gpu-7:1:00")
        assert lease is not None
        store.finish_run(lease, RunState.DONE)
    return run.id


def _copies(file: Path, run_id: str, count: int) -> None:
    """So many copies of a run, each with candidates, jobs and outcomes of its own, by statements inside the database."""
    database = sa.create_engine(f"sqlite:///{file}")
    for number in range(1, count + 1):
        with database.begin() as connection:
            # A store that is lost with the machine is made again.
            connection.exec_driver_sql("PRAGMA synchronous = OFF")
            for table in _COPIED:
                connection.execute(_copy(table, run_id, number))
    database.dispose()


_COPIED = (runs, candidates, jobs, run_jobs, candidate_jobs, attempts, outcomes, evaluations, scores)
_OWN = ("id", "run_id", "digest", "job_digest", "attempt_id", "weights_digest")


def _copy(table: sa.Table, run_id: str, number: int) -> sa.Insert:
    """All that a run has in one table once more, under other ids and digests of the same length."""
    mark = f"~{number:03d}"
    mine = sa.select(run_jobs.c.job_digest).where(run_jobs.c.run_id == run_id)
    if table is runs:
        which = runs.c.id == run_id
    elif "run_id" in table.c:
        which = table.c.run_id == run_id
    else:
        which = (table.c.digest if table is jobs else table.c.job_digest).in_(mine)
    values = [
        sa.literal(mark) + sa.func.substr(column, len(mark) + 1) if column.name in _OWN else column
        for column in table.c
    ]
    if table is runs:
        values[list(table.c.keys()).index("name")] = sa.literal(f"scan {number}")
    return table.insert().from_select(list(table.c.keys()), sa.select(*values).where(which))


def _outcomes(
    store: Store,
    run_id: str,
    pool: dict[str, list[_Sheet]],
    blocks: list[tuple[int, int]],
    planned: list[PlannedJob],
    number: int,
    n_layers: int,
    *,
    last: bool,
) -> None:
    """Everything done, but for the last run: some jobs of it failed, some run, some wait."""
    rows: dict[str, list[dict[str, Any]]] = {"attempts": [], "outcomes": [], "evaluations": [], "scores": []}
    end = datetime.now(UTC)
    hardware = NODE.model_dump_json()
    for index, item in enumerate(planned):
        job = item.job
        assert isinstance(job, EvalJob)
        left = len(planned) - index
        at = end - timedelta(seconds=left * 2)
        attempt = {
            "id": new_id(), "job_digest": job.digest, "run_id": run_id, "number": 1, "state": AttemptState.SUCCEEDED,
            "node": f"gpu-{index % 12}", "worker": f"actor-{index % 96}", "started_at": at - timedelta(seconds=80),
            "heartbeat_at": at, "ended_at": at, "failure_class": None, "message": None, "log_tail": None, "will_retry": None,
        }  # fmt: skip
        if last and left <= 500:
            if left <= 96:
                rows["attempts"].append({**attempt, "state": AttemptState.RUNNING, "ended_at": None})
            continue
        if last and index % 700 == 699:
            failed = {
                "state": AttemptState.FAILED, "failure_class": FailureClass.OUT_OF_MEMORY, "will_retry": False,
                "message": "The engine ran out of memory.", "log_tail": "CUDA out of memory\n",
            }  # fmt: skip
            rows["attempts"].append(attempt | failed)
            continue
        sheet = pool[job.benchmark][_level(blocks[item.candidates[0]], n_layers, job.benchmark, number)]
        rows["attempts"].append(attempt)
        rows["outcomes"].append(
            {
                "job_digest": job.digest,
                "attempt_id": attempt["id"],
                "accepted_at": at,
                "started_at": at - timedelta(seconds=80),
                "ended_at": at,
                "hardware": hardware,
            }
        )
        rows["evaluations"].append(
            {
                "job_digest": job.digest,
                **sheet.result.model_dump(exclude={"benchmark", "alarms"}),
                "alarms": None,
                "samples_path": sheet.path,
                "samples_sha256": sheet.sha256,
                "n_requests": sheet.result.n,
                "n_replayed": 0,
                "duration_s": 75.0,
            }
        )
        rows["scores"] += score_rows(job.digest, sheet.scores)
    database = sa.create_engine(f"sqlite:///{store.label}")
    with database.begin() as connection:
        for table in (attempts, outcomes, evaluations, scores):
            connection.execute(table.insert(), rows[table.name])
    database.dispose()


if __name__ == "__main__":
    main()
