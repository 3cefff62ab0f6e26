"""A killed engine gives its memory back, those of its tensor-parallel children too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from evals.engine import EngineKind
from tests.gpu.ways import has_gpu, tuning
from tests.support.engine_requests import opened
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.vllm]

HOLD = """
import sys, time
from pathlib import Path
from evals.engine import EngineKind
from tests.support.engine_requests import opened
from tests.gpu.ways import tuning
if __name__ == "__main__":
    with opened(EngineKind.VLLM, Path(sys.argv[1]), tuning(), max_length=512, dtype="bfloat16", tensor_parallel=int(sys.argv[2])):
        print("open", flush=True)
        time.sleep(600)
"""
CLOSE_BYTES = 256 << 20


def free_bytes() -> list[int]:
    """Free memory of each GPU, as the driver says."""
    import torch

    return [torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())]


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_memory_is_back_after_a_kill(tensor_parallel: int, tmp_path: Path) -> None:
    if has_gpu():
        import torch

        if torch.cuda.device_count() < tensor_parallel:
            pytest.skip("there is one GPU here")
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    script = tmp_path / "hold.py"
    script.write_text(HOLD)
    before = free_bytes() if has_gpu() else []
    holder = subprocess.Popen(
        [sys.executable, str(script), str(checkpoint), str(tensor_parallel)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert any(line.startswith("open") for line in holder.stdout), "the engine did not start"
        children = psutil.Process(holder.pid).children(recursive=True)
        if has_gpu():
            assert (
                min([a - b for a, b in zip(before, free_bytes(), strict=True)][:tensor_parallel])
                > CLOSE_BYTES
            )
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        _, left = psutil.wait_procs(children, timeout=60)
        assert not left, f"children live on: {left}"
    finally:
        if holder.poll() is None:
            os.killpg(holder.pid, signal.SIGKILL)
    if has_gpu():
        assert all(a - b < CLOSE_BYTES for a, b in zip(before, free_bytes(), strict=True))
    with opened(EngineKind.VLLM, checkpoint, tuning(), max_length=512, dtype="bfloat16"):
        pass
