"""Multiple choice on vLLM: ours, lm-eval's own `vllm` model and its own `hf` model, on the same prompts in one run.

    MERGEBOARD_DATASETS=DIR python benchmarks/multiple_choice.py --checkpoint DIR [--threads 2] [--dtype bfloat16]
        [--sets seven mmlu-pro bbh] [--rounds 3] [--documents 20] [--stock-documents 2] [--hf-batch 1 4 8]

Each side is a process of its own with its engine started and warmed before anything is timed, and they take turns. Prompts
are built before the clock starts; tokenizing is in the time on every side. Ours starts each round with an empty cache.
Stock sides take the same documents one after another, so that fewer of them tell the time per document; ours shares work
between documents and takes all. Wall-clock time means little where others use the machine, so the seconds of CPU that a
side and its children took stand beside it; with --passive, threads that wait for each other take none. transformers runs
at the batch size that is best on the first documents.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

SIDES = ("ours", "vllm", "hf")
SETS = {
    "seven": ("bbh", "leaderboard_bbh_logical_deduction_seven_objects"),
    "mmlu-pro": ("mmlu-pro", None),
    "bbh": ("bbh", None),
}
Answer = Callable[[list[Any], int], list[tuple[float, bool]]]


def main() -> None:
    """Start the sides, let them take turns, print the table."""
    asked = _arguments()
    if asked.side:
        _serve(asked)
        return
    sides = {name: _Side(name) for name in asked.sides}
    for side in sides.values():
        side.ready()
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for name in asked.sets:
        for round_number in range(asked.rounds):
            for side in sides.values():
                if side.name == "ours" or round_number < asked.stock_rounds:
                    found = side.ask(name, asked.documents if side.name == "ours" else asked.stock_documents)
                    rows.setdefault((name, side.name), []).append(found)
                    print(json.dumps({"set": name, "side": side.name, **found}), flush=True)
    for side in sides.values():
        side.close()
    _table(rows, asked.sets, asked.sides)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stock-rounds", type=int, default=1)
    parser.add_argument("--documents", type=int, default=20, help="of each subset, for ours")
    parser.add_argument("--stock-documents", type=int, default=2, help="of each subset, for the stock sides")
    parser.add_argument(
        "--passive", action="store_true", help="threads sleep while they wait: where others use the cores"
    )
    parser.add_argument("--hf-batch", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


class _Side:
    """One side in a process of its own; requests and answers are lines of JSON."""

    def __init__(self, name: str) -> None:
        self.name = name
        command = [sys.executable, __file__, *sys.argv[1:], "--side", name]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the side
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def ready(self) -> None:
        """Wait until its engine is warm."""
        self._read()

    def ask(self, name: str, documents: int) -> dict[str, float]:
        """Time one set."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"set": name, "documents": documents}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._log.close()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                found: dict[str, float] = json.loads(line)
                return found
        self._log.seek(0)
        raise SystemExit(f"The side {self.name} ended:\n{self._log.read()[-3000:]}")


def _serve(asked: argparse.Namespace) -> None:
    """Load the engine, then time what is asked on standard input."""
    os.environ |= {"OMP_NUM_THREADS": str(asked.threads), "TOKENIZERS_PARALLELISM": "false"}
    if asked.passive:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    answer = {"ours": _ours, "vllm": _stock_vllm, "hf": _stock_hf}[asked.side](asked)
    answer(_requests("seven", 1), 0)
    _say({"ready": True})
    best = None
    for line in sys.stdin:
        wanted = json.loads(line)
        requests = _requests(wanted["set"], wanted["documents"])
        if asked.side == "hf":
            best = _best_batch(answer, wanted["set"], asked.hf_batch)
        before, begun = _cpu_s(), time.perf_counter()
        scores = answer(requests, best or 0)
        wall_s, cpu_s = time.perf_counter() - begun, _cpu_s() - before
        documents = len({(r.task_name, r.doc_id) for r in requests})
        found: dict[str, float] = {
            "documents": documents,
            "wall_s": round(wall_s, 2),
            "cpu_s": round(cpu_s, 2),
        }
        if best is not None:
            found["batch"] = best
        _say({**found, "checksum": round(sum(score for score, _ in scores[:7]), 3)})


def _best_batch(answer: Answer, name: str, sizes: Sequence[int]) -> int:
    """The batch size that takes least CPU on one document of each of at most three subsets."""
    tasks = sorted({r.task_name for r in _requests(name, 1)})[:3]
    sample = [r for r in _requests(name, 1) if r.task_name in tasks]
    costs: dict[int, float] = {}
    for size in sizes if len(sizes) > 1 else ():
        before = _cpu_s()
        answer(sample, size)
        costs[size] = _cpu_s() - before
    return min(costs, key=lambda size: costs[size], default=sizes[0])


def _say(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _cpu_s() -> float:
    """Seconds of CPU of this process and its children, user and system."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


_BUILT: dict[tuple[str, int], list[Any]] = {}


def _requests(name: str, documents: int) -> list[Any]:
    """lm-eval's own requests for the first documents of each subset of a set, without a chat template."""
    if (name, documents) in _BUILT:
        return _BUILT[name, documents]
    from evals.harness.tasks import load_tasks, quiet
    from evals.scores import ChatTemplate
    from evals.suite import load_suite

    suite = load_suite("leaderboard-v2")
    benchmark_name, only = SETS[name]
    benchmark = suite.benchmark(benchmark_name)
    if only is not None:
        benchmark = benchmark.model_copy(update={"subsets": (benchmark.subset(only),)})
    settings = suite.eval_settings(ChatTemplate.OFF, limit=documents)
    found: list[Any] = []
    with quiet():
        for task in load_tasks(benchmark, settings, Path(os.environ["MERGEBOARD_DATASETS"])).values():
            task.build_all_requests(limit=documents, rank=0, world_size=1)
            found += task.instances
    return _BUILT.setdefault((name, documents), found)


def _ours(asked: argparse.Namespace) -> Answer:
    from evals.engine import EngineKind, EngineSpec, EngineTuning
    from evals.engines import installed_version, open_engine
    from evals.harness.adapter import EngineLM
    from evals.harness.progress import ProgressTracker
    from evals.harness.tokenization import Tokenization
    from evals.journal import Journal
    from evals.sharing import StretchLocks

    version = installed_version(EngineKind.VLLM)
    spec = EngineSpec(kind=EngineKind.VLLM, version=version, dtype=asked.dtype, max_length=4096)
    engine = open_engine(spec, asked.checkpoint, EngineTuning(threads=asked.threads))

    def answer(requests: list[Any], batch: int) -> list[tuple[float, bool]]:
        engine.set_layer_path(None)
        tokenization = Tokenization(asked.checkpoint, trust_remote_code=False, add_bos_token=False)
        with (
            tempfile.TemporaryDirectory() as folder,
            Journal(Path(folder), "benchmark") as journal,
        ):
            claims = StretchLocks(Path(folder))
            claims.clear()
            lm = EngineLM(engine, tokenization, journal, ProgressTracker("benchmark", None), claims)
            return lm.loglikelihood(requests)

    return answer


def _stock_vllm(asked: argparse.Namespace) -> Answer:
    os.environ |= {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "2",
    }
    from evals.vllm.environment import answer_for_cpu_build

    answer_for_cpu_build()
    from lm_eval.models.vllm_causallms import VLLM

    model = VLLM(pretrained=str(asked.checkpoint), dtype=asked.dtype, max_model_len=4096, add_bos_token=False)
    return lambda requests, batch: model.loglikelihood(requests, disable_tqdm=True)


def _stock_hf(asked: argparse.Namespace) -> Answer:
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(asked.threads)
    model = HFLM(
        pretrained=str(asked.checkpoint),
        dtype=asked.dtype,
        device="cpu",
        max_length=4096,
        add_bos_token=False,
    )

    def answer(requests: list[Any], batch: int) -> list[tuple[float, bool]]:
        model.batch_size_per_gpu = max(1, batch)
        found: list[tuple[float, bool]] = model.loglikelihood(requests, disable_tqdm=True)
        return found

    return answer


def _table(
    rows: dict[tuple[str, str], list[dict[str, float]]], sets: Sequence[str], sides: Sequence[str]
) -> None:
    """Medians per document, and how many times as fast ours is."""
    print(
        f"\n{'set':10} {'side':6} {'documents':>9} {'wall s/doc':>11} {'CPU s/doc':>10} {'wall x':>7} {'CPU x':>7}"
    )
    for name in sets:
        per: dict[str, tuple[float, float]] = {}
        for side in sides:
            found = rows.get((name, side), [])
            if not found:
                continue
            wall, cpu = (statistics.median(r[k] / r["documents"] for r in found) for k in ("wall_s", "cpu_s"))
            per[side] = wall, cpu
            ours = per.get("ours", (wall, cpu))
            batch = f"  (batch {found[-1]['batch']:.0f})" if "batch" in found[-1] else ""
            print(
                f"{name:10} {side:6} {found[0]['documents']:9.0f} {wall:11.3f} {cpu:10.3f} {wall / ours[0]:7.1f} "
                f"{cpu / ours[1]:7.1f}{batch}"
            )


if __name__ == "__main__":
    main()
