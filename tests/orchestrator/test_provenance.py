"""What a process says of itself, and what that costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import provenance


def test_a_machine_without_gpus_is_described_without_torch() -> None:
    """Its import would be most of the time that submitting a sweep takes."""
    code = (
        "import sys; from orchestrator import provenance; provenance._GPU_DEVICES = (); "
        "print(provenance.hardware().gpus, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["()", "False"]


def test_gpus_are_named_where_torch_sees_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "nvidiactl"
    device.touch()
    monkeypatch.setattr(provenance, "_GPU_DEVICES", (str(device),))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: f"GPU {number}")
    assert provenance.gpu_names() == ("GPU 0", "GPU 1")
