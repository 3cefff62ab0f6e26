"""The files that a page is going to need are named in its first answer."""

from __future__ import annotations

from pathlib import Path

import streamlit

from dashboard.early import early_files


def test_tables_and_all_that_they_import_are_named() -> None:
    folder = Path(streamlit.__file__).parent / "static" / "static" / "js"
    found = early_files(folder)
    assert any(name.startswith("DataFrame.") for name in found)
    assert len(found) > 20
    assert all((folder / name).is_file() for name in found)
    assert not any(name.startswith("PlotlyChart.") for name in found)


def test_what_has_another_name_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "DataFrame.abc.js").write_text('import{a}from"./arrow.1.js";import"./gone.js";')
    (tmp_path / "arrow.1.js").write_text('import {b} from "./DataFrame.abc.js"')
    (tmp_path / "other.js").write_text("")
    assert set(early_files(tmp_path)) == {"DataFrame.abc.js", "arrow.1.js"}
    assert early_files(tmp_path / "nothing") == ()
