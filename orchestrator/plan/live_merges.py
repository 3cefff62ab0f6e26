"""Decides which merges run live: in the engine of a checkpoint whose shape, config and tokenizer their result has.

A live merge has the scores and samples of its built artifact, and its jobs have the same digests. All other merges are built, and
the plan says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from evals.engine import ExecutionMode, Frozen
from orchestrator.plan.capacity import ClusterFacts, this_machine
from orchestrator.plan.job import CheckpointPlace
from orchestrator.plan.sweep import Sweep
from orchestrator.settings import Settings
from recipes.checkpoint import layer_tensor_name
from recipes.config_facts import LAYER_COUNT_KEYS, TEXT_CONFIG_KEYS
from recipes.errors import RecipeError
from recipes.layer_config import layers_differ
from recipes.merge.stage_inputs import StageSize, stage_sizes
from recipes.merge.vocabulary import TOKENIZER_FILES, token_count, vocabulary_obstacle
from recipes.outside_file import parse_json
from recipes.recipe import ModelRef, Recipe, Stage
from recipes.recipe.stage import DEFAULT_MODULE
from recipes.relayer import COPIED_FILES
from recipes.sources import PinnedSource, SourceFacts, parse, read_small_file

_MEMORY_SHARE = 0.25
"""Share of a node's memory for the results of a recipe's earlier stages, if the settings do not say how much."""

_SHAPE_FIELDS = (
    "architecture",
    "hidden_size",
    "intermediate_size",
    "heads",
    "kv_heads",
    "head_dim",
    "vocab_size",
    "tied",
    "attention_bias",
    "mlp_bias",
    "experts",
)
_WITHOUT_EFFECT = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"})
"""Keys of config.json that differ without effect: engines get their dtype from the plan."""

_BITS = {"float64": 64, "float32": 32, "bfloat16": 16, "float16": 16}


class LiveHost(Frozen):
    """A checkpoint that has an engine in the plan, which can take over the weights of a merge."""

    place: CheckpointPlace = Field(description="Location of its weights.")
    source: PinnedSource = Field(description="The checkpoint.")
    facts: SourceFacts = Field(description="Its shape.")


class NotLive(Frozen):
    """Why a merge is built."""

    reason: str = Field(description="The reason, as the end of a sentence without a full stop.")


class LiveMerges:
    """The checkpoints that have an engine in a plan, and which merges their engines can take over."""

    def __init__(
        self, sweep: Sweep, hosts: Sequence[LiveHost], settings: Settings, cluster: ClusterFacts | None
    ) -> None:
        self._hosts = hosts
        self._home = settings.home
        self._digests: dict[tuple[str, str], str | None] = {}
        self._tokens: dict[str, int | None] = {}
        self._compiled = any(engine.execution is ExecutionMode.COMPILED for engine in sweep.engines)
        self._code = sweep.trust_remote_code
        workers = max(engine.tensor_parallel or 1 for engine in sweep.engines)
        self._room_bytes = (settings.merge_memory_bytes or _memory_share(cluster)) // workers

    def host_of(
        self, recipe: Recipe, pins: Mapping[str, PinnedSource], facts: Mapping[str, SourceFacts]
    ) -> LiveHost | NotLive:
        """The checkpoint whose engine runs the recipe's result, or why there is none.

        `pins` and `facts` map the recipe's sources to their versions and shapes.
        """
        problem = next(self._general_problems(recipe, facts), None)
        if problem is not None:
            return NotLive(reason=problem)
        problems = []
        for host in self._hosts:
            problem = next(self._problems(recipe, pins, facts, host), None)
            if problem is None:
                return host
            problems.append(problem)
        return NotLive(reason=problems[0])

    def _general_problems(self, recipe: Recipe, facts: Mapping[str, SourceFacts]) -> Iterator[str]:
        """What keeps a recipe from running live in any engine."""
        if self._compiled:
            yield "the execution mode compiled is asked for, and the weights of a compiled engine are not replaced"
        if recipe.adapters:
            yield "it merges LoRA adapters, which mergekit needs files for"
        for stage in recipe.ordered:
            yield from _stage_problems(stage, facts)
        for name, source in facts.items():
            if source.config.quantized:
                yield f"the weights of {name} are quantised"
            if not source.tensor_names:
                yield f"the weights of {name} are pickled or their headers are not known"
            if source.config.experts:
                yield f"{name} has experts, whose tensors mergekit writes under other names"
            if source.config.remote_code:
                yield f"{name} comes with code of its own"
        size = sum(self._intermediate_bytes(recipe, facts))
        if size > self._room_bytes:
            yield (
                f"the results of its earlier stages need {size / 1e9:.1f} GB of memory and {self._room_bytes / 1e9:.1f} GB are allowed "
                "(MERGEBOARD_MERGE_MEMORY_GIB)"
            )

    def _intermediate_bytes(self, recipe: Recipe, facts: Mapping[str, SourceFacts]) -> list[int]:
        sizes = {name: _size_of(source) for name, source in facts.items()}
        return [size.total for size in stage_sizes(recipe, sizes)[:-1]]

    def _problems(
        self,
        recipe: Recipe,
        pins: Mapping[str, PinnedSource],
        facts: Mapping[str, SourceFacts],
        host: LiveHost,
    ) -> Iterator[str]:
        """What keeps a recipe from running live in the engine of `host`, whose weights it replaces."""
        yield from _shape_problems(recipe, facts, host)
        if not self._has_file(host, "tokenizer_config.json") or not (
            self._has_file(host, "tokenizer.json") or self._has_file(host, "tokenizer.model")
        ):
            yield f"mergekit writes the tokenizer of {host.source.reference} anew"
        donor = pins[str(_donor(recipe))]
        if donor.weights_digest != host.source.weights_digest:
            yield from self._other_files(donor, host)
        if any(stage.tokenizer for stage in recipe.ordered):
            yield from self._other_vocabulary(recipe, pins, host)
        if any(_moves_layers(stage, facts) for stage in recipe.ordered):
            yield from self._mixed_layers(host)

    def _other_files(self, donor: PinnedSource, host: LiveHost) -> Iterator[str]:
        """Differences in what the result takes from its donor: config, tokenizer, chat template, generation settings."""
        key = _config_difference(self._config(donor), self._config(host.source))
        if key is not None:
            yield f"its config comes from {donor.reference}, which differs from {host.source.reference} in {key}"
        for file in COPIED_FILES:
            if self._digest(donor, file) != self._digest(host.source, file):
                yield f"its {file} comes from {donor.reference}, which differs from that of {host.source.reference}"

    def _other_vocabulary(
        self, recipe: Recipe, pins: Mapping[str, PinnedSource], host: LiveHost
    ) -> Iterator[str]:
        """What makes the vocabulary of a recipe that sets a tokenizer, or its order, another than the engine's."""
        where = host.source.reference
        for source in recipe.sources:
            pin = pins[str(source)]
            if any(self._digest(pin, file) != self._digest(host.source, file) for file in TOKENIZER_FILES):
                yield f"it sets a tokenizer, and that of {source} differs from that of {where}"
        if where not in self._tokens:
            self._tokens[where] = token_count(self._file(host.source, "tokenizer.json") or b"")
        if self._tokens[where] != host.facts.config.vocab_size:
            yield (
                f"it sets a tokenizer, and the embedding of {where} has {host.facts.config.vocab_size} rows for "
                f"{self._tokens[where] or 'an unknown number of'} tokens"
            )

    def _mixed_layers(self, host: LiveHost) -> Iterator[str]:
        try:
            differ = layers_differ(self._config(host.source), host.source.reference)
        except RecipeError as error:
            yield str(error).rstrip(".")
            return
        if differ:
            yield f"it moves layers, and those of {host.source.reference} are of several kinds"

    def _config(self, source: PinnedSource) -> dict[str, Any]:
        return dict(parse_json(self._file(source, "config.json") or b"{}"))

    def _has_file(self, host: LiveHost, file: str) -> bool:
        return self._digest(host.source, file) is not None

    def _digest(self, source: PinnedSource, file: str) -> str | None:
        """Hash of a file of a checkpoint, None if there is none; kept, since sweeps have thousands of merges."""
        key = source.reference, file
        if key not in self._digests:
            data = self._file(source, file)
            self._digests[key] = None if data is None else hashlib.sha256(data).hexdigest()
        return self._digests[key]

    def _file(self, source: PinnedSource, file: str) -> bytes | None:
        return read_small_file(parse(source.reference, None), file, home=self._home)


def _stage_problems(stage: Stage, facts: Mapping[str, SourceFacts]) -> Iterator[str]:
    """What keeps a stage from running live in any engine."""
    if len(stage.modules) != 1 or stage.modules[0].name != DEFAULT_MODULE:
        yield "it names the modules of a checkpoint of several parts"
    if stage.tokenizer is not None:
        names = {str(ref.source) for ref in stage.refs()}
        obstacle = vocabulary_obstacle(stage, [facts[name].dtype for name in names & facts.keys()])
        if not names <= facts.keys():
            yield "it sets a tokenizer for the results of earlier stages, whose tokenizers the build writes"
        elif obstacle is not None:
            yield obstacle
    if stage.chat_template is not None:
        yield "it sets a chat template, which the build writes"
    if any(ref.architecture for ref in stage.refs()):
        yield "it overrides an architecture"


def _shape_problems(recipe: Recipe, facts: Mapping[str, SourceFacts], host: LiveHost) -> Iterator[str]:
    """Differences in shape between the sources or the result, and the checkpoint whose weights are replaced."""
    where, shape = host.source.reference, host.facts.config
    if shape.quantized:
        yield f"the weights of {where} are quantised, and a quantised engine cannot replace its weights"
    layers = recipe.n_layers({name: source.config.n_layers for name, source in facts.items()})
    if layers != shape.n_layers:
        yield f"it has {layers or 'an unknown number of'} layers and {where} has {shape.n_layers}"
    names = _tensor_kinds(host.facts)
    if shape.tied and "lm_head.weight" in names:
        yield f"{where} ties its embeddings and stores lm_head.weight besides"
    for name, source in facts.items():
        field = next((f for f in _SHAPE_FIELDS if getattr(source.config, f) != getattr(shape, f)), None)
        if field is not None:
            values = f"{getattr(source.config, field)} and {getattr(shape, field)}"
            yield f"{name} and {where} differ in {field} ({values})"
        if set(source.config.layer_types) != set(shape.layer_types):
            yield f"{name} and {where} have other kinds of layers"
        if _tensor_kinds(source) != names:
            yield f"{name} and {where} have other tensors"


def _memory_share(cluster: ClusterFacts | None) -> int:
    """Bytes for the results of earlier stages on the smallest node that may hold an engine."""
    nodes = (cluster or this_machine()).engine_nodes
    return int(min((node.memory_bytes for node in nodes), default=0) * _MEMORY_SHARE)


def _size_of(source: SourceFacts) -> StageSize:
    layer, layers = source.layer_bytes or 0, source.config.n_layers
    rest = (source.size_bytes or 0) - layer * layers
    return StageSize(layer, rest, _BITS.get(source.dtype or "", 0), layers)


def _tensor_kinds(facts: SourceFacts) -> frozenset[str]:
    """Names of the tensors without the numbers of their layers, and without constants that engines ignore."""
    names = ((name, layer_tensor_name(name)) for name in facts.tensor_names)
    kinds = {name if part is None else f"{part.stack}.*.{part.rest}" for name, part in names}
    return frozenset(kind for kind in kinds if not kind.endswith(("rotary_emb.inv_freq", "masked_bias")))


def _donor(recipe: Recipe) -> ModelRef:
    """The source whose config and tokenizer the result has, through all stages."""
    stages = {stage.name: stage for stage in recipe.ordered}
    stage: Stage | None = recipe.ordered[-1]
    while stage is not None:
        ref = stage.base or next(stage.refs())
        stage = stages.get(ref.source.name)
    return ref


def _moves_layers(stage: Stage, facts: Mapping[str, SourceFacts]) -> bool:
    """Whether an output layer is made of source layers with other numbers, or of a part of a source."""
    position = 0
    for group in stage.modules[0].slices:
        if any((input_.layers or (0, 0))[0] != position for input_ in group.inputs):
            return True
        position += group.n_layers
    depths = {facts[str(ref.source)].config.n_layers for ref in stage.refs() if str(ref.source) in facts}
    return bool(stage.modules[0].slices) and depths != {position}


def _config_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first key that differs with effect; None if there is none."""
    for key in sorted({*ours, *theirs} - _WITHOUT_EFFECT - set(LAYER_COUNT_KEYS)):
        value, other_value = _uniform(ours, key), _uniform(theirs, key)
        if key in TEXT_CONFIG_KEYS and isinstance(value, dict) and isinstance(other_value, dict):
            nested = _config_difference(value, other_value)
            if nested is not None:
                return f"{key}.{nested}"
        elif value != other_value:
            return key
    return None


def _uniform(config: Mapping[str, Any], key: str) -> Any:
    """The value of a key; of a list with one equal entry per layer the entry."""
    value = config.get(key)
    layers = next((config[k] for k in LAYER_COUNT_KEYS if k in config), None)
    if isinstance(value, list) and len(value) == layers and all(entry == value[0] for entry in value):
        return ["each", value[0]]
    return value
