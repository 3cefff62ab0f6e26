"""`reproduce` on cards about a tiny checkpoint: true claims, a false one, another template, a wrong size, a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from evals.claims.records import VerdictKind
from orchestrator import cli
from orchestrator.cards import read_card
from orchestrator.reproduce import Options, find_target, plan_reproduction
from orchestrator.reproduce import reproduce as reproduce_card
from orchestrator.run.run import execute
from orchestrator.run.scheduler import RunProgress
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.in_process import all_runs_here
from tests.support.tiny_checkpoints import tiny_checkpoint

MUSR, PRO = "MuSR of Smoke, no leaderboard's", "MMLU-PRO of Smoke, no leaderboard's"
METRICS = {MUSR: ("acc_norm", 0), PRO: ("acc", 5)}
BODY = """# tiny

{words}

| Metric | Value |
|---|---|
| Avg. | {average:.2f} |
| {musr} | {a:.2f} |
| {pro} | {b:.2f} |
"""

Reproduce = Callable[..., tuple[int, dict, str]]


@dataclass(frozen=True)
class Measured:
    """A home in which the tiny checkpoint has been measured by `reproduce` itself, and its scores."""

    home: Path
    checkpoint: Path
    musr: float
    pro: float


def card(
    musr: float, pro: float, words: str = "", *, name: str = "tiny", average: float | None = None
) -> str:
    """A card with the two figures as metadata and as a table with their mean."""
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {
                "name": dataset,
                "type": "mergeboard/smoke",
                "args": {"num_few_shot": METRICS[dataset][1]},
            },
            "metrics": [{"type": METRICS[dataset][0], "value": round(value, 2)}],
        }
        for dataset, value in ((MUSR, musr), (PRO, pro))
    ]
    index = yaml.safe_dump({"model-index": [{"name": name, "results": results}]}, sort_keys=False)
    mean = (musr + pro) / 2 if average is None else average
    body = BODY.format(words=words, average=mean, musr=MUSR, pro=PRO, a=musr, b=pro)
    return f"---\n{index}---\n{body}"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The first reproduction measures, with the real worker; the later ones find its jobs done."""
    folder = tmp_path_factory.mktemp("reproduce")
    checkpoint = tiny_checkpoint(folder / "tiny")
    readme = checkpoint / "README.md"
    readme.write_text(card(11.0, 12.0))
    home = folder / "home"
    settings = Settings(
        home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None
    )
    with pytest.MonkeyPatch.context() as patch:
        all_runs_here(patch)
        made = plan_reproduction(readme, settings, Options(engine="transformers"), dry=False)
        assert made.plan is not None, made.problems
        summary = execute(made.plan, settings, Silent())
    assert not summary.failed
    record = reproduce_card(readme, made, summary.run_id, settings, force=False)
    found = {v.claim.benchmark: v.measured or 0.0 for v in record.verdicts}
    return Measured(home=home, checkpoint=checkpoint, musr=found["musr"], pro=found["mmlu-pro"])


class Silent:
    """A reporter of which nothing is seen."""

    def update(self, progress: RunProgress) -> None:
        """Nothing."""


@pytest.fixture
def reproduce(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Reproduce:
    """Check a card beside the checkpoint, in this process; the verdicts by benchmark."""

    def call(text: str, *words: str) -> tuple[int, dict, str]:
        path = measured.checkpoint / "README.md"
        path.write_text(text)
        command = ["mergeboard", "reproduce", str(path), "--engine", "transformers", "--json", *words]
        monkeypatch.setenv("MERGEBOARD_HOME", str(measured.home))
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), json.loads(output.out or "{}"), output.err

    return call


def by_benchmark(data: dict) -> dict[str | None, tuple[str, str]]:
    return {v["claim"]["benchmark"]: (v["kind"], v["reason"]) for v in data["verdicts"]}


def test_true_claims_are_reproduced_and_a_false_one_is_not(measured: Measured, reproduce: Reproduce) -> None:
    code, data, error = reproduce(card(measured.musr, measured.pro + 35))
    assert (code, error.strip()) == (0, "")
    found = by_benchmark(data)
    assert found["musr"][0] == VerdictKind.REPRODUCED
    assert found["mmlu-pro"][0] == VerdictKind.NOT_REPRODUCED
    assert "is above the 95 % interval" in found["mmlu-pro"][1]
    assert found[None][0] == VerdictKind.NOT_COMPARABLE
    assert "an average over fewer benchmarks is not the board's" in found[None][1]
    pro = next(v for v in data["verdicts"] if v["claim"]["benchmark"] == "mmlu-pro")
    assert pro["difference_points"] == pytest.approx(-35, abs=0.006)
    (check,) = [c for c in data["checks"] if c["kind"] == "average"]
    assert "is the mean of 2 of 6 benchmarks: it is not the board's average" in check["sentence"]


def test_the_cards_own_arithmetic_is_checked(measured: Measured, reproduce: Reproduce) -> None:
    text = card(measured.musr, measured.pro, average=77.7)
    _, data, _ = reproduce(text.replace(f"| {measured.pro:.2f} |", "| 63.00 |"))
    found = {c["kind"]: (c["outcome"], c["sentence"]) for c in data["checks"]}
    assert found["average"][0] == "note"
    assert "only 2 of the 6 figures are beside it" in found["average"][1]
    assert found["contradiction"][0] == "fails"
    assert "is 63.00 in the table" in found["contradiction"][1]


def test_a_card_made_with_another_template(measured: Measured, reproduce: Reproduce) -> None:
    words = "All scores were measured without a chat template."
    _, data, _ = reproduce(card(measured.musr, measured.pro, words))
    kind, reason = by_benchmark(data)["musr"]
    assert (kind, reason) == (VerdictKind.NOT_COMPARABLE, "chat template: off (claim), on (ours)")
    assert any("`--chat-template off` makes them alike" in note for note in data["notes"])
    _, data, _ = reproduce(card(measured.musr, measured.pro, words), "--force")
    assert by_benchmark(data)["musr"][0] == VerdictKind.REPRODUCED
    assert all(v["forced"] for v in data["verdicts"])


@pytest.mark.parametrize(
    ("size", "kind"), [("0.2M", VerdictKind.REPRODUCED), ("360M", VerdictKind.NOT_COMPARABLE)]
)
def test_a_card_with_a_count_of_parameters(
    measured: Measured, reproduce: Reproduce, size: str, kind: VerdictKind
) -> None:
    _, data, _ = reproduce(card(measured.musr, measured.pro, f"It has {size} parameters."))
    found, reason = by_benchmark(data)["musr"]
    assert found == kind
    (check,) = [c for c in data["checks"] if c["kind"] == "parameters"]
    if kind is VerdictKind.NOT_COMPARABLE:
        assert "the described recipe and the published file disagree" in reason
        assert "4 layers" in check["sentence"]
    else:
        assert check["outcome"] == "holds"


def test_verdicts_are_kept(measured: Measured, reproduce: Reproduce) -> None:
    _, data, _ = reproduce(card(measured.musr, 99.0))
    with Store.open(f"sqlite:///{measured.home}/store.sqlite", read_only=True) as store:
        (last, *_) = store.reproductions(data["card_id"])
        listed = {c.id: c for c in store.cards()}
        assert store.run(last.run_id or "").state == "done"
    assert [v.kind for v in last.verdicts] == [v["kind"] for v in data["verdicts"]]
    assert listed[data["card_id"]].verdicts[VerdictKind.NOT_REPRODUCED] == 1


def test_a_recipe_is_planned_and_nothing_is_written(
    measured: Measured, reproduce: Reproduce, tmp_path: Path
) -> None:
    recipe = (
        "```yaml\nslices:\n- sources: [{model: org/secret, layer_range: [0, 3]}]\n"
        "- sources: [{model: org/secret, layer_range: [1, 4]}]\nmerge_method: passthrough\n```\n"
    )
    before = sorted(measured.home.rglob("*"))
    text = card(10.0, 10.0, "It has 0.3M parameters.\n\n" + recipe, name="deeper")
    code, data, _ = reproduce(text, "--dry-run", "--source", f"org/secret={measured.checkpoint}")
    assert code == 0
    assert data["target"]["recipe"]
    assert "6 layers" in next(c["sentence"] for c in data["checks"] if c["kind"] == "parameters")
    assert [job["kind"] for job in data["jobs"]].count("eval") == 2
    assert "jobs are left" in data["takes"]
    assert sorted(measured.home.rglob("*")) == before
    code, data, _ = reproduce(text, "--dry-run")
    assert (code, data["jobs"]) == (0, [])
    assert "org/secret" in data["problems"][0]
    code, _, error = reproduce(text)
    assert code == 2
    assert "cannot be checked here" in error


def test_a_card_about_nobody_knows_what(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "card.md"
    for text, words, code, told in (
        (card(10.0, 10.0), ["--dry-run"], 0, "--source tiny=REPO@SHA"),
        ("# nothing\n", [], 2, "claims no score"),
    ):
        path.write_text(text)
        monkeypatch.setattr("sys.argv", ["mergeboard", "reproduce", str(path), *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        assert int(caught.value.code or 0) == code
        assert told in output.out + output.err


@pytest.mark.parametrize(
    ("name", "words", "base"),
    [
        ("demo/SmolLM2-135M-Instruct", "", "demo/SmolLM2-135M-Instruct"),
        ("SmolLM2-135M-Instruct", "It is demo/SmolLM2-135M-Instruct.", "demo/SmolLM2-135M-Instruct"),
        ("SmolLM2-135M-Instruct", "It is demo/SmolLM2-135M-Instruct-noise.", None),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "", None),
        ("org/made", "Made from demo/SmolLM2-135M-Instruct.", None),
        ("org/model@0123abc", "", "org/model@0123abc"),
    ],
)
def test_the_checkpoint_that_a_card_names(tmp_path: Path, name: str, words: str, base: str | None) -> None:
    text = card(1.0, 2.0, words, name=name)
    path = tmp_path / "card.md"
    found = find_target(path, read_card(text, "card.md"), text, {})
    assert found.base == base
    assert bool(found.problems) == (base is None)
    assert find_target(path, read_card(text, "card.md"), text, {name: "there@1"}).base == "there@1"
