"""The tokenizer's default and `add_bos_token=False` are one thing for a tokenizer that adds no BOS, and two for one that does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.claims.facts import TOKENIZERS_DEFAULT, Fact, Facts
from evals.results_files.parse import read_result_file
from orchestrator.compare import Side
from orchestrator.compare.bos import Group, with_known_defaults
from orchestrator.compare.sides import compare_names
from orchestrator.exchange.imports import import_path
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.orchestrator.exchange.test_imports import answers, gained, run_folder
from tests.support.board_files import board_v2, right_answers, write
from tests.support.claim_data import imported_result
from tests.support.tiny_checkpoints import tiny_checkpoint

MODEL_ARGS = "pretrained={place},dtype=bfloat16,trust_remote_code=False"


def checkpoint(folder: Path, *, adds: str | None) -> Path:
    """A tiny checkpoint whose tokenizer adds BOS, or an end token, or nothing."""
    path = tiny_checkpoint(folder)
    file = path / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    token = {"id": "<|endoftext|>", "type_id": 0}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    order = {"bos": [{"SpecialToken": token}, text], "end": [text, {"SpecialToken": token}]}
    if adds is not None:
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": order[adds],
            "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
            },
        }
    file.write_text(json.dumps(tokenizer))
    return path


@pytest.mark.parametrize(
    ("adds", "given", "compared"),
    [
        (None, "False", True),
        (None, "True", False),
        ("bos", "False", False),
        ("bos", "True", True),
        ("end", "False", False),
    ],
)
@pytest.mark.parametrize("default_is_base", [True, False])
def test_a_run_that_says_nothing_of_bos_is_held_against_one_that_does(
    tmp_path: Path, home: Path, adds: str | None, given: str, compared: bool, default_is_base: bool
) -> None:
    place = checkpoint(tmp_path / "tiny", adds=adds)
    settings = Settings.from_environment()
    ids = []
    for name, more in (("default", ""), ("given", f",add_bos_token={given}")):
        right = answers() if name == "default" else gained(answers())
        folder = run_folder(tmp_path / name, right)
        (file,) = folder.glob("results_*.json")
        data = json.loads(file.read_text())
        data["config"]["model_args"] = MODEL_ARGS.format(place=place) + more
        data |= {"model_name": str(place), "lm_eval_version": "0.4.13"}
        file.write_text(json.dumps(data))
        ids.append(import_path(folder, settings).runs[0].run.id)
    base, candidate = ids if default_is_base else reversed(ids)
    with Store.open(settings.database_url, read_only=True) as store:
        (found,) = compare_names(store, [candidate], base, home)
    (row,) = found.rows
    assert (row.delta is not None) is compared, row.refused
    assert any("BOS token" in reason for reason in row.refused) is not compared


def side(value: str, checkpoint: str) -> Side:
    measurement = imported_result().measurement
    facts = Facts(known={**measurement.facts.known, Fact.BOS: value})
    return Side(measurement.model_copy(update={"facts": facts, "checkpoint": checkpoint}))


def test_a_hub_name_is_resolved_by_the_commit_that_the_other_side_has(tmp_path: Path, home: Path) -> None:
    """lm-eval writes `org/model`; ours is pinned, and its tokenizer lies in a cache of the hub."""
    commit = "1605565b47bb9346c5515c34102e054115b4f98b"
    snapshot = home / "hub" / "models--org--model" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    checkpoint(tmp_path / "tiny", adds=None).rename(snapshot)
    for weights in snapshot.glob("*.safetensors"):
        weights.unlink()
    ours = Group((side("off", "base"),), (f"org/model@{commit}",))
    stock = Group((side(TOKENIZERS_DEFAULT, "org/model"),), ("org/model",))
    unknown = Group((side(TOKENIZERS_DEFAULT, "org/other"),), ("org/other",))
    found = with_known_defaults([ours, stock, unknown], home)
    assert [s.measurement.facts.get(Fact.BOS) for (s,) in found] == ["off", "off", TOKENIZERS_DEFAULT]
    # Where nobody says on or off, defaults stay what they are.
    assert with_known_defaults([stock, unknown], home) == [list(stock.sides), list(unknown.sides)]


@pytest.mark.parametrize(
    ("version", "name", "value"),
    [
        ("0.4.13", "org/model", TOKENIZERS_DEFAULT),
        ("0.4.9.2", "org/model", TOKENIZERS_DEFAULT),
        ("0.5.0.dev0", "org/gemma", TOKENIZERS_DEFAULT),
        ("unknown", "org/model", TOKENIZERS_DEFAULT),
        ("0.4.9.1", "org/model", "off"),
        ("0.4.9", "org/model", "off"),
        ("0.4.5", "google/gemma-2-2b", "on"),
        # The second board's own fork wrote no version.
        (None, "org/model", "off"),
        (None, "google/gemma-2-2b", "on"),
    ],
)
def test_what_a_file_without_add_bos_token_means_depends_on_its_version(
    tmp_path: Path, version: str | None, name: str, value: str
) -> None:
    data = board_v2(right_answers(), model_name=name, **({"lm_eval_version": version} if version else {}))
    assert read_result_file(write(tmp_path, data)).facts.get(Fact.BOS) == value
