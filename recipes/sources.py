"""Resolves names of checkpoints: local directories, demo names, and repositories of the hub.

`pin` fixes the current version (a commit, or the hash of local weights), `describe` and `read_facts` read config and
headers, `resolve` returns a local directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from recipes.checkpoint import Checkpoint, layer_tensor_name, refuse_gguf, weights_digest
from recipes.checkpoint_files import ORIGIN_NAME
from recipes.config_facts import ConfigFacts, quantized_bytes, read_config
from recipes.demo import ensure_demo_checkpoint
from recipes.errors import CheckpointError, RecipeError
from recipes.layer_visit import Layers, Visit, VisitPart, is_whole_path, source_layers_of
from recipes.origin import MadeFrom, parse_origin, read_origin
from recipes.outside_file import read_file
from recipes.quantization import MODELOPT_NAME, with_modelopt
from recipes.recipe.refs import SourceKind, SourceRef
from recipes.tensor_file import Frozen, Tensor


class PinnedSource(Frozen):
    """A checkpoint with a fixed version."""

    reference: str = Field(
        description="Reference for `resolve`: an absolute directory, a demo name, or `repo@commit`."
    )
    weights_digest: str = Field(description="Hash of local weights and config, or `repo@commit` on the hub.")


class FactsOrigin(StrEnum):
    """Origin of a checkpoint's figures."""

    HEADERS = "headers"
    CONFIG = "config"
    CATALOG = "catalog"


class SourceFacts(Frozen):
    """Facts of a checkpoint for planning, from its config and headers."""

    config: ConfigFacts = Field(description="Facts of config.json.")
    parameters: int | None = Field(
        description="Number of parameters; null if neither headers nor config determine it."
    )
    layer_parameters: int | None = Field(
        description="Parameters of one decoder layer; null if layers differ or it is unknown."
    )
    has_chat_template: bool = Field(description="Whether the tokenizer has a chat template.")
    known_from: FactsOrigin = Field(
        default=FactsOrigin.HEADERS, description="Origin of both numbers of parameters."
    )
    size_bytes: int | None = Field(default=None, description="Size of the weights in bytes; null if unknown.")
    layer_bytes: int | None = Field(
        default=None,
        description="Size of one decoder layer in bytes; null if layers differ or it is unknown.",
    )
    dtype: str | None = Field(default=None, description="Dtype of most weights; null if unknown.")
    single_dtype: str | None = Field(
        default=None, description="Dtype of all weights; null if they differ or no header was read."
    )
    made_from: tuple[MadeFrom, ...] = Field(
        default=(),
        description="What it was built from, by the record beside its weights; empty without one.",
    )
    tensor_names: tuple[str, ...] = Field(
        default=(),
        exclude=True,
        repr=False,
        description="Names of the tensors; empty if no header was read.",
    )

    def parameters_of(self, layers: int) -> int | None:
        """Number of parameters with this many layers; None if unknown."""
        if self.parameters is None or self.layer_parameters is None:
            return None
        return self.parameters + (layers - self.config.n_layers) * self.layer_parameters

    def parameters_along(self, path: Sequence[int]) -> int | None:
        """Number of parameters of a built layer path; None if unknown."""
        total, along = self.config.parameters(), self.config.parameters_along(path)
        if self.layer_parameters is not None or self.parameters is None or total is None or along is None:
            return self.parameters_of(len(path))
        return self.parameters + along - total

    def parameters_of_visits(self, visits: Layers) -> int | None:
        """Number of parameters that a live layer path runs, each visit counted; None if unknown.

        A visit of attention or MLP alone counts that half; where the config does not tell the halves apart, the whole layer.
        """
        whole = self.parameters_along(source_layers_of(visits))
        halves = self.config.attention_parameters
        if whole is None or is_whole_path(visits) or not halves:
            return whole
        return whole - sum(self._left_out(visit, halves) for visit in visits if not isinstance(visit, int))

    def _left_out(self, visit: Visit, halves: Sequence[int]) -> int:
        """Parameters of a layer that a visit does not run."""
        sizes, attention = self.config.sizes, halves[visit.layer]
        layer = sizes.layers[visit.layer] if sizes is not None else self.config.layer_parameters or 0
        if visit.factor == 0:
            return layer
        return {VisitPart.ATTENTION: layer - attention, VisitPart.MLP: attention}.get(visit.part, 0)

    def bytes_of(self, layers: int) -> int | None:
        """Size of the weights in bytes with this many layers; None if unknown."""
        if self.size_bytes is None or layers == self.config.n_layers:
            return self.size_bytes
        per_layer = self.layer_bytes
        return None if per_layer is None else self.size_bytes + (layers - self.config.n_layers) * per_layer


def pin(name: str, revision: str | None, *, home: Path) -> PinnedSource:
    """Fix the version of a checkpoint. Raises CheckpointError for an unknown name."""
    source = parse(name, revision)
    local = _local_directory(source, home)
    if local is not None:
        reference = source.name if source.kind is SourceKind.DEMO else str(local)
        return PinnedSource(reference=reference, weights_digest=weights_digest(local, home / "cache"))
    from recipes import hub

    pinned = f"{source.name}@{hub.commit_of(source, home)}"
    return PinnedSource(reference=pinned, weights_digest=pinned)


def describe(pinned: PinnedSource, *, home: Path, allow_pickles: bool = False) -> SourceFacts:
    """Facts of a pinned checkpoint; from the hub only small files and headers are downloaded."""
    return read_facts(parse(pinned.reference, None), home=home, allow_pickles=allow_pickles)


_MAX_SMALL_FILE = 100_000_000
"""Maximum size of a config or tokenizer file in bytes; Gemma's tokenizer.json has 33 MB."""


def read_facts(source: SourceRef, *, home: Path, allow_pickles: bool = False) -> SourceFacts:
    """Facts of the current version of a checkpoint, from config and headers."""
    local = _local_directory(source, home)
    if local is None:
        return _facts_on_hub(source, home, allow_pickles)
    checkpoint = Checkpoint.open(local, allow_pickles=allow_pickles)
    facts = _make_facts(checkpoint.config, checkpoint.tensors, checkpoint.has_chat_template)
    return facts.model_copy(update={"made_from": read_origin(local)})


def facts_from_config(config: ConfigFacts, known_from: FactsOrigin = FactsOrigin.CONFIG) -> SourceFacts:
    """Facts that follow from a config alone."""
    return _make_facts(config, (), has_chat_template=False).model_copy(update={"known_from": known_from})


def read_small_file(source: SourceRef, file: str, *, home: Path) -> bytes | None:
    """Content of a small file of a checkpoint; None if the checkpoint does not have it."""
    local = _local_directory(source, home)
    if local is not None:
        return _read_bytes(local / file) if (local / file).is_file() else None
    from recipes import hub

    path = hub.small_file(source.model_copy(update={"revision": hub.commit_of(source, home)}), file, home)
    return None if path is None else _read_bytes(path)


def _read_bytes(path: Path) -> bytes:
    try:
        return read_file(path, _MAX_SMALL_FILE)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error


def is_local(source: SourceRef, home: Path) -> bool:
    """Whether `resolve` needs no download."""
    if _local_directory(source, home) is not None:
        return True
    from recipes import hub

    return hub.cached(source.model_copy(update={"revision": hub.commit_of(source, home)}), home) is not None


def tokenizer_folder(reference: str, home: Path) -> Path | None:
    """Local folder of a checkpoint's tokenizer; None if it is not on this machine. Sends no request."""
    try:
        source = parse(reference, None)
        local = _local_directory(source, home)
    except RecipeError:
        return None
    if local is not None:
        return local
    from recipes import hub

    return hub.tokenizer_folder(source, home)


def is_hub_unreachable(error: CheckpointError) -> bool:
    """Whether the error means that the hub cannot be reached."""
    if error.__cause__ is None:
        return False
    from recipes import hub

    return hub.is_unreachable(error)


def resolve(
    name: str, revision: str | None, *, home: Path, allow_pickles: bool = False, offline: bool = False
) -> Path:
    """Local directory of a checkpoint, downloaded if necessary. Raises CheckpointError."""
    source = parse(name, revision)
    local = _local_directory(source, home)
    if local is not None:
        return local
    from recipes import hub

    return hub.snapshot(source, home, allow_pickles=allow_pickles, offline=offline)


def parse(name: str, revision: str | None) -> SourceRef:
    """Parse a name with an optional `@revision`; an existing directory may contain `@`."""
    if revision is None and not Path(name).expanduser().is_dir():
        return SourceRef.parse(name)
    return SourceRef(name=name, revision=revision)


def _local_directory(source: SourceRef, home: Path) -> Path | None:
    """Directory of a local or demo source; None for a repository of the hub."""
    if source.kind is SourceKind.DEMO:
        return ensure_demo_checkpoint(home, source.name)
    path = Path(source.name).expanduser()
    if path.is_dir():
        return path.absolute()
    if source.kind is SourceKind.HUB:
        return None
    refuse_gguf(path)
    raise CheckpointError(
        f"{source.name} is neither a directory here nor a repository of the hub (org/name@commit): check the name."
    )


def _facts_on_hub(source: SourceRef, home: Path, allow_pickles: bool) -> SourceFacts:
    from recipes import hub

    pinned = source.model_copy(update={"revision": hub.commit_of(source, home)})
    config = hub.small_file(pinned, "config.json", home)
    if config is None:
        raise CheckpointError(f"{source} has no config.json: it is not a complete checkpoint.")
    modelopt = hub.small_file(pinned, MODELOPT_NAME, home)
    raw = with_modelopt(read_config(config), None if modelopt is None else read_config(modelopt))
    tokenizer = hub.small_file(pinned, "tokenizer_config.json", home)
    has_chat_template = tokenizer is not None and bool(read_config(tokenizer).get("chat_template"))
    has_chat_template = has_chat_template or hub.small_file(pinned, "chat_template.jinja", home) is not None
    tensors = hub.tensors(pinned)
    if not tensors and not allow_pickles:
        raise CheckpointError(
            f"{source} has no safetensors weights on the hub: use a safetensors copy, or allow pickles by name."
        )
    facts = _make_facts(ConfigFacts.from_config(raw, f"{source}/config.json"), tensors, has_chat_template)
    origin = hub.small_file(pinned, ORIGIN_NAME, home)
    made_from = () if origin is None else parse_origin(_read_bytes(origin), f"{source}/{ORIGIN_NAME}")
    return facts.model_copy(update={"made_from": made_from})


def _make_facts(config: ConfigFacts, tensors: Sequence[Tensor], has_chat_template: bool) -> SourceFacts:
    names = tuple(tensor.name for tensor in tensors)
    if not tensors or config.quantization:
        # Packed weights hold several parameters per element, so headers do not give their number.
        return SourceFacts(
            config=config,
            parameters=config.parameters(),
            layer_parameters=config.layer_parameters,
            has_chat_template=has_chat_template,
            known_from=FactsOrigin.CONFIG,
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
    """Mean size of a stored layer in bytes (quantised layers differ slightly), or the size by the config."""
    layer_bytes = [0] * config.n_layers
    for tensor in tensors:
        name = layer_tensor_name(tensor.name)
        if name and name.layer < config.n_layers:
            layer_bytes[name.layer] += tensor.size_bytes
    if any(layer_bytes):
        return sum(layer_bytes) // config.n_layers
    parameters = config.layer_parameters
    return None if parameters is None or config.quantized is None else config.quantized.size_bytes(parameters)


def _equal_layers(tensors: Sequence[Tensor], n_layers: int) -> int | None:
    """Parameters of one layer; None if layers differ."""
    parameters = dict.fromkeys(range(n_layers), 0)
    for tensor in tensors:
        name = layer_tensor_name(tensor.name)
        if name and name.layer in parameters:
            parameters[name.layer] += tensor.parameters
    return parameters[0] if len(set(parameters.values())) == 1 else None
