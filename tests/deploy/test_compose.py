"""compose.yaml: by Compose itself where it is installed, and by its parts: ports, secrets, commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deploy_files import DEPLOY, GROUP_CLEANUP, check_ray_start, documents

COMPOSE = DEPLOY / "compose.yaml"
OVERRIDES = (DEPLOY / "compose.gpu.yaml", DEPLOY / "compose.index.yaml")
RAYLETS = ("head", "worker")


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


@pytest.mark.parametrize("override", [None, "compose.gpu.yaml"])
def test_compose_takes_it(tmp_path: Path, override: str | None) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("Docker Compose is not installed")
    files = [COMPOSE, *([DEPLOY / override] if override else [])]
    words = [*command, "--env-file", str(filled_in(tmp_path))]
    words += [word for path in files for word in ("--file", str(path))] + ["config"]
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
    text = "".join(path.read_text() for path in (COMPOSE, *OVERRIDES))
    used = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert used <= set(re.findall(r"\b[A-Z_]+\b", (DEPLOY / "example.env").read_text()))


def test_its_commands_are_ones_that_exist(services: dict[str, Any]) -> None:
    from typer.main import get_command

    from orchestrator.cli import app

    head = check_ray_start(services["head"]["command"])
    assert head["head"]
    assert (head["num_cpus"], head["num_gpus"]) == (0, 0)
    worker = check_ray_start(services["worker"]["command"])
    assert worker["address"] == f"head:{head['port']}"
    for name in RAYLETS:
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
        # What fits into Docker's share of shared memory; Ray would take a third of the machine's memory.
        assert check_ray_start(services[name]["command"])["object_store_memory"] < 4e9
    words = services["dashboard"]["command"].split()
    assert words[0] == "mergeboard"
    get_command(app).commands[words[1]].make_context(words[1], words[2:])  # type: ignore[attr-defined] # a click group
    shell, script, folder = services["data"]["command"]
    assert shell == "sh"
    assert (DEPLOY.parent / script).is_file()
    assert folder == "/data"


def test_every_raylet_ends_the_children_of_a_killed_engine(services: dict[str, Any]) -> None:
    starting = [name for name, s in services.items() if "ray start" in str(s.get("command"))]
    assert tuple(starting) == RAYLETS
    for name in starting:
        assert services[name]["environment"][GROUP_CLEANUP] == "1"


def test_no_container_has_more_rights_than_it_needs(services: dict[str, Any]) -> None:
    given = {name: service.get("cap_add", []) for name, service in services.items()}
    assert {name for name, added in given.items() if added} == {"postgres", "data"}
    assert set(given["data"]) == {"CHOWN", "SETGID", "SETUID"}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert not {"privileged", "network", "pid", "ipc"} & set(service)
        assert service.get("user", "1000") == ("0:0" if name == "data" else "1000")
    assert services["data"]["network_mode"] == "none"


def test_the_data_folder_is_given_to_user_1000_before_anything_starts(services: dict[str, Any]) -> None:
    mounts = {name: [v for v in s["volumes"] if ":/data" in v] for name, s in services.items()}
    assert mounts.pop("postgres") == []
    for name, (volume,) in mounts.items():
        # A folder is named by whoever wants one: a volume takes its owner from the image.
        assert volume.startswith("${MERGEBOARD_DATA:-data}:/data"), name
        assert volume.endswith(":ro") == (name == "dashboard")
        if name != "data":
            assert services[name]["depends_on"]["data"]["condition"] == "service_completed_successfully"
    assert {"data", "home", "postgres"} == set(documents(COMPOSE)[0]["volumes"])


def test_downloads_and_compiled_kernels_outlive_a_container(services: dict[str, Any]) -> None:
    for name in RAYLETS:
        assert services[name]["environment"]["HF_HOME"].startswith("/data/")
        assert "home:/home/mergeboard" in services[name]["volumes"]
        # Docker's own options for a tmpfs forbid to load what was compiled into it.
        assert any(entry.startswith("/tmp:exec,") for entry in services[name]["tmpfs"])


def test_a_sweep_file_reaches_the_head(services: dict[str, Any]) -> None:
    from orchestrator.plan.sweep import load_sweep

    (mount,) = [volume for volume in services["head"]["volumes"] if "/sweeps" in volume]
    assert mount == "${MERGEBOARD_SWEEPS:-./sweeps}:/sweeps:ro"
    sweeps = [load_sweep(path) for path in (DEPLOY / "sweeps").glob("*.yaml")]
    assert [file.sweep.base for file in sweeps] == ["demo/SmolLM2-135M-Instruct"]


def test_services_wait_until_what_they_need_answers(services: dict[str, Any]) -> None:
    assert services["worker"]["depends_on"]["head"]["condition"] == "service_healthy"
    for name, service in services.items():
        assert ("healthcheck" in service) == (name != "data")
    # While the database is made, the server answers on its socket and not over TCP.
    assert "127.0.0.1" in services["postgres"]["healthcheck"]["test"]


def test_one_service_builds_the_image_and_none_is_pulled(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "build" in service] == ["head"]
    assert services["head"]["build"]["args"] == {"TORCH_BACKEND": "${TORCH_BACKEND-cpu}"}
    for name, service in services.items():
        if name == "postgres":
            assert re.search(r"\$\{POSTGRES_IMAGE:-postgres:[\d.]+@sha256:[0-9a-f]{64}\}$", service["image"])
        else:
            assert (service["image"], service["pull_policy"]) == ("mergeboard:cpu", "never")


def test_on_a_gpu_machine_every_role_runs_the_gpu_image(services: dict[str, Any]) -> None:
    over = documents(DEPLOY / "compose.gpu.yaml")[0]["services"]
    assert {n for n, s in services.items() if s["image"] == "mergeboard:cpu"} == set(over)
    assert {service["image"] for service in over.values()} == {"mergeboard:gpu"}
    assert over["head"]["build"]["target"] == "gpu"
    assert over["head"]["build"]["args"] == {"TORCH_BACKEND": "${TORCH_BACKEND-}"}
    holders = [n for n, s in over.items() if "deploy" in s]
    assert holders == ["worker"]
    (device,) = over["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_an_index_of_ones_own_is_a_secret_of_the_build() -> None:
    index = documents(DEPLOY / "compose.index.yaml")[0]
    assert index["services"]["head"]["build"] == {"secrets": ["index"]}
    assert index["secrets"]["index"]["file"] == "${INDEX_FILE:-./index.env}"
    assert "index.env" in (DEPLOY.parent / ".gitignore").read_text()


def folder_script(folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["sh", str(DEPLOY / "data-folder.sh"), str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def root_folder() -> Iterator[Path]:
    """A folder as Docker makes one for a volume; pytest's own cannot be entered by other users."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    with tempfile.TemporaryDirectory(prefix="mergeboard-data-") as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "data"
        folder.mkdir(mode=0o755)
        yield folder


def test_the_data_folders_script_hands_over_what_docker_made(root_folder: Path) -> None:
    folder = root_folder
    made = folder_script(folder)
    assert made.returncode == 0, made.stderr
    assert (folder.stat().st_uid, folder.stat().st_gid) == (1000, 1000)
    assert folder_script(folder).returncode == 0


def test_the_data_folders_script_leaves_somebody_elses_folder_alone(root_folder: Path) -> None:
    folder = root_folder
    os.chown(folder, 1234, 1234)
    refused = folder_script(folder)
    assert refused.returncode == 1
    assert "sudo chown 1000:1000" in refused.stderr
    assert folder.stat().st_uid == 1234
