"""Layer paths of many families in the transformers engine against built checkpoints, and what cannot run one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.families import measure_family
from evals.engine import EngineKind, EngineTuning
from evals.errors import EngineError, UnsupportedArchitecture
from evals.live_paths import untested_family
from recipes.relayer import write_layer_path
from tests.support.engine_requests import (
    TOLERANCE,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.family_checkpoints import FAMILIES, family_checkpoint, layers_of, random_checkpoint
from tests.support.other_architectures import OTHERS
from tests.support.tiny_checkpoints import VOCABULARY, tiny_of_type

KIND = EngineKind.TRANSFORMERS
REQUESTS = random_requests(5, vocabulary=VOCABULARY, count=3, longest=40)
QUICK = ("gemma3_text", "gpt_oss", "qwen3_moe", "gpt2", "falcon", "opt")
"""Windows, sinks, experts beside a dense layer, and stacks that are not called `layers`."""


def check_family(folder: Path, model_type: str, n_paths: int) -> None:
    checkpoint = family_checkpoint(folder / "source", model_type)
    n_layers = layers_of(checkpoint)
    rng = random.Random(model_type)
    paths = [tuple(rng.choices(range(n_layers), k=rng.randint(2, n_layers + 2))) for _ in range(n_paths)]
    prompts = prompts_of(REQUESTS[:2], new=4)
    with opened(KIND, checkpoint, EngineTuning(threads=1, live=True)) as engine:
        before = scored(engine, REQUESTS)
        live = []
        for path in paths:
            engine.set_layer_path(path)
            live.append((scored(engine, REQUESTS), generated(engine, prompts)))
        engine.set_layer_path(None)
        assert scored(engine, REQUESTS) == before
    for number, (path, (scores, texts)) in enumerate(zip(paths, live, strict=True)):
        built = folder / str(number)
        write_layer_path(checkpoint, path, built)
        with opened(KIND, built) as engine:
            assert largest_difference(scores, scored(engine, REQUESTS)) < TOLERANCE
            assert texts == generated(engine, prompts)


@pytest.mark.parametrize("model_type", QUICK)
def test_live_paths_equal_built_checkpoints(tmp_path: Path, model_type: str) -> None:
    check_family(tmp_path, model_type, 1)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", FAMILIES)
def test_live_paths_of_all_families(tmp_path: Path, model_type: str) -> None:
    check_family(tmp_path, model_type, 5)


def test_layers_with_experts_and_latent_states_move() -> None:
    """DeepSeek's first layer has no experts, and its KV cache holds latent states."""
    cell = measure_family("deepseek_v3", 2, ("transformers",)).transformers
    assert cell is not None
    assert cell.right


def test_a_path_that_transformers_does_not_run_is_refused_by_name(tmp_path: Path) -> None:
    """Without one layer with attention, LFM2's states have no length."""
    checkpoint = random_checkpoint(tmp_path, "lfm2", OTHERS["lfm2"])
    with opened(KIND, checkpoint, EngineTuning(threads=1, live=True)) as engine:
        engine.set_layer_path((0, 1))
        with pytest.raises(
            EngineError, match=r"cannot run .* on the layer path \(0, 1\): .*Attention layers"
        ):
            generated(engine, prompts_of(REQUESTS[:1], new=4))
        engine.set_layer_path((0, 2))
        assert generated(engine, prompts_of(REQUESTS[:1], new=4))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", OTHERS)
def test_architectures_that_no_list_names_are_right_or_refused(model_type: str) -> None:
    cell = measure_family(model_type, 8, ("transformers",)).transformers
    assert cell is not None
    assert cell.refusal or cell.right


def test_a_model_whose_layers_depend_on_their_place_is_scored_and_its_paths_are_refused(
    tmp_path: Path,
) -> None:
    """GPT-Neo keeps window and rotary kinds in a list of its own, which no path follows."""
    checkpoint = tiny_of_type(
        tmp_path,
        "gpt_neo",
        dtype="float32",
        num_layers=4,
        attention_types=[[["global", "local"], 2]],
        num_heads=2,
        window_size=4,
    )
    with opened(KIND, checkpoint) as engine:
        before = scored(engine, REQUESTS)
        for _ in range(2):
            with pytest.raises(UnsupportedArchitecture, match=r"GPTNeoForCausalLM.*build the path"):
                engine.set_layer_path((0, 1, 1, 2, 3))
        engine.set_layer_path(None)
        assert scored(engine, REQUESTS) == before
    with (
        pytest.raises(UnsupportedArchitecture, match="GPTNeoForCausalLM"),
        opened(KIND, checkpoint, EngineTuning(threads=1, live=True)),
    ):
        pass


def test_layers_that_are_constructed_differently_in_another_place_are_refused(tmp_path: Path) -> None:
    """DiffLlama computes a factor of its attention from the layer's number; no call of a layer shows it."""
    checkpoint = tiny_of_type(
        tmp_path, "diffllama", dtype="float32", num_attention_heads=4, num_key_value_heads=2
    )
    with (
        pytest.raises(
            UnsupportedArchitecture, match=r"DiffLlama.*lambda_init of layer \d depends on its place"
        ),
        opened(KIND, checkpoint, EngineTuning(threads=1, live=True)),
    ):
        pass


def test_attention_scaled_by_the_layers_number_is_refused(tmp_path: Path) -> None:
    checkpoint = tiny_of_type(tmp_path, "gpt2", dtype="float32", scale_attn_by_inverse_layer_idx=True)
    with opened(KIND, checkpoint) as engine:
        assert scored(engine, REQUESTS)
        with pytest.raises(UnsupportedArchitecture, match="scale_attn_by_inverse_layer_idx"):
            engine.set_layer_path((0, 1))


def test_the_listed_families_are_those_that_tests_compare() -> None:
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    for model_type in FAMILIES:
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]].__name__
        assert untested_family(model_type, architecture, kind=KIND, cpu=True) is None
