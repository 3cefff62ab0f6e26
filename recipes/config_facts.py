"""Facts of a checkpoint's config.json: shape, number of parameters, quantisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError

from recipes.errors import CheckpointError
from recipes.layer_parameters import EXPERT_COUNTS, LayerSizes, layer_sizes
from recipes.layer_state import layer_kinds, state_bytes
from recipes.outside_file import parse_json, read_file
from recipes.quantization import StoredQuantization
from recipes.tensor_file import Frozen

MAX_CONFIG_BYTES = 10_000_000
MAX_LAYERS = 10_000

LAYER_COUNT_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
TEXT_CONFIG_KEYS = ("text_config", "language_config", "llm_config")

_TIED_BY_DEFAULT = (
    "gemma",
    "cohere",
    "gpt2",
    "gpt_neo",
    "bloom",
    "opt",
    "mpt",
    "falcon",
    "starcoder2",
    "smollm3",
)
"""Prefixes of model types whose embeddings are tied unless config.json says otherwise."""

_DENSE = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3"})
"""Model types whose number of parameters follows from the config."""


_MAX_SIZE = 2**31
_SIZE_KEYS = (
    *(
        "hidden_size",
        "n_embd",
        "d_model",
        "vocab_size",
        "intermediate_size",
        "num_attention_heads",
        "n_head",
        "head_dim",
    ),
    *("num_key_value_heads", "sliding_window", "max_position_embeddings", "n_positions"),
    *("num_local_experts", "num_experts", "n_routed_experts"),
)
"""Keys that enter products; values above 2**31 are refused."""


class ConfigFacts(Frozen):
    """Facts of a config.json that determine shape, size and compatibility."""

    architecture: str = Field(description="First entry of `architectures`, for example LlamaForCausalLM.")
    model_type: str = Field(description="`model_type`, for example llama.")
    n_layers: int = Field(ge=1, le=MAX_LAYERS, description="Number of decoder layers.")
    hidden_size: int = Field(ge=1, description="Width of the residual stream.")
    intermediate_size: int | None = Field(
        default=None, description="Width of the feed-forward layer; null if not uniform."
    )
    heads: int | None = Field(default=None, description="Number of attention heads.")
    kv_heads: int | None = Field(default=None, description="Number of key-value heads.")
    head_dim: int | None = Field(default=None, description="Dimension of one head.")
    vocab_size: int = Field(ge=1, description="Number of rows of the embedding.")
    tied: bool = Field(description="Whether output head and embedding share weights.")
    dtype: str | None = Field(default=None, description="Dtype that the config names, for example bfloat16.")
    attention_bias: bool = Field(
        default=False, description="Whether q, k, v and o have a bias (q, k, v alone in Qwen2)."
    )
    mlp_bias: bool = Field(default=False, description="Whether the feed-forward layer has a bias.")
    sliding_window: int | None = Field(
        default=None, description="Window of local attention in tokens; null if not used."
    )
    layer_types: tuple[str, ...] = Field(
        default=(),
        description="Type of each layer, listed or by the family's rule; empty if all keep the keys and values of all tokens.",
    )
    state_bytes: int = Field(
        default=0, description="Bytes that each layer of linear attention keeps of a sequence."
    )
    max_length: int | None = Field(default=None, description="Maximum sequence length in tokens.")
    quantization: str | None = Field(
        default=None, description="Label of the quantisation; null if the weights are not quantised."
    )
    quantized: StoredQuantization | None = Field(
        default=None, description="Method, bits and group size of the quantisation; null if there is none."
    )
    experts: int | None = Field(
        default=None, description="Experts per mixture-of-experts layer; null in a dense model."
    )
    sizes: LayerSizes | None = Field(
        default=None,
        description="Parameters of each layer; null for families where `layer_parameters` knows them otherwise or not at all.",
    )
    remote_code: bool = Field(
        default=False, description="Whether the config refers to code in the checkpoint (`auto_map`)."
    )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> Self:
        """Read the facts; `where` names the source in error messages."""
        text = text_config(config)
        merged = {**config, **text}
        quantized = StoredQuantization.of(config)
        architectures = config.get("architectures") or [None]
        model_type = merged.get("model_type")
        if (
            not isinstance(architectures, list)
            or not isinstance(architectures[0], str)
            or not isinstance(model_type, str)
        ):
            raise CheckpointError(
                f"{where} names no architecture and model_type: it is not a transformers checkpoint."
            )
        too_large = next(
            (k for k in _SIZE_KEYS if type(merged.get(k)) is int and merged[k] > _MAX_SIZE), None
        )
        if too_large is not None:
            raise CheckpointError(f"{where} gives no usable {too_large}: no checkpoint is so large.")
        try:
            return cls(
                architecture=architectures[0],
                model_type=model_type,
                n_layers=text[layer_count_key(config, where)],
                hidden_size=merged.get("hidden_size") or merged.get("n_embd") or merged.get("d_model"),
                vocab_size=merged.get("vocab_size"),
                tied=_is_tied(merged, model_type),
                dtype=_read_dtype(merged),
                quantization=quantized.label if quantized else None,
                quantized=quantized,
                sizes=layer_sizes(merged, text[layer_count_key(config, where)]),
                remote_code=bool(config.get("auto_map")),
                **_attention(merged, model_type),
                layer_types=layer_kinds(merged, model_type, text[layer_count_key(config, where)]),
                state_bytes=state_bytes(merged),
            )
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            raise CheckpointError(
                f"{where} gives no usable {field}: it is damaged or of an unknown kind."
            ) from error

    @property
    def layer_parameters(self) -> int | None:
        """Parameters of one layer, independent of quantisation; None if the config does not determine them."""
        if self.sizes is not None:
            return self.sizes.layers[0] if len(set(self.sizes.layers)) == 1 else None
        if self.model_type not in _DENSE or self.experts:
            return None
        if not (self.intermediate_size and self.heads and self.kv_heads and self.head_dim):
            return None
        hidden, query, key_value = self.hidden_size, self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = hidden * query + 2 * hidden * key_value + query * hidden
        if self.attention_bias:
            attention += query + 2 * key_value + (0 if self.model_type == "qwen2" else hidden)
        mlp = 3 * hidden * self.intermediate_size + (
            2 * self.intermediate_size + hidden if self.mlp_bias else 0
        )
        norms = 2 * hidden + (2 * self.head_dim if self.model_type == "qwen3" else 0)
        return attention + mlp + norms

    def parameters(self, layers: int | None = None) -> int | None:
        """Parameters with this many layers (default: `n_layers`); None if the config does not determine them."""
        if self.sizes is not None and layers in (None, self.n_layers):
            return self._outer_parameters + sum(self.sizes.layers)
        per_layer = self.layer_parameters
        if per_layer is None:
            return None
        return self._outer_parameters + per_layer * (self.n_layers if layers is None else layers)

    @property
    def attention_parameters(self) -> tuple[int, ...]:
        """Parameters of each layer's attention and the norms before and after it; empty if the config does not determine them."""
        if self.sizes is not None:
            return self.sizes.attention
        layer = self.layer_parameters
        if layer is None or self.intermediate_size is None:
            return ()
        mlp = 3 * self.hidden_size * self.intermediate_size
        mlp += 2 * self.intermediate_size + self.hidden_size if self.mlp_bias else 0
        return (layer - mlp - self.hidden_size,) * self.n_layers

    def parameters_along(self, path: Sequence[int]) -> int | None:
        """Parameters of a built layer path; None if the config does not determine them."""
        if self.sizes is None:
            return self.parameters(len(path))
        return self._outer_parameters + sum(self.sizes.layers[layer] for layer in path)

    def active_parameters(self) -> int | None:
        """Parameters that one token uses in a mixture of experts, embeddings included; None for others, or if unknown."""
        if self.sizes is None or self.sizes.active == self.sizes.layers:
            return None
        return self._outer_parameters + sum(self.sizes.active)

    @property
    def _outer_parameters(self) -> int:
        """Parameters of embedding, head and last norm."""
        norm = self.hidden_size if self.sizes is None else self.sizes.final_norm
        return self.vocab_size * self.hidden_size * (1 if self.tied else 2) + norm


def quantized_bytes(config: ConfigFacts) -> int | None:
    """Size of quantised weights in bytes by the config: layers in the method's bits, embeddings in 16; None if unknown."""
    per_layer, total = config.layer_parameters, config.parameters()
    if config.quantized is None or per_layer is None or total is None:
        return None
    layers = config.quantized.size_bytes(per_layer * config.n_layers)
    return None if layers is None else layers + 2 * (total - per_layer * config.n_layers)


def read_config(path: Path) -> dict[str, Any]:
    """Read the JSON object of a config file. Raises CheckpointError."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(
                f"{path} is larger than any config file ({path.stat().st_size:,} bytes): it is not one."
            )
        value = parse_json(read_file(path, MAX_CONFIG_BYTES))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: the directory is not a complete checkpoint; download or copy it again."
        ) from None
    except ValueError:
        raise CheckpointError(f"{path} is not readable JSON: download or copy it again.") from None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a JSON object: download or copy it again.")
    return value


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of the language model: the config itself, or the nested one of a multi-modal checkpoint."""
    if not any(key in config for key in LAYER_COUNT_KEYS):
        for key in TEXT_CONFIG_KEYS:
            if isinstance(config.get(key), dict):
                return config[key]
    return config


def layer_count_key(config: Mapping[str, Any], where: str) -> str:
    """Name of the config key that holds the number of layers. Raises CheckpointError."""
    text = text_config(config)
    for key in LAYER_COUNT_KEYS:
        if type(text.get(key)) is int:
            return key
    raise CheckpointError(f"{where} does not say how many layers there are ({', '.join(LAYER_COUNT_KEYS)}).")


def _attention(config: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    heads = config.get("num_attention_heads") or config.get("n_head")
    hidden = config.get("hidden_size")
    head_dim = config.get("head_dim")
    if head_dim is None and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        head_dim = 128 if model_type == "qwen3" else hidden // heads
    kv_heads = config.get("num_key_value_heads") or heads
    intermediate = config.get("intermediate_size")
    window_used = config.get("use_sliding_window", True)
    return {
        "heads": heads if isinstance(heads, int) else None,
        "kv_heads": kv_heads if isinstance(kv_heads, int) else None,
        "head_dim": head_dim,
        "intermediate_size": intermediate if isinstance(intermediate, int) else None,
        "attention_bias": model_type == "qwen2" or config.get("attention_bias") is True,
        "mlp_bias": config.get("mlp_bias") is True,
        "sliding_window": config.get("sliding_window") if window_used else None,
        "max_length": config.get("max_position_embeddings") or config.get("n_positions"),
        "experts": next(
            (config[k] for k in EXPERT_COUNTS if config.get(k)),
            None,
        ),
    }


def _is_tied(config: Mapping[str, Any], model_type: str) -> bool:
    value = config.get("tie_word_embeddings")
    return value if isinstance(value, bool) else model_type.startswith(_TIED_BY_DEFAULT)


def _read_dtype(config: Mapping[str, Any]) -> str | None:
    value = config.get("dtype") or config.get("torch_dtype")
    return value.removeprefix("torch.") if isinstance(value, str) else None
