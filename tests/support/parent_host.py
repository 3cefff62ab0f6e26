"""Hosts whose process has children, as that of a tensor-parallel engine has: kept apart, so that Ray's processes can import them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from evals.engine import EngineKind, EngineSpec, EngineTuning
from evals.engines import installed_version, open_engine
from orchestrator.plan.job import Task
from orchestrator.settings import WorkerContext
from orchestrator.store.records import Outcome

_STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(3600)"


class ParentHost:
    """Starts a child that ignores SIGTERM, writes down both process ids, and hangs."""

    def __init__(self, context: WorkerContext) -> None:
        self._home = Path(context.home)

    def run(self, tasks: Sequence[Task]) -> tuple[Outcome, ...]:
        child = subprocess.Popen([sys.executable, "-c", _STUBBORN], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        self._write()
        time.sleep(3600)
        raise AssertionError

    def _write(self) -> None:
        """The processes of this host, its own first."""
        me = psutil.Process()
        text = " ".join(str(p.pid) for p in (me, *me.children(recursive=True)))
        aside = self._home / "pids.new"
        aside.write_text(text)
        aside.replace(self._home / "pids")


class TensorParallelHost(ParentHost):
    """Opens a real vLLM engine with two workers on the checkpoint below its home."""

    def run(self, tasks: Sequence[Task]) -> tuple[Outcome, ...]:
        spec = EngineSpec(
            kind=EngineKind.VLLM,
            version=installed_version(EngineKind.VLLM),
            dtype="float32",
            max_length=256,
            tensor_parallel=2,
        )
        self._engine = open_engine(spec, self._home / "base", EngineTuning(batch_size=4, threads=1))
        self._write()
        time.sleep(3600)
        raise AssertionError
