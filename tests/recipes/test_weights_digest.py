"""The digest of a checkpoint's weights: what it covers, what it leaves out, and when a kept hash is believed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from recipes import checkpoint_files, file_hash
from recipes.checkpoint import weights_digest
from recipes.errors import CheckpointError
from tests.support.source_checkpoint import source
from tests.support.tiny_checkpoints import tiny_checkpoint

__all__ = ["source"]


@pytest.fixture
def hashes_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were just written are not cached, because they may change again unseen; here they are."""
    monkeypatch.setattr(file_hash, "_RACY_S", -1.0)


def test_the_digest_covers_what_affects_results(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    source = tiny_checkpoint(tmp_path / "source")
    first = weights_digest(source, cache)
    (source / "README.md").write_text("a card")
    assert weights_digest(source, cache) == first
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    assert weights_digest(copy, cache) == first
    seen = {first}
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "model.safetensors",
    ):
        changed = tmp_path / f"changed-{name}"
        shutil.copytree(source, changed)
        with (changed / name).open("ab") as stream:
            stream.write(b" ")
        seen.add(weights_digest(changed, cache))
    (copy / "chat_template.jinja").write_text("x")
    seen.add(weights_digest(copy, cache))
    assert len(seen) == 7


@pytest.mark.usefixtures("hashes_kept")
def test_hashes_are_kept_and_a_change_is_seen(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    real = file_hash._stream_hash
    monkeypatch.setattr(
        file_hash, "_stream_hash", lambda path, *more: (read.append(path), real(path, *more))[1]
    )
    first = weights_digest(source, tmp_path / "cache")
    files = len(read)
    assert files >= 5
    assert weights_digest(source, tmp_path / "cache") == first
    assert len(read) == files
    shard = source / "model-00001-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)  # the same size, another time
    assert weights_digest(source, tmp_path / "cache") != first
    assert len(read) == files + 1


def test_a_file_that_may_still_change_is_not_kept(source: Path, tmp_path: Path) -> None:
    weights_digest(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.json"))


@pytest.mark.usefixtures("hashes_kept")
def test_a_damaged_or_unwritable_cache_only_costs_time(source: Path, tmp_path: Path) -> None:
    first = weights_digest(source, tmp_path / "cache")
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text("{")
    assert weights_digest(source, tmp_path / "cache") == first
    (tmp_path / "file").write_text("")
    assert weights_digest(source, tmp_path / "file" / "cache") == first


def test_a_file_named_like_a_blob_of_the_hub_is_read(tmp_path: Path) -> None:
    blob = tmp_path / "models--a--b" / "blobs" / ("ab" * 32)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"something else")
    (tmp_path / "model.safetensors").symlink_to(blob)
    expected = hashlib.sha256(b"something else").hexdigest()
    assert file_hash.file_sha256(tmp_path / "model.safetensors") == expected


@pytest.mark.usefixtures("hashes_kept")
def test_an_edit_that_sets_the_time_back_is_seen(source: Path, tmp_path: Path) -> None:
    shard = source / "model-00001-of-00002.safetensors"
    first = weights_digest(source, tmp_path / "cache")
    before = shard.stat()
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    with shard.open("r+b") as stream:  # the same inode and size
        stream.write(data)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (shard.stat().st_mtime_ns, shard.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert weights_digest(source, tmp_path / "cache") != first


@pytest.mark.parametrize(
    "name",
    [
        "modeling_custom.py",
        "tekken.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "preprocessor_config.json",
        "some.tiktoken",
        "additional_chat_templates/tool_use.jinja",
        "code/more.py",
    ],
)
def test_every_file_that_a_loader_opens_is_covered(name: str, source: Path, tmp_path: Path) -> None:
    first = weights_digest(source, tmp_path / "cache")
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text("x")
    second = weights_digest(source, tmp_path / "cache")
    (source / name).write_text("y")
    assert len({first, second, weights_digest(source, tmp_path / "cache")}) == 3


def test_the_index_is_covered(source: Path, tmp_path: Path) -> None:
    first = weights_digest(source, tmp_path / "cache")
    index = source / "model.safetensors.index.json"
    stored = json.loads(index.read_text())
    index.write_text(json.dumps({**stored, "metadata": {"total_size": 1}}))
    assert weights_digest(source, tmp_path / "cache") != first


@pytest.mark.parametrize(
    "name", ["README.md", "mergekit_config.yml", "LICENSE", ".gitattributes", "a.gguf", "training_args.bin"]
)
def test_files_that_no_loader_opens_change_nothing(name: str, source: Path, tmp_path: Path) -> None:
    first = weights_digest(source, tmp_path / "cache")
    (source / name).write_text("x")
    assert weights_digest(source, tmp_path / "cache") == first


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.fp16.safetensors", "would not load the same weights"),
        ("consolidated.safetensors", "would not load the same weights"),
        ("adapter_config.json", "LoRA adapter"),
    ],
)
def test_a_directory_that_loaders_read_differently_is_refused(
    name: str, message: str, shards: int, tmp_path: Path
) -> None:
    source = tiny_checkpoint(tmp_path / "source", shards=shards)
    (source / name).write_text("{}")
    with pytest.raises(CheckpointError, match=message):
        weights_digest(source, tmp_path / "cache")


def test_a_single_file_beside_an_index_is_refused(source: Path, tmp_path: Path) -> None:
    shutil.copy(source / "model-00001-of-00002.safetensors", source / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not name"):
        weights_digest(source, tmp_path / "cache")


def test_a_folder_of_countless_files_is_no_checkpoint(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_files, "MAX_FILES", 20)
    (source / "cache").mkdir()
    for number in range(21):
        (source / "cache" / str(number)).write_text("")
    with pytest.raises(CheckpointError, match="too many for a checkpoint"):
        weights_digest(source, tmp_path / "cache")


def test_digest_of_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a checkpoint directory"):
        weights_digest(tmp_path / "missing", tmp_path)
    source = tiny_checkpoint(tmp_path / "source", shards=2)
    (source / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights_digest(source, tmp_path)
