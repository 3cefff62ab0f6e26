"""Samples beside result files: which belong to a run, and what they tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evals.claims.facts import Fact
from evals.errors import ClaimError
from evals.harness.tasks import load_tasks
from evals.results_files import FileFormat, read_logged_samples, samples_of, with_samples
from evals.scores import ChatTemplate
from evals.suite import load_suite
from tests.support.board_files import V2, benchmark, board_v2, logged, result, write, write_samples
from tests.support.result_files import import_results


def test_a_folder_with_samples_is_imported_and_agrees(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    subsets = benchmark("musr").subsets
    right = {s.task: rng.random(s.n_documents) < 0.6 for s in subsets}
    data = board_v2({k: int(v.sum()) for k, v in right.items()})
    write(tmp_path / "org__model", data)
    for task, answers in right.items():
        write_samples(tmp_path / "org__model", task, logged(task, answers))
    write_samples(
        tmp_path / "org__model", "leaderboard_musr_team_allocation", [], stamp="2023-01-01T00-00-00"
    )
    (run,) = import_results(tmp_path)
    musr = result(run, "musr")
    samples = samples_of(run, musr)
    assert len(samples) == 756
    better = with_samples(musr, samples, V2)
    assert better.measurement.estimate.value == pytest.approx(musr.measurement.result.normalized)
    assert not better.problems
    first = samples[0]
    assert (first.choices, first.response[:7]) == ((" answer 0", " answer 1"), " answer")
    assert first.prompt_hash == f"{7:064x}"[:16]


def test_samples_under_the_names_of_lm_eval_before_0_4_3(tmp_path: Path) -> None:
    subsets = benchmark("musr").subsets
    write(tmp_path, board_v2({s.task: 100 for s in subsets}))
    for s in subsets:
        write_samples(tmp_path, s.task, logged(s.task, np.arange(s.n_documents) < 100))
    for path in tmp_path.glob("samples_*"):
        task = path.name.removeprefix("samples_").rpartition("_")[0]
        path.rename(tmp_path / f"pretrained__org__model,dtype__bfloat16_{task}.jsonl")
    (run,) = import_results(tmp_path)
    assert (len(run.samples), run.problems) == (3, ())
    assert len(samples_of(run, result(run, "musr"))) == 756


def test_samples_that_tell_another_score_are_pointed_out(tmp_path: Path) -> None:
    tasks = [s.task for s in benchmark("musr").subsets]
    write(tmp_path, board_v2({t: 200 for t in tasks}))
    for s in benchmark("musr").subsets:
        write_samples(tmp_path, s.task, logged(s.task, np.arange(s.n_documents) < 100))
    (run,) = import_results(tmp_path)
    musr = result(run, "musr")
    assert "The samples give" in with_samples(musr, samples_of(run, musr), V2).problems[-1]


def test_arrays_of_2024_and_lists_of_values_are_read(tmp_path: Path) -> None:
    entries = [
        {
            "doc_id": i,
            "doc": {"prompt": f"p{i}"},
            "target": "0",
            "arguments": [[f"p{i}", {"until": []}]],
            "resps": [["An answer"]],
            "filtered_resps": ["An answer"],
            "prompt_level_strict_acc": i % 2 == 0,
            "inst_level_strict_acc": [True, i % 2 == 0],
            "prompt_level_loose_acc": True,
        }
        for i in range(4)
    ]
    path = write_samples(tmp_path, "leaderboard_ifeval", entries, lines=False)
    samples = read_logged_samples(path, benchmark("ifeval"), "leaderboard_ifeval")
    assert [s.metrics["inst_level_strict_acc"] for s in samples] == [1.0, 0.5, 1.0, 0.5]
    assert samples[0].weights == {"inst_level_strict_acc": 2.0}
    assert (samples[0].response, samples[0].choices) == ("An answer", ())
    assert len({s.doc_hash for s in samples}) == 4


@pytest.mark.parametrize("lines", [True, False])
def test_large_files_are_streamed(tmp_path: Path, lines: bool) -> None:
    """Thirty megabytes of prompts leave a few kilobytes of samples, entries longer than a chunk included."""
    entries = logged("leaderboard_mmlu_pro", np.arange(60) % 3 == 0, k=10, metric="acc")
    for i, entry in enumerate(entries):
        entry["doc"]["long"] = "é" * (5_000_000 if i == 7 else 300_000)
    path = write_samples(tmp_path, "leaderboard_mmlu_pro", entries, lines=lines)
    samples = read_logged_samples(path, benchmark("mmlu-pro"), "leaderboard_mmlu_pro")
    assert [s.doc_id for s in samples] == list(range(60))
    assert sum(s.correct for s in samples) == 20
    assert max(len(s.model_dump_json()) for s in samples) < 2000


def test_what_lm_eval_itself_writes_is_read(tmp_path: Path) -> None:
    """A real run of its dummy model, saved by its own tracker: every figure and sample agrees."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    smoke = load_suite("smoke")
    settings = smoke.eval_settings(ChatTemplate.OFF)
    tasks = {name: task for b in smoke.benchmarks[:2] for name, task in load_tasks(b, settings, None).items()}
    tracker = EvaluationTracker(output_path=str(tmp_path))
    results = lm_eval.simple_evaluate(
        model="dummy",
        model_args="pretrained=org/dummy",
        tasks=list(tasks.values()),
        limit=12,
        log_samples=True,
        evaluation_tracker=tracker,
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name, entries in samples.items():
        tracker.save_results_samples(task_name=name, samples=entries)
    (run,) = import_results(tmp_path, [smoke])
    assert (run.file.checkpoint, run.file.format) == ("org/dummy", FileFormat.HARNESS)
    assert run.file.facts.get(Fact.HARNESS_VERSION) == "0.4.13"
    for name in ("ifeval", "bbh"):
        found = result(run, name)
        answered = samples_of(run, found, [smoke])
        assert len(answered) == 12 * len(smoke.benchmark(name).subsets)
        better = with_samples(found, answered, smoke)
        assert better.measurement.estimate.value == pytest.approx(found.measurement.result.normalized)
        assert not better.problems
        assert found.measurement.result.partial


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no samples"),
        ('{"doc_id": 0, "acc_norm": 1.0}\n{"doc_id"', "entry 2 is truncated"),
        ("[1]", "entry 1 is not an object"),
        ('{"acc_norm": 1.0}', "no doc_id"),
        ('{"doc_id": 0, "acc_norm": NaN}', "no acc_norm"),
        ('{"doc_id": 0}', "no acc_norm"),
        ('{"doc_id": -1, "acc_norm": 1}', "no doc_id"),
    ],
)
def test_broken_samples_say_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "samples_leaderboard_musr_team_allocation_2025-01-01T00-00-00.jsonl"
    path.write_text(text)
    with pytest.raises(ClaimError, match=words):
        read_logged_samples(path, benchmark("musr"), "leaderboard_musr_team_allocation")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="does not exist"):
        import_results(tmp_path / "nothing")
    with pytest.raises(ClaimError, match="holds no result file"):
        import_results(tmp_path)
    (tmp_path / "results_x.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClaimError, match="not text"):
        import_results(tmp_path)
