"""The relayer against a plain gather and against mergekit; what it refuses, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from recipes.checkpoint import Checkpoint
from recipes.errors import BuildError, CheckpointError
from recipes.relayer import CopyProgress, LayerRange, copy_obstacle, write_layer_path, write_passthrough
from tests.support.tiny_checkpoints import ARCHITECTURES, DENSE_FAMILIES, tiny_checkpoint

PATH = (0, 1, 2, 1, 2, 3, 3, 0)

Tensors = dict[str, torch.Tensor]


def tensors_of(directory: Path) -> Tensors:
    found: Tensors = {}
    for file in sorted(directory.glob("*.safetensors")):
        found |= load_file(file)
    return found


def gathered(tensors: Tensors, layers: tuple[int, ...]) -> Tensors:
    """What a layer path means, in one line of torch's terms."""
    result = {name: tensor for name, tensor in tensors.items() if ".layers." not in name}
    for position, layer in enumerate(layers):
        prefix = f"model.layers.{layer}."
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                result[f"model.layers.{position}.{name.removeprefix(prefix)}"] = tensor
    return result


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert torch.equal(found[name].view(torch.uint8), tensor.contiguous().view(torch.uint8)), name


MERGEKIT = """
import sys
from huggingface_hub.errors import StrictDataclassClassValidationError
from mergekit.scripts.run_yaml import main
for folder in sys.argv[1:]:
    try:
        main([folder + "/recipe.yaml", folder + "/merged", "--quiet"], standalone_mode=False)
    except StrictDataclassClassValidationError as error:
        # Weights are written by then; mergekit leaves layer_types as long as the source's, which transformers refuses.
        assert "layer_types" in str(error)
"""


@pytest.fixture(scope="module")
def by_mergekit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`family/source` and what mergekit writes of it, `family/merged`, all in one process of its own."""
    root = tmp_path_factory.mktemp("mergekit")
    for family in DENSE_FAMILIES:
        source = tiny_checkpoint(root / family / "source", family=family, shards=3)
        slices = [{"sources": [{"model": str(source), "layer_range": [layer, layer + 1]}]} for layer in PATH]
        recipe = {"slices": slices, "merge_method": "passthrough", "dtype": "bfloat16"}
        (root / family / "recipe.yaml").write_text(json.dumps(recipe))
    folders = [str(root / family) for family in DENSE_FAMILIES]
    subprocess.run([sys.executable, "-c", MERGEKIT, *folders], check=True, capture_output=True, timeout=300)
    return root


@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_equals_mergekit_bit_for_bit(family: str, by_mergekit: Path, tmp_path: Path) -> None:
    write_layer_path(by_mergekit / family / "source", PATH, tmp_path / "out")
    assert_same(tensors_of(tmp_path / "out"), tensors_of(by_mergekit / family / "merged"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == len(PATH)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_equals_a_gather_by_layer_index(family: str, tied: bool, tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source", family=family, tied=tied, shards=3)
    write_layer_path(source, PATH, tmp_path / "out", shard_bytes=100_000)
    assert_same(tensors_of(tmp_path / "out"), gathered(tensors_of(source), PATH))
    built = Checkpoint.open(tmp_path / "out")
    assert built.n_layers == len(PATH)
    assert built.has_chat_template


def test_runs_in_transformers_like_the_same_layers_rewired(tiny_llama: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_layer_path(tiny_llama, PATH, tmp_path / "out")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(
        "The capital of France", return_tensors="pt"
    ).input_ids
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    built, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    layers = list(model.model.layers)
    model.model.layers = torch.nn.ModuleList([layers[i] for i in PATH])
    model.config.num_hidden_layers = len(PATH)
    with torch.no_grad():
        assert torch.equal(model(tokens, use_cache=False).logits, built(tokens, use_cache=False).logits)


def test_the_whole_path_changes_no_byte_of_config_or_weights(tiny_llama: Path, tmp_path: Path) -> None:
    write_layer_path(tiny_llama, (0, 1, 2, 3), tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text()) == json.loads(
        (tiny_llama / "config.json").read_text()
    )
    assert_same(tensors_of(tmp_path / "out"), tensors_of(tiny_llama))


def test_two_sources_give_embedding_layers_and_head_as_mergekit_does(tmp_path: Path) -> None:
    one, two = (tiny_checkpoint(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    slices = [LayerRange(source=one, start=0, end=3), LayerRange(source=two, start=1, end=4)]
    write_passthrough(slices, tmp_path / "out", dtype="bfloat16")
    found, a, b = tensors_of(tmp_path / "out"), tensors_of(one), tensors_of(two)
    assert torch.equal(found["model.embed_tokens.weight"], a["model.embed_tokens.weight"])
    assert torch.equal(found["lm_head.weight"], b["lm_head.weight"])
    assert torch.equal(found["model.norm.weight"], b["model.norm.weight"])
    for position, (tensors, layer) in enumerate([(a, 0), (a, 1), (a, 2), (b, 1), (b, 2), (b, 3)]):
        suffix = "self_attn.q_proj.weight"
        assert torch.equal(
            found[f"model.layers.{position}.{suffix}"], tensors[f"model.layers.{layer}.{suffix}"]
        )


def test_shards_have_the_size_that_was_asked_for_and_an_index(tiny_llama: Path, tmp_path: Path) -> None:
    limit = 80_000
    write_layer_path(tiny_llama, PATH, tmp_path / "out", shard_bytes=limit)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2
    assert {path.name for path in files} == set(index["weight_map"].values())
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert all(sum(t.nbytes for t in load_file(path).values()) <= limit for path in files)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors_of(tmp_path / "out").values())


def test_progress_counts_every_byte_once(tiny_llama: Path, tmp_path: Path) -> None:
    seen: list[CopyProgress] = []
    write_layer_path(tiny_llama, PATH, tmp_path / "out", shard_bytes=50_000, on_progress=seen.append)
    total = sum(t.nbytes for t in tensors_of(tmp_path / "out").values())
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done)
    assert done[-1] == total
    assert {progress.total_bytes for progress in seen} == {total}


@pytest.mark.parametrize("broken", ["copy_file_range", "sendfile"])
def test_falls_back_where_the_kernel_cannot_copy(
    broken: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.copy_file_range", refuse)
    if broken == "sendfile":
        monkeypatch.setattr("os.sendfile", refuse)
    write_layer_path(tiny_llama, PATH, tmp_path / "out")
    assert_same(tensors_of(tmp_path / "out"), gathered(tensors_of(tiny_llama), PATH))


def test_mixed_dtypes_keep_their_bytes_and_their_alignment(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    tensors = tensors_of(source)
    mixed = {n: t.float() if "norm" in n else t for n, t in tensors.items()}
    mixed["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    save_file(mixed, source / "model.safetensors", metadata={"format": "pt"})
    write_layer_path(source, PATH, tmp_path / "out")
    del mixed["model.layers.0.self_attn.rotary_emb.inv_freq"]  # a constant: mergekit leaves it out too
    assert_same(tensors_of(tmp_path / "out"), gathered(mixed, PATH))
    for tensor in Checkpoint.open(tmp_path / "out").tensors:
        assert tensor.start % (tensor.size_bytes // max(1, tensor.parameters)) == 0


def test_old_results_are_not_written_over(tiny_llama: Path, tmp_path: Path) -> None:
    write_layer_path(tiny_llama, (0,), tmp_path / "out")
    with pytest.raises(BuildError, match=r"model\.safetensors exists already"):
        write_layer_path(tiny_llama, (1,), tmp_path / "out")


def test_a_full_disk_is_one_sentence(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_more: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.copy_file_range", full)
    with pytest.raises(BuildError, match="is full: free space"):
        write_layer_path(tiny_llama, PATH, tmp_path / "out")


@pytest.mark.parametrize("layers", [(4,), (0, 17), ()])
def test_layers_that_are_not_there(layers: tuple[int, ...], tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"has no layer|at least one layer"):
        write_layer_path(tiny_llama, layers, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"family": "mistral"}, "architecture"),
        ({"hidden": 128}, "hidden_size"),
        ({"tied": True}, "tied embeddings"),
        ({"vocabulary": 400}, "vocabularies"),
        ({"config": {"intermediate_size": 64}}, "different tensors"),
        ({"config": {"quantization_config": {"quant_method": "gptq", "bits": 4}}}, "quantisation"),
    ],
)
def test_sources_that_do_not_stack(
    other: dict[str, object], what: str, tiny_llama: Path, tmp_path: Path
) -> None:
    two = tiny_checkpoint(tmp_path / "two", **other)  # type: ignore[arg-type]  # each case names real arguments
    slices = [LayerRange(source=tiny_llama, start=0, end=2), LayerRange(source=two, start=1, end=3)]
    with pytest.raises(BuildError, match=what):
        write_passthrough(slices, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickles_are_not_moved(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled"):
        write_layer_path(source, PATH, tmp_path / "out")
    opened = Checkpoint.open(source, allow_pickles=True)
    assert copy_obstacle([opened], None, None) == f"{source} holds pickled weights"


def test_copy_obstacle_looks_at_the_weights_and_not_at_the_config(tmp_path: Path) -> None:
    source = Checkpoint.open(tiny_checkpoint(tmp_path / "source", config={"torch_dtype": "float32"}))
    assert copy_obstacle([source], None, None) is None
    assert copy_obstacle([source], "bfloat16", "bfloat16") is None
    assert copy_obstacle([source], "float32", None) == f"{source.directory} is not all float32"
    assert copy_obstacle([source], "bfloat16", "float16") == f"{source.directory} is not all float16"
    assert copy_obstacle([source], "float32", "bfloat16") is None
    assert (
        copy_obstacle([source], "float16", "bfloat16") == f"{source.directory} would lose digits as float16"
    )
