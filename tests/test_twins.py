"""recipes and evals are leaves that do not know each other: what both need stands in each, and is the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recipes.atomic_file import atomic_file, write_file

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["outside_file.py", "atomic_file.py"])
def test_twins_are_the_same(name: str) -> None:
    assert (ROOT / "recipes" / name).read_text() == (ROOT / "evals" / name).read_text()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_file(path, "first – ü")
    assert path.read_text(encoding="utf-8") == "first – ü"
    path.chmod(0o640)
    write_file(path, b"second", sync=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"second", 0o640)
    with pytest.raises(ZeroDivisionError), atomic_file(path) as draft:
        draft.write_text(f"third {1 // (draft.write_text('half') - 4)}")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["file.txt"]


def test_nothing_else_replaces_files() -> None:
    allowed = {"recipes/atomic_file.py", "evals/atomic_file.py"}
    for folder in ("recipes", "evals", "orchestrator", "dashboard"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            text = path.read_text()
            assert name in allowed or not any(
                sign in text for sign in ("os.replace(", "os.rename(", "draft.replace(", "aside.replace(")
            ), name
