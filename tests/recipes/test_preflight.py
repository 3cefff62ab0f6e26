"""Preflight: figures before weights, for the catalogue, for local and remote sources, and for what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes.catalog import catalog_names, load_catalog
from recipes.checkpoint import Checkpoint
from recipes.merge import build
from recipes.preflight import Preflight, preflight
from recipes.recipe import Recipe
from recipes.sources import FactsOrigin, parse, resolve
from tests.recipes.test_sources import hub  # noqa: F401 - a fixture
from tests.support.hub_server import HubServer
from tests.support.time_bound import wall_bound
from tests.support.tiny_checkpoints import tiny_checkpoint

PUBLISHED = {
    "rys-xlarge": (87, 78.843),
    "nyxene-v2-11b": (48, 10.73),
    "solar-10.7b": (48, 10.73),
    "openchat-40layers-interleaved": (40, 8.987),
    "yi-34b-dare-v5": (60, 34.39),
    "goliath-120b": (137, 117.75),
    "devstral-small-2-24b-circuit-12-14": (43, 25.240),
    "gemma-2-2b-rys-19-23": (30, 2.926),
    "gemma-2-9b-rys-14-18": (46, 10.034),
    "llama-3.2-3b-rys-21-24": (31, 3.515),
    "qwen2.5-coder-32b-circuit-7-9": (67, 34.227),
    "qwen3.5-9b-rys-22-25": (36, 9.819),
}


def passthrough(*slices: tuple[Path | str, int, int], **more: Any) -> Recipe:
    made = [{"sources": [{"model": str(m), "layer_range": [a, b]}]} for m, a, b in slices]
    return Recipe.parse(yaml.safe_dump({"merge_method": "passthrough", "slices": made, **more}))


def linear(*models: Path | str, **more: Any) -> Recipe:
    made = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
    return Recipe.parse(yaml.safe_dump({"merge_method": "linear", "models": made, **more}))


def test_filters_are_held_against_the_names_in_the_headers(
    tiny_llama: Path, tmp_path: Path, home: Path
) -> None:
    both = [tiny_llama, tiny_checkpoint(tmp_path / "other", seed=1)]
    slerp = {
        "merge_method": "slerp",
        "base_model": str(tiny_llama),
        "slices": [{"sources": [{"model": str(one), "layer_range": [0, 4]} for one in both]}],
        "parameters": {"t": [{"filter": "self_atn", "value": 1}, {"value": 0.5}]},
    }
    found = preflight(Recipe.parse(yaml.safe_dump(slerp)), home=home)
    assert found.problems == ()
    assert "The filter 'self_atn' does nothing: no tensor's name contains it." in found.remarks
    slerp["parameters"] = {"t": [{"filter": "self_attn", "value": 1}]}
    (problem,) = preflight(Recipe.parse(yaml.safe_dump(slerp)), home=home).problems
    assert problem.startswith("The parameter t has no value for ")


@pytest.mark.parametrize("name", catalog_names())
def test_every_catalogue_recipe_plans_without_weights(name: str, home: Path) -> None:
    with wall_bound(10):
        found = preflight(load_catalog(name).recipe, home=home)
        layers, billions = PUBLISHED[name]
        assert found.result.n_layers == layers
        assert found.result.parameters is not None
        digits = len(str(billions).partition(".")[2])
        assert round(found.result.parameters / 1e9, digits) == billions
        assert found.parameters_from is FactsOrigin.CATALOG
        assert found.problems == ()
        assert len(found.unknown) == len(found.sources)  # nobody could be asked about them
        assert all("hub cannot be reached" in text for text in found.unknown)


def test_local_sources_are_counted_exactly(tiny_llama: Path, home: Path, tmp_path: Path) -> None:
    recipe = passthrough((tiny_llama, 0, 3), (tiny_llama, 1, 4))
    found = preflight(recipe, home=home)
    build(recipe, {str(tiny_llama): tiny_llama}, tmp_path / "out")
    built = Checkpoint.open(tmp_path / "out")
    assert (found.result.n_layers, found.result.parameters) == (6, built.parameters)
    assert found.result.size_bytes == built.size_bytes
    assert found.parameters_from is FactsOrigin.HEADERS
    assert found.result.moves_bytes
    assert found.result.dtype == "bfloat16"
    assert found.download_bytes == 0
    assert found.problems == found.unknown == found.remarks == ()
    on_disk = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert found.disk_bytes
    assert found.disk_bytes >= on_disk


def test_stages_follow_each_other(tmp_path: Path, home: Path) -> None:
    one, two = (tiny_checkpoint(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    text = "\n---\n".join(
        [
            yaml.safe_dump({"name": "tall", **_slices(one, (0, 3), (1, 4))}),
            yaml.safe_dump({"name": "other", **_slices(two, (0, 3), (1, 4))}),
            yaml.safe_dump(
                {
                    "merge_method": "slerp",
                    "base_model": "tall",
                    "dtype": "float32",
                    "parameters": {"t": 0.5},
                    "models": [{"model": "tall"}, {"model": "other"}],
                }
            ),
        ]
    )
    found = preflight(Recipe.parse(text), home=home)
    assert [stage.n_layers for stage in found.stages] == [6, 6, 6]
    assert [stage.moves_bytes for stage in found.stages] == [True, True, False]
    assert found.result.dtype == "float32"
    assert found.result.size_bytes == 2 * (found.stages[0].size_bytes or 0)
    assert found.disk_bytes
    assert found.disk_bytes > sum(stage.size_bytes or 0 for stage in found.stages)
    assert found.problems == found.unknown == ()


def _slices(source: Path, *ranges: tuple[int, int]) -> dict[str, Any]:
    made = [{"sources": [{"model": str(source), "layer_range": list(pair)}]} for pair in ranges]
    return {"merge_method": "passthrough", "slices": made}


def test_a_layer_path_of_a_directory(tiny_llama: Path, home: Path) -> None:
    found = preflight(Recipe.parse(f"base: {tiny_llama}\nlayer_path: (1, 3)\n"), home=home)
    assert found.result.n_layers == 6
    assert found.result.moves_bytes


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"family": "mistral"}, "different architectures"),
        ({"hidden": 128}, "different widths"),
        ({"config": {"intermediate_size": 64}}, "different feed-forward widths"),
        ({"config": {"num_key_value_heads": 2}}, "different numbers of key-value heads"),
        ({"vocabulary": 400}, "vocabularies of 384 and 400 tokens: add `tokenizer_source`"),
        ({"tied": True}, "different ways of tying"),
    ],
)
def test_sources_that_do_not_fit(
    other: dict[str, Any], words: str, tiny_llama: Path, tmp_path: Path, home: Path
) -> None:
    two = tiny_checkpoint(tmp_path / "two", **other)
    found = preflight(linear(tiny_llama, two), home=home)
    assert len(found.problems) == 1
    assert words in found.problems[0]


def test_a_vocabulary_in_the_middle_of_a_stack_does_not_matter(
    tiny_llama: Path, tmp_path: Path, home: Path
) -> None:
    two = tiny_checkpoint(tmp_path / "two", vocabulary=400)
    assert (
        preflight(passthrough((tiny_llama, 0, 2), (two, 1, 3), (tiny_llama, 3, 4)), home=home).problems == ()
    )
    (problem,) = preflight(passthrough((tiny_llama, 0, 2), (two, 1, 3)), home=home).problems
    assert "vocabularies" in problem


def test_tokenizers_that_give_ids_other_meanings(tiny_llama: Path, tmp_path: Path, home: Path) -> None:
    two = tiny_checkpoint(tmp_path / "two", seed=2)
    assert preflight(linear(tiny_llama, two), home=home).remarks == ()
    data = json.loads((two / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (two / "tokenizer.json").write_text(json.dumps(data))
    (remark,) = preflight(linear(tiny_llama, two), home=home).remarks
    assert remark.startswith("2 token ids mean different tokens")
    joined = preflight(linear(tiny_llama, two, tokenizer_source="union"), home=home)
    assert joined.remarks == ()
    assert "vocabulary" in joined.unknown[0]


def test_missing_and_damaged_sources_are_problems_and_the_rest_is_still_told(
    tiny_llama: Path, tmp_path: Path, home: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_llama, broken)
    (broken / "model.safetensors").write_bytes(b"\0" * 4)
    found = preflight(linear(tiny_llama, broken, tmp_path / "missing"), home=home)
    assert any("cut short" in problem for problem in found.problems)
    assert any("neither a directory here" in problem for problem in found.problems)
    assert found.result.parameters is None
    assert any("unknown" in text for text in found.unknown)
    known = {source.name: source.facts is not None for source in found.sources}
    assert known == {str(tiny_llama): True, str(broken): False, str(tmp_path / "missing"): False}


def test_ranges_that_leave_a_source(tiny_llama: Path, home: Path) -> None:
    found = preflight(passthrough((tiny_llama, 0, 9)), home=home)
    assert found.result.n_layers is None
    assert any("has 4 layers" in problem for problem in found.problems)


def test_pickles_are_a_problem_unless_allowed(tmp_path: Path, home: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    assert "pickled" in preflight(linear(source), home=home).problems[0]
    allowed = preflight(linear(source), home=home, allow_pickles=True)
    assert allowed.problems == ()
    assert allowed.parameters_from is FactsOrigin.CONFIG


def test_quantised_sources(tmp_path: Path, home: Path) -> None:
    source = tiny_checkpoint(
        tmp_path / "source", config={"quantization_config": {"quant_method": "gptq", "bits": 4}}
    )
    merged = preflight(linear(source), home=home)
    assert "gptq-4bit" in merged.problems[0]
    moved = preflight(passthrough((source, 0, 4), (source, 1, 3)), home=home)
    assert moved.problems == ()
    assert moved.result.parameters == Checkpoint.open(source).config.parameters(6)
    assert "quantised" in moved.remarks[0]
    assert moved.unknown


def test_rounding_is_told(tmp_path: Path, home: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source", dtype="float32")
    found = preflight(passthrough((source, 0, 4), dtype="bfloat16"), home=home)
    assert found.remarks == (f"{source} is stored as float32 and will be rounded to bfloat16.",)
    assert not found.result.moves_bytes


def test_layers_that_cannot_move_are_refused_before_any_download(tmp_path: Path, home: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source", family="mixtral", config={"decoder_sparse_step": 2})
    (problem,) = preflight(passthrough((source, 1, 4)), home=home).problems
    assert "decoder_sparse_step" in problem


def test_adapters_are_left_to_the_build(tiny_llama: Path, home: Path) -> None:
    recipe = Recipe.parse(
        yaml.safe_dump(
            {
                "merge_method": "linear",
                "models": [{"model": f"{tiny_llama}+a/lora", "parameters": {"weight": 1}}],
            }
        )
    )
    found = preflight(recipe, home=home)
    assert found.problems == ()
    assert any("a/lora" in text for text in found.unknown)


def test_remote_sources_are_read_from_headers(hub: HubServer, home: Path) -> None:  # noqa: F811 - the fixture
    name = next(iter(hub.repositories))
    found: Preflight = preflight(passthrough((name, 0, 4), (name, 2, 4)), home=home)
    assert found.parameters_from is FactsOrigin.HEADERS
    assert found.result.n_layers == 6
    checkpoint = Checkpoint.open(hub.repositories[name])
    assert found.download_bytes == checkpoint.size_bytes
    resolve(name, None, home=home)
    assert preflight(passthrough((name, 0, 4)), home=home).download_bytes == 0
    hub.gated.add("someone/gated")
    hub.repositories["someone/gated"] = hub.repositories[name]
    assert "is gated" in preflight(linear("someone/gated"), home=home).problems[0]
    assert "neither a directory here nor a repository" in preflight(linear("no/where"), home=home).problems[0]
    assert parse(name, None).name == name
