"""Checkpoints from config and headers: facts, damage, safety, identity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from recipes.checkpoint import Checkpoint, layer_tensor_name
from recipes.config_facts import ConfigFacts, read_config
from recipes.errors import CheckpointError
from recipes.tensor_file import MAX_HEADER_BYTES, Tensor, header_bytes, parse_header, read_header
from tests.support.source_checkpoint import rewrite, source
from tests.support.tiny_checkpoints import ARCHITECTURES, DENSE_FAMILIES, tiny_checkpoint, tiny_of_type

__all__ = ["source"]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_facts_of_every_family(family: str, tied: bool, tmp_path: Path) -> None:
    found = Checkpoint.open(tiny_checkpoint(tmp_path / "c", family=family, layers=3, tied=tied, shards=2))
    assert found.config.architecture == ARCHITECTURES[family]
    assert (found.n_layers, found.config.hidden_size, found.config.vocab_size) == (3, 64, 384)
    assert (found.config.heads, found.config.kv_heads, found.config.head_dim) == (2, 1, 32)
    assert found.config.tied is tied
    assert found.dtype == "bfloat16"
    assert found.dtypes == {"bfloat16"}
    assert found.size_bytes == 2 * (found.parameters or 0)
    assert found.stacks == ("model.layers",)
    assert found.has_chat_template
    assert sum(len(found.layer_tensors(i)) for i in range(3)) + len(found.other_tensors) == len(found.tensors)
    assert found.config.experts == (2 if family == "mixtral" else None)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_parameters_from_the_config_equal_those_from_headers(family: str, tied: bool, tmp_path: Path) -> None:
    found = Checkpoint.open(tiny_checkpoint(tmp_path / "c", family=family, tied=tied))
    assert found.config.parameters() == found.parameters
    deeper = Checkpoint.open(tiny_checkpoint(tmp_path / "d", family=family, tied=tied, layers=7))
    assert found.config.parameters(7) == deeper.parameters


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3", "phi3"])
def test_parameters_equal_those_that_transformers_makes(model_type: str, tmp_path: Path) -> None:
    more = {"attention_bias": True, "mlp_bias": True} if model_type == "llama" else {}
    found = Checkpoint.open(tiny_of_type(tmp_path / "c", model_type, **more))
    assert found.config.parameters() == found.parameters


def test_what_the_config_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    found = Checkpoint.open(tiny_checkpoint(tmp_path / "c", config={"model_type": "of_nobody"}))
    assert found.config.parameters() is None
    assert found.parameters


def test_the_embedded_checkpoint(demo_checkpoint: Path) -> None:
    found = Checkpoint.open(demo_checkpoint)
    assert found.parameters == found.config.parameters() == 134_515_008
    assert found.config.tied
    assert found.n_layers == 30


@pytest.mark.parametrize(
    ("config", "fact", "value"),
    [
        ({"torch_dtype": None, "dtype": "torch.float16"}, "dtype", "float16"),
        ({"sliding_window": 128}, "sliding_window", 128),
        ({"sliding_window": 128, "use_sliding_window": False}, "sliding_window", None),
        ({"layer_types": ["full_attention"] * 4}, "layer_types", ("full_attention",) * 4),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantization", "awq-4bit"),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            "quantization",
            "bitsandbytes-8bit",
        ),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization", "fp8"),
        ({"auto_map": {"AutoModel": "modeling_x.X"}}, "remote_code", True),
        ({"head_dim": 48}, "head_dim", 48),
    ],
)
def test_facts_that_only_some_configs_have(
    config: dict[str, Any], fact: str, value: object, tmp_path: Path
) -> None:
    found = Checkpoint.open(tiny_checkpoint(tmp_path / "c", config=config))
    assert getattr(found.config, fact) == value


def test_a_config_that_nests_its_language_model() -> None:
    inner = {"num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 16, "model_type": "gemma3_text"}
    found = ConfigFacts.from_config(
        {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner}, "here"
    )
    assert (found.n_layers, found.model_type, found.tied) == (2, "gemma3_text", True)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (shutil.rmtree, "no checkpoint directory"),
        (lambda d: (d / "config.json").unlink(), "config.json is missing"),
        (lambda d: (d / "config.json").write_text("{"), "not readable JSON"),
        (lambda d: (d / "config.json").write_bytes(b"\xff\xfe\x00"), "not readable JSON"),
        (lambda d: (d / "config.json").write_text("[" * 100_000), "not readable JSON"),
        (lambda d: (d / "config.json").write_text("[]"), "does not hold a JSON object"),
        (lambda d: rewrite(d, "config.json", architectures=None), "names no architecture"),
        (lambda d: rewrite(d, "config.json", num_hidden_layers="four"), "how many layers"),
        (lambda d: rewrite(d, "config.json", num_hidden_layers=10**9), "no usable n_layers"),
        (lambda d: rewrite(d, "config.json", hidden_size=-1), "no usable hidden_size"),
        (
            lambda d: (d / "model-00002-of-00002.safetensors").unlink(),
            "model-00002-of-00002.safetensors is missing",
        ),
        (lambda d: (d / "model.safetensors.index.json").write_text("{}"), "no usable weight_map"),
        (
            lambda d: rewrite(d, "model.safetensors.index.json", weight_map={"a": "../../x.safetensors"}),
            "outside its own",
        ),
        (
            lambda d: rewrite(d, "model.safetensors.index.json", weight_map={"a": "/etc/passwd"}),
            "outside its own",
        ),
        (
            lambda d: (d / "model.safetensors.index.json").unlink(),
            "no model.safetensors.index.json that orders",
        ),
        (lambda d: [p.unlink() for p in d.glob("model*")], "holds no weights"),
    ],
)
def test_damage_is_named_in_one_sentence(break_it: Any, message: str, source: Path) -> None:
    break_it(source)
    with pytest.raises(CheckpointError, match=message) as error:
        Checkpoint.open(source)
    assert "\n" not in str(error.value)
    assert str(source) in str(error.value)


def damaged(header: bytes, *, length: int | None = None, body: bytes = b"") -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


LIES = [
    (b"", "cut short"),
    (b"\1\0\0", "cut short"),
    (damaged(b"{}", length=MAX_HEADER_BYTES + 1), "no safetensors file has"),
    (damaged(b"{}", length=2**63), "no safetensors file has"),
    (damaged(b"{}", length=1000), "cut short: its header alone"),
    (damaged(b"nonsense"), "no readable safetensors header"),
    (damaged(b"[]"), "no readable safetensors header"),
    (damaged(b"\xff" * 8), "no readable safetensors header"),
    (damaged(b"[" * 50_000), "no readable safetensors header"),
    (damaged(b'{"a":1,"a":2}'), "no readable safetensors header"),
    (damaged(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'), "cut short: its tensors need"),
    (
        damaged(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', body=b"12345"),
        "belong to no tensor",
    ),
    (
        damaged(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', body=b"12345678"),
        "does not begin where",
    ),
    (
        damaged(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', body=b"1234"),
        "entry of tensor 'a' is damaged",
    ),
    (
        damaged(b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}', body=b"1234"),
        "entry of tensor 'a' is damaged",
    ),
    (
        damaged(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', body=b"1234"),
        "entry of tensor 'a' is damaged",
    ),
    (
        damaged(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', body=b"1234"),
        "entry of tensor 'a' is damaged",
    ),
    (
        damaged(b'{"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}}', body=b"1234"),
        "entry of tensor 'a' is damaged",
    ),
    (damaged(b'{"a":[]}'), "entry of tensor 'a' is damaged"),
    (damaged(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', body=b"1234"), "is damaged"),
]


@pytest.mark.parametrize(("data", "message"), LIES, ids=range(len(LIES)))
def test_headers_that_lie(data: bytes, message: str, tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    (source / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(source)


def test_a_tensor_that_the_index_promises_and_no_file_holds(source: Path) -> None:
    index = json.loads((source / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.9.x"] = "model-00001-of-00002.safetensors"
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"does not hold model\.layers\.9\.x"):
        Checkpoint.open(source)


def test_the_library_reads_the_headers_that_are_written_here(tmp_path: Path) -> None:
    from safetensors import safe_open

    tensors = [
        Tensor(name="ü", dtype="F32", shape=(2, 1), file="", start=0, size_bytes=8),
        Tensor(name="b", dtype="BF16", shape=(), file="", start=0, size_bytes=2),
    ]
    (tmp_path / "x.safetensors").write_bytes(header_bytes(tensors) + bytes(range(10)))
    with safe_open(tmp_path / "x.safetensors", framework="np") as opened:
        assert set(opened.keys()) == {"ü", "b"}
        assert opened.get_slice("ü").get_shape() == [2, 1]
        assert opened.metadata() == {"format": "pt"}
    found = read_header(tmp_path, "x.safetensors")
    assert [(t.name, t.shape, t.size_bytes) for t in found] == [("ü", (2, 1), 8), ("b", (), 2)]
    assert found[0].start % 8 == 0
    assert parse_header(b'{"__metadata__":{}}', "here") == {}


def test_pickles_are_refused_unless_asked_for(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        Checkpoint.open(source)
    opened = Checkpoint.open(source, allow_pickles=True)
    assert opened.pickled
    assert opened.tensors == ()
    assert opened.parameters == opened.config.parameters()


def test_an_adapter_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="LoRA adapter"):
        Checkpoint.open(tmp_path)


def test_a_chat_template_in_a_file_of_its_own(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source", chat_template=False)
    assert not Checkpoint.open(source).has_chat_template
    (source / "chat_template.jinja").write_text("{{ messages }}")
    assert Checkpoint.open(source).has_chat_template


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("model.layers.7.mlp.up_proj.weight", ("model.layers", 7, "mlp.up_proj.weight")),
        ("model.layers.3.mlp.experts.5.w1.weight", ("model.layers", 3, "mlp.experts.5.w1.weight")),
        ("transformer.h.0.ln_1.bias", ("transformer.h", 0, "ln_1.bias")),
        ("lm_head.weight", None),
        ("model.embed_tokens.weight", None),
        ("4.weight", None),
    ],
)
def test_names_of_tensors(name: str, parts: tuple[str, int, str] | None) -> None:
    found = layer_tensor_name(name)
    assert (found and (found.stack, found.layer, found.rest)) == parts


# --- identity -------------------------------------------------------------------------------------------------------


def test_a_config_of_absurd_size(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as stream:
        stream.truncate(20_000_000)
    with pytest.raises(CheckpointError, match="larger than any config"):
        read_config(tmp_path / "config.json")
