"""Cards of stored candidates and imported runs: files of every form, honest `.eval_results`, pull requests on a local hub."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from evals.rounding import change_text, points_text, rounded
from evals.suite import load_suite
from orchestrator import cli
from orchestrator.cards.candidate import CardRequest, ImportedCardRequest, rendered, written
from orchestrator.cards.read import load_card
from orchestrator.cards.splice import updated, write_text
from orchestrator.compare.run_comparisons import CandidateResult
from orchestrator.errors import CardError
from orchestrator.exchange.imports import import_path
from orchestrator.plan.job import EvalJob
from orchestrator.settings import Settings
from orchestrator.store.records import EvalOutcome
from tests.support import hub_server
from tests.support.lm_eval_files import Task, write_run
from tests.support.store_data import ENGINE, candidate, eval_job, eval_outcome

V2 = load_suite("leaderboard-v2")


def evaluated(name: str, ended_at: datetime) -> tuple[EvalJob, EvalOutcome]:
    """A whole evaluation of one benchmark that ended at this time."""
    job = eval_job(name).model_copy(update={"suite": V2.name})
    outcome = eval_outcome(job)
    result = outcome.evaluation.result.model_copy(
        update={"benchmark": name, "partial": False, "alarms": (), "remark": None}
    )
    evaluation = outcome.evaluation.model_copy(update={"result": result})
    return job, outcome.model_copy(update={"evaluation": evaluation, "ended_at": ended_at})


@pytest.fixture
def request_v2() -> CardRequest:
    jobs = tuple(evaluated(n, datetime(2026, 3, 1, tzinfo=UTC)) for n in ("bbh", "gpqa", "ifeval"))
    result = CandidateResult(run_id="r", candidate=candidate(1), engine=ENGINE, evaluated=jobs)
    return CardRequest(result=result, base=None, suite=None, name="x")


@pytest.fixture
def imported(home: Path, tmp_path: Path) -> ImportedCardRequest:
    """Whole runs of GSM8K and MMLU-Pro as lm-eval's own tasks ask them, and of a task by log-likelihood."""
    tasks = [
        Task("gsm8k_cot", {"exact_match,strict-match": [1.0] * 700 + [0.0] * 619}, "generate_until", 8),
        Task("mmlu_pro", {"acc": [1.0, 0.0] * 20}),
        Task("gpqa_diamond_cot_zeroshot", {"exact_match,flexible-extract": [1.0] * 100}, "generate_until"),
    ]
    write_run(tmp_path / "run", tasks, samples=False)
    (taken,) = import_path(tmp_path / "run", Settings.from_environment()).runs
    return ImportedCardRequest(run=taken.run, results=taken.results, suite=None, name="org/model")


def test_no_board_score_goes_into_eval_results(request_v2: CardRequest) -> None:
    with pytest.raises(CardError, match="GPQA: a normalized score"):
        written(request_v2, "eval-results")


def test_an_imported_run_goes_into_eval_results_where_the_hub_defines_it(
    imported: ImportedCardRequest,
) -> None:
    result = rendered(imported, "eval-results")
    (entry,) = parse_eval_result_entries(yaml.safe_load(result.text))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 53.07)
    assert entry.date == "2026-03-04T05:06:07Z"
    assert "date: '2026-03-04T05:06:07Z'" in result.text, "quoted, so that it stays text"
    assert "8-shot; exact_match,strict-match" in (entry.notes or "")
    assert [reason.partition(";")[0] for reason in result.refused] == [
        "mmlu_pro: choices scored by log-likelihood",
        "gpqa_diamond_cot_zeroshot: 100 of the 198 questions of Idavidrein/gpqa `gpqa_diamond`",
    ]


def test_an_imported_run_becomes_a_card(imported: ImportedCardRequest, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    for form in ("model-index", "table"):
        text, kept = updated(readme, rendered(imported, form))
        write_text(readme, text)
        assert kept == ()
    card = load_card(readme)
    (index,) = card.model_index or []
    assert [(r["dataset"]["name"], r["metrics"][0]["value"]) for r in index["results"]] == [
        ("gsm8k_cot (8-shot)", 53.07),
        ("mmlu_pro (0-shot)", 50.0),
        ("gpqa_diamond_cot_zeroshot (0-shot)", 100.0),
    ]
    assert "|gsm8k_cot (8-shot)" in readme.read_text()
    before = readme.read_bytes()
    write_text(readme, updated(readme, rendered(imported, "table"))[0])
    assert readme.read_bytes() == before, "a table replaces the one before"
    with pytest.raises(CardError, match="has no scores of smoke"):
        rendered(imported.model_copy(update={"suite": "smoke"}), "table")


def test_update_keeps_to_the_form(
    request_v2: CardRequest, imported: ImportedCardRequest, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\r\n\r\nText.\r\n", newline="")
    text, _ = updated(readme, rendered(request_v2, "model-index"))
    assert text.startswith("---\r\nmodel-index:\r\n- name: x\r\n")
    assert text.endswith("---\r\n# Mine\r\n\r\nText.\r\n")
    text, _ = updated(readme, rendered(request_v2, "table"))
    assert text.startswith("# Mine\r\n\r\nText.\r\n\r\n<!-- mergeboard: begin table -->\r\n|Metric")
    with pytest.raises(CardError, match=r"cannot hold \.eval_results"):
        updated(readme, rendered(imported, "eval-results"))
    results = tmp_path / ".eval_results" / "mergeboard.yaml"
    write_text(results, updated(results, rendered(imported, "eval-results"))[0])
    assert results.read_text().startswith("- dataset:")
    with pytest.raises(CardError, match="is not a card"):
        updated(results, rendered(request_v2, "table"))
    readme.write_text("license: mit\nmodel-index:\n- name: pasted\n\ntext\n")
    with pytest.raises(CardError, match="between two '---' lines"):
        updated(readme, rendered(request_v2, "model-index"))


def test_a_claim_that_is_not_among_the_scores_is_kept_and_named(
    request_v2: CardRequest, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    other = {
        "task": {"type": "text-generation"},
        "dataset": {"name": "AIME 2025", "type": "aime"},
        "metrics": [{"type": "pass@1", "value": 61.2}],
    }
    index = [{"name": "Old", "results": [other]}]
    readme.write_text(f"---\n{yaml.safe_dump({'model-index': index})}---\ntext\n")
    text, kept = updated(readme, rendered(request_v2, "model-index"))
    assert kept == ("AIME 2025",)
    (entry,) = yaml.safe_load(text.split("---")[1])["model-index"]
    assert entry["name"] == "x"
    assert entry["results"][-1] == other


def test_rounding_is_decided_once() -> None:
    assert [points_text(v) for v in (0.125, 0.135, 57.845, 57.84499999999999, 2.675, -0.001)] == [
        "0.12",
        "0.14",
        "57.84",
        "57.84",
        "2.68",
        "0.00",
    ]
    assert change_text(-1.8949) == "-1.89"
    assert change_text(-0.004) == "+0.00"
    assert rounded(-0.004) == 0.0


def test_a_pull_request_shows_the_change_and_needs_a_yes(
    imported: ImportedCardRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    with hub_server.running() as hub:
        hub.repositories["org/model"] = repository
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

        def call(*words: str) -> tuple[int, str, str]:
            monkeypatch.setattr("sys.argv", ["mergeboard", "card", imported.run.id, *words])
            with pytest.raises(SystemExit) as caught:
                cli.main()
            output = capsys.readouterr()
            return int(caught.value.code or 0), output.out, output.err

        monkeypatch.setenv("HF_TOKEN", "hf_good")
        code, _, error = call("--push", "org/model")
        assert (code, "Nothing was sent: a pull request needs a yes" in error) == (2, True), error
        assert "+model-index:" in error, "the change is shown first"
        assert hub.commits == []
        code, out, _ = call("--push", "org/model", "--yes")
        assert (code, out.strip()) == (0, f"{hub.endpoint}/org/model/discussions/1")
        (commit,) = hub.commits
        assert (commit.repository, commit.create_pr, commit.parent) == ("org/model", True, hub_server.COMMIT)
        assert commit.files["README.md"].startswith("---\nlicense: mit\nmodel-index:\n- name: org/model\n")
        assert commit.files["README.md"].endswith("---\n# A model\n")
        code, out, _ = call("--push", "org/model", "--format", "eval-results", "--yes", "--json")
        assert json.loads(out)["pull_request"].endswith("/discussions/2")
        assert "dataset" in hub.commits[1].files[".eval_results/mergeboard.yaml"]
        for repo, token, words in (
            ("org/missing", "hf_good", "no model org/missing"),
            ("org/model", "hf_reader", "refused the token for org/model (HTTP 403)"),
        ):
            monkeypatch.setenv("HF_TOKEN", token)
            code, _, error = call("--push", repo, "--yes")
            assert (code, words in error.replace("\n", " "), token in error) == (2, True, False), error
        monkeypatch.delenv("HF_TOKEN")
        code, _, error = call("--push", "org/model", "--yes")
        assert (code, "set HF_TOKEN" in error) == (2, True)
