"""From the name of a checkpoint to its directory: a local directory, an embedded name, or a repository of the hub.

`pin` fixes what a name means now (a commit, or the hash of local weights), `describe` and `look` read its facts
without its weights, `resolve` brings it to this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from recipes.checkpoint import Checkpoint, layer_tensor_name, weights_digest
from recipes.config_facts import ConfigFacts, quantized_bytes, read_config
from recipes.demo import ensure_demo_checkpoint
from recipes.errors import CheckpointError, RecipeError
from recipes.outside_file import read_file
from recipes.quantization import MODELOPT_NAME, with_modelopt
from recipes.recipe.refs import SourceKind, SourceRef
from recipes.tensor_file import Frozen, Tensor


class PinnedSource(Frozen):
    """A checkpoint's name with what it means fixed."""

    reference: str = Field(
        description="What to resolve: an absolute directory, an embedded name, or `repo@commit`."
    )
    weights_digest: str = Field(description="Hash of local weights and config, or `repo@commit` on the hub.")


class Known(StrEnum):
    """What a checkpoint's figures were read from."""

    HEADERS = "headers"
    CONFIG = "config"
    CATALOG = "catalog"


class SourceFacts(Frozen):
    """What planning needs to know of a checkpoint, read from its config and headers."""

    config: ConfigFacts = Field(description="The facts of its config.json.")
    parameters: int | None = Field(
        description="Number of parameters; null where neither headers nor config tell."
    )
    layer_parameters: int | None = Field(
        description="Parameters of one decoder layer, where all have the same."
    )
    has_chat_template: bool = Field(description="Whether its tokenizer brings a chat template.")
    known_from: Known = Field(default=Known.HEADERS, description="What the two figures come from.")
    size_bytes: int | None = Field(default=None, description="Bytes of its weights; null where unknown.")
    layer_bytes: int | None = Field(
        default=None, description="Bytes of one decoder layer; null where they differ or are unknown."
    )
    dtype: str | None = Field(default=None, description="Dtype of most of its weights; null where unknown.")
    single_dtype: str | None = Field(
        default=None, description="Dtype of all of its weights; null where they differ or no header was read."
    )
    tensor_names: tuple[str, ...] = Field(
        default=(),
        exclude=True,
        repr=False,
        description="Names of its tensors; empty where no header was read.",
    )

    def parameters_of(self, layers: int) -> int | None:
        """Parameters with this many layers instead of its own."""
        if self.parameters is None or self.layer_parameters is None:
            return None
        return self.parameters + (layers - self.config.n_layers) * self.layer_parameters

    def bytes_of(self, layers: int) -> int | None:
        """Bytes of its weights with this many layers instead of its own."""
        if self.size_bytes is None or layers == self.config.n_layers:
            return self.size_bytes
        each = self.layer_bytes
        return None if each is None else self.size_bytes + (layers - self.config.n_layers) * each


def pin(name: str, revision: str | None, *, home: Path) -> PinnedSource:
    """Fix what a name means; CheckpointError with the step that mends it where it means nothing."""
    source = parse(name, revision)
    local = _local(source, home)
    if local is not None:
        reference = source.name if source.kind is SourceKind.DEMO else str(local)
        return PinnedSource(reference=reference, weights_digest=weights_digest(local, home / "cache"))
    from recipes import hub

    pinned = f"{source.name}@{hub.commit_of(source, home)}"
    return PinnedSource(reference=pinned, weights_digest=pinned)


def describe(pinned: PinnedSource, *, home: Path, allow_pickles: bool = False) -> SourceFacts:
    """The facts of a pinned checkpoint; from the hub only its small files and headers are fetched."""
    return look(parse(pinned.reference, None), home=home, allow_pickles=allow_pickles)


_MAX_SMALL_FILE = 100_000_000
"""Largest configuration or tokenizer file that is read; Gemma's tokenizer.json has 33 MB."""


def look(source: SourceRef, *, home: Path, allow_pickles: bool = False) -> SourceFacts:
    """The facts of a checkpoint as it is now, without reading a weight."""
    local = _local(source, home)
    if local is None:
        return _on_hub(source, home, allow_pickles)
    checkpoint = Checkpoint.open(local, allow_pickles=allow_pickles)
    return _facts(checkpoint.config, checkpoint.tensors, checkpoint.has_chat_template)


def facts_of_config(config: ConfigFacts, known_from: Known = Known.CONFIG) -> SourceFacts:
    """What a config alone tells; nothing about the tokenizer."""
    return _facts(config, (), has_chat_template=False).model_copy(update={"known_from": known_from})


def raw_file(source: SourceRef, file: str, *, home: Path) -> bytes | None:
    """One of the small files of a checkpoint; null where it has none of that name."""
    local = _local(source, home)
    if local is not None:
        return _bytes_of(local / file) if (local / file).is_file() else None
    from recipes import hub

    path = hub.small_file(source.model_copy(update={"revision": hub.commit_of(source, home)}), file, home)
    return None if path is None else _bytes_of(path)


def _bytes_of(path: Path) -> bytes:
    try:
        return read_file(path, _MAX_SMALL_FILE)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error


def is_on_this_machine(source: SourceRef, home: Path) -> bool:
    """Whether resolving the source would download nothing."""
    if _local(source, home) is not None:
        return True
    from recipes import hub

    return hub.cached(source.model_copy(update={"revision": hub.commit_of(source, home)}), home) is not None


def tokenizer_folder(reference: str, home: Path) -> Path | None:
    """Where a checkpoint's tokenizer lies on this machine; the hub is not asked. None where it is not known."""
    try:
        source = parse(reference, None)
        local = _local(source, home)
    except RecipeError:
        return None
    if local is not None:
        return local
    from recipes import hub

    return hub.tokenizer_folder(source, home)


def hub_is_away(error: CheckpointError) -> bool:
    """Whether the error only says that the hub could not be asked."""
    if error.__cause__ is None:
        return False
    from recipes import hub

    return hub.is_away(error)


def resolve(
    name: str, revision: str | None, *, home: Path, allow_pickles: bool = False, offline: bool = False
) -> Path:
    """The directory of a checkpoint on this machine, downloaded if it must be."""
    source = parse(name, revision)
    local = _local(source, home)
    if local is not None:
        return local
    from recipes import hub

    return hub.snapshot(source, home, allow_pickles=allow_pickles, offline=offline)


def parse(name: str, revision: str | None) -> SourceRef:
    """The name and its revision; a path keeps its `@`, if it has one."""
    if revision is None and not Path(name).expanduser().is_dir():
        return SourceRef.parse(name)
    return SourceRef(name=name, revision=revision)


def _local(source: SourceRef, home: Path) -> Path | None:
    """The directory of a source that needs no hub, null for one that does."""
    if source.kind is SourceKind.DEMO:
        return ensure_demo_checkpoint(home, source.name)
    path = Path(source.name).expanduser()
    if path.is_dir():
        return path.absolute()
    if source.kind is SourceKind.HUB:
        return None
    raise CheckpointError(
        f"{source.name} is neither a directory here nor a repository of the hub (org/name@commit): check the name."
    )


def _on_hub(source: SourceRef, home: Path, allow_pickles: bool) -> SourceFacts:
    from recipes import hub

    pinned = source.model_copy(update={"revision": hub.commit_of(source, home)})
    config = hub.small_file(pinned, "config.json", home)
    if config is None:
        raise CheckpointError(f"{source} has no config.json: it is not a whole checkpoint.")
    modelopt = hub.small_file(pinned, MODELOPT_NAME, home)
    raw = with_modelopt(read_config(config), None if modelopt is None else read_config(modelopt))
    tokenizer = hub.small_file(pinned, "tokenizer_config.json", home)
    template = tokenizer is not None and bool(read_config(tokenizer).get("chat_template"))
    template = template or hub.small_file(pinned, "chat_template.jinja", home) is not None
    tensors = hub.tensors(pinned)
    if not tensors and not allow_pickles:
        raise CheckpointError(
            f"{source} has no safetensors weights on the hub: use a safetensors copy, or allow pickles by name."
        )
    return _facts(ConfigFacts.from_config(raw, f"{source}/config.json"), tensors, template)


def _facts(config: ConfigFacts, tensors: Sequence[Tensor], has_chat_template: bool) -> SourceFacts:
    names = tuple(tensor.name for tensor in tensors)
    if not tensors or config.quantization:
        # Packed weights hold several parameters in one element, so headers do not count them.
        return SourceFacts(
            config=config,
            parameters=config.parameters(),
            layer_parameters=config.layer_parameters,
            has_chat_template=has_chat_template,
            known_from=Known.CONFIG,
            size_bytes=sum(t.size_bytes for t in tensors) or quantized_bytes(config),
            layer_bytes=_layer_bytes(tensors, config),
            dtype=config.dtype,
            tensor_names=names,
        )
    checkpoint = Checkpoint(directory=Path(), config=config, tensors=tuple(tensors), has_chat_template=False)
    return SourceFacts(
        config=config,
        parameters=checkpoint.parameters,
        layer_parameters=_equal_layers(tensors, config.n_layers),
        has_chat_template=has_chat_template,
        size_bytes=checkpoint.size_bytes,
        layer_bytes=_layer_bytes(tensors, config),
        dtype=checkpoint.dtype,
        single_dtype=checkpoint.dtype if len(checkpoint.dtypes) == 1 else None,
        tensor_names=names,
    )


def _layer_bytes(tensors: Sequence[Tensor], config: ConfigFacts) -> int | None:
    """Bytes of one layer: the mean of those stored, since quantised layers may differ by a scale or two, or by the config."""
    stored = [0] * config.n_layers
    for tensor in tensors:
        part = layer_tensor_name(tensor.name)
        if part and part.layer < config.n_layers:
            stored[part.layer] += tensor.size_bytes
    if any(stored):
        return sum(stored) // config.n_layers
    each = config.layer_parameters
    return None if each is None or config.quantized is None else config.quantized.size_bytes(each)


def _equal_layers(tensors: Sequence[Tensor], n_layers: int) -> int | None:
    """Parameters of one layer, if all have the same."""
    sums = dict.fromkeys(range(n_layers), 0)
    for tensor in tensors:
        part = layer_tensor_name(tensor.name)
        if part and part.layer in sums:
            sums[part.layer] += tensor.parameters
    return sums[0] if len(set(sums.values())) == 1 else None
