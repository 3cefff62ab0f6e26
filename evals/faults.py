"""Classifies error texts of vLLM, torch, CUDA, NCCL, Triton and Ray by a table of substrings; the first match counts.

Exceptions with specific types are classified by type elsewhere. The libraries raise most of these as RuntimeError, ValueError
or Exception, and a tensor-parallel worker's error reaches its parent only as text or in the log. docs/failures.md shows the
table together with the reaction to each fault.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from evals.errors import EngineStartError, Fault

_LONGEST = 32_768
"""Characters searched at each end of a text: an error starts with its type, a log ends with its cause."""


@dataclass(frozen=True)
class FaultText:
    """A row of the table: an error whose text, in lower case, contains all of `marks`."""

    marks: tuple[str, ...]
    fault: Fault
    next_step: str
    """What the user can do if retries do not help, in one sentence."""
    example: str
    """An observed error text."""
    source: str
    """Library that writes the text."""


_FREE_GPU = (
    "Another process holds the GPU's memory: `nvidia-smi` on the node names it; end it, or leave the GPU out of Ray "
    "(`ray start --num-gpus`)."
)
_FIT = "Set a larger `tensor_parallel`, a smaller `max_length`, or use a GPU with more memory."
_DRIVER = "Update the node's NVIDIA driver, or use an image whose CUDA version its driver supports; `nvidia-smi` shows both."
_CHECK_GPU = (
    "Look for Xid messages with `dmesg` on the node; if the error returns on one node alone, drain it."
)
_COMPILER = "Install a C compiler and Python's headers in the image (Debian: `gcc python3-dev`)."
_FABRIC = "Start nvidia-fabricmanager in the driver's version on the node; GPUs with NVSwitch need it."
_NCCL = "Run once more with NCCL_DEBUG=INFO; check NVLink with `nvidia-smi topo -m` and the size of /dev/shm."
_SHM = "Give the container a larger /dev/shm (`--shm-size=10g`, or an emptyDir with `medium: Memory`)."
_WEIGHTS = "Check the checkpoint's files against its config.json, or build it anew."
_REPLACE = (
    "The GPU reports a hardware error: drain the node, reset the GPU, and replace it if the error returns."
)
_LOG = "The attempt's log names the cause."

TABLE: tuple[FaultText, ...] = (
    # Another process uses the memory.
    FaultText(
        ("free memory on device", "less than desired gpu memory utilization"), Fault.BUSY_GPU, _FREE_GPU,
        "ValueError: Free memory on device cuda:0 (19.77/22.05 GiB) on startup is less than desired GPU memory utilization "
        "(0.9, 19.84 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.", "vLLM",
    ),
    FaultText(
        ("free memory on device", "less than the engine's budget"), Fault.BUSY_GPU, _FREE_GPU,
        "ValueError: Free memory on device cuda:0 (30.1/79.2 GiB) on startup is less than the engine's budget after excluding "
        "external process's weights", "vLLM",
    ),
    FaultText(
        ("error in memory profiling", "current free memory"), Fault.BUSY_GPU, _FREE_GPU,
        "AssertionError: Error in memory profiling. Initial free memory 70.2 GiB, current free memory 74.9 GiB. This happens when "
        "other processes sharing the same container release GPU memory while vLLM is profiling during initialization.", "vLLM",
    ),
    FaultText(
        ("available memory on node", "less than desired cpu memory utilization"), Fault.BUSY_GPU,
        "Another process holds the node's memory: end it, or use a node with more memory.",
        "ValueError: Available memory on node 0 (3.1/15.6 GiB) on startup is less than desired CPU memory utilization "
        "(0.9, 14.04 GiB).", "vLLM",
    ),
    FaultText(
        ("device(s) is/are busy or unavailable",), Fault.BUSY_GPU, _FREE_GPU,
        "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", "CUDA",
    ),
    # The engine does not fit into the GPU's memory, even if it is free.
    FaultText(
        ("no available memory for the cache blocks",), Fault.TOO_LARGE, _FIT,
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.",
        "vLLM",
    ),
    FaultText(
        ("larger than the available kv cache memory",), Fault.TOO_LARGE, _FIT,
        "ValueError: To serve at least one request with the model's max seq len (131072), 16.0 GiB KV cache is needed, which is "
        "larger than the available KV cache memory (9.31 GiB).", "vLLM",
    ),
    FaultText(
        ("out of memory", "in load_model"), Fault.TOO_LARGE, _FIT,
        'File ".../vllm/v1/worker/gpu_worker.py", line 136, in load_model\n...\ntorch.OutOfMemoryError: CUDA out of memory. Tried to '
        "allocate 448.00 MiB. GPU 0 has a total capacity of 23.68 GiB of which 212.81 MiB is free.", "torch",
    ),
    # Host memory.
    FaultText(
        ("node running low on memory",), Fault.OUT_OF_MEMORY, "Use a node with more memory, or run fewer engines on it.",
        "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", "Ray",
    ),
    FaultText(
        ("out of memory",), Fault.OUT_OF_MEMORY, _FIT,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 350.00 MiB. GPU 0 has a total capacity of 23.68 GiB of which "
        "212.81 MiB is free.", "torch",
    ),
    FaultText(
        ("can't allocate memory",), Fault.OUT_OF_MEMORY, "Use a node with more memory, or run fewer engines on it.",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:125] . DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "34359738368 bytes. Error code 12 (Cannot allocate memory)", "torch",
    ),
    FaultText(
        ("bad_alloc",), Fault.OUT_OF_MEMORY, "Use a node with more memory, or run fewer engines on it.",
        "RuntimeError: std::bad_alloc", "C++",
    ),
    # The node cannot run any engine: driver, image or hardware.
    FaultText(
        ("nvidia driver on your system is too old",), Fault.BAD_NODE, _DRIVER,
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by "
        "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx", "torch",
    ),
    FaultText(
        ("cuda driver version is insufficient",), Fault.BAD_NODE, _DRIVER,
        "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version", "CUDA",
    ),
    FaultText(
        ("unsupported toolchain",), Fault.BAD_NODE, _DRIVER,
        "RuntimeError: CUDA error: the provided PTX was compiled with an unsupported toolchain.", "CUDA",
    ),
    FaultText(
        ("forward compatibility was attempted",), Fault.BAD_NODE, _DRIVER,
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on non supported HW",
        "CUDA",
    ),
    FaultText(
        ("driver/library version mismatch",), Fault.BAD_NODE, "Restart the node: its driver was updated while it ran.",
        "NVMLError_LibRmVersionMismatch: Driver/library version mismatch", "NVML",
    ),
    FaultText(
        ("no kernel image is available",), Fault.BAD_NODE,
        "The image's build of vLLM or torch has no kernels for this GPU: use another build, or leave the GPU out of Ray.",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device", "CUDA",
    ),
    FaultText(
        ("bfloat16 is only supported on gpus",), Fault.BAD_NODE,
        "Use GPUs of compute capability 8.0 or more, or set `dtype: float16`.",
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute "
        "capability 7.5.", "vLLM",
    ),
    FaultText(
        ("system not yet initialized",), Fault.BAD_NODE, _FABRIC,
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() "
        "that might have already set an error? Error 802: system not yet initialized", "CUDA",
    ),
    FaultText(
        ("no cuda gpus are available",), Fault.BAD_NODE,
        "Give the container its GPUs (`--gpus all`, or `nvidia.com/gpu` in the pod); `nvidia-smi` in it must list them.",
        "RuntimeError: No CUDA GPUs are available", "torch",
    ),
    FaultText(
        ("found no nvidia driver",), Fault.BAD_NODE, _DRIVER,
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from "
        "http://www.nvidia.com/Download/index.aspx", "torch",
    ),
    FaultText(
        ("libcuda.so", "cannot open shared object file"), Fault.BAD_NODE, _DRIVER,
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory", "CUDA",
    ),
    FaultText(
        ("failed to find c compiler",), Fault.BAD_NODE, _COMPILER,
        "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.",
        "Triton",
    ),
    FaultText(
        ("python.h: no such file",), Fault.BAD_NODE, _COMPILER,
        "/tmp/tmps1rkq3y3/main.c:5:10: fatal error: Python.h: No such file or directory", "Triton",
    ),
    FaultText(
        ("error while creating shared memory segment",), Fault.BAD_NODE, _SHM,
        "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-Ewjreo (size 33030528), error: No space left on device "
        "(28)", "NCCL",
    ),
    FaultText(
        ("uncorrectable ecc error",), Fault.BAD_NODE, _REPLACE,
        "RuntimeError: CUDA error: uncorrectable ECC error encountered", "CUDA",
    ),
    FaultText(
        ("uncorrectable nvlink error",), Fault.BAD_NODE, _REPLACE,
        "RuntimeError: CUDA error: uncorrectable NVLink error detected during the execution", "CUDA",
    ),
    # The engine's process must be replaced: its CUDA context or a worker process is lost.
    FaultText(
        ("an illegal memory access",), Fault.BROKEN_ENGINE, _CHECK_GPU,
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.", "CUDA",
    ),
    FaultText(
        ("device-side assert triggered",), Fault.BROKEN_ENGINE, _CHECK_GPU,
        "RuntimeError: CUDA error: device-side assert triggered", "CUDA",
    ),
    FaultText(
        ("unspecified launch failure",), Fault.BROKEN_ENGINE, _CHECK_GPU,
        "RuntimeError: CUDA error: unspecified launch failure", "CUDA",
    ),
    FaultText(
        ("cublas_status_",), Fault.BROKEN_ENGINE, _CHECK_GPU,
        "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`", "cuBLAS",
    ),
    FaultText(
        ("nvrm: xid",), Fault.BROKEN_ENGINE, _CHECK_GPU,
        "NVRM: Xid (PCI:0000:9b:00): 94, pid=1234, name=python3, Contained ECC error", "driver",
    ),
    FaultText(
        ("nccl operations have failed or timed out",), Fault.BROKEN_ENGINE, _NCCL,
        "[rank0]:[E ProcessGroupNCCL.cpp:577] [Rank 0] Some NCCL operations have failed or timed out. Due to the asynchronous nature "
        "of CUDA kernels, subsequent GPU operations might run on corrupted/incomplete data.", "NCCL",
    ),
    FaultText(
        ("watchdog caught collective operation timeout",), Fault.BROKEN_ENGINE, _NCCL,
        "[rank0]:[E ProcessGroupNCCL.cpp:563] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, "
        "OpType=ALLREDUCE, NumelIn=134217728, NumelOut=134217728, Timeout(ms)=600000) ran for 600059 milliseconds before timing out.",
        "NCCL",
    ),
    FaultText(
        ("nccl error",), Fault.BROKEN_ENGINE, _NCCL,
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", "NCCL",
    ),
    FaultText(
        ("cuda error",), Fault.BROKEN_ENGINE, _CHECK_GPU,
        "RuntimeError: CUDA error: misaligned address", "CUDA",
    ),
    # The checkpoint fails on every node.
    FaultText(
        ("model architecture", "not supported"), Fault.BAD_CHECKPOINT,
        "Choose the `transformers` engine, or a checkpoint of an architecture that this vLLM has.",
        "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: dict_keys([...])",
        "vLLM",
    ),
    FaultText(
        ("weights were not initialized from checkpoint",), Fault.BAD_CHECKPOINT, _WEIGHTS,
        "ValueError: Following weights were not initialized from checkpoint: {'model.layers.3.mlp.down_proj.weight'}", "vLLM",
    ),
    FaultText(
        ("attempted to load weight", "into parameter"), Fault.BAD_CHECKPOINT, _WEIGHTS,
        "AssertionError: Attempted to load weight (torch.Size([3600])) into parameter (torch.Size([3584]))", "vLLM",
    ),
    FaultText(
        ("there is no module or parameter named",), Fault.BAD_CHECKPOINT, _WEIGHTS,
        "ValueError: There is no module or parameter named 'fc.weight_scale' in LlamaForCausalLM.", "vLLM",
    ),
    FaultText(
        ("cannot find any", "model weights"), Fault.BAD_CHECKPOINT, _WEIGHTS,
        "RuntimeError: Cannot find any model weights with `/models/merged`", "vLLM",
    ),
    FaultText(
        ("error while deserializing header",), Fault.BAD_CHECKPOINT, _WEIGHTS,
        "safetensors_rust.SafetensorError: Error while deserializing header: invalid header length", "safetensors",
    ),
    FaultText(
        ("must be divisible by tensor parallel size",), Fault.BAD_CHECKPOINT, "Set `tensor_parallel` to a divisor.",
        "ValueError: Total number of attention heads (9) must be divisible by tensor parallel size (2).", "vLLM",
    ),
    FaultText(
        ("in load_weights",), Fault.BAD_CHECKPOINT, _WEIGHTS,
        'File ".../vllm/model_executor/models/llama.py", line 480, in load_weights\n...\nFile '
        '".../vllm/model_executor/parameter.py", line 94, in _assert_and_load\nAssertionError', "vLLM",
    ),
    # Generic texts that do not name the cause; searched last.
    FaultText(
        ("enginecore encountered an issue",), Fault.BROKEN_ENGINE, _LOG,
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.",
        "vLLM",
    ),
    FaultText(("executor failed.",), Fault.BROKEN_ENGINE, _LOG, "RuntimeError: Executor failed.", "vLLM"),
    FaultText(
        ("worker proc", "died unexpectedly"), Fault.BROKEN_ENGINE, _LOG,
        "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.", "vLLM",
    ),
    FaultText(
        ("rpc call to", "timed out"), Fault.BROKEN_ENGINE, _LOG, "TimeoutError: RPC call to execute_model timed out.", "vLLM",
    ),
    FaultText(
        ("workerproc initialization failed",), Fault.ENGINE_START, _LOG,
        "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.",
        "vLLM",
    ),
    FaultText(
        ("engine core initialization failed",), Fault.ENGINE_START, _LOG,
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", "vLLM",
    ),
    FaultText(
        ("actor died unexpectedly",), Fault.LOST_NODE, "See the node's Ray logs (`ray logs cluster`).",
        "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.", "Ray",
    ),
    FaultText(
        ("node has died",), Fault.LOST_NODE, "Start the node again, or add another.",
        "ray.exceptions.ActorDiedError: The actor died because its node has died. Node Id: 8c5a14", "Ray",
    ),
)  # fmt: skip
"""Ordered by precedence: memory first, because one worker without memory causes NCCL errors in the others."""

GENERIC = frozenset({Fault.ENGINE_START, Fault.LOST_NODE})
"""Faults that do not name a cause; the log is searched for it."""

# Types that vLLM raises, with varying texts, for a defective checkpoint or config.
_OF_CHECKPOINT = (ValueError, AssertionError, LookupError, TypeError, AttributeError)


def find_fault(text: str) -> FaultText | None:
    """The first row of the table whose marks are all in the text; None if no row matches."""
    low = (text if len(text) <= 2 * _LONGEST else text[:_LONGEST] + text[-_LONGEST:]).lower()
    return next((row for row in TABLE if all(mark in low for mark in row.marks)), None)


def text_with_frames(error: BaseException) -> str:
    """An error's text and the functions of its traceback, as lines like "in load_model"."""
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join([f"{type(error).__name__}: {error}", *(f"in {frame.name}" for frame in frames)])


def start_error(checkpoint: Path, error: Exception, log_tail: str) -> EngineStartError:
    """The cause of vLLM's failure to start: by the error's text, else by the end of its log, else by the error's type."""
    row = find_fault(text_with_frames(error))
    if row is None or row.fault in GENERIC:
        row = find_fault(log_tail) or row
    if row is not None:
        fault = row.fault
    elif isinstance(error, _OF_CHECKPOINT) or type(error).__name__ == "SafetensorError":
        fault = Fault.BAD_CHECKPOINT
    else:
        without_errno = isinstance(error, OSError) and error.errno is None
        fault = Fault.BAD_CHECKPOINT if without_errno else Fault.ENGINE_START
    advice = f" {row.next_step}" if row is not None else ""
    text = str(error).strip() or type(error).__name__
    return EngineStartError(
        f"vLLM does not start on {checkpoint}: {text}{advice}\nThe end of its log:\n{log_tail}", fault
    )
