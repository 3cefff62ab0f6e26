"""Checks that the shapes of a checkpoint's tensors match its configuration, with a transformers model on the meta device.

If a stored tensor is larger than the configuration says (`intermediate_size` 64 with tensors of 128), vLLM 0.32 loads the part that
fits and computes with it. transformers rejects such a checkpoint, but only after reading the weights. Here meta tensors of the
stored shapes pass through its loading code, which also converts names and shapes of older files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.errors import EngineError, first_line
from evals.quantization import stored_method
from evals.weight_headers import StoredTensor, stored_tensors

if TYPE_CHECKING:
    import torch

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_FLOATS = frozenset(_DTYPES.values())


def require_weight_shapes(checkpoint: Path, config: Mapping[str, Any]) -> None:
    """Raise EngineError if a tensor's shape contradicts config.json.

    Not checked: architectures that transformers does not contain, and packed tensors of quantised checkpoints.
    """
    tensors = stored_tensors(checkpoint)
    if tensors is None:
        return
    quantised = stored_method(checkpoint, config) is not None
    mismatches = sorted(_mismatches(checkpoint, tensors, quantised=quantised))
    if mismatches:
        name, stored, expected = mismatches[0]
        more = f" (and {len(mismatches) - 1} more tensors)" if len(mismatches) > 1 else ""
        raise EngineError(
            f"{checkpoint}: tensor {name} has the shape {_shown(stored)} and by config.json it is {_shown(expected)}{more}, an "
            "engine would run a part of it: correct config.json, or download or build the checkpoint again."
        )


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _mismatches(
    checkpoint: Path, tensors: Mapping[str, StoredTensor], *, quantised: bool
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Name, stored shape and expected shape; transformers' names if it stacks or renames stored tensors."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    with _quiet():
        try:
            settings = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, TypeError, AttributeError, KeyError):
            return  # not an architecture of transformers, or not readable: the engine reports it
        if type(settings) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            return
        for key in ("quantization_config", "compression_config"):
            if hasattr(settings, key):
                delattr(settings, key)
        classes = MODEL_FOR_CAUSAL_LM_MAPPING[type(settings)]
        architecture = classes[0] if isinstance(classes, tuple) else classes
        try:
            _, report = architecture.from_pretrained(
                None,
                config=settings,
                state_dict=_without_data(tensors, quantised=quantised),
                device_map={"": "meta"},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except (RuntimeError, ValueError, ImportError, TypeError, AttributeError, KeyError) as error:
            if quantised:
                return  # packed tensors are missing here and cannot be stacked
            reason = first_line(error)
            raise EngineError(
                f"{checkpoint}: its tensors do not match its config.json in transformers ({reason}): correct config.json, or "
                "download or build the checkpoint again."
            ) from error
    for name, stored, expected in report["mismatched_keys"]:
        if not quantised or name in tensors:
            yield name, tuple(stored), tuple(expected)


def _without_data(tensors: Mapping[str, StoredTensor], *, quantised: bool) -> dict[str, torch.Tensor]:
    """Tensors on the meta device; for a quantised checkpoint only those with unpacked numbers."""
    import torch

    meta_tensors = {}
    for name, tensor in tensors.items():
        dtype = _DTYPES.get(tensor.dtype, tensor.dtype)
        if dtype in _FLOATS or not quantised:
            torch_dtype = getattr(torch, dtype) if dtype in _FLOATS else torch.float32
            meta_tensors[name] = torch.empty(tensor.shape, dtype=torch_dtype, device="meta")
    return meta_tensors


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress transformers' progress bar and loading report."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
