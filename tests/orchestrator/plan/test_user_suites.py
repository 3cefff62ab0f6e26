"""Users' suites and ready-made checkpoints in a sweep: what the plan holds, what its jobs are named by, and what the store keeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from evals.errors import SuiteError
from evals.suite import Suite, define_suite, load_suite, suite_with
from orchestrator.cluster.submit import _pack
from orchestrator.errors import SweepError
from orchestrator.plan.durations import _work
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.suite_texts import read_suites
from orchestrator.plan.sweep import SweepFile, load_sweep, sweep_of_values
from orchestrator.run.run import register, stored_plan
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.own_tasks import write_own_tasks
from tests.support.tiny_checkpoints import tiny_checkpoint


def sweep_in(folder: Path, suites: object, **more: object) -> SweepFile:
    if not (folder / "tasks").exists():
        write_own_tasks(folder / "tasks")
        tiny_checkpoint(folder / "base")
        tiny_checkpoint(folder / "other", seed=5)
    values = {
        "name": "own", "base": str(folder / "base"), "recipes": [], "suites": suites,
        "engines": [{"kind": "transformers", "dtype": "float32"}],
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(values | more))
    return load_sweep(folder / "sweep.yaml")


def plan_of(file: SweepFile) -> Plan:
    return make_plan(file, Settings.from_environment())


def test_a_suite_is_named_by_file_folder_task_or_list(tmp_path: Path, home: Path) -> None:
    (tmp_path / "my.yaml").write_text("name: mine\ntasks: [own_choice]\ninclude: tasks\n")
    entries = ["my.yaml", {"tasks": ["own_pages", "own_free"], "include": "tasks", "name": "two", "limit": 2}]
    plan = plan_of(sweep_in(tmp_path, ["smoke", *entries]))
    names = [(e.job.suite, e.job.benchmark) for e in plan.evals if e.job.suite != "smoke"]
    assert names == [("mine", "own_choice"), ("two", "own_pages"), ("two", "own_free")]
    assert [suite.name for _, suite in plan.suites] == ["mine", "two"]
    assert {e.job.settings.limit for e in plan.evals if e.job.suite == "two"} == {2}
    assert plan.suite_of(plan.evals[-1].job) == plan.suites[1][1]
    assert plan.suite_of(plan.evals[0].job) is None


def test_a_changed_task_file_is_another_job(tmp_path: Path, home: Path) -> None:
    file = sweep_in(tmp_path, [{"tasks": ["own_choice"], "include": "tasks"}])
    before = set(plan_of(file).jobs)
    assert set(plan_of(file).jobs) == before
    data = tmp_path / "tasks/data/sums.jsonl"
    data.write_text(data.read_text().replace("plus", "and", 1))
    assert set(plan_of(file).jobs).isdisjoint(before)


def test_a_run_goes_on_without_the_users_files(tmp_path: Path, home: Path) -> None:
    """The definition is in the store: neither a node nor `resume` needs the file."""
    plan = plan_of(sweep_in(tmp_path, [{"tasks": ["own_choice"], "include": "tasks", "name": "kept"}]))
    settings = Settings.from_environment()
    with Store.open(settings.database_url) as store:
        run = register(store, plan)
        register(store, plan)
    shutil.rmtree(tmp_path / "tasks")
    again = stored_plan(run, settings)
    assert again.digest == plan.digest
    assert again.suites == plan.suites
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        assert [suite.name for suite in store.suites()] == ["kept"]
        assert store.schema_faults() == []


def test_an_older_definition_stays_that_of_its_scores(tmp_path: Path, home: Path) -> None:
    request = [{"tasks": ["own_choice"], "include": "tasks", "name": "grown"}]
    old = plan_of(sweep_in(tmp_path, request)).suites[0][1]
    task = tmp_path / "tasks/choice.yaml"
    task.write_text(task.read_text().replace("Q: ", "Question: "))
    new = plan_of(sweep_in(tmp_path, request)).suites[0][1]
    assert load_suite("grown") == new
    assert suite_with("grown", "own_choice", old.benchmarks[0].digest) == old
    assert suite_with("grown", "own_choice", "unknown") == new


@pytest.mark.parametrize(
    ("suites", "words"),
    [
        ([{"tasks": ["own_scored"], "include": "tasks"}], "allow_code: .own_scored."),
        ([{"tasks": ["own_free"], "include": "tasks", "name": "smoke"}], "'smoke' is the name of a shipped suite"),
        ([{"tasks": ["own_free"], "include": "tasks", "name": "probes"}], "'probes' is the name of a shipped suite"),
        (["nothing-of-that-name"], "no suite, file, folder or lm-eval task 'nothing-of-that-name'"),
        (["missing.yaml"], "There is no suite file"),
        ([{"tasks": ["own_free"], "include": "nowhere"}], "There is no folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_suite_is_one_sentence(
    tmp_path: Path, home: Path, suites: list[object], words: str
) -> None:
    with pytest.raises(SuiteError, match=words):
        plan_of(sweep_in(tmp_path, suites))


def test_two_suites_of_one_name_are_refused(tmp_path: Path, home: Path) -> None:
    entries = [{"tasks": [task], "include": "tasks", "name": "same"} for task in ("own_free", "own_pages")]
    with pytest.raises(SweepError, match="Two suites of the sweep are called 'same'"):
        plan_of(sweep_in(tmp_path, entries))
    with pytest.raises(SweepError, match="give either `suite` or `tasks`"):
        sweep_in(tmp_path, [{"limit": 3}])


def test_a_checkpoint_is_a_recipe(tmp_path: Path, home: Path) -> None:
    sweep_in(tmp_path, ["smoke"])
    recipes = [
        {"name": "theirs", "checkpoint": str(tmp_path / "other")},
        {"checkpoint": str(tmp_path / "other")},
    ]
    plan = plan_of(sweep_in(tmp_path, ["smoke"], recipes=recipes))
    base, theirs, unnamed = plan.candidates
    assert (base.name, theirs.name, unnamed.name) == ("base", "theirs", str(tmp_path / "other"))
    assert theirs.build is None
    assert theirs.layer_path is None
    assert theirs.place.name == str(tmp_path / "other")
    assert theirs.weights_digest != base.weights_digest
    assert theirs.parameters == base.parameters


def test_the_base_of_an_eval_goes_by_its_checkpoint(tmp_path: Path, home: Path) -> None:
    file = sweep_in(tmp_path, ["smoke"])
    named = sweep_of_values(
        file.sweep.model_dump(mode="json", exclude_defaults=True) | {"base_name": "org/name"}, origin="eval"
    )
    assert plan_of(named).candidates[0].name == "org/name"
    assert set(plan_of(named).jobs) == set(plan_of(file).jobs)


def test_a_definition_survives_its_text(tmp_path: Path, home: Path) -> None:
    suite = plan_of(
        sweep_in(tmp_path, [{"tasks": ["own_group"], "include": "tasks", "name": "text"}])
    ).suites[0][1]
    again = Suite.model_validate_json(suite.text)
    assert (again, again.digest) == (suite, suite.digest)
    assert json.loads(suite.text)["name"] == "text"
    define_suite(again)
    assert load_suite("text") == suite


def test_every_kind_of_task_has_an_estimate(tmp_path: Path, home: Path) -> None:
    tasks = ["own_choice", "own_last_word", "own_pages", "own_written", "own_sampled"]
    plan = plan_of(sweep_in(tmp_path, [{"tasks": tasks, "include": "tasks", "name": "kinds"}]))
    work = {e.job.benchmark: _work("kinds", e.job.benchmark, None) for e in plan.evals}
    assert all(documents > 0 and read > 0 for documents, read, _ in work.values())
    assert work["own_written"][2] > 0


def test_a_submitted_sweep_takes_its_definitions_along(tmp_path: Path, home: Path) -> None:
    file = sweep_in(
        tmp_path,
        [
            "smoke",
            {"tasks": ["own_scored"], "include": "tasks", "name": "sent", "allow_code": ["own_scored"]},
        ],
    )
    packed = tmp_path / "packed"
    packed.mkdir()
    _pack(file, packed)
    assert sorted(path.name for path in packed.iterdir()) == ["suites.json", "sweep.yaml"]
    sent = plan_of(file)
    shutil.rmtree(tmp_path / "tasks")
    there = make_plan(
        load_sweep(packed / "sweep.yaml"), Settings.from_environment(), suites=read_suites(packed)
    )
    assert set(there.jobs) == set(sent.jobs)
    (packed / "suites.json").write_text("[[1, 2]]")
    with pytest.raises(SweepError, match="holds no definitions of suites"):
        read_suites(packed)


def test_a_checkpoint_that_only_this_machine_has_is_not_submitted(tmp_path: Path, home: Path) -> None:
    sweep_in(tmp_path, ["smoke"])
    file = sweep_in(tmp_path, ["smoke"], recipes=[{"checkpoint": "other"}])
    with pytest.raises(SweepError, match="checkpoint: other is a folder of this machine"):
        _pack(file, tmp_path)
