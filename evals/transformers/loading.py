"""Loads model and tokenizer for an engine specification, after checking that the engine supports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from evals.checkpoint_config import read_config
from evals.engine import EngineSpec, EngineTuning
from evals.errors import EngineError
from evals.quantization import stored_method
from evals.weight_names import refuse_missing

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LENGTH_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")
UNKNOWN_LENGTH = 2048
"""lm-eval's default length if neither config nor tokenizer has one."""


_FROM_LOADING = (
    OSError,
    ValueError,
    ImportError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
)
"""Errors of transformers and of a model's own code when it is constructed, for example RWKV's with a single layer."""


def refuse(spec: EngineSpec, checkpoint: Path) -> None:
    """Raise EngineError if the transformers engine does not support the specification."""
    stored = stored_method(checkpoint, read_config(checkpoint))
    if spec.quantization or stored:
        raise EngineError(
            f"{checkpoint} is to run quantised ({spec.quantization or stored}), which the transformers engine does not "
            "support: use the vllm engine, or a checkpoint that is not quantised."
        )
    if spec.kv_cache_dtype != "auto":
        raise EngineError(
            f"The transformers engine keeps its KV cache in the model's dtype, not {spec.kv_cache_dtype}: "
            "leave kv_cache_dtype at auto, or use the vllm engine."
        )
    if spec.tensor_parallel != 1:
        raise EngineError(
            f"The transformers engine runs on one device, not {spec.tensor_parallel}: use the vllm engine."
        )


def pick_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads(tuning: EngineTuning) -> None:
    """Set torch's CPU threads: as tuned, or OMP_NUM_THREADS, or all CPUs of the process."""
    import torch

    if tuning.threads is not None:
        torch.set_num_threads(tuning.threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))


def load_model(spec: EngineSpec, checkpoint: Path, device: torch.device) -> PreTrainedModel:
    """Load the model in the specification's dtype; EngineError if weights cannot be loaded or are missing."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            dtype=getattr(torch, spec.dtype),
            trust_remote_code=spec.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    except (*_FROM_LOADING, StrictDataclassError) as error:
        reason = str(error) or type(error).__name__
        raise EngineError(f"transformers cannot load {checkpoint}: {reason}") from error
    if report["missing_keys"]:
        refuse_missing(checkpoint, report["missing_keys"])
    return model.to(device).eval().requires_grad_(False)


def attention_of(model: PreTrainedModel) -> str:
    """transformers' name of the model's attention implementation, for example sdpa."""
    return str(model.config.get_text_config()._attn_implementation)


def load_tokenizer(spec: EngineSpec, checkpoint: Path) -> PreTrainedTokenizerBase:
    """Load the checkpoint's tokenizer; EngineError if that fails."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            checkpoint, trust_remote_code=spec.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, ImportError, StrictDataclassError) as error:
        # It reads config.json too.
        raise EngineError(f"transformers cannot load the tokenizer of {checkpoint}: {error}") from error


def length_limit(spec: EngineSpec, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest sequence in tokens: the specification's, else the checkpoint's, determined as in lm-eval."""
    if spec.max_length is not None:
        return spec.max_length
    config = model.config.get_text_config()
    for key in LENGTH_KEYS:
        value = getattr(config, key, None)
        if value is not None:
            return int(value)
    stated = tokenizer.model_max_length
    return int(stated) if stated is not None and stated < 10**18 else UNKNOWN_LENGTH
