"""The table of model families: what its cells say, and that the page is written anew around the text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import families
from benchmarks.families import Cell, FamilyResult, paths_of, read_results, table_row

ROW = FamilyResult(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    built="60 of 60 paths",
    transformers=Cell(paths=60, texts=120),
    vllm=Cell(paths=60, largest=2.1e-6, texts=120, ties=1, parted=2, way="own passes"),
)


def test_a_row_says_what_was_run() -> None:
    assert table_row(ROW) == (
        "| `mixtral` | live in transformers and vLLM | 60 of 60 paths | 60 paths, 0e+00 | 60 paths, 2e-06, 1 ties in 120 texts, "
        "**2 texts differ** (own passes) | not run |"
    )
    refused = ROW.model_copy(update={"vllm": Cell(refusal="its layers | differ")})
    assert "no: its layers / differ" in table_row(refused)
    assert table_row(ROW.model_copy(update={"vllm": None})).endswith("| not run | not run |")


def test_the_table_replaces_the_one_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, page = tmp_path / "r.json", tmp_path / "page.md"
    results.write_text(json.dumps({"mixtral": ROW.model_dump()}), encoding="utf-8")
    page.write_text(f"before\n{families.START}\nold\n{families.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["families", "--results", str(results), "--write", str(page)])
    families.main()
    lines = page.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert table_row(ROW) in lines
    assert "old" not in lines
    assert read_results(results) == {"mixtral": ROW}


def test_paths_are_of_every_kind_and_fit_the_slots() -> None:
    paths = paths_of(4, 60)
    assert len(paths) == 60
    assert any(len(path) > 4 for path in paths)
    assert any(len(path) < 4 for path in paths)
    assert max(map(len, paths)) <= 8
