"""The tables of model families: what their cells say, and that the page is written anew around the text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import families
from benchmarks.families import FamilyResult, read_results, table_of_others, table_row
from benchmarks.family_cells import Cell, paths_of

ROW = FamilyResult(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    built="60 of 60 paths",
    transformers=Cell(paths=60, texts=120),
    vllm=Cell(
        paths=60, largest=2.1e-6, texts=120, ties=1, parted=2, way="own passes", change_ms=0.5, grown_mib=0.1
    ),
)


def test_a_row_says_what_was_run() -> None:
    assert table_row(ROW) == (
        "| `mixtral` | live in transformers and vLLM | 60 of 60 paths | 60 paths, 0e+00 | 60 paths, 2e-06, 1 ties in 120 texts, "
        "**2 texts differ** (own passes) | 0.50 ms, +0.1 MiB | not run |"
    )
    refused = ROW.model_copy(update={"vllm": Cell(refusal="its layers | differ")})
    assert "no: its layers / differ" in table_row(refused)
    assert table_row(ROW.model_copy(update={"vllm": None})).endswith("| not run |  | not run |")


def test_a_cell_is_right_only_if_every_path_is() -> None:
    assert Cell(paths=60, largest=9e-4).right
    assert not Cell(paths=60, largest=2e-3).right
    assert not Cell(paths=60, parted=1).right
    assert not Cell(refusal="it has no stack").right


def test_the_tables_replace_those_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    results.mkdir()
    for column in ("transformers", "vllm"):
        part = ROW.model_dump(include={"model_type", "architecture", "built", column})
        (results / f"mixtral.{column}.json").write_text(json.dumps(part), encoding="utf-8")
    other = FamilyResult(
        model_type="arcee", architecture="ArceeForCausalLM", built="8 of 8 paths", transformers=Cell(paths=8)
    )
    (results / "arcee.transformers.json").write_text(other.model_dump_json(), encoding="utf-8")
    page.write_text(
        f"before\n{families.START}\nold\n{families.END}\nbetween\n{families.OTHERS_START}\nold\n{families.OTHERS_END}\nafter\n",
        encoding="utf-8",
    )
    monkeypatch.setitem(families.OTHERS, "arcee", {})
    monkeypatch.setattr("sys.argv", ["families", "--results", str(results), "--write", str(page)])
    families.main()
    lines = page.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert table_row(ROW) in lines
    assert table_of_others([other]).splitlines()[-1] in lines
    assert "old" not in lines
    assert read_results(results, ["mixtral", "llama"]) == [ROW]


def test_paths_are_of_every_kind_and_fit_the_slots() -> None:
    paths = paths_of(4, 60)
    assert len(paths) == 60
    assert any(len(path) > 4 for path in paths)
    assert any(len(path) < 4 for path in paths)
    assert max(map(len, paths)) <= 8
