"""`mergeboard db check` lists what is wrong with a store, its samples and its artifacts, one line each."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from evals.suite import load_suite
from orchestrator import cli
from orchestrator.run.store_check import Checked, CheckedPart, check_store
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.artifact import ArtifactStore
from tests.support.demo_stores import Maker
from tests.support.made_results import Made, block

ARTIFACT = "0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a store of two candidates, four samples files, and one artifact."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MERGEBOARD_HOME", str(folder))
    monkeypatch.setenv("MERGEBOARD_DATABASE_URL", url)
    suite = load_suite("smoke")
    short = suite.model_copy(update={"benchmarks": suite.benchmarks[:2]})
    with Store.open(url) as store:
        Maker(store, folder, short, n=4, whole=False).run((Made("base"), block(12, 14)))
    ArtifactStore(folder / "artifacts").build(ARTIFACT, _write_config, meta={})
    return folder


def _write_config(directory: Path) -> None:
    (directory / "config.json").write_text("{}")


def checked() -> Checked:
    done = Checked()
    told: list[tuple[str, int, int]] = []
    faults = list(check_store(Settings.from_environment(), done, lambda *each: told.append(each)))
    assert faults == done.faults
    assert told
    return done


def test_a_whole_store_is_fine(home: Path) -> None:
    done = checked()
    assert (done.samples, done.artifacts, done.faults) == (4, 1, [])
    shown = CliRunner().invoke(cli.app, ["db", "check"])
    assert shown.exit_code == 0
    assert "is fine: the schema, 4 samples files, 1 artifacts" in shown.output


def test_one_altered_and_one_missing_samples_file_are_named(home: Path, url: str) -> None:
    with Store.open(url) as store:
        paths = [home / e.samples_path for e in store.evaluations(store.evaluated()).values()]
    altered, gone = paths[0], paths[1]
    times = altered.stat()
    data = bytearray(altered.read_bytes())
    data[len(data) // 2] ^= 1
    altered.write_bytes(data)
    os.utime(altered, ns=(times.st_atime_ns, times.st_mtime_ns))
    gone.unlink()
    shown = CliRunner().invoke(cli.app, ["db", "check"])
    assert shown.exit_code == 1
    lines = shown.output.splitlines()
    assert len(lines) == 3
    assert any(str(altered) in line and "sha256 differs" in line for line in lines)
    assert any(str(gone) in line and "are gone" in line for line in lines)
    told = json.loads(CliRunner().invoke(cli.app, ["db", "check", "--json"]).output)
    assert (told["ok"], told["samples"], [f["part"] for f in told["faults"]]) == (False, 4, ["samples"] * 2)


def test_altered_foreign_and_cut_artifact_files_are_named(home: Path) -> None:
    manifest = home / "artifacts" / ARTIFACT / "manifest.json"
    config = next((home / "artifacts" / ARTIFACT).rglob("config.json"))
    used_at = manifest.stat().st_mtime_ns
    config.write_text("[]")
    assert "is not what was built" in checked().faults[0].message
    config.write_text("{}")
    assert checked().faults == []
    (config.parent / "tokenizer.json").write_text("{}")
    assert "was not part of what was built" in checked().faults[0].message
    (config.parent / "tokenizer.json").unlink()
    config.write_text("")
    assert "no whole artifact" in checked().faults[0].message
    assert manifest.stat().st_mtime_ns == used_at, "a check is no use"


def test_a_schema_that_is_not_the_codes_is_a_fault(home: Path, url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE cats (name TEXT)"))
    faults = checked().faults
    assert [fault.part for fault in faults] == [CheckedPart.SCHEMA]
    assert "cats" in faults[0].message
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    engine.dispose()
    (fault,) = checked().faults
    assert "mergeboard db upgrade" in fault.message
    assert CliRunner().invoke(cli.app, ["db", "check"]).exit_code == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_damaged_file_is_a_fault(home: Path, url: str) -> None:
    file = Path(url.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM jobs WHERE digest IN (SELECT job_digest FROM evaluations LIMIT 1)")
    connection.close()
    assert any("refers to a row of" in fault.message for fault in checked().faults)
