"""compose.yaml: by Compose itself where it is installed, and by its parts: ports, secrets, commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, check_ray_start, documents

COMPOSE = DEPLOY / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return documents(COMPOSE)[0]["services"]


def compose_command() -> list[str] | None:
    """Docker Compose in whatever form it is installed; None where it is not."""
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def filled_in(tmp_path: Path) -> Path:
    """The example of .env with something behind every name."""
    lines = (DEPLOY / "example.env").read_text().splitlines()
    path = tmp_path / "filled.env"
    path.write_text("\n".join(line + "given" if line.endswith("=") else line for line in lines))
    return path


def test_compose_takes_it(tmp_path: Path) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("Docker Compose is not installed")
    words = [*command, "--env-file", str(filled_in(tmp_path)), "--file", str(COMPOSE), "config"]
    shown = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert shown.returncode == 0, shown.stderr
    assert "mergeboard_reader:given@postgres" in shown.stdout


def test_ports_are_published_on_loopback_alone(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_secrets_come_through_the_environment_and_reach_only_who_needs_them(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "${" not in str(service.get("command", "")), name
        url = service.get("environment", {}).get("MERGEBOARD_DATABASE_URL", "")
        assert bool(url) == (name in ("head", "dashboard"))
    assert "mergeboard_reader" in services["dashboard"]["environment"]["MERGEBOARD_DATABASE_URL"]
    assert "RAY_AUTH_TOKEN" not in services["dashboard"]["environment"]
    used = {
        word.split("}")[0].split(":")[0] for word in COMPOSE.read_text().split("${")[1:] if word[0].isupper()
    }
    assert used <= {line.split("=")[0] for line in (DEPLOY / "example.env").read_text().splitlines()}


def test_its_commands_are_ones_that_exist(services: dict[str, Any]) -> None:
    from typer.main import get_command

    from orchestrator.cli import app

    head = check_ray_start(services["head"]["command"])
    assert head["head"]
    assert head["num_cpus"] == 0
    for name in ("worker", "gpu-worker"):
        worker = check_ray_start(services[name]["command"])
        assert worker["address"] == f"head:{head['port']}"
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
    words = services["dashboard"]["command"].split()
    assert words[0] == "mergeboard"
    get_command(app).commands[words[1]].make_context(words[1], words[2:])  # type: ignore[attr-defined] # a click group
