"""submit: what travels, what is refused; and on a real head with a token, a sweep that is run to its end."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.cluster import connect
from orchestrator.cluster.submit import SWEEP_NAME, _pack, submit
from orchestrator.errors import ClusterError, SweepError
from orchestrator.plan.sweep import parse_sweep
from orchestrator.run.driver import keep
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.runs_fixture import mergeboard, write_sweep

BIN = Path(sys.executable).parent
TEXT = (
    "name: x\nbase: {base}\nrecipes: [{{name: m, file: {file}}}]\nsuites: [smoke]\nengines: [transformers]\n"
)


def sweep_in(folder: Path, *, base: str = "org/name@abc", file: str = "recipes/merge.yaml"):
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / "merge.yaml").write_text("merge_method: linear\n")
    return parse_sweep(TEXT.format(base=base, file=file).encode(), origin="s.yaml", folder=folder)


def test_the_sweep_travels_with_the_recipes_that_it_names(tmp_path: Path) -> None:
    source, packed, home = tmp_path / "source", tmp_path / "packed", tmp_path / "home"
    for folder in (source, packed, home):
        folder.mkdir()
    _pack(sweep_in(source), packed)
    assert (packed / "recipes" / "merge.yaml").read_text() == "merge_method: linear\n"
    kept = keep(packed / SWEEP_NAME, home)
    assert kept.is_relative_to(home / "sweeps")
    assert keep(packed / SWEEP_NAME, home) == kept


def test_what_only_this_machine_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, packed = tmp_path / "source", tmp_path / "packed"
    source.mkdir()
    packed.mkdir()
    with pytest.raises(SweepError, match="beside the sweep"):
        _pack(sweep_in(source, file="../merge.yaml"), packed)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match="absolute path"):
        _pack(sweep_in(source, base="source"), packed)


def test_an_address_without_a_cluster_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="takes no jobs"):
        submit(sweep_in(tmp_path), "http://127.0.0.1:9", Settings.from_environment())
    with pytest.raises(ClusterError, match="cannot be reached"):
        submit(sweep_in(tmp_path), "127.0.0.1:9", Settings.from_environment())
    with pytest.raises(ClusterError, match="cannot be reached"):
        connect(Settings.from_environment(), "127.0.0.1:9")
    with pytest.raises(ClusterError, match="cannot be reached"):
        connect(Settings.from_environment(), "no.such.host.invalid:6379")


@dataclass(frozen=True)
class Head:
    """A head as `deploy/` starts it, with a token of its own, seen by its environment."""

    address: str
    dashboard: str
    client: str
    home: Path
    env: dict[str, str]
    metrics: str


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """`ray start --head` with token authentication, in a process group of its own."""
    home = tmp_path_factory.mktemp("home")
    ports = [free_port() for _ in range(5)]
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "MERGEBOARD_HOME": str(home),
        "OMP_NUM_THREADS": "2",
        "RAY_raylet_start_wait_time_s": "120",
    }
    words = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    # The agent takes submitted jobs; its own default port belongs to whichever Ray of the machine came first.
    words += [f"--ray-client-server-port={ports[3]}", f"--dashboard-agent-listen-port={ports[4]}"]
    words += [f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--metrics-export-port={ports[2]}"]
    # A job's RAY_ADDRESS is that of the last `ray start` in this folder: in Ray's own, whatever else runs on the machine.
    # Short, since it holds sockets.
    temp = Path(tempfile.mkdtemp(prefix="mb-", dir="/tmp"))
    words += [f"--temp-dir={temp}"]
    log = (home / "ray.log").open("wb")
    for _ in range(4):
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
        if answers(process, ports[1]):
            break
        end(process)
    else:
        pytest.fail((home / "ray.log").read_text()[-2000:])
    yield Head(
        f"127.0.0.1:{ports[0]}",
        f"http://127.0.0.1:{ports[1]}",
        f"ray://127.0.0.1:{ports[3]}",
        home,
        env,
        f"http://127.0.0.1:{ports[2]}/metrics",
    )
    end(process)
    log.close()
    shutil.rmtree(temp, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.5)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End the head and everything that it started."""
    import psutil

    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        member.kill()
    process.wait(30)


@pytest.mark.slow
def test_a_submitted_sweep_runs_on_the_head_and_its_metrics_are_there(head: Head, tmp_path: Path) -> None:
    import httpx2

    sweep = write_sweep(tmp_path)
    outside = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": head.env["RAY_AUTH_TOKEN"]}
    sent = mergeboard(
        "submit", str(sweep), "--address", head.address, "--json", home=tmp_path / "laptop", **outside
    )
    assert sent.returncode == 0, sent.stderr
    run_id = json.loads(sent.stdout)["run_id"]
    settings = Settings(
        home=head.home, database_url=f"sqlite:///{head.home}/store.sqlite", datasets=None, ray_address=None
    )
    scraped = ""
    until = time.monotonic() + 600
    while True:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            record = store.run(run_id)
        scraped = httpx2.get(head.metrics, timeout=30).text or scraped
        if record.state in ("done", "failed") or time.monotonic() > until:
            break
        time.sleep(1)
    assert record.state == "done"
    assert "mergeboard_jobs" in scraped
    assert f'run="{run_id}"' in scraped
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        text = store.snapshot() + record.model_dump_json()
    assert head.env["RAY_AUTH_TOKEN"] not in text


def outside_of(head: Head, **more: str) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": head.env["RAY_AUTH_TOKEN"], **more}


@pytest.mark.slow
def test_when_submit_returns_the_run_is_known(head: Head, tmp_path: Path) -> None:
    """The submitter's store is the head's; by the dashboard's address, and whatever RAY_ADDRESS says."""
    sweep = write_sweep(tmp_path)
    shared = {"MERGEBOARD_DATABASE_URL": f"sqlite:///{head.home}/store.sqlite"}
    outside = outside_of(head, RAY_ADDRESS="127.0.0.1:9", **shared)
    sent = mergeboard(
        "submit", str(sweep), "--address", head.dashboard, "--json", home=tmp_path / "laptop", **outside
    )
    assert sent.returncode == 0, sent.stderr
    told = json.loads(sent.stdout)
    assert told["in_our_store"]
    assert f"plans it (Ray's job {told['job_id']}); the run is in no store" in sent.stderr
    listed = mergeboard("status", "--json", home=tmp_path / "laptop", **shared)
    assert told["run_id"] in {run["id"] for run in json.loads(listed.stdout)}
    watched = mergeboard("watch", told["run_id"], "--period", "0.5", home=tmp_path / "laptop", **shared)
    assert watched.returncode == 0, watched.stderr
    assert f"{told['run_id']}: done" in watched.stdout


@pytest.mark.slow
def test_a_store_that_the_head_does_not_use(head: Head, tmp_path: Path) -> None:
    """Named by hand it is refused; left to its default, submit says where the run is and how to watch it."""
    sweep = write_sweep(tmp_path)
    own = tmp_path / "own.sqlite"
    outside = outside_of(head, MERGEBOARD_DATABASE_URL=f"sqlite:///{own}")
    refused = mergeboard("submit", str(sweep), "--address", head.address, home=tmp_path / "laptop", **outside)
    assert refused.returncode == 2
    assert f"opened the store {head.home}/store.sqlite" in refused.stderr
    assert f"names {own} here" in refused.stderr
    sent = mergeboard(
        "submit", str(sweep), "--address", head.address, home=tmp_path / "laptop", **outside_of(head)
    )
    assert sent.returncode == 0, sent.stderr
    assert f"it is in the store {head.home}/store.sqlite" in sent.stderr
    assert "ray job logs --follow" in sent.stderr


@pytest.mark.slow
def test_a_token_is_enough(head: Head, tmp_path: Path) -> None:
    """Ray's own commands send a token that is set without RAY_AUTH_MODE; ours were turned away with it."""
    sweep = write_sweep(tmp_path)
    token = {"RAY_AUTH_TOKEN": head.env["RAY_AUTH_TOKEN"]}
    planned = mergeboard("plan", str(sweep), "--address", head.address, home=head.home, **token)
    assert planned.returncode == 0, planned.stderr
    sent = mergeboard("submit", str(sweep), "--address", head.dashboard, home=tmp_path / "laptop", **token)
    assert sent.returncode == 0, sent.stderr


@pytest.mark.slow
def test_a_token_that_the_mode_keeps_back_is_said_to_be(head: Head, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    silent = {"RAY_AUTH_TOKEN": head.env["RAY_AUTH_TOKEN"], "RAY_AUTH_MODE": "disabled"}
    for words in (
        ["submit", str(sweep), "--address", head.address],
        ["submit", str(sweep), "--address", head.dashboard],
        ["run", str(sweep), "--address", head.address],
    ):
        refused = mergeboard(*words, home=tmp_path / "laptop", **silent)
        assert refused.returncode == 2
        assert "RAY_AUTH_MODE=disabled keeps Ray from sending it" in refused.stderr


@pytest.mark.slow
def test_the_client_server_names_the_head(head: Head, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    planned = mergeboard("plan", str(sweep), "--address", head.client, home=head.home, **outside_of(head))
    assert planned.returncode == 0, planned.stderr
    sent = mergeboard("submit", str(sweep), "--address", head.client, home=head.home, **outside_of(head))
    assert sent.returncode == 0, sent.stderr


@pytest.mark.slow
def test_a_dashboard_is_no_place_to_drive_jobs_from(head: Head, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    refused = mergeboard(
        "run", str(sweep), "--address", head.dashboard, home=tmp_path / "laptop", **outside_of(head)
    )
    assert refused.returncode == 2
    assert "give the head's own address, HOST:PORT" in refused.stderr


@pytest.mark.slow
def test_without_the_token_nobody_gets_in(head: Head, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    for words, token in (
        (["submit", str(sweep)], wrong),
        (["submit", str(sweep)], {}),
        (["run", str(sweep)], wrong),
    ):
        refused = mergeboard(*words, "--address", head.address, home=tmp_path / "laptop", **token)
        assert refused.returncode == 2
        assert "rejected the connection" in refused.stderr
        assert "RAY_AUTH_TOKEN" in refused.stderr
        # Ray's own log may say so too, once.
        assert len(refused.stderr.strip().splitlines()) <= 2
    told = mergeboard("doctor", "--address", head.address, home=tmp_path / "laptop", **wrong)
    assert told.returncode != 0
    assert "mend: export RAY_AUTH_MODE=token" in told.stdout


@pytest.mark.slow
def test_a_sweep_that_cannot_be_planned_there_comes_back_as_a_sentence(head: Head, tmp_path: Path) -> None:
    sweep = tmp_path / "bad.yaml"
    sweep.write_text("name: x\nbase: /nowhere/at/all\nsuites: [smoke]\nengines: [transformers]\n")
    outside = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": head.env["RAY_AUTH_TOKEN"]}
    refused = mergeboard("submit", str(sweep), "--address", head.address, home=tmp_path / "laptop", **outside)
    assert refused.returncode == 2
    assert "The cluster refused the sweep" in refused.stderr
