"""The files of a checkpoint directory that a loader may open: what a checkpoint's identity covers.

transformers, vLLM and mergekit do not open the same files where a directory holds several sets of weights. Such a
directory is refused by name; of every other one, all files are covered but those that no loader opens.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path

from recipes.errors import CheckpointError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
PICKLE_PATTERNS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")

MOST_FILES = 5000
"""Files of a checkpoint directory, over all its folders; one with more is a mistake (a cache, a data set)."""

_INERT = (
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
    # what a merge or a training run leaves
    *(
        "*.yml",
        "*.yaml",
        "trainer_state.json",
        "training_args.bin",
        "*_results.json",
        "optimizer.*",
        "scheduler.*",
    ),
    *("scaler.*", "rng_state*", "events.out.tfevents.*"),
    # weights of other runtimes
    *("*.gguf", "*.ggml", "*.onnx", "*.onnx_data", "*.msgpack", "*.h5", "*.ot", "*.mlmodel", "*.tflite"),
)
"""Patterns of files that neither transformers nor vLLM nor mergekit opens when it loads a checkpoint."""

_IN_FOLDERS = ("*.py", "*.jinja", "*.json")
"""Files of subfolders that a loader may open: code, chat templates, configs. Weights and tokenizers lie beside config.json."""

_SKIPPED_FOLDERS = ("original", "onnx", "gguf", "runs", "figures", "assets", "images", "__pycache__")
"""Folders that no loader enters."""


def loadable_files(directory: Path) -> tuple[str, ...]:
    """Relative POSIX names, sorted, of every file that a loader may open; pickles only where there are no safetensors.

    Raises CheckpointError for a directory whose weights depend on the loader, and for one with too many files.
    """
    top = _top_files(directory)
    has_safetensors = any(name.endswith(".safetensors") for name in top)
    pickled = (*PICKLE_PATTERNS, "*.bin") if has_safetensors else ()
    names = [name for name in top if not _matches(name, (*_INERT, *pickled))]
    return tuple(sorted([*names, *_nested_files(directory)]))


def refuse_ambiguous(directory: Path, weight_files: tuple[str, ...]) -> None:
    """Raise CheckpointError where loaders would not agree on the weights; `weight_files` are those that the index names.

    transformers prefers model.safetensors to the index and applies an adapter that lies beside the weights; vLLM prefers
    consolidated*.safetensors, reads every *.safetensors where there is no index, and ignores adapters.
    """
    others = [
        name for name in _top_files(directory) if name.endswith(".safetensors") and name not in weight_files
    ]
    if (directory / "adapter_config.json").exists():
        raise CheckpointError(
            f"{directory} holds a LoRA adapter (adapter_config.json) beside its weights, which transformers would apply and "
            "vLLM would not: merge the adapter into the weights, or move it elsewhere."
        )
    if others:
        named = (
            f"{INDEX_NAME} does not name"
            if (directory / INDEX_NAME).exists()
            else f"{SINGLE_NAME} does not explain"
        )
        raise CheckpointError(
            f"{directory} holds {others[0]}, which {named}: engines would not load the same weights; move the files that "
            "do not belong to the checkpoint elsewhere."
        )


def _top_files(directory: Path) -> list[str]:
    names = [path.name for path in directory.iterdir() if not path.is_dir()]
    if len(names) > MOST_FILES:
        raise CheckpointError(
            f"{directory} holds {len(names)} files, too many for a checkpoint: check the path."
        )
    return names


def _nested_files(directory: Path) -> list[str]:
    """Files of subfolders, in bounded number; links to folders are not followed."""
    names: list[str] = []
    folders = [
        path
        for path in directory.iterdir()
        if path.is_dir() and not _matches(path.name, (".*", *_SKIPPED_FOLDERS))
    ]
    seen = 0
    while folders:
        for path in folders.pop().iterdir():
            seen += 1
            if seen > MOST_FILES:
                raise CheckpointError(
                    f"The folders below {directory} hold more than {MOST_FILES} files, too many for a checkpoint: check the path."
                )
            if path.is_dir():
                if not path.is_symlink() and not _matches(path.name, (".*", *_SKIPPED_FOLDERS)):
                    folders.append(path)
            elif _matches(path.name, _IN_FOLDERS):
                names.append(path.relative_to(directory).as_posix())
    return names


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
