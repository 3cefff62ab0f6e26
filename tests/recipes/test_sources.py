"""Names of checkpoints: pinned, described without weights, resolved; against a hub that runs on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from recipes.checkpoint import Checkpoint
from recipes.errors import CheckpointError
from recipes.hub import _check_reachable
from recipes.sources import FactsOrigin, PinnedSource, describe, parse, pin, read_facts, resolve
from tests.support.hub_server import COMMIT, HubServer, running
from tests.support.time_bound import wall_bound
from tests.support.tiny_checkpoints import tiny_checkpoint

REPO = "someone/tiny-llama"


def at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does to a new process."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    _check_reachable.cache_clear()


@pytest.fixture
def hub(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with running() as server:
        server.repositories[REPO] = tiny_llama
        at(server.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "own-cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


def test_a_local_directory_is_pinned_by_its_weights(tmp_path: Path, home: Path) -> None:
    one, two = (tiny_checkpoint(tmp_path / name, seed=1) for name in ("one", "two"))
    other = tiny_checkpoint(tmp_path / "other", seed=2)
    first = pin(str(one), None, home=home)
    assert first.reference == str(one)
    assert first.weights_digest == pin(str(two), None, home=home).weights_digest
    assert first.weights_digest != pin(str(other), None, home=home).weights_digest
    assert resolve(first.reference, None, home=home) == one


def test_a_directory_with_an_at_sign_is_a_directory(tmp_path: Path, home: Path) -> None:
    odd = tiny_checkpoint(tmp_path / "a@b")
    assert resolve(str(odd), None, home=home) == odd
    assert describe(pin(str(odd), None, home=home), home=home).config.n_layers == 4


def test_facts_come_from_headers(tiny_llama: Path, home: Path) -> None:
    facts = read_facts(parse(str(tiny_llama), None), home=home)
    checkpoint = Checkpoint.open(tiny_llama)
    assert facts.known_from is FactsOrigin.HEADERS
    assert facts.parameters == checkpoint.parameters == checkpoint.config.parameters()
    assert facts.layer_parameters == checkpoint.config.layer_parameters
    assert facts.parameters_of(6) == checkpoint.config.parameters(6)
    assert facts.size_bytes == checkpoint.size_bytes
    assert facts.has_chat_template


def test_the_embedded_name(demo_checkpoint: Path) -> None:
    home = demo_checkpoint.parents[2]
    assert resolve("demo/SmolLM2-135M-Instruct", None, home=home) == demo_checkpoint
    assert pin("demo/SmolLM2-135M-Instruct", None, home=home).reference == "demo/SmolLM2-135M-Instruct"


def test_a_repository_is_pinned_to_a_commit(hub: HubServer, home: Path) -> None:
    pinned = pin(REPO, None, home=home)
    assert pinned.reference == pinned.weights_digest == f"{REPO}@{COMMIT}"
    assert pin(REPO, "main", home=home) == pinned
    asked = len(hub.requests)
    assert pin(pinned.reference, None, home=home) == pinned
    assert len(hub.requests) == asked


def test_a_repository_is_described_without_its_weights(hub: HubServer, tmp_path: Path, home: Path) -> None:
    big = tiny_checkpoint(tmp_path / "big", hidden=256, layers=6)
    hub.repositories["someone/big"] = big
    facts = describe(pin("someone/big", None, home=home), home=home)
    checkpoint = Checkpoint.open(big)
    assert facts.known_from is FactsOrigin.HEADERS
    assert facts.parameters == checkpoint.parameters
    assert facts.layer_parameters == checkpoint.config.layer_parameters
    assert facts.has_chat_template
    assert hub.sent_bytes < 200_000 < checkpoint.size_bytes


def test_a_repository_is_downloaded_once(hub: HubServer, tiny_llama: Path, home: Path) -> None:
    (tiny_llama / "notes.gguf").write_bytes(b"not wanted")
    try:
        found = resolve(f"{REPO}@{COMMIT}", None, home=home)
    finally:
        (tiny_llama / "notes.gguf").unlink()
    assert Checkpoint.open(found).parameters == Checkpoint.open(tiny_llama).parameters
    assert not (found / "notes.gguf").exists()
    assert found.is_relative_to(home / "hub")
    asked = len(hub.requests)
    assert resolve(f"{REPO}@{COMMIT}", None, home=home, offline=True) == found
    assert len(hub.requests) == asked
    assert (
        pin(str(found), None, home=home).weights_digest
        == pin(str(tiny_llama), None, home=home).weights_digest
    )


def test_what_the_users_own_cache_holds_is_used_from_there(
    hub: HubServer, tmp_path: Path, home: Path
) -> None:
    from huggingface_hub import snapshot_download

    theirs = snapshot_download(REPO, cache_dir=tmp_path / "own-cache", endpoint=hub.endpoint)
    assert resolve(REPO, None, home=home) == Path(theirs)
    assert not (home / "hub").exists()


def test_without_a_network_a_downloaded_branch_is_still_known(hub: HubServer, home: Path) -> None:
    found = resolve(REPO, None, home=home)
    hub.stop()
    assert pin(REPO, None, home=home).reference == f"{REPO}@{COMMIT}"
    assert resolve(REPO, None, home=home) == found


def test_half_a_download_is_not_a_checkpoint(hub: HubServer, home: Path) -> None:
    found = resolve(REPO, None, home=home)
    (found / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="downloading is off"):
        resolve(f"{REPO}@{COMMIT}", None, home=home, offline=True)
    assert (resolve(f"{REPO}@{COMMIT}", None, home=home) / "model.safetensors").exists()


def test_what_planning_fetched_is_not_a_checkpoint(hub: HubServer, home: Path) -> None:
    pinned = pin(REPO, None, home=home)
    describe(pinned, home=home)
    with pytest.raises(CheckpointError, match="downloading is off"):
        resolve(pinned.reference, None, home=home, offline=True)
    assert (resolve(pinned.reference, None, home=home) / "model.safetensors").exists()


def test_gated_repositories(hub: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add(REPO)
    for ask in (lambda: read_facts(parse(REPO, None), home=home), lambda: resolve(REPO, None, home=home)):
        with pytest.raises(CheckpointError, match=r"is gated: accept its terms at .* and set HF_TOKEN"):
            ask()
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert read_facts(parse(REPO, None), home=home).config.n_layers == 4
    assert resolve(REPO, None, home=home).is_dir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/else", "neither a directory here nor a repository"),
        (f"{REPO}@v9", "has no revision v9"),
        ("a/b/c", "neither a directory here"),
        ("no-such-name", "neither a directory here"),
        ("demo/other", "no embedded checkpoint"),
        ("--/..", "neither a directory here|cannot be the name"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str, hub: HubServer, home: Path) -> None:
    for ask in (lambda: pin(name, None, home=home), lambda: resolve(name, None, home=home)):
        with pytest.raises(CheckpointError, match=message) as error:
            ask()
        assert "\n" not in str(error.value)


def test_a_repository_with_pickles_only(hub: HubServer, tiny_llama: Path, tmp_path: Path, home: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_llama, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    hub.repositories["someone/pickled"] = pickled
    with pytest.raises(CheckpointError, match=r"no safetensors weights.*allow pickles by name"):
        read_facts(parse("someone/pickled", None), home=home)
    facts = read_facts(parse("someone/pickled", None), home=home, allow_pickles=True)
    assert facts.known_from is FactsOrigin.CONFIG
    assert facts.parameters == Checkpoint.open(tiny_llama).parameters
    assert not (resolve("someone/pickled", None, home=home) / "pytorch_model.bin").exists()
    with_pickles = resolve("someone/pickled", None, home=home, allow_pickles=True)
    assert (with_pickles / "pytorch_model.bin").exists()


def test_no_network_is_said_quickly(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at("http://127.0.0.1:9", monkeypatch)  # nobody listens there
    with wall_bound(5):
        pinned = PinnedSource(reference=f"{REPO}@{COMMIT}", weights_digest="")
        for ask in (
            lambda: pin(REPO, None, home=home),
            lambda: resolve(pinned.reference, None, home=home),
            lambda: describe(pinned, home=home),
        ):
            with pytest.raises(CheckpointError, match="hub cannot be reached"):
                ask()


def test_gguf_is_refused_by_name(tmp_path: Path, home: Path) -> None:
    """A file, a directory of files, and a directory with a config besides."""
    file = tmp_path / "model.Q4.gguf"
    file.write_bytes(b"GGUF")
    for name in (str(file), str(tmp_path)):
        with pytest.raises(CheckpointError, match=r"model\.Q4\.gguf is GGUF, which no engine here loads"):
            pin(name, None, home=home)
    tiny_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is GGUF"):
        describe(pin(str(tmp_path), None, home=home), home=home)
