"""Bad input at the command line: one sentence, exit code 2, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli

GOOD = "name: s\nbase: {base}\nrecipes: ['(1, 2)']\nsuites: [smoke]\nengines: [transformers]\n"


def files(home: Path) -> list[Path]:
    """What counts as written: neither cached hashes nor SQLite's own side files."""
    return sorted(
        p
        for p in home.rglob("*")
        if "cache" not in p.parts and p.suffix not in (".sqlite-wal", ".sqlite-shm")
    )


@pytest.fixture
def refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command that must be refused; its sentence."""

    def run(*words: str) -> str:
        before = files(home)
        monkeypatch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        assert caught.value.code == 2, output
        assert files(home) == before
        sentence = output.err.strip()
        assert "Traceback" not in sentence
        assert len(sentence.splitlines()) == 1, sentence
        return sentence

    return run


def sweep(tmp_path: Path, base: Path | str, *change: str) -> str:
    path = tmp_path / "s.yaml"
    text = GOOD.format(base=base)
    if change:
        assert change[0] in text
        text = text.replace(*change)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("suites:", "suties:"), ["s.yaml:4", "did you mean `suites`"]),
        (("(1, 2)", "(1, 9)"), ["(1, 9)"]),
        (("[smoke]", "[smokey]"), ["smokey"]),
        (("[smoke]", "[{suite: smoke, benchmarks: [nothing]}]"), ["nothing", "bbh"]),
        (("[transformers]", "[llama.cpp]"), ["engines"]),
        (("'(1, 2)'", "{file: none.yaml}"), ["none.yaml"]),
        (("'(1, 2)'", "{catalog: none}"), ["no recipe 'none'"]),
        (("'(1, 2)'", "{name: base, layer_path: '(1, 2)'}"), ["two recipes are called 'base'"]),
    ],
)
def test_sweeps(
    refused: Callable[..., str], tmp_path: Path, tiny_llama: Path, change: tuple[str, str], words: list[str]
) -> None:
    for command in ("plan", "run"):
        sentence = refused(command, sweep(tmp_path, tiny_llama, *change))
        for word in words:
            assert word in sentence


def test_a_checkpoint_that_is_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere" in refused("run", sweep(tmp_path, tmp_path / "nowhere"))
    assert "demo/Nothing" in refused("run", sweep(tmp_path, "demo/Nothing"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refused("run", sweep(tmp_path, empty))


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01\x02", b"- 1\n", b"a: !!python/name:os.system\n", b"x: &x [*x]\n"]
)
def test_files_that_are_no_sweep(refused: Callable[..., str], tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(data)
    assert "broken.yaml" in refused("run", str(path))
    assert "broken.yaml" in refused("plan", str(path))


def test_a_store_of_a_newer_version(
    refused: Callable[..., str], tmp_path: Path, tiny_llama: Path, home: Path
) -> None:
    import sqlite3

    from orchestrator.store import Store

    url = f"sqlite:///{home}/store.sqlite"
    Store.open(url).close()
    with sqlite3.connect(home / "store.sqlite") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    assert "newer" in refused("run", sweep(tmp_path, tiny_llama))


def test_unknown_runs_and_candidates(refused: Callable[..., str], home: Path) -> None:
    assert "no store" in refused("status", "nothing")
    from orchestrator.store import Store

    Store.open(f"sqlite:///{home}/store.sqlite").close()
    assert "nothing" in refused("compare", "nothing")
    assert "nothing" in refused("card", "nothing")


def test_two_different_bases(refused: Callable[..., str], tmp_path: Path, tiny_llama: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(GOOD.format(base=tiny_llama) + f"base: {tmp_path}\n")
    assert "the key 'base' twice" in refused("run", str(path))


def test_help_answers_without_heavy_imports() -> None:
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    for command in ("plan", "run", "eval", "build", "compare", "card", "doctor", "dashboard"):
        assert command in result.output


def test_a_full_disk(refused: Callable[..., str], tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two MiB: too few for the embedded checkpoint's tokenizer."""
    monkeypatch.setenv("MERGEBOARD_HOME", str(tiny_disk / "home"))
    sentence = refused("eval", "demo/SmolLM2-135M-Instruct", "--suite", "smoke")
    assert "No space left on device" in sentence
    assert "MERGEBOARD_HOME" in sentence
    assert sum(path.stat().st_size for path in tiny_disk.rglob("*") if path.is_file()) == 0
