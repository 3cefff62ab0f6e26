"""The contract with vLLM's sources: of the GPU wheel (slow), of what is installed, and that a breach is seen."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineSpec, EngineTuning
from evals.vllm import loading
from tests.gpu_runner.contract import breaches
from tests.gpu_runner.our_use import Call, calls_of, our_modules
from tests.gpu_runner.sources import Missing, Sources
from tests.gpu_runner.v2 import ROOT
from tests.support.tiny_checkpoints import tiny_checkpoint

CACHE = Path(os.environ.get("MERGEBOARD_TEST_CACHE", ROOT / "test-output")) / "wheels"

ONLY_ON_ONE_DEVICE = {
    "vllm/_version.py",
    "vllm/platforms/__init__.py",
    "vllm/utils/cpu_triton_utils.py",
}
"""Files that differ between the wheels for CPUs and for GPUs; none of them schedules, samples or scores."""
KERNEL_LIBRARIES = ("vllm/third_party/", "vllm/vllm_flash_attn/")
"""Copies of other projects that are built for GPUs alone."""


@pytest.fixture(scope="module")
def engine_arguments(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every argument that we start an engine with, on CPUs and GPUs, live and built, on one device and two."""
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("arguments"))
    arguments: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        for cpu in (False, True):
            patch.setattr(loading, "answer_for_cpu_build", lambda cpu=cpu: cpu)
            for slots, ranks in ((0, 1), (4, 2)):
                spec = EngineSpec(kind=EngineKind.VLLM, version="0", tensor_parallel=ranks)
                tuning = EngineTuning(extra_layer_slots=slots, block_size=32)
                arguments |= loading.plan_engine(spec, checkpoint, tuning).arguments.keys()
    assert {"model", "worker_cls", "gpu_memory_utilization", "kv_cache_memory_bytes"} <= arguments
    return arguments


@functools.cache
def installed() -> Sources:
    import importlib.util

    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("vLLM is not installed")
    return Sources(Path(spec.submodule_search_locations[0]).parent)


def gpu_wheel() -> Sources:
    """The wheel of the GPU lock, or of MERGEBOARD_TEST_VLLM_VERSION, fetched once."""
    locked = re.search(r"^vllm==(\S+)$", (ROOT / "requirements-gpu.lock").read_text(encoding="utf-8"), re.M)
    assert locked
    version = os.environ.get("MERGEBOARD_TEST_VLLM_VERSION", locked[1])
    CACHE.mkdir(parents=True, exist_ok=True)
    if not list(CACHE.glob(f"vllm-{version}-*.whl")):
        command = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
        platform = "--platform=manylinux_2_28_x86_64"
        fetched = subprocess.run(
            [sys.executable, "-m", "pip", *command, platform, "--dest", str(CACHE), f"vllm=={version}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if fetched.returncode:
            pytest.skip(f"the index does not give vllm=={version}: {fetched.stderr.strip()[-300:]}")
    return Sources(next(CACHE.glob(f"vllm-{version}-*.whl")))


def check(sources: Sources, engine_arguments: set[str]) -> None:
    broken = breaches(sources, engine_arguments)
    assert not broken, "\n".join(broken)


def test_the_installed_vllm_has_what_we_use(engine_arguments: set[str]) -> None:
    check(installed(), engine_arguments)


@pytest.mark.slow
def test_the_gpu_wheel_has_what_we_use(engine_arguments: set[str]) -> None:
    check(gpu_wheel(), engine_arguments)


@pytest.mark.slow
def test_tests_on_a_cpu_run_the_gpu_wheels_sources() -> None:
    """Model Runner V2, scheduler, sampler and models are the same files: what is shown on CPU tensors is shown for them."""
    cpu, gpu = installed(), gpu_wheel()
    differing = {
        file
        for file in gpu.files | cpu.files
        if not file.startswith(KERNEL_LIBRARIES)
        if not (file in gpu.files and file in cpu.files)
        or hashlib.sha256(gpu.text(file)).digest() != hashlib.sha256(cpu.text(file)).digest()
    }
    assert differing <= ONLY_ON_ONE_DEVICE


def test_calls_are_read_off_our_sources() -> None:
    calls: list[Call] = [call for file, tree in our_modules().items() for call in calls_of(file, tree)]
    called = {call.imported.name for call in calls}
    assert {"SamplingParams", "CommonAttentionMetadata", "Attention"} <= called


CHANGES = (
    (
        "vllm/sampling_params.py",
        b"prompt_logprob_start: int",
        b"prompt_first_row: int",
        "prompt_logprob_start",
    ),
    (
        "vllm/v1/attention/backend.py",
        b"    max_query_len: int\n",
        b"    longest_query: int\n",
        "max_query_len",
    ),
    ("vllm/v1/worker/gpu/cudagraph_utils.py", b"def release_graphs", b"def drop_graphs", "release_graphs"),
    ("vllm/config/vllm.py", b"def use_v2_model_runner", b"def model_runner_version", "use_v2_model_runner"),
    ("vllm/engine/arg_utils.py", b"    worker_cls: ", b"    worker_class: ", "worker_cls"),
    ("vllm/v1/engine/llm_engine.py", b"def abort_request(", b"def abort(", "abort_request"),
    ("vllm/v1/kv_cache_interface.py", b"class FullAttentionSpec", b"class DenseSpec", "FullAttentionSpec"),
    (
        "vllm/envs.py",
        b'"VLLM_WORKER_MULTIPROC_METHOD"',
        b'"VLLM_START_METHOD"',
        "VLLM_WORKER_MULTIPROC_METHOD",
    ),
    ("vllm/v1/outputs.py", b"selected_token_ranks: ", b"ranks: ", "selected_token_ranks"),
)


@pytest.mark.parametrize(("file", "now", "then", "lost"), CHANGES, ids=[change[3] for change in CHANGES])
def test_a_changed_vllm_is_told(
    engine_arguments: set[str], file: str, now: bytes, then: bytes, lost: str
) -> None:
    assert now in installed().text(file)
    sources = installed().changed(file, installed().text(file).replace(now, then))
    told = breaches(sources, engine_arguments)
    assert told
    assert all(lost in breach for breach in told)


def test_a_module_that_moved_is_told(engine_arguments: set[str]) -> None:
    sources = installed().changed("vllm/v1/worker/gpu_worker.py", None)
    with pytest.raises(Missing):
        sources.tree("vllm.v1.worker.gpu_worker")
    assert any("vllm.v1.worker.gpu_worker" in breach for breach in breaches(sources, engine_arguments))
