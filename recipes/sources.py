"""From the name of a checkpoint to its directory: a local folder, an embedded name, or a repository of the hub.

`pin` fixes what a name means now (a commit, or the hash of local weights), `describe` reads its facts without
its weights, `resolve` brings it to this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub import errors as hub_errors
from pydantic import Field

from recipes.checkpoint import Checkpoint, weights_digest
from recipes.config_facts import ConfigFacts, read_config
from recipes.demo import DEMO_NAMES, ensure_demo_checkpoint
from recipes.errors import CheckpointError
from recipes.recipe.refs import SourceKind, SourceRef
from recipes.tensor_file import Frozen

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
_PICKLES = ("*.bin", "*.pt", "*.pth")
_TIMEOUT_S = 15.0
T = TypeVar("T")


class PinnedSource(Frozen):
    """A checkpoint's name with what it means fixed."""

    reference: str = Field(description="What to resolve: an absolute directory, an embedded name, or `repo@commit`.")
    weights_digest: str = Field(description="Hash of local weights and config, or `repo@commit` on the hub.")


class SourceFacts(Frozen):
    """What planning needs to know of a checkpoint, read from its config and headers."""

    config: ConfigFacts = Field(description="The facts of its config.json.")
    parameters: int | None = Field(description="Number of parameters; null where neither headers nor config tell.")
    layer_parameters: int | None = Field(description="Parameters of one decoder layer, where all have the same.")
    has_chat_template: bool = Field(description="Whether its tokenizer brings a chat template.")

    def parameters_of(self, layers: int) -> int | None:
        """Parameters with this many layers instead of its own."""
        if self.parameters is None or self.layer_parameters is None:
            return None
        return self.parameters + (layers - self.config.n_layers) * self.layer_parameters


def pin(name: str, revision: str | None, *, home: Path) -> PinnedSource:
    """Fix what a name means; CheckpointError with the step that mends it where it means nothing."""
    source = _parsed(name, revision)
    local = _local(source, home)
    if local is not None:
        reference = source.name if source.kind is SourceKind.DEMO else str(local)
        return PinnedSource(reference=reference, weights_digest=weights_digest(local, home / "cache"))
    commit = _commit(source)
    return PinnedSource(reference=f"{source.name}@{commit}", weights_digest=f"{source.name}@{commit}")


def describe(pinned: PinnedSource, *, home: Path) -> SourceFacts:
    """The facts of a pinned checkpoint; from the hub only its small files are fetched."""
    source = _parsed(pinned.reference, None)
    local = _local(source, home)
    if local is not None:
        checkpoint = Checkpoint.open(local)
        return SourceFacts(
            config=checkpoint.config,
            parameters=checkpoint.parameters,
            layer_parameters=_equal_layers(checkpoint),
            has_chat_template=checkpoint.has_chat_template,
        )
    return _described_by_hub(source)


def resolve(name: str, revision: str | None, *, home: Path, allow_pickles: bool = False) -> Path:
    """The directory of a checkpoint on this machine, downloaded if it must be."""
    source = _parsed(name, revision)
    local = _local(source, home)
    if local is not None:
        return local
    patterns = [*_FILES, *(_PICKLES if allow_pickles else ())]

    def download() -> str:
        return snapshot_download(source.name, revision=source.revision, allow_patterns=patterns, etag_timeout=_TIMEOUT_S)

    return Path(_ask_hub(source, download))


def _parsed(name: str, revision: str | None) -> SourceRef:
    """The name and its revision; a path keeps its `@`, if it has one."""
    if revision is None and not Path(name).is_dir():
        return SourceRef.parse(name)
    return SourceRef(name=name, revision=revision)


def _local(source: SourceRef, home: Path) -> Path | None:
    """The directory of a source that needs no hub, None for one that does."""
    if source.kind is SourceKind.DEMO:
        if source.name not in DEMO_NAMES:
            raise CheckpointError(f"There is no embedded checkpoint {source.name}; there are {', '.join(DEMO_NAMES)}.")
        return ensure_demo_checkpoint(home, source.name)
    path = Path(source.name).expanduser()
    if path.is_dir():
        return path.absolute()
    if source.kind is SourceKind.HUB:
        return None
    raise CheckpointError(
        f"{source.name} is neither a folder here nor a repository of the hub (org/name@commit); check the name."
    )


def _commit(source: SourceRef) -> str:
    """The commit that a repository's revision stands for now."""

    def ask() -> str:
        info = HfApi().model_info(source.name, revision=source.revision, timeout=_TIMEOUT_S)
        return str(info.sha)

    if source.revision and len(source.revision) == 40 and all(c in "0123456789abcdef" for c in source.revision):
        return source.revision
    return _ask_hub(source, ask)


def _described_by_hub(source: SourceRef) -> SourceFacts:
    def small(file: str) -> Path:
        return Path(hf_hub_download(source.name, file, revision=source.revision, etag_timeout=_TIMEOUT_S))

    config = ConfigFacts.from_config(read_config(_ask_hub(source, lambda: small("config.json"))), f"{source}/config.json")
    try:
        tokenizer = read_config(_ask_hub(source, lambda: small("tokenizer_config.json")))
    except CheckpointError:
        tokenizer = {}
    jinja = True
    try:
        _ask_hub(source, lambda: small("chat_template.jinja"))
    except CheckpointError:
        jinja = False
    return SourceFacts(
        config=config,
        parameters=config.parameters(),
        layer_parameters=config.layer_parameters,
        has_chat_template=jinja or bool(tokenizer.get("chat_template")),
    )


def _equal_layers(checkpoint: Checkpoint) -> int | None:
    """Parameters of one layer, if all have the same."""
    if checkpoint.pickled or checkpoint.quantization:
        return checkpoint.config.layer_parameters
    sizes = {sum(t.parameters for t in checkpoint.layer_tensors(layer)) for layer in range(checkpoint.config.n_layers)}
    return sizes.pop() if len(sizes) == 1 else None


def _ask_hub(source: SourceRef, ask: Callable[[], T]) -> T:
    """One question to the hub; its errors become one sentence with the step that mends them."""
    try:
        return ask()
    except hub_errors.GatedRepoError as error:
        raise CheckpointError(
            f"{source} is gated: accept its terms at https://huggingface.co/{source.name} and set HF_TOKEN to a token of that account."
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        token = "" if os.environ.get("HF_TOKEN") else " (for a private one set HF_TOKEN)"
        raise CheckpointError(f"{source.name} is neither a folder here nor a repository of the hub{token}; check the name.") from error
    except hub_errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{source.name} has no revision {source.revision}; check the commit, tag or branch.") from error
    except hub_errors.EntryNotFoundError as error:
        raise CheckpointError(f"{source} lacks {str(error).splitlines()[0][:120]}; it is no complete checkpoint.") from error
    except (hub_errors.HfHubHTTPError, hub_errors.OfflineModeIsEnabled, OSError) as error:
        raise CheckpointError(
            f"{source} is no folder here, and the hub cannot be asked for it ({type(error).__name__}); check the name, the network, "
            "or download it elsewhere and give its folder."
        ) from error
