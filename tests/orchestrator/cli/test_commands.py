"""Commands that need no cluster: plan of recipes and cards, build, doctor, cache, db."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from orchestrator import cli, doctor
from orchestrator.doctor import Health
from orchestrator.settings import Settings
from recipes.artifact import ArtifactStore
from recipes.recipe import Recipe
from tests.support.tiny_checkpoints import tiny_checkpoint

RECIPE = """\
slices:
  - sources: [{{model: {source}, layer_range: [0, 3]}}]
  - sources: [{{model: {source}, layer_range: [1, 4]}}]
merge_method: passthrough
dtype: bfloat16
"""
CARD = """\
---
license: mit
model-index:
- name: mine
  results:
  - task: {{type: text-generation}}
    dataset: {{name: IFEval (0-Shot), type: HuggingFaceH4/ifeval, args: {{num_few_shot: 0}}}}
    metrics: [{{type: inst_level_strict_acc and prompt_level_strict_acc, value: 79.96, name: strict accuracy}}]
---
# mine
```yaml
{recipe}
```
"""


@pytest.fixture
def run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return call


def test_build_makes_a_directory_once(
    run: Callable[..., tuple[int, str, str]], home: Path, tmp_path: Path
) -> None:
    source = tiny_checkpoint(tmp_path / "tiny")
    out = tmp_path / "out"
    code, text, _ = run("build", "(1, 2)", "--base", str(source), "--out", str(out))
    assert code == 0
    assert "5 layers" in text
    with safe_open(out / "model.safetensors", "pt") as file:
        layers = {name.split(".")[2] for name in file.keys() if "layers" in name}  # noqa: SIM118 - not a mapping
    assert layers == {"0", "1", "2", "3", "4"}
    assert Recipe.load(out / "mergekit_config.yml").sources[0].name == str(source)
    assert (out / "README.md").read_text().startswith("---\n")
    _, again, _ = run("build", "(1, 2)", "--base", str(source), "--out", str(out))
    assert "was built before" in again
    assert len(ArtifactStore(home / "artifacts").list()) == 1
    code, _, error = run("build", "(2, 3)", "--base", str(source), "--out", str(out))
    assert code == 2
    assert "is not this recipe's checkpoint" in error


def test_an_edit_of_the_copy_leaves_the_artifact_alone(
    run: Callable[..., tuple[int, str, str]], home: Path, tmp_path: Path
) -> None:
    source, out = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "out"
    assert run("build", "(1, 2)", "--base", str(source), "--out", str(out))[0] == 0
    weights = out / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    store = ArtifactStore(home / "artifacts")
    (artifact,) = store.list()
    assert store.verify(artifact.digest)
    # The edited copy, whose sizes are right, is not taken for the checkpoint.
    code, _, error = run("build", "(1, 2)", "--base", str(source), "--out", str(out))
    assert code == 2
    assert "is not this recipe's checkpoint" in error


def test_build_from_a_file_with_mapped_sources(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    source = tiny_checkpoint(tmp_path / "tiny")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(source="somebody/private"))
    code, text, error = run(
        "build", str(recipe), "--out", str(tmp_path / "o"), "--source", f"somebody/private={source}"
    )
    assert code == 0, error
    assert "6 layers" in text
    code, _, error = run("build", str(recipe), "--out", str(tmp_path / "p"), "--source", "nonsense")
    assert code == 2
    assert "NAME=REPO@SHA" in error


def test_plan_of_a_recipe_and_of_a_card(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, home: Path
) -> None:
    source = tiny_checkpoint(tmp_path / "tiny")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(source=source))
    code, text, _ = run("plan", str(recipe))
    assert code == 0
    assert "Disk at its peak" in text
    _, data, _ = run("plan", str(recipe), "--json")
    assert json.loads(data)["stages"][-1]["n_layers"] == 6
    card = tmp_path / "card.md"
    card.write_text(CARD.format(recipe=RECIPE.format(source=source)))
    code, text, _ = run("plan", str(card))
    assert code == 0
    assert "79.96" in text
    assert "Disk at its peak" in text
    _, data, _ = run("plan", str(card), "--json")
    assert json.loads(data)["recipes"][0]["preflight"]["stages"][-1]["n_layers"] == 6
    assert not (home / "store.sqlite").exists()


def test_a_catalogue_recipe_is_planned_without_weights(run: Callable[..., tuple[int, str, str]]) -> None:
    code, data, _ = run("plan", "goliath-120b", "--json")
    assert code == 0
    last = json.loads(data)["stages"][-1]
    assert last["n_layers"] == 137
    assert last["parameters"] / 1e9 == pytest.approx(117.75, abs=0.01)


def test_an_unknown_recipe_is_refused(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, error = run("build", "no-such-recipe", "--out", str(tmp_path / "o"))
    assert code == 2
    assert "catalogue" in error
    code, _, error = run("plan", str(tmp_path / "none.md"))
    assert code == 2
    assert "none.md" in error


def test_cache_and_db(run: Callable[..., tuple[int, str, str]], tmp_path: Path, home: Path) -> None:
    source = tiny_checkpoint(tmp_path / "tiny")
    run("build", "(1, 2)", "--base", str(source), "--out", str(tmp_path / "out"))
    _, text, _ = run("cache", "list", "--json")
    assert len(json.loads(text)) == 1
    _, text, _ = run("cache", "prune", "--budget-gb", "0")
    assert "Evicted 1" in text
    code, _, error = run("db", "check")
    assert code == 2
    assert "no store" in error
    from orchestrator.store import Store

    Store.open(f"sqlite:///{home}/store.sqlite").close()
    assert run("db", "check")[0] == 0
    assert "up to date" in run("db", "upgrade")[1]
    _, text, _ = run("status")
    assert "No runs yet" in text


def test_doctor_finds_what_is_there_and_names_the_mend(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(doctor, "_ray", lambda settings, address: iter(()))
    findings = {f.name: f for f in doctor.examine(Settings.from_environment())}
    assert findings["packages"].health is Health.OK
    assert findings["store"].health is Health.OK
    assert findings["data smoke"].health is Health.OK
    assert findings["HF_TOKEN"].mend is not None
    assert "export HF_TOKEN" in findings["HF_TOKEN"].mend


def test_doctor_reports_a_home_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("MERGEBOARD_HOME", str(blocked / "home"))
    monkeypatch.setattr(doctor, "_ray", lambda settings, address: iter(()))
    findings = {f.name: f for f in doctor.examine(Settings.from_environment())}
    assert findings["home"].health is Health.BROKEN
