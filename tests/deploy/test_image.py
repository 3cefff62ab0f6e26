"""The Dockerfile, as far as it can be held to account without a daemon: stages, copied files, user, no index, no secret."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.support.deploy_files import DEPLOY, FORBIDDEN, GROUP_CLEANUP, ROOT

Stage = list[tuple[str, str]]
PINNED_PYTHON = re.compile(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    """Name of each stage to its instructions."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    found: dict[str, Stage] = {}
    current: Stage = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, rest = line.strip().split(None, 1)
        if word == "ARG" and not found:
            assert PINNED_PYTHON.fullmatch(rest)
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            assert base in found or base == "${PYTHON_IMAGE}"
            current = found[name] = [("FROM", base)]
        else:
            current.append((word, rest))
    return found


def chain(stages: dict[str, Stage], name: str) -> Stage:
    """All instructions that make a stage, its bases' first."""
    base = stages[name][0][1]
    return (chain(stages, base) if base in stages else []) + stages[name][1:]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_each_target_installs_its_own_lock_and_runs_without_root(
    stages: dict[str, Stage], target: str
) -> None:
    made = chain(stages, target)
    setups = [rest for word, rest in made if word == "RUN" and "setup.sh" in rest]
    assert len(setups) == 1
    assert f"setup.sh {target} python3.11 .venv" in setups[0]
    assert [rest for word, rest in made if word == "USER"] == ["mergeboard"]
    known = {"ARG", "RUN", "USER", "WORKDIR", "COPY", "ENV", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in made} <= known
    # Signals reach `ray start`, and what it leaves behind is reaped.
    assert ("ENTRYPOINT", '["tini", "--"]') in made
    # The CPU image names its build of torch; most indexes offer another.
    assert [rest for word, rest in made if word == "ARG"] == [
        "TORCH_BACKEND=cpu" if target == "cpu" else "TORCH_BACKEND="
    ]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_files_and_the_hubs_cache_lie_in_the_mounted_folder_of_user_1000(
    stages: dict[str, Stage], target: str
) -> None:
    made = chain(stages, target)
    (environment,) = [
        dict(e.split("=", 1) for e in shlex.split(rest)) for word, rest in made if word == "ENV"
    ]
    assert environment["MERGEBOARD_HOME"] == "/data"
    assert environment["HF_HOME"].startswith("/data/")
    assert environment[GROUP_CLEANUP] == "1"
    system = next(rest for word, rest in made if word == "RUN")
    assert "useradd --create-home --uid 1000 mergeboard" in system
    assert re.search(r"install --directory --owner mergeboard --group mergeboard .*/data\b", system)
    # Health checks of Compose and KubeRay; Triton's compiler.
    assert {"wget", "build-essential"} <= set(system.split())


def test_what_is_copied_is_there_and_reaches_the_build(stages: dict[str, Stage]) -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line[:1] == "!"]
    # The last line that matches decides: passwords and an index of the operator's stay out.
    assert lines.index("!deploy") < min(
        lines.index(name) for name in ("deploy/.env", "deploy/*.env", "deploy/data")
    )
    for stage in stages.values():
        for word, rest in stage:
            if word == "COPY":
                *sources, _ = [part for part in shlex.split(rest) if not part.startswith("--")]
                assert all((ROOT / source).exists() for source in sources)
    for pattern in allowed:
        assert list(ROOT.glob(pattern)), pattern


def test_the_run_instructions_are_shell(stages: dict[str, Stage]) -> None:
    for stage in stages.values():
        for word, rest in stage:
            if word == "RUN":
                script = re.sub(r"^(--mount=\S+\s+)+", "", rest)
                checked = subprocess.run(
                    ["sh", "-n", "-c", script], capture_output=True, text=True, check=False
                )
                assert checked.returncode == 0, checked.stderr


def test_no_file_names_an_index_or_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file() and "locks" not in path.parts and path.name != ".env":
            assert not FORBIDDEN.search(path.read_text()), path
