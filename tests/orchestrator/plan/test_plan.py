"""Plans: what is built and what is only switched to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.plan.candidate import Candidate
from orchestrator.plan.plan import make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.settings import Settings
from tests.support.tiny_checkpoints import tiny_checkpoint

SWEEP = """\
name: s
base: {base}
recipes:
  - name: stacked
    mergekit:
      merge_method: passthrough
      dtype: bfloat16
      slices:
        - sources: [{{model: {base}, layer_range: [0, 3]}}]
        - sources: [{{model: {base}, layer_range: [1, 4]}}]
suites: [smoke]
engines: [transformers]
"""


def stacked(base: Path) -> Candidate:
    file = parse_sweep(SWEEP.format(base=base).encode(), origin="s.yaml", folder=base.parent)
    plan = make_plan(file, Settings.from_environment())
    return plan.candidates[1]


@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_a_recipe_that_names_a_dtype_is_a_layer_path_where_all_weights_have_it(
    tmp_path: Path, home: Path, stored: str
) -> None:
    """The stored weights decide, not what the config says of them."""
    base = tiny_checkpoint(tmp_path / "base", dtype=stored)
    config = json.loads((base / "config.json").read_text())
    for key in ("dtype", "torch_dtype"):
        config.pop(key, None)
    (base / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    made = stacked(base)
    if stored == "bfloat16":
        assert made.layer_path == (0, 1, 2, 1, 2, 3)
        assert made.build is None
    else:
        assert made.layer_path is None
        assert made.build is not None
