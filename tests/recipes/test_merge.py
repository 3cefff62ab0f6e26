"""Builds: what mergekit computes, bit for bit; stages, configs, progress; and how a build fails."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recipes.checkpoint import Checkpoint
from recipes.errors import BuildError, CheckpointError, RecipeError, RecipeSyntaxError
from recipes.merge import BuildOptions, BuildProgress, MergekitProcess, build
from recipes.recipe import METHODS, Recipe
from tests.support.by_mergekit import SEED, Command, assert_same_tensors, config_of, run_mergekit, tensors_of
from tests.support.merge_recipes import SOURCES, method_recipe, sources_in
from tests.support.tiny_checkpoints import tiny_checkpoint, tiny_of_type

LAYERS = 4
OPTIONS = BuildOptions(seed=SEED, threads=1)

SCALED = """
merge_method: passthrough
slices:
  - sources: [{model: org/one, layer_range: [0, 3]}]
  - sources: [{model: org/one, layer_range: [2, 3], parameters: {scale: [{filter: o_proj, value: 0}, {filter: down_proj, value: 0}, {value: 1}]}}]
  - sources: [{model: org/two, layer_range: [3, 4]}]
dtype: bfloat16
"""
DTYPES = """
merge_method: linear
models: [{model: org/one, parameters: {weight: 1}}, {model: org/two, parameters: {weight: 3}}]
dtype: float32
out_dtype: float16
"""
SLICED = """
merge_method: slerp
base_model: org/one
slices:
  - sources: [{model: org/one, layer_range: [0, 2]}, {model: org/two, layer_range: [2, 4]}]
    parameters: {t: 0.25}
  - sources: [{model: org/two, layer_range: [1, 4]}, {model: org/one, layer_range: [0, 3]}]
    base_model: org/two
parameters: {t: [0.1, 0.9]}
"""
TOKENIZER = """
merge_method: linear
models: [{model: org/one, parameters: {weight: 1}}, {model: org/two, parameters: {weight: 1}}]
tokenizer: {source: union, pad_to_multiple_of: 32}
chat_template: chatml
"""
RECIPES = {
    **{name: method_recipe(name) for name in METHODS if name != "passthrough"},
    "scaled": SCALED,
    "dtypes": DTYPES,
    "sliced": SLICED,
    "tokenizer": TOKENIZER,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny sources, and under `theirs` what mergekit builds of them."""
    root = tmp_path_factory.mktemp("merge")
    for seed, source in enumerate(SOURCES):
        tiny_checkpoint(root / source, layers=LAYERS, seed=seed)
    commands = []
    for name, text in RECIPES.items():
        (root / f"{name}.yaml").write_text(text)
        commands.append(Command(root / f"{name}.yaml", root, root / "theirs" / name))
    run_mergekit(commands)
    return root


def one_slice(model: str, first: int, end: int) -> dict[str, Any]:
    return {"sources": [{"model": model, "layer_range": [first, end]}]}


@pytest.fixture(scope="module")
def mergekit() -> Iterator[MergekitProcess]:
    """One mergekit process for the tests of this file."""
    with MergekitProcess(threads=1) as process:
        yield process


@pytest.mark.parametrize("name", RECIPES)
def test_equals_mergekit_bit_for_bit(
    name: str, folder: Path, tmp_path: Path, mergekit: MergekitProcess
) -> None:
    theirs = folder / "theirs" / name
    build(
        Recipe.parse(RECIPES[name]), sources_in(folder), tmp_path / "out", options=OPTIONS, mergekit=mergekit
    )
    assert_same_tensors(tmp_path / "out", theirs)
    ours, other = config_of(tmp_path / "out"), config_of(theirs)
    assert {key: ours[key] for key in other} == other
    assert not (tmp_path / "out" / ".stages").exists()


def test_the_seed_decides_what_random_methods_draw(
    folder: Path, tmp_path: Path, mergekit: MergekitProcess
) -> None:
    recipe = Recipe.parse(RECIPES["dare_ties"])
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        options = BuildOptions(seed=seed, threads=1)
        build(recipe, sources_in(folder), tmp_path / name, options=options, mergekit=mergekit)
    assert tensors_of(tmp_path / "one") == tensors_of(tmp_path / "same")
    assert tensors_of(tmp_path / "one") != tensors_of(tmp_path / "other")


STAGES = """
name: stack
merge_method: passthrough
slices: [{sources: [{model: org/one, layer_range: [0, 3]}]}, {sources: [{model: org/two, layer_range: [1, 4]}]}]
---
name: other
merge_method: passthrough
slices: [{sources: [{model: org/base, layer_range: [0, 3]}]}, {sources: [{model: org/base, layer_range: [1, 4]}]}]
---
merge_method: slerp
models: [{model: stack}, {model: other}]
base_model: other
parameters: {t: [0.2, 0.8]}
"""


def test_stages(folder: Path, tmp_path: Path, mergekit: MergekitProcess) -> None:
    """Stages in one recipe give what building them one by one gives; progress counts all of them."""
    seen: list[BuildProgress] = []
    whole = Recipe.parse(STAGES)
    build(
        whole,
        sources_in(folder),
        tmp_path / "out",
        options=OPTIONS,
        mergekit=mergekit,
        on_progress=seen.append,
    )
    places = sources_in(folder)
    for stage, text in whole.mergekit_documents():
        build(Recipe.parse(text), places, tmp_path / stage, options=OPTIONS, mergekit=mergekit)
        places[stage] = tmp_path / stage
    assert_same_tensors(tmp_path / "out", tmp_path / "result")
    assert config_of(tmp_path / "out")["num_hidden_layers"] == 6
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == []
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done)
    total = seen[-1].total_bytes
    assert (
        done[-1]
        == total
        == sum(Checkpoint.open(tmp_path / name).size_bytes for name in ("stack", "other", "result"))
    )
    assert [*dict.fromkeys(progress.stage for progress in seen)] == ["stack", "other", "the result"]


def test_a_layer_path_is_the_passthrough_that_it_means(folder: Path, tmp_path: Path) -> None:
    document = {
        "merge_method": "passthrough",
        "slices": [one_slice("org/one", 0, 3), one_slice("org/one", 1, 4)],
    }
    sliced = json.dumps(document)
    for name, text in (("path", "base: org/one\nlayer_path: (1, 3)"), ("slices", sliced)):
        build(Recipe.parse(text), sources_in(folder), tmp_path / name)
    build(Recipe.from_data(document | {"dtype": "bfloat16"}), sources_in(folder), tmp_path / "dtype")
    assert_same_tensors(tmp_path / "path", tmp_path / "slices")
    assert_same_tensors(tmp_path / "path", tmp_path / "dtype")
    assert config_of(tmp_path / "path") == config_of(tmp_path / "slices")


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("gemma3_text", {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 16}),
        ("qwen3", {}),
    ],
)
def test_settings_of_layers_follow_them(
    model_type: str, config: dict[str, Any], tmp_path: Path, mergekit: MergekitProcess
) -> None:
    """mergekit leaves them as they are, and then fails at the config."""
    source = tiny_of_type(tmp_path / "org/one", model_type, **config)
    text = SCALED.replace("org/two", "org/one")
    build(Recipe.parse(text), {"org/one": source}, tmp_path / "out", options=OPTIONS, mergekit=mergekit)
    made = config_of(tmp_path / "out")
    assert made["num_hidden_layers"] == 5
    kinds = config.get("layer_types", ["full_attention"] * 4)
    assert made["layer_types"] == [*kinds[:3], kinds[2], kinds[3]]
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 5


def test_a_lora_adapter(folder: Path, tmp_path: Path, mergekit: MergekitProcess) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder / "org/one", dtype="bfloat16")
    tuned = get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "lora")
    recipe = Recipe.parse("merge_method: passthrough\nmodels: [{model: org/one+org/lora}]")
    places = sources_in(folder) | {"org/lora": tmp_path / "lora"}
    build(recipe, places, tmp_path / "out", options=OPTIONS, mergekit=mergekit)
    before, after = tensors_of(folder / "org/one"), tensors_of(tmp_path / "out")
    changed = {name.rpartition("self_attn.")[2] for name in after if after[name] != before[name]}
    assert changed == {"q_proj.weight"}
    os.rename(tmp_path / "lora/adapter_model.safetensors", tmp_path / "lora/adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"no adapter_model.safetensors: use a safetensors copy"):
        build(recipe, places, tmp_path / "again")
    with pytest.raises(CheckpointError, match="not a LoRA adapter"):
        build(recipe, places | {"org/lora": folder / "org/two"}, tmp_path / "again")


# --- how it fails ---------------------------------------------------------------------------------------------------


def test_a_failure_of_mergekit_is_one_sentence_and_leaves_nothing(
    folder: Path, tmp_path: Path, mergekit: MergekitProcess
) -> None:
    wide = tiny_checkpoint(tmp_path / "wide", layers=LAYERS, hidden=96)
    recipe = Recipe.parse(RECIPES["slerp"])
    places = {"org/base": folder / "org/base", "org/one": wide}
    with pytest.raises(
        BuildError, match=r"mergekit could not build the result: .*[Ss]ize mismatch"
    ) as caught:
        build(recipe, places, tmp_path / "out", options=OPTIONS, mergekit=mergekit)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    build(recipe, sources_in(folder), tmp_path / "out", options=OPTIONS, mergekit=mergekit)
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_killed_mergekit(folder: Path, tmp_path: Path, mergekit: MergekitProcess) -> None:
    def kill(_progress: BuildProgress) -> None:
        process = mergekit._process
        assert process is not None
        process.kill()

    recipe = Recipe.parse(
        STAGES.replace("merge_method: slerp", "merge_method: nearswap").replace("[0.2, 0.8]", "0.1")
    )
    build(recipe, sources_in(folder), tmp_path / "warm", options=OPTIONS, mergekit=mergekit)
    with pytest.raises(
        BuildError, match=r"killed by signal 9 \(9 is usually the system running out of memory\)"
    ):
        build(
            recipe, sources_in(folder), tmp_path / "out", options=OPTIONS, mergekit=mergekit, on_progress=kill
        )
    assert not (tmp_path / "out").exists()


def test_an_interrupted_build_leaves_nothing(folder: Path, tmp_path: Path, mergekit: MergekitProcess) -> None:
    def interrupt(_progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(
            Recipe.parse(STAGES),
            sources_in(folder),
            tmp_path / "out",
            mergekit=mergekit,
            on_progress=interrupt,
        )
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_before_anything_is_built(folder: Path, tmp_path: Path) -> None:
    places, out = sources_in(folder), tmp_path / "out"
    deep = "merge_method: passthrough\nslices: [{sources: [{model: org/one, layer_range: [0, 9]}]}]"
    partial = RECIPES["slerp"].replace('{"value": 0.4}', '{"filter": "attn", "value": 0.4}')
    pickled = tmp_path / "pickled"
    shutil.copytree(folder / "org/one", pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cases: list[tuple[str, dict[str, Path], type[RecipeError], str]] = [
        (
            RECIPES["slerp"],
            {"org/one": folder / "org/one"},
            BuildError,
            "No directory is given for the source org/base",
        ),
        (RECIPES["slerp"], places | {"org/base": tmp_path / "none"}, CheckpointError, "none"),
        (RECIPES["slerp"], places | {"org/base": pickled}, CheckpointError, "pickle"),
        (deep, places, RecipeSyntaxError, r"layers \[0, 9\) of org/one, which has 4 layers"),
        (partial, places, BuildError, "The parameter t has no value for"),
    ]
    for text, given, kind, message in cases:
        with pytest.raises(kind, match=message):
            build(Recipe.parse(text), given, out)
        assert not out.exists()
    out.mkdir()
    with pytest.raises(BuildError, match="The parameter t has no value for"):
        build(Recipe.parse(partial), places, out)
    assert list(out.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(BuildError, match="not empty"):
        build(Recipe.parse(deep), places, tmp_path / "full")
    with pytest.raises(BuildError, match="could not be written"):
        build(Recipe.parse(RECIPES["slerp"]), places, tmp_path / "full" / "file" / "out")


def test_no_room_for_the_weights(folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the same call fails, with another errno."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(BuildError, match="File too large"):
            build(Recipe.parse(RECIPES["slerp"]), sources_in(folder), tmp_path / "out", options=OPTIONS)
        with pytest.raises(BuildError, match=r"could not be written|File too large"):
            build(Recipe.parse("base: org/one\nlayer_path: (1, 3)"), sources_in(folder), tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
