"""A pinned checkpoint is asked again whether it is what was pinned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from recipes.checkpoint import weights_digest
from recipes.errors import CheckpointChanged, CheckpointError
from recipes.sources import pin, resolve
from recipes.verification import verified_source
from tests.recipes.test_sources import at
from tests.support.hub_server import COMMIT, HubServer, running
from tests.support.tiny_checkpoints import tiny_checkpoint


def flip_last_byte(path: Path) -> None:
    """Change a file in place and set its time back."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_local_checkpoint_that_was_changed_is_refused(tmp_path: Path, home: Path) -> None:
    source = tiny_checkpoint(tmp_path / "tiny")
    pinned = pin(str(source), None, home=home)
    assert verified_source(pinned.reference, pinned.weights_digest, home=home) == source
    flip_last_byte(source / "model.safetensors")
    with pytest.raises(CheckpointChanged, match="does not hold what was planned"):
        verified_source(pinned.reference, pinned.weights_digest, home=home)
    flip_last_byte(source / "model.safetensors")
    assert verified_source(pinned.reference, pinned.weights_digest, home=home) == source


def test_a_file_that_was_added_is_a_change(tmp_path: Path, home: Path) -> None:
    source = tiny_checkpoint(tmp_path / "tiny")
    pinned = pin(str(source), None, home=home)
    (source / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(CheckpointChanged):
        verified_source(pinned.reference, pinned.weights_digest, home=home)


def test_a_checkpoint_that_is_gone_is_missing_and_not_changed(tmp_path: Path, home: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a directory"):
        verified_source(str(tmp_path / "gone"), "0" * 64, home=home)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with running() as server:
        at(server.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "own-cache"))
        server.repositories["org/model"] = tiny_checkpoint(tmp_path / "served")
        yield server


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_snapshot_of_the_hub_that_was_changed_is_refused(name: str, hub: HubServer, home: Path) -> None:
    reference = f"org/model@{COMMIT}"
    directory = verified_source(reference, reference, home=home)
    assert (directory / name).is_symlink()
    assert verified_source(reference, reference, home=home) == directory
    flip_last_byte(directory / name)
    with pytest.raises(CheckpointChanged, match=r"is not the file of org/model"):
        verified_source(reference, reference, home=home)


def test_a_cache_without_links_is_compared_with_its_first_use(hub: HubServer, home: Path) -> None:
    reference = f"org/model@{COMMIT}"
    directory = resolve(reference, None, home=home)
    for path in directory.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    verified_source(reference, reference, home=home)
    flip_last_byte(directory / "model.safetensors")
    with pytest.raises(CheckpointChanged):
        verified_source(reference, reference, home=home)


def test_an_adapter_has_a_digest(tmp_path: Path, home: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    first = weights_digest(adapter, home)
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    assert weights_digest(adapter, home) != first
