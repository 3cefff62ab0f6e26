"""The files of a checkpoint directory that a loader may open; the digest of a checkpoint covers them.

transformers, vLLM and mergekit open different files if a directory holds several sets of weights. Such a directory is
refused. Of any other directory the digest covers all files except those that no loader opens.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path

from recipes.errors import CheckpointError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
PICKLE_PATTERNS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")

ORIGIN_NAME = "mergeboard_origin.json"
"""Our own record of what a checkpoint was made from (`recipes.origin`)."""

MAX_FILES = 5000
"""Maximum number of files in a checkpoint directory, subfolders included; more means a wrong path (a cache, a data set)."""

_UNUSED_FILES = (
    # documents and pictures
    *(
        "*.md",
        "*.markdown",
        "*.rst",
        "*.pdf",
        "*.png",
        "*.jpg",
        "*.jpeg",
        "*.gif",
        "*.webp",
        "*.svg",
        "*.csv",
    ),
    *("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", ".*", "*.log", "*.lock"),
    # leftovers of a merge or a training run
    *(
        "*.yml",
        "*.yaml",
        "trainer_state.json",
        "training_args.bin",
        "*_results.json",
        ORIGIN_NAME,
        "optimizer.*",
        "scheduler.*",
    ),
    *("scaler.*", "rng_state*", "events.out.tfevents.*"),
    # weights of other runtimes
    *("*.gguf", "*.ggml", "*.onnx", "*.onnx_data", "*.msgpack", "*.h5", "*.ot", "*.mlmodel", "*.tflite"),
)
"""Patterns of files that neither transformers nor vLLM nor mergekit opens when it loads a checkpoint."""

_NESTED_FILES = ("*.py", "*.jinja", "*.json")
"""Files in subfolders that a loader may open: code, chat templates, configs. Weights and tokenizers are at the top."""

_SKIPPED_FOLDERS = ("original", "onnx", "gguf", "runs", "figures", "assets", "images", "__pycache__")
"""Subfolders that no loader reads."""


def loadable_files(directory: Path) -> tuple[str, ...]:
    """Sorted relative POSIX names of every file that a loader may open; pickles only if there are no safetensors.

    Raises CheckpointError for a directory with too many files.
    """
    top = _top_files(directory)
    has_safetensors = any(name.endswith(".safetensors") for name in top)
    pickled = (*PICKLE_PATTERNS, "*.bin") if has_safetensors else ()
    names = [name for name in top if not _matches(name, (*_UNUSED_FILES, *pickled))]
    return tuple(sorted([*names, *_nested_files(directory)]))


def check_unambiguous(directory: Path, weight_files: tuple[str, ...]) -> None:
    """Raise CheckpointError if loaders would load different weights; `weight_files` are the files that the index names.

    transformers prefers model.safetensors to the index and applies an adapter in the same directory. vLLM prefers
    consolidated*.safetensors, reads every *.safetensors file if there is no index, and ignores adapters.
    """
    other_files = [
        name for name in _top_files(directory) if name.endswith(".safetensors") and name not in weight_files
    ]
    if (directory / "adapter_config.json").exists():
        raise CheckpointError(
            f"{directory} holds a LoRA adapter (adapter_config.json) beside its weights, which transformers would apply and "
            "vLLM would not: merge the adapter into the weights, or move it elsewhere."
        )
    if other_files:
        reason = (
            f"{INDEX_NAME} does not name"
            if (directory / INDEX_NAME).exists()
            else f"{SINGLE_NAME} does not explain"
        )
        raise CheckpointError(
            f"{directory} holds {other_files[0]}, which {reason}: engines would not load the same weights; move the files that "
            "do not belong to the checkpoint elsewhere."
        )


def _top_files(directory: Path) -> list[str]:
    names = [path.name for path in directory.iterdir() if not path.is_dir()]
    if len(names) > MAX_FILES:
        raise CheckpointError(
            f"{directory} holds {len(names)} files, too many for a checkpoint: check the path."
        )
    return names


def _nested_files(directory: Path) -> list[str]:
    """Files in subfolders; links to folders are not followed. Raises CheckpointError if there are too many."""
    names: list[str] = []
    folders = [
        path
        for path in directory.iterdir()
        if path.is_dir() and not _matches(path.name, (".*", *_SKIPPED_FOLDERS))
    ]
    count = 0
    while folders:
        for path in folders.pop().iterdir():
            count += 1
            if count > MAX_FILES:
                raise CheckpointError(
                    f"The folders below {directory} hold more than {MAX_FILES} files, too many for a checkpoint: check the path."
                )
            if path.is_dir():
                if not path.is_symlink() and not _matches(path.name, (".*", *_SKIPPED_FOLDERS)):
                    folders.append(path)
            elif _matches(path.name, _NESTED_FILES):
                names.append(path.relative_to(directory).as_posix())
    return names


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
