"""Tasks that are in no suite of ours: read from a user's folder, equal to stock lm-eval sample by sample, on both engines."""

from __future__ import annotations

import math
import os
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import pytest

from evals.engine import EngineKind
from evals.errors import EvaluationError, SuiteError
from evals.harness import evaluate
from evals.harness.repeats import pass_at_k
from evals.samples import read_samples
from evals.scores import ChatTemplate
from evals.suite import OutputKind, Suite
from evals.suite_file import SuiteRequest, read_suite_file, resolve_suite
from tests.support.own_tasks import GREEDY, write_own_tasks
from tests.support.parity import SideBySide, spec_of

MIRROR = os.environ.get("MERGEBOARD_DATASETS")
OF_LM_EVAL = (
    "gsm8k_cot", "truthfulqa_mc1", "mmlu_anatomy", "mmlu_virology_generative", "arc_challenge_chat", "winogrande",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_tasks(tmp_path_factory.mktemp("own") / "tasks")


def own_suite(folder: Path, *tasks: str, name: str = "own") -> Suite:
    request = SuiteRequest(
        tasks=tasks, include=str(folder), allow_code=("own_scored",) * ("own_scored" in tasks), name=name
    )
    suite = resolve_suite(request, folder)
    return suite.model_copy(update={"settings": suite.settings.model_copy(update={"max_length": 256})})


def _differences(folder: Path, both: SideBySide, suite: Suite, tmp_path: Path) -> dict[str, list[str]]:
    settings = suite.eval_settings(ChatTemplate.OFF)
    differences = {}
    for b in suite.benchmarks:
        found = both.compare(b, settings, None, tmp_path, stock_folder=folder)
        # A document's log-probability is a sum over up to 300 tokens, a continuation's one over a few.
        limit = 1e-2 if b.output is OutputKind.PERPLEXITY else 1e-3
        logprob = [f"log-probability {found.worst_logprob}"] * (found.worst_logprob > limit)
        if found.differing or logprob:
            differences[b.name] = found.differing + logprob
    return differences


def test_ten_kinds_of_tasks_equal_stock_lm_eval(
    folder: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # stock lm-eval looks for data files from here
    suite = own_suite(folder, *GREEDY)
    both = SideBySide(suite, tiny_llama)
    assert len(suite.benchmarks) == 10
    assert {b.output for b in suite.benchmarks} == set(OutputKind)
    assert _differences(folder, both, suite, tmp_path) == {}
    both.engine.close()


@pytest.mark.slow
def test_ten_kinds_of_tasks_equal_stock_lm_eval_on_vllm(
    folder: Path, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real language model: vLLM's own detokenizer holds back the broken characters that random weights write."""
    from tests.support.stock_vllm import stock

    monkeypatch.chdir(folder)
    suite = own_suite(folder, *GREEDY)
    first = SideBySide(suite, demo_checkpoint, kind=EngineKind.VLLM, stock=object())  # type: ignore[arg-type]  # set below
    first.stock = stock(first.engine)  # type: ignore[arg-type]  # one vLLM engine fits into a process
    assert _differences(folder, first, suite, tmp_path) == {}
    first.engine.close()


@pytest.mark.slow
@pytest.mark.skipif(not MIRROR, reason="MERGEBOARD_DATASETS names no mirror of the benchmark data")
def test_tasks_of_lm_eval_by_name_equal_stock_lm_eval(tiny_llama: Path, tmp_path: Path) -> None:
    """Tasks that are in no suite of ours, on the mirror's data."""
    suite = resolve_suite(SuiteRequest(tasks=OF_LM_EVAL, name="of-lm-eval"), tmp_path)
    suite = suite.model_copy(update={"settings": suite.settings.model_copy(update={"max_length": 1024})})
    both = SideBySide(suite, tiny_llama)
    for benchmark in suite.benchmarks:
        settings = suite.eval_settings(ChatTemplate.OFF, limit=2)
        found = both.compare(benchmark, settings, Path(MIRROR or ""), tmp_path)
        assert (benchmark.name, found.differing) == (benchmark.name, [])
        assert found.worst_logprob < 1e-3
    both.engine.close()


def test_answers_drawn_at_random(folder: Path, tiny_llama: Path, tmp_path: Path) -> None:
    """pass@k by hand, the same texts again with the same seed, and others with another."""
    from evals.engines import open_engine

    suite = own_suite(folder, "own_sampled", name="sampled")
    label = "exact_match,digit"
    metrics = (f"pass@1:{label}", f"pass@3:{label}", f"maj@5:{label}", f"avg@6:{label}")
    benchmark = suite.benchmarks[0].model_copy(update={"metrics": metrics})
    engine = open_engine(spec_of(suite), tiny_llama)

    def run(
        number: int, seed: int = 1234
    ) -> tuple[list[str], dict[str, float], dict[str, float | None], list[dict[str, float]]]:
        settings = suite.eval_settings(ChatTemplate.OFF)
        settings = settings.model_copy(update={"seeds": settings.seeds.model_copy(update={"torch": seed})})
        path = tmp_path / f"{number}.parquet"
        done = evaluate(
            engine,
            suite,
            benchmark,
            settings,
            mirror=None,
            journal_dir=tmp_path / f"j{number}",
            samples_path=path,
        )
        samples = read_samples(path)
        return (
            [s.response for s in samples],
            {s.metric: s.value for s in done.scores},
            {s.metric: s.stderr for s in done.scores},
            [s.metrics for s in samples],
        )

    texts, scores, errors, by_question = run(1)
    assert run(2)[0] == texts
    assert run(3, seed=7)[0] != texts
    assert len(set(texts)) > 3
    for metric in metrics:
        values = [m[metric] for m in by_question]
        assert scores[metric] == pytest.approx(fmean(values))
        assert errors[metric] == pytest.approx(stdev(values) / math.sqrt(len(values)))
    # One of six draws, by the closed form: pass@1 is the mean over all six.
    assert scores[f"pass@1:{label}"] == pytest.approx(scores[f"avg@6:{label}"])
    engine.close()


@pytest.mark.parametrize(("n", "c", "k"), [(6, 0, 3), (6, 1, 3), (6, 2, 1), (6, 4, 3), (5, 5, 2), (8, 3, 8)])
def test_pass_at_k_counts_all_choices_of_k_answers(n: int, c: int, k: int) -> None:
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


def test_pass_at_k_needs_enough_answers(folder: Path, tiny_llama: Path, tmp_path: Path) -> None:
    from evals.engines import open_engine

    suite = own_suite(folder, "own_written", name="once")
    benchmark = suite.benchmarks[0].model_copy(update={"metrics": ("pass@2:exact_match,strict",)})
    engine = open_engine(spec_of(suite), tiny_llama)
    with pytest.raises(
        EvaluationError,
        match=r"needs 2 answers to each question, and own_written asks for 1: set `repeats: 2`",
    ):
        evaluate(
            engine, suite, benchmark, suite.eval_settings(ChatTemplate.OFF), mirror=None, journal_dir=tmp_path / "j",
            samples_path=tmp_path / "s.parquet",
        )  # fmt: skip
    engine.close()


def test_python_of_a_task_needs_its_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SuiteError, match=r"'own_scored' brings Python of its own \(own_code.even.*--allow-code own_scored"
    ):
        resolve_suite(SuiteRequest(tasks=("own_scored",), include=str(folder)), tmp_path)
    allowed = resolve_suite(
        SuiteRequest(tasks=("own_scored",), include=str(folder), allow_code=("own_scored",), name="allowed"),
        tmp_path,
    )
    assert allowed.benchmarks[0].code == ("own_scored",)
    assert "def digits" in allowed.benchmarks[0].files["own_code.py"]
    with pytest.raises(SuiteError, match="allow_code names nonsense"):
        resolve_suite(
            SuiteRequest(tasks=("own_free",), include=str(folder), allow_code=("nonsense",)), tmp_path
        )


def test_code_of_the_model_runs_without_rights(folder: Path, tiny_llama: Path, tmp_path: Path) -> None:
    """What it may not: read a secret, reach the network, fill memory, run for ever; what does not end has not passed."""
    from evals.harness.code_process import CodeProcess
    from evals.harness.tasks import load_tasks

    with pytest.raises(SuiteError, match=r"executes code that the model writes.*--allow-code own_program"):
        resolve_suite(SuiteRequest(tasks=("own_program",), include=str(folder)), tmp_path)
    suite = resolve_suite(
        SuiteRequest(
            tasks=("own_program",), include=str(folder), allow_code=("own_program",), name="programs"
        ),
        tmp_path,
    )
    (benchmark,) = suite.benchmarks
    settings = suite.eval_settings(ChatTemplate.OFF)
    tasks = load_tasks(benchmark, settings, None)
    with pytest.raises(EvaluationError, match="does not allow it by name"):
        CodeProcess(benchmark.model_copy(update={"code": ()}), tasks, settings, None)
    if os.geteuid() != 0:
        pytest.skip("becoming another user takes root")
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    programs = {
        "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'{}\\n')\n    except OSError:\n        pass": 0.0,
        "import sys; passed = sys.stdin.read() == ''": 1.0,
        "passed = 1 + 1 == 2": 1.0,
        "passed = False": 0.0,
        "import os; passed = os.getuid() == 65534 and os.getgroups() == []": 1.0,
        "import os; passed = 'MERGEBOARD_TEST_SECRET' in os.environ": 0.0,
        f"passed = False\ntry:\n    open({str(secret)!r})\nexcept PermissionError:\n    passed = True": 1.0,
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', PORT), 1)\n    passed = False\nexcept OSError:\n    passed = True": 1.0,
        "x = bytearray(20 * 2**30)": 0.0,
        "import os; os._exit(0)": 0.0,
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": 0.0,
        "import os\nfor _ in range(500):\n    os.fork()": 0.0,
    }
    import socket

    os.environ["MERGEBOARD_TEST_SECRET"] = "s"
    with socket.create_server(("127.0.0.1", 0)) as server, CodeProcess(benchmark, tasks, settings, None):
        for program, passed in programs.items():
            text = program.replace("PORT", str(server.getsockname()[1]))
            assert tasks["own_program"].process_results({"q": "?"}, [text]) == {"passed": passed}, program


def test_a_definition_that_lost_its_permission_runs_no_code(folder: Path) -> None:
    from evals.harness.tasks import load_tasks

    suite = own_suite(folder, "own_scored", name="lost")
    benchmark = suite.benchmarks[0].model_copy(update={"code": ()})
    with pytest.raises(SuiteError, match="brings Python of its own that its suite does not allow"):
        load_tasks(benchmark, suite.eval_settings(ChatTemplate.OFF), None)


def test_a_suite_file_names_tasks_or_holds_benchmarks(folder: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.yaml"
    short.write_text(f"tasks: [own_choice, own_pages]\ninclude: {folder}\n")
    suite = read_suite_file(short)
    assert [b.name for b in suite.benchmarks] == ["own_choice", "own_pages"]
    assert suite.benchmarks[1].lower_is_better
    assert suite.benchmarks[1].metrics == ("bits_per_byte",)
    assert Suite.model_validate_json(suite.text) == suite
    assert Suite.model_validate_json(suite.text).benchmarks[0].digest == suite.benchmarks[0].digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tasks: [no_such_task]", "no lm-eval task or group 'no_such_task'"),
        ("- a", "a suite file is a mapping"),
        ("name: x", "give `tasks: "),
        ("tasks: 3", "give a list of task names"),
        ("tasks: [humaneval]", "executes code that the model writes.*--allow-code humaneval"),
        ("tasks: [own_choice]\ninclude: nowhere", "There is no folder"),
        ("benchmarks: [{name: a}]", "benchmarks.0.title: Field required"),
    ],
)
def test_a_wrong_suite_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(SuiteError, match=words):
        read_suite_file(file)
