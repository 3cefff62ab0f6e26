"""What no checkpoint can hold is said from config and tensor names, as the build says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.checkpoint import Checkpoint
from recipes.config_facts import read_config
from recipes.errors import BuildError
from recipes.layer_order import order_obstacle
from recipes.relayer import write_layer_path
from tests.support.tiny_checkpoints import tiny_checkpoint

PATH = (0, 1, 2, 1, 2, 3)


def obstacle(checkpoint: Path, names: list[str] | None = None) -> str | None:
    stored = [tensor.name for tensor in Checkpoint.open(checkpoint).tensors]
    config = read_config(checkpoint / "config.json")
    return order_obstacle(config, stored if names is None else names, PATH, str(checkpoint))


@pytest.mark.parametrize(
    "config",
    [{"moe_layer_freq": 2}, {"num_kv_shared_layers": 1}, {"first_k_dense_replace": 2}],
    ids=lambda config: next(iter(config)),
)
def test_a_plan_refuses_what_the_build_refuses(tmp_path: Path, config: dict[str, int]) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "source", config=config)
    reason = obstacle(checkpoint)
    assert reason is not None
    with pytest.raises(BuildError) as raised:
        write_layer_path(checkpoint, PATH, tmp_path / "built")
    assert str(raised.value) == reason


def test_names_tell_stacks_and_kinds_of_layers(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "source")
    names = [tensor.name for tensor in Checkpoint.open(checkpoint).tensors]
    assert obstacle(checkpoint) is None
    assert obstacle(checkpoint, []) is None
    tower = [f"vision_tower.layers.{layer}.mlp.weight" for layer in range(2)]
    assert "2 stacks of layers" in str(obstacle(checkpoint, names + tower))
    dense_first = [name.replace("layers.0.mlp", "layers.0.dense") for name in names]
    assert "no list that says which layer" in str(obstacle(checkpoint, dense_first))
