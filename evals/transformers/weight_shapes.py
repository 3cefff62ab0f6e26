"""Whether the shapes of a checkpoint's tensors are those of its configuration, by a transformers model without memory.

vLLM 0.32 copies the part that fits where a file's tensor is larger than the configuration says (`intermediate_size` 64 beside tensors
of 128), and computes with it. transformers refuses such a checkpoint, but reads the weights first: here tensors of the stored
shapes on the meta device pass through its own loading, which knows how names and shapes of older files are converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.errors import EngineError
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
    """Raise EngineError that names a tensor whose shape contradicts config.json.

    Not looked at: architectures that transformers does not know (the checkpoint's own code), and packed tensors of quantised
    checkpoints, whose shapes are their method's.
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
            "engine would run a part of it: mend config.json, or download or build the checkpoint again."
        )


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _mismatches(
    checkpoint: Path, tensors: Mapping[str, StoredTensor], *, quantised: bool
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Name, stored shape and expected shape; names are transformers' own where it stacks or renames what is stored."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    with _quiet():
        try:
            settings = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, TypeError, AttributeError, KeyError):
            return  # not transformers' own, or not readable: the engine says so
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
                return  # tensors that are packed are not there to be stacked
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise EngineError(
                f"{checkpoint}: its tensors are not those of its config.json for transformers ({reason}): mend config.json, or "
                "download or build the checkpoint again."
            ) from error
    for name, stored, expected in report["mismatched_keys"]:
        if not quantised or name in tensors:
            yield name, tuple(stored), tuple(expected)


def _without_data(tensors: Mapping[str, StoredTensor], *, quantised: bool) -> dict[str, torch.Tensor]:
    """Tensors on the meta device; of a quantised checkpoint only those whose numbers are stored one by one."""
    import torch

    made = {}
    for name, tensor in tensors.items():
        dtype = _DTYPES.get(tensor.dtype, tensor.dtype)
        if dtype in _FLOATS or not quantised:
            known = getattr(torch, dtype) if dtype in _FLOATS else torch.float32
            made[name] = torch.empty(tensor.shape, dtype=known, device="meta")
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and report, which would speak of a model that nobody loads."""
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
