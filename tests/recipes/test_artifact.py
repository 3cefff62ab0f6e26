"""The artifact store: whole or not there, made once, leased, verified, evicted; killed and raced for real."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes import file_hash
from recipes import lease as lease_module
from recipes.artifact import ArtifactLeases, ArtifactStore
from recipes.errors import ArtifactError, BuildError
from recipes.lease import Owner, file_system_time_s, is_owner_alive
from recipes.relayer import write_layer_path
from tests.support.tiny_checkpoints import tiny_checkpoint

DIGEST = "0123456789abcdef"
OTHER = "fedcba9876543210"

BUILDER = """
import sys, time
from pathlib import Path
from recipes import file_hash
from recipes.artifact import ArtifactLeases, ArtifactStore
from recipes.relayer import write_layer_path
root, source, digest, log, pause_s = sys.argv[1:]

def write(out):
    with open(log, "a") as stream:
        stream.write("built\\n")
    write_layer_path(Path(source), (0, 1, 2, 3, 2, 3), out, shard_bytes=60_000, on_progress=lambda _: time.sleep(float(pause_s)))

print("ready", flush=True)
sys.stdin.readline()
print(ArtifactStore(Path(root)).build(digest, write, meta={}).path)
"""


def start(root: Path, source: Path, log: Path, pause_s: float = 0.0) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", BUILDER, str(root), str(source), DIGEST, str(log), str(pause_s)]
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def fill(size: int = 1000, name: str = "model.safetensors"):  # type: ignore[no-untyped-def]  # a closure for build()
    def write(out: Path) -> None:
        (out / name).write_bytes(b"x" * size)

    return write


def leftovers(root: Path) -> list[str]:
    return sorted(p.name for name in (".building", ".leases", ".trash") for p in (root / name).glob("*"))


def test_builds_once_and_is_found_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert store.lookup(DIGEST) is None
    calls: list[Path] = []

    def write(out: Path) -> None:
        calls.append(out)
        (out / "sub").mkdir()
        (out / "sub" / "a.json").write_text("{}")
        (out / "model.safetensors").write_bytes(b"abc")

    first = store.build(DIGEST, write, meta={"recipe": "layers: 0-4"})
    second = store.build(DIGEST, write, meta={})
    assert len(calls) == 1
    assert first.path == second.path == tmp_path / DIGEST / "checkpoint"
    assert sorted(file.name for file in first.manifest.files) == ["model.safetensors", "sub/a.json"]
    assert first.size_bytes == 5
    assert second.manifest.meta == {"recipe": "layers: 0-4"}
    assert store.verify(DIGEST).digest == DIGEST
    assert leftovers(tmp_path) == []


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def fail(out: Path) -> None:
        (out / "model.safetensors").write_bytes(b"half")
        raise BuildError("mergekit refused")

    with pytest.raises(BuildError, match="mergekit refused"):
        store.build(DIGEST, fail, meta={})
    assert store.lookup(DIGEST) is None
    assert store.list() == ()
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        (out / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(BuildError, match=r"is full and the build was removed.*cache prune"):
        ArtifactStore(tmp_path).build(DIGEST, fail, meta={})
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["../../etc", "", "ABCDEF0123", "0123", "0123456789abcdef/x"])
def test_names_that_are_no_digest_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not the digest"):
        ArtifactStore(tmp_path).build(name, fill(), meta={})
    assert list(tmp_path.iterdir()) == []


def test_links_do_not_get_into_an_artifact(tmp_path: Path) -> None:
    def write(out: Path) -> None:
        (out / "model.safetensors").symlink_to("/etc/passwd")

    with pytest.raises(BuildError, match="not a regular file"):
        ArtifactStore(tmp_path).build(DIGEST, write, meta={})


def test_a_damaged_artifact_does_not_count_and_is_built_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    path = store.build(DIGEST, fill(), meta={}).path / "model.safetensors"
    path.write_bytes(b"short")
    assert store.lookup(DIGEST) is None
    assert store.build(DIGEST, fill(), meta={}).size_bytes == 1000
    (tmp_path / DIGEST / "manifest.json").write_text("{")
    assert store.lookup(DIGEST) is None


def test_verify_sees_other_bytes_of_the_same_size_and_time(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    path = store.build(DIGEST, fill(), meta={}).path / "model.safetensors"
    before = path.stat()
    with path.open("r+b") as stream:  # the size and inode are right: lookup cannot see it
        stream.write(b"y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.lookup(DIGEST)
    with pytest.raises(ArtifactError, match=r"model\.safetensors is not what was built"):
        store.verify(DIGEST)


def test_verify_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path)
    path = store.build(DIGEST, fill(), meta={}).path / "model.safetensors"
    read: list[Path] = []
    real = file_hash._stream_hash
    monkeypatch.setattr(
        file_hash, "_stream_hash", lambda file, *more: (read.append(file), real(file, *more))[1]
    )
    store.verify(DIGEST)
    assert read == []
    os.utime(path)
    store.verify(DIGEST)
    assert read == [path]


def test_a_file_that_was_put_beside_what_was_built_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    artifact = store.build(DIGEST, fill(), meta={})
    (artifact.path / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"adapter_config\.json was not part of what was built"):
        store.verify(DIGEST)


def test_leases_are_given_up_one_by_one(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    digests = [f"{i:016x}" for i in range(3)]
    for digest in digests:
        store.build(digest, fill(), meta={})
    with ArtifactLeases(store) as leases:
        for digest in digests[:2]:
            leases.acquire(digest)
            leases.acquire(digest)
        leases.release(digests[0])
        assert {a.digest for a in store.prune(0).evicted} == {digests[0], digests[2]}
        with pytest.raises(ArtifactError, match="no complete artifact"):
            leases.acquire(digests[2])
    assert [a.digest for a in store.prune(0).evicted] == [digests[1]]
    assert leftovers(tmp_path) == []


def test_prune_evicts_what_was_used_longest_ago_but_nothing_leased(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    digests = [f"{i:016x}" for i in range(4)]
    for age, digest in enumerate(digests):
        store.build(digest, fill(), meta={})
        os.utime(tmp_path / digest / "manifest.json", (1_000_000 + age, 1_000_000 + age))
    assert [a.digest for a in store.list()] == digests
    with store.lease(digests[0]) as held:  # a lease is a use too: it is the youngest now
        assert held.path.is_dir()
        done = store.prune(0)
        assert [a.digest for a in done.evicted] == digests[1:]
        assert done.leased == (digests[0],)
        assert done.kept_bytes == 1000
    assert store.lookup(digests[0])
    assert [a.digest for a in store.prune(999).evicted] == [digests[0]]
    assert leftovers(tmp_path) == []


def test_one_artifact_is_evicted_unless_it_is_leased(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    assert store.evict("0" * 16), "what does not exist needs no deletion"
    digest = store.build(DIGEST, fill(), meta={}).digest
    with store.lease(digest):
        assert not store.evict(digest)
    assert store.evict(digest)
    assert store.lookup(digest) is None


def test_prune_within_budget_does_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.build(DIGEST, fill(), meta={})
    assert store.prune(1000).evicted == ()


def test_leasing_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no complete artifact"), ArtifactStore(tmp_path).lease(DIGEST):
        pass
    assert leftovers(tmp_path) == []


def test_a_lease_of_a_killed_process_ends_with_it(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.build(DIGEST, fill(), meta={})
    script = (
        "import sys, time; from pathlib import Path; from recipes.artifact import ArtifactStore\n"
        f"with ArtifactStore(Path(sys.argv[1])).lease('{DIGEST}'):\n    print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    assert store.prune(0).leased == (DIGEST,)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [a.digest for a in store.prune(0).evicted] == [DIGEST]


def test_owners_on_other_machines_are_judged_by_the_age_of_their_file(tmp_path: Path) -> None:
    mine = Owner.current()
    now_s = file_system_time_s(tmp_path / "clock")

    def owned(**changes: str | int) -> Path:
        path = tmp_path / mine.model_copy(update=changes).new_file_name("lease")
        path.touch()
        return path

    elsewhere = owned(host="0" * 16)
    assert is_owner_alive(elsewhere, now_s)
    assert not is_owner_alive(elsewhere, now_s + lease_module.DEAD_AFTER_S + 1)
    assert is_owner_alive(owned(), now_s + 1e9)  # on this machine the process itself is asked
    assert not is_owner_alive(owned(birth="b1"), now_s)  # its id was given to a later process
    assert not is_owner_alive(
        tmp_path / mine.model_copy(update={"host": "0" * 16}).new_file_name("gone"), now_s
    )
    assert not is_owner_alive(tmp_path / "no owner in the name", now_s)
    before = owned(birth="1764385200")  # a version that named processes by the clock may still hold it
    assert is_owner_alive(before, now_s)
    assert not is_owner_alive(before, now_s + lease_module.DEAD_AFTER_S + 1)


def test_a_lease_is_kept_alive_by_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.05)
    store = ArtifactStore(tmp_path)
    store.build(DIGEST, fill(), meta={})
    with store.lease(DIGEST):
        (file,) = (tmp_path / ".leases").glob(f"{DIGEST}.*")
        os.utime(file, (1, 1))
        deadline = time.monotonic() + 10
        while file.stat().st_mtime < 1000 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert file.stat().st_mtime > 1000


def test_two_processes_make_one_artifact(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    root, log = tmp_path / "artifacts", tmp_path / "log"
    processes = [start(root, source, log, pause_s=0.002) for _ in range(2)]
    for process in processes:
        go(process)
    outputs = [process.communicate(timeout=60) for process in processes]
    assert {out.strip() for out, _ in outputs} == {str(root / DIGEST / "checkpoint")}, outputs
    assert log.read_text() == "built\n"
    assert len(ArtifactStore(root).list()) == 1
    assert leftovers(root) == []


def test_where_locks_do_not_work_the_first_to_publish_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_args: object, **_more: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("recipes.artifact.FileLock.__enter__", unsupported)
    store = ArtifactStore(tmp_path)

    def slow(out: Path) -> None:
        store.build(DIGEST, fill(7), meta={"by": "the other"})
        fill()(out)

    assert store.build(DIGEST, slow, meta={}).manifest.meta == {"by": "the other"}
    assert leftovers(tmp_path) == []


def kill_at_random_moments(tmp_path: Path, times: int) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    expected = tmp_path / "expected"
    write_layer_path(source, (0, 1, 2, 3, 2, 3), expected, shard_bytes=60_000)
    root, log = tmp_path / "artifacts", tmp_path / "log"
    undisturbed = start(root, source, log, pause_s=0.01)
    started = time.monotonic()
    go(undisturbed)
    undisturbed.communicate()
    duration_s = time.monotonic() - started
    ArtifactStore(root).prune(0)
    chance = random.Random(0)
    whole = 0
    for _ in range(times):
        process = start(root, source, log, pause_s=0.01)
        go(process)
        time.sleep(chance.uniform(0.0, duration_s))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        store = ArtifactStore(root)
        found = store.lookup(DIGEST)
        assert len(store.list()) == (found is not None)
        if found is not None:
            whole += 1
            store.verify(DIGEST)
            for path in expected.iterdir():
                assert (found.path / path.name).read_bytes() == path.read_bytes()
            store.prune(0)
    # The next builder clears what the dead ones left.
    built = ArtifactStore(root).build(DIGEST, lambda out: write_layer_path(source, (0,), out), meta={})
    assert built.size_bytes
    assert leftovers(root) == []
    print(f"{whole} whole, {times - whole} nothing")


def test_kill_leaves_nothing_or_a_whole_artifact(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 5)


@pytest.mark.slow
def test_kill_at_fifty_moments(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 50)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small file system")
def test_a_file_system_that_really_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    source = tiny_checkpoint(tmp_path / "source")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(BuildError, match="full"):
            ArtifactStore(small).build(
                DIGEST, lambda out: write_layer_path(source, (0, 1, 2, 3), out), meta={}
            )
        assert leftovers(small) == []
        assert ArtifactStore(small).lookup(DIGEST) is None
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_read_only_root_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ArtifactStore(tmp_path / "file" / "artifacts")
    with pytest.raises(BuildError, match="failed"):
        store.build(DIGEST, fill(), meta={})
    with pytest.raises(ArtifactError, match="cannot be managed"):
        store.prune(0)
    assert store.list() == ()


def test_the_manifest_is_plain_json_for_other_tools(tmp_path: Path) -> None:
    ArtifactStore(tmp_path).build(DIGEST, fill(3), meta={"recipe": "x"})
    manifest = json.loads((tmp_path / DIGEST / "manifest.json").read_text())
    assert manifest["files"][0]["name"] == "model.safetensors"
    assert manifest["meta"] == {"recipe": "x"}
