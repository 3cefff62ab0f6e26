"""The store's password and Ray's token: on no screen, in no engine's environment, in no file that others can read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orchestrator import cli, doctor
from orchestrator.cli.results_view import show_results
from orchestrator.cluster.private import keep_token_private
from orchestrator.provenance import without_secrets
from orchestrator.run.scheduler import RunSummary
from orchestrator.settings import Settings
from orchestrator.store import Store, label_of
from tests.support.pg import PostgresForTests
from tests.support.store_data import demo_run

SECRET = "correct-horse"


def with_password(url: str, form: str) -> str:
    """The server takes any password over its socket: the address only has to hold one."""
    plain = sa.make_url(url).set(drivername="postgresql")
    with_secret = plain.update_query_dict({"password": SECRET}), plain.set(password=SECRET)
    return with_secret[form != "query"].render_as_string(hide_password=False)


@pytest.fixture(params=["user", "query"])
def address(
    request: pytest.FixtureRequest,
    postgres: PostgresForTests,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The environment of somebody whose store is on PostgreSQL, with its password."""
    url = postgres.new_database()
    address = with_password(url, request.param)
    monkeypatch.setenv("MERGEBOARD_DATABASE_URL", address)
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    yield address
    postgres.drop(url)


def test_the_end_of_a_run_names_the_store_without_its_password(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(address) as store:
        run, *rest = demo_run()
        store.create_run(run, *rest)
    summary = RunSummary(run_id=run.id, done=0, cached=0, failed={}, blocked=0, duration_s=1.0)
    show_results(summary, None, Settings.from_environment(), as_json=False)  # type: ignore[arg-type] # only for JSON
    shown = capsys.readouterr().out
    assert "Store: postgresql://" in shown
    assert SECRET not in shown


def test_db_and_doctor_name_the_store_without_its_password(address: str) -> None:
    for words in (["db", "upgrade"], ["db", "check"]):
        shown = CliRunner().invoke(cli.app, words)
        assert shown.exit_code == 0, shown.output
        assert "postgresql://" in shown.output
        assert SECRET not in shown.output
    finding = doctor._store(Settings.from_environment())
    assert finding.message.startswith("postgresql://")
    assert SECRET not in finding.message


def test_labels_name_what_a_store_is() -> None:
    assert label_of("sqlite:////srv/store.sqlite") == "/srv/store.sqlite"
    assert label_of(f"postgresql://joe:{SECRET}@db/scores") == "postgresql://joe:***@db/scores"
    assert label_of(f"postgresql://joe@db/scores?password={SECRET}") == "postgresql://joe@db/scores"


def test_a_workers_message_holds_no_password_of_either_form() -> None:
    for url in (f"postgresql://joe:{SECRET}@db/scores", f"postgresql:///s?host=/run&password={SECRET}&x=1"):
        assert SECRET not in without_secrets(f"cannot reach {url}: no route")


def test_ray_on_this_machine_shows_engines_no_store_and_others_no_port_and_no_token(tmp_path: Path) -> None:
    script = """
import ipaddress, os, psutil, ray
from orchestrator.cluster import connect, disconnect
from orchestrator.settings import Settings
connect(Settings.from_environment())
seen = ray.get(ray.remote(num_cpus=0)(lambda: os.environ.get("MERGEBOARD_DATABASE_URL")).remote())
print("engines see", seen)
print("driver sees", os.environ["MERGEBOARD_DATABASE_URL"])
here = psutil.Process()
ports = [c for p in [here, *here.children(recursive=True)] for c in p.net_connections("inet") if c.status == "LISTEN"]
addresses = {ipaddress.ip_address(c.laddr.ip) for c in ports}
open_to_all = [a for a in addresses if not (getattr(a, "ipv4_mapped", None) or a).is_loopback]
print("ports", len(ports) > 3, open_to_all)
disconnect()
"""
    url = f"postgresql://joe:{SECRET}@db/scores"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    env |= {"HOME": str(tmp_path), "MERGEBOARD_HOME": str(tmp_path / "home"), "MERGEBOARD_DATABASE_URL": url}
    env.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["engines see None", f"driver sees {url}", "ports True []"]
    assert stat.S_IMODE((tmp_path / ".ray" / "auth_token").stat().st_mode) == 0o600


def test_a_token_file_that_others_could_read_is_narrowed_and_kept(tmp_path: Path) -> None:
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("a" * 64)
    file.chmod(0o644)
    keep_token_private(file)
    assert (stat.S_IMODE(file.stat().st_mode), file.read_text()) == (0o600, "a" * 64)
