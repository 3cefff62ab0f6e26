"""Every real error text has its fault, and the cause is preferred to what only says that something failed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.errors import EngineStartError, Fault
from evals.faults import TABLE, FaultText, find_fault, start_error

CHECKPOINT = Path("/models/merged")
WORKER_FAILED = "WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause."


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(row.marks)[:60])
def test_each_text_is_found_by_its_own_row(row: FaultText) -> None:
    assert find_fault(row.example) is row
    assert row.next_step.endswith((".", "it."))
    assert all(mark == mark.lower() for mark in row.marks)


# Texts as they stand in issue trackers, other than the table's own examples.
REAL = [
    ("ValueError: Free memory on device (31.44/47.38 GiB) on startup is less than desired GPU memory utilization (0.95, 45.01 GiB). "
     "Decrease GPU memory utilization or reduce GPU memory used by other processes.", Fault.BUSY_GPU),
    ("ValueError: Free memory on device (7.34/139.72 GiB) on startup is less than desired GPU memory utilization (0.9, 125.75 GiB).",
     Fault.BUSY_GPU),
    ("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.63 GiB (GPU 0; 44.56 GiB total capacity; 27.91 GiB already "
     "allocated; 565.31 MiB free; 27.93 GiB reserved in total by PyTorch)", Fault.OUT_OF_MEMORY),
    ("RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
     Fault.OUT_OF_MEMORY),
    ("RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests. Please try lowering `max_num_seqs` "
     "or `gpu_memory_utilization` when initializing the engine.", Fault.OUT_OF_MEMORY),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
     "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: "
     "https://pytorch.org to install a PyTorch version that has been compiled with your version of the CUDA driver.", Fault.BAD_NODE),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device\nCompile with `TORCH_USE_CUDA_DSA` to "
     "enable device-side assertions.", Fault.BAD_NODE),
    ("torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, unhandled system "
     "error (run with NCCL_DEBUG=INFO for details), NCCL version 2.21.5", Fault.BROKEN_ENGINE),
    ("RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)", Fault.BROKEN_ENGINE),
    ("RuntimeError: Worker failed with error 'CUDA error: an illegal memory access was encountered', please check the stack trace "
     "above for the root cause", Fault.BROKEN_ENGINE),
    ("include/shm.h:48 NCCL WARN Error while creating shared memory segment nccl-shm-recv-250a7cc850ba9298-0-1-3 (size 9637888)",
     Fault.BAD_NODE),
    ("ValueError: Model architecture FooForCausalLM was supported in vLLM until v0.9, and is not supported anymore.",
     Fault.BAD_CHECKPOINT),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), REAL)
def test_other_wordings_of_the_same_errors(text: str, fault: Fault) -> None:
    row = find_fault(text)
    assert row is not None
    assert row.fault is fault


def test_ordinary_errors_are_not_in_the_table() -> None:
    for text in (
        "list index out of range",
        "'NoneType' object has no attribute 'shape'",
        "",
        "KeyError: 'lm_head'",
    ):
        assert find_fault(text) is None
    # What vLLM writes while it captures graphs on a healthy GPU.
    hint = (
        "If out-of-memory error occurs during cudagraph capture, consider decreasing `gpu_memory_utilization`"
    )
    assert find_fault(hint) is None


def test_a_long_text_is_searched_at_both_ends() -> None:
    filling = "x" * 10_000_000
    for text in (
        f"CUDA error: misaligned address {filling}",
        f"{filling} CUDA error: misaligned address",
    ):
        row = find_fault(text)
        assert row is not None
        assert row.fault is Fault.BROKEN_ENGINE


def raised(error: Exception, name: str = "start") -> Exception:
    """The error as it comes out of a function of this name."""
    namespace: dict[str, Callable[[], None]] = {}
    exec(f"def {name}():\n    raise error", {"error": error}, namespace)
    with pytest.raises(type(error)) as caught:
        namespace[name]()
    return caught.value


@pytest.mark.parametrize(
    ("error", "frame", "log", "fault"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 MiB"), "load_model", "", Fault.TOO_LARGE),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 MiB"), "capture_model", "", Fault.OUT_OF_MEMORY),
        (AssertionError(), "load_weights", "", Fault.BAD_CHECKPOINT),
        (RuntimeError("The size of tensor a (3) must match"), "load_weights", "", Fault.BAD_CHECKPOINT),
        (ValueError("rope_scaling has no factor"), "start", "", Fault.BAD_CHECKPOINT),
        (OSError("/models/merged does not appear to have a file named config.json"), "start", "", Fault.BAD_CHECKPOINT),
        (OSError(116, "Stale file handle"), "start", "", Fault.ENGINE_START),
        (RuntimeError("something new"), "start", "", Fault.ENGINE_START),
        (Exception(WORKER_FAILED), "start", "", Fault.ENGINE_START),
        (Exception(WORKER_FAILED), "start", "RuntimeError: NCCL error: unhandled system error", Fault.BROKEN_ENGINE),
        (RuntimeError("Engine core initialization failed. See root cause above."), "start",
         "torch.OutOfMemoryError: CUDA out of memory\nNCCL error: remote process exited", Fault.OUT_OF_MEMORY),
    ],
)  # fmt: skip
def test_start_errors(error: Exception, frame: str, log: str, fault: Fault) -> None:
    failure = start_error(CHECKPOINT, raised(error, frame), log)
    assert failure.fault is fault
    assert str(failure).startswith(f"vLLM does not start on {CHECKPOINT}: {error or type(error).__name__}")


def test_a_start_error_crosses_processes() -> None:
    error = EngineStartError("x", Fault.BUSY_GPU)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.fault) == ("x", Fault.BUSY_GPU)
