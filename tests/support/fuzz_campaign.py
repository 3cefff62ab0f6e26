"""Feeds damaged and hostile inputs to every reader of foreign text.

    python -m tests.support.fuzz_campaign --count 20000 --seed 1 --jobs 2

Each input has 5 s of processor time and 500 MB of memory over what its process had before. A finding is an exception that is no
refusal of ours, more time or memory, or a write, a new process or a connection outside the folder of the campaign.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.support.fuzz_inputs import CLOCK, LIMIT_S

LIMIT_BYTES = 500_000_000
_PER_PROCESS = 5_000
_START_S = 900.0
_WAIT_S = 120.0


class Trial(NamedTuple):
    """One input and what came of it; `problem` is None where it was read or refused as it should be."""

    number: int
    reader: str
    seconds: float
    peak_bytes: int
    refused: bool
    problem: str | None


class _TooSlow(BaseException):
    """The time of one input is over; nothing catches it."""


def run(count: int, seed: int, folder: Path, only: str | None = None, start: int = 0) -> Iterator[Trial]:
    """The trials, in order; a process that dies is a finding of the input that it had."""
    number = start
    while number < start + count:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        last = min(start + count, number + _PER_PROCESS)
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, (number, last), seed, str(folder), only)
        )
        process.start()
        theirs.close()
        if not ours.poll(_START_S):
            process.kill()
            raise TimeoutError("a worker of the campaign does not start")
        ours.recv()
        while number < last:
            try:
                trial = ours.recv() if ours.poll(_WAIT_S) else None
            except EOFError:
                trial = None
            if trial is None:
                process.kill()
                yield Trial(
                    number, _reader(number, seed, only), _WAIT_S, 0, False, "the process died or hung"
                )
                number += 1
                break
            yield trial
            number += 1
        process.join(10)
        process.kill()


def _work(pipe: Connection, numbers: tuple[int, int], seed: int, folder: str, only: str | None) -> None:
    """The worker: reads its inputs one after another and reports each."""
    root = Path(folder)
    home = root / "home"
    home.mkdir(exist_ok=True)
    os.environ |= {"MERGEBOARD_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["TMPDIR"], tempfile.tempdir = folder, None  # what Streamlit's test client writes
    os.environ.pop("MERGEBOARD_DATABASE_URL", None)
    sys.dont_write_bytecode = True
    readers = _readers(root)
    for name in readers:  # imports and caches are not the inputs' memory or time
        _trial(-1, name, readers[name], seed)
    outside: list[str] = []
    sys.addaudithook(lambda event, args: _audit(event, args, str(root), outside))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    pipe.send("ready")
    for number in range(*numbers):
        name = _reader(number, seed, only)
        trial = _trial(number, name, readers[name], seed)
        if outside and trial.problem is None:
            trial = trial._replace(problem=f"outside of its folder: {outside[0]}")
        outside.clear()
        pipe.send(trial)
    pipe.close()


def _trial(number: int, name: str, read: Callable[[random.Random], None], seed: int) -> Trial:
    """One input of a reader."""
    from evals.errors import EvaluationError
    from orchestrator.errors import MergeboardError
    from recipes.errors import RecipeError

    rng = random.Random(f"{seed} {number} {name}")
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    signal.signal(signal.SIGVTALRM, _stop)
    with (
        _Caught() as caught,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        CLOCK.restart()
        read(rng)
    error = caught.error
    refused = isinstance(error, MergeboardError | RecipeError | EvaluationError)
    problem = None
    if isinstance(error, _TooSlow):
        problem = f"more than {LIMIT_S:.0f} s at {_place(error.__traceback__)}"
    elif refused:
        problem = _sentence_problem(str(error))
    elif error is not None:
        problem = f"{type(error).__name__}: {str(error)[:100]!r} at {_place(error.__traceback__)}"
    seconds, peak = time.process_time() - CLOCK.started, max(0, _memory("VmHWM") - before)
    if problem is None and peak > LIMIT_BYTES:
        problem = f"{peak:,} bytes of memory"
    return Trial(number, name, seconds, peak, refused, problem)


class _Caught:
    """Keeps whatever an input raised, and stops its clock."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.error = error
        return not isinstance(error, KeyboardInterrupt)


def _stop(*_: object) -> None:
    raise _TooSlow


def _sentence_problem(sentence: str) -> str | None:
    """What is wrong with a refusal itself."""
    return "a refusal of more than 100,000 characters" if len(sentence) > 100_000 else None


def _place(trace: Any) -> str:
    frames = [f for f in traceback.extract_tb(trace) if "/tests/" not in f.filename]
    ours = [
        f
        for f in frames
        if any(f"/{p}/" in f.filename for p in ("recipes", "evals", "orchestrator", "dashboard"))
    ]
    return (
        f"{ours[-1].filename.removeprefix(f'{Path(__file__).parents[2]}/')}:{ours[-1].lineno}"
        if ours
        else "?"
    )


def _memory(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024


def _audit(event: str, args: tuple[Any, ...], root: str, outside: list[str]) -> None:
    """Notes what is written outside of the folder, and what is started or connected to."""
    path: object = None
    if event == "open":
        path, mode, flags = args
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & 3)
        if not writes:
            return
    elif event in (
        "os.mkdir",
        "os.remove",
        "os.rmdir",
        "os.rename",
        "os.link",
        "os.symlink",
        "os.truncate",
        "sqlite3.connect",
    ):
        path = args[0]
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"):
        outside.append(f"{event} {args!r}"[:200])
        return
    else:
        return
    text = os.fsdecode(path) if isinstance(path, str | bytes) else str(path)
    text = text.removeprefix("file:").partition("?")[0]
    if not text.startswith((root, "/dev/null", "/proc/self/", ":memory:", "<")) and not text.isdigit():
        outside.append(f"{event} {text}"[:200])


_WEIGHTS = {
    "card": 22, "recipe": 16, "sweep": 12, "layer path": 10, "results": 14, "samples": 12, "header": 8, "config": 8, "store": 1.5, "import": 0.5,
    "command": 0.5, "address": 0.3,
}  # fmt: skip


def _reader(number: int, seed: int, only: str | None) -> str:
    rng = random.Random(f"{seed} {number}")
    return only or rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]


def _readers(root: Path) -> dict[str, Callable[[random.Random], None]]:
    """What is tried, by name."""
    from tests.support.fuzz_readers import Readers

    readers = Readers(root)
    return {name: getattr(readers, name.replace(" ", "_")) for name in _WEIGHTS}


def main() -> int:
    """Run a campaign and print its figures; 1 where there are findings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--start", type=int, default=0, help="First number: with --count 1 one input is tried again."
    )
    parser.add_argument("--only", choices=list(_WEIGHTS), help="Only this reader.")
    parser.add_argument(
        "--jobs", type=int, default=1, help="Processes that share the numbers; the inputs are the same."
    )
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mergeboard-fuzz-"))
    share = -(-wanted.count // wanted.jobs)
    starts = range(wanted.start, wanted.start + wanted.count, share)

    def trials(start: int) -> list[Trial]:
        own = folder / str(start)
        own.mkdir()
        count = min(share, wanted.start + wanted.count - start)
        return [_shown(trial) for trial in run(count, wanted.seed, own, wanted.only, start)]

    figures: dict[str, list[Trial]] = {}
    try:
        with ThreadPoolExecutor(wanted.jobs) as pool:
            for trial in itertools.chain.from_iterable(pool.map(trials, starts)):
                figures.setdefault(trial.reader, []).append(trial)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(summary(figures), indent=1))
    return 1 if any(t.problem for found in figures.values() for t in found) else 0


def _shown(trial: Trial) -> Trial:
    if trial.problem is not None:
        print(f"{trial.number} {trial.reader}: {trial.problem}", flush=True)
    return trial


def summary(figures: dict[str, list[Trial]]) -> dict[str, dict[str, float]]:
    """Per reader: inputs, refusals, findings, slowest in seconds, largest in MB."""
    return {
        name: {
            "inputs": len(trials),
            "refused": sum(t.refused for t in trials),
            "findings": sum(t.problem is not None for t in trials),
            "slowest_s": round(max(t.seconds for t in trials), 2),
            "largest_mb": round(max(t.peak_bytes for t in trials) / 1e6, 1),
        }
        for name, trials in sorted(figures.items())
    }


if __name__ == "__main__":
    sys.exit(main())
