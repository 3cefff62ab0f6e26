"""The harness around a real engine: the same figures as stock lm-eval, resumption, limits, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lm_eval.api.instance import Instance

from evals.engine import (
    EngineKind,
    EngineSpec,
    GenerateRequest,
    GenerateResult,
    PathEngine,
    RequestFilter,
    ScoreRequest,
    accept_all,
)
from evals.engines import installed_version, open_engine
from evals.errors import EngineError, EvaluationError, JournalError, SuiteError
from evals.harness import Progress, evaluate, resolve_chat_template
from evals.harness.adapter import EngineLM
from evals.harness.progress import ProgressTracker
from evals.harness.tasks import load_tasks
from evals.harness.tokenization import Tokenization
from evals.journal import Journal
from evals.samples import read_samples
from evals.scores import ChatTemplate, EvalSettings, Evaluation
from evals.sharing import StretchLocks
from evals.suite import Benchmark, Suite, load_suite
from tests.support.engines_before import Before, Request
from tests.support.parity import SideBySide

SMOKE = load_suite("smoke")
PLAIN = SMOKE.eval_settings(ChatTemplate.OFF)


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Iterator[PathEngine]:
    spec = EngineSpec(
        kind=EngineKind.TRANSFORMERS,
        version=installed_version(EngineKind.TRANSFORMERS),
        dtype="float32",
        max_length=1024,
    )
    opened = open_engine(spec, tiny_llama)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def both(tiny_llama: Path) -> SideBySide:
    return SideBySide(SMOKE, tiny_llama)


class Broken(Before):
    """Fails after some answers, or leaves the first one out."""

    def __init__(self, behind: PathEngine, *, fail_after: int | None = None, leave_out: bool = False) -> None:
        super().__init__(behind)
        self.requests: list[Request] = []
        self._left = fail_after
        self._leave_out = leave_out

    def asked(self, requests: Sequence[Request]) -> None:
        self.requests += requests

    def answered(self, index: int, request: Request) -> bool:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise EngineError("The power went out.")
        return not self._leave_out or index != 0


def run(
    engine: PathEngine, name: str, folder: Path, settings: EvalSettings = PLAIN, **more: object
) -> Evaluation:
    return evaluate(
        engine,
        SMOKE,
        SMOKE.benchmark(name),
        settings,
        mirror=None,
        journal_dir=folder / "journal",
        samples_path=folder / "samples.parquet",
        **more,  # type: ignore[arg-type]  # passed on as they are
    )


def same(one: Evaluation, other: Evaluation) -> bool:
    passing = {"n_replayed", "duration_s"}
    return one.model_dump(exclude=passing) == other.model_dump(exclude=passing)


@pytest.mark.parametrize("template", [ChatTemplate.OFF, ChatTemplate.ON])
@pytest.mark.parametrize("name", [b.name for b in SMOKE.benchmarks])
def test_the_same_as_stock_lm_eval(
    both: SideBySide, tmp_path: Path, name: str, template: ChatTemplate
) -> None:
    found = both.compare(SMOKE.benchmark(name), SMOKE.eval_settings(template, limit=4), None, tmp_path)
    assert found.differing == []
    assert found.worst_logprob < 1e-3
    assert found.n_samples == 4 * len(SMOKE.benchmark(name).subsets)


@pytest.mark.parametrize("name", ["bbh", "math"])
def test_a_run_that_was_cut_goes_on_at_the_next_request(
    engine: PathEngine, tmp_path: Path, name: str
) -> None:
    settings = SMOKE.eval_settings(ChatTemplate.OFF, limit=12)
    whole = run(engine, name, tmp_path / "whole", settings)
    with pytest.raises(EngineError, match="power"):
        run(Broken(engine, fail_after=7), name, tmp_path / "cut", settings)
    rest = Broken(engine)
    resumed = run(rest, name, tmp_path / "cut", settings)
    assert same(resumed, whole)
    assert resumed.n_replayed >= 7
    assert len(rest.requests) <= whole.n_requests - 7
    assert read_samples(tmp_path / "cut/samples.parquet") == read_samples(tmp_path / "whole/samples.parquet")
    nothing = Broken(engine)
    assert same(run(nothing, name, tmp_path / "cut", settings), whole)
    assert nothing.requests == []


def test_a_journal_of_another_evaluation_is_refused(engine: PathEngine, tmp_path: Path) -> None:
    settings = SMOKE.eval_settings(ChatTemplate.OFF, limit=2)
    run(engine, "musr", tmp_path, settings, job="one")
    with pytest.raises(JournalError, match="another job"):
        run(engine, "musr", tmp_path, settings, job="two")
    with pytest.raises(JournalError, match="another job"):
        run(engine, "musr", tmp_path, SMOKE.eval_settings(ChatTemplate.ON, limit=2), job="one")


def test_an_answer_that_never_comes_is_no_score(engine: PathEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="without an answer"):
        run(Broken(engine, leave_out=True), "musr", tmp_path, SMOKE.eval_settings(ChatTemplate.OFF, limit=3))
    assert not (tmp_path / "samples.parquet").exists()


def test_one_request_for_all_choices_of_a_question(engine: PathEngine, tmp_path: Path) -> None:
    watched = Broken(engine)
    result = run(watched, "mmlu-pro", tmp_path, SMOKE.eval_settings(ChatTemplate.OFF, limit=5))
    assert (
        result.n_requests == len({s.prompt_hash for s in read_samples(tmp_path / "samples.parquet")})
        or result.n_requests == 5
    )
    assert all(isinstance(r, ScoreRequest) and len(r.continuations) == 10 for r in watched.requests)


def test_a_limit_makes_a_partial_score_of_the_first_documents(engine: PathEngine, tmp_path: Path) -> None:
    result = run(engine, "bbh", tmp_path, SMOKE.eval_settings(ChatTemplate.OFF, limit=3))
    assert result.result.partial
    assert {(s.n, s.n_full) for s in result.scores} == {(3, 48), (3, 50)}
    samples = read_samples(tmp_path / "samples.parquet")
    assert [(s.subset, s.doc_id) for s in samples] == [
        (task, i) for task in ("smoke_bbh_kinds", "smoke_bbh_days") for i in range(3)
    ]


def test_progress_counts_up_to_the_end(engine: PathEngine, tmp_path: Path) -> None:
    seen: list[Progress] = []
    settings = SMOKE.eval_settings(ChatTemplate.OFF, limit=6)
    run(engine, "musr", tmp_path, settings, on_progress=seen.append)
    assert [p.n_done for p in seen] == sorted(p.n_done for p in seen)
    assert (seen[0].n_done, seen[-1].n_done, seen[-1].n_total) == (0, 6, 6)
    assert seen[-1].share_done == 1.0
    assert seen[-1].n_tokens > 6 * 50
    again: list[Progress] = []
    run(engine, "musr", tmp_path, settings, on_progress=again.append)
    assert (again[-1].n_replayed, again[-1].n_tokens, again[-1].share_done) == (6, 0, 1.0)


def test_samples_say_what_was_asked_and_answered(engine: PathEngine, tmp_path: Path) -> None:
    run(engine, "ifeval", tmp_path / "i", SMOKE.eval_settings(ChatTemplate.ON, limit=4))
    for sample in read_samples(tmp_path / "i/samples.parquet"):
        assert sample.weights["inst_level_strict_acc"] in (1.0, 2.0)
        assert 0 < sample.n_tokens <= 40
        strict = sample.metrics["inst_level_strict_acc"] + sample.metrics["prompt_level_strict_acc"]
        assert sample.correct == strict / 2
        items = [item for item in sample.items if item.metric == "inst_level_strict_acc"]
        assert len(items) == sample.weights["inst_level_strict_acc"]
        assert all(":" in item.name for item in items), "IFEval's own names of instructions"
        assert sum(i.value for i in items) == sample.metrics["inst_level_strict_acc"] * len(items)
    run(engine, "musr", tmp_path / "m", SMOKE.eval_settings(ChatTemplate.ON, limit=4))
    for sample in read_samples(tmp_path / "m/samples.parquet"):
        per_character = [lp / len(c) for lp, c in zip(sample.logprobs, sample.choices, strict=True)]
        assert sample.response == sample.choices[per_character.index(max(per_character))]
        assert sample.correct == float(sample.response == sample.target)


def test_the_chat_template_of_auto(tiny_llama: Path, tmp_path: Path) -> None:
    from tests.support.tiny_checkpoints import tiny_checkpoint

    assert resolve_chat_template(tiny_llama) is ChatTemplate.ON
    bare = tiny_checkpoint(tmp_path / "bare", chat_template=False)
    assert resolve_chat_template(bare) is ChatTemplate.OFF
    with pytest.raises(EvaluationError, match=r"tokenizer of .* cannot be loaded"):
        resolve_chat_template(tmp_path / "absent")


def test_a_template_that_is_asked_for_and_not_there(tmp_path: Path) -> None:
    from tests.support.tiny_checkpoints import tiny_checkpoint

    bare = tiny_checkpoint(tmp_path / "bare", chat_template=False)
    spec = EngineSpec(kind=EngineKind.TRANSFORMERS, version=installed_version(EngineKind.TRANSFORMERS))
    with pytest.raises(EvaluationError, match="has no chat template; evaluate with `--chat-template off`"):
        run(open_engine(spec, bare), "musr", tmp_path, SMOKE.eval_settings(ChatTemplate.ON, limit=1))


def rows(mirror: Path, path: str, config: str | None, splits: dict[str, list[dict[str, object]]]) -> None:
    """A data set of a mirror, in the layout of the hub's."""
    folder = mirror / path
    (folder / "data").mkdir(parents=True)
    listed = ""
    for split, content in splits.items():
        pq.write_table(pa.Table.from_pylist(content), folder / "data" / f"{split}.parquet")
        listed += f"  - split: {split}\n    path: data/{split}.parquet\n"
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {config or 'default'}\n  data_files:\n{listed}---\n"
    )


def one_of(
    suite: Suite, name: str, engine: PathEngine, mirror: Path, settings: EvalSettings
) -> tuple[Evaluation, Benchmark]:
    benchmark = suite.benchmark(name)
    found = evaluate(
        engine,
        suite,
        benchmark,
        settings,
        mirror=mirror,
        journal_dir=mirror / "j",
        samples_path=mirror / "s.parquet",
    )
    return found, benchmark


def test_choices_that_are_prompts_of_their_own(engine: PathEngine, tmp_path: Path) -> None:
    """Winogrande puts each option into the context and scores what follows."""
    sentences = [
        {"sentence": f"The cat{i} saw the dog because _ was near.", "option1": f"Ann{i}", "option2": f"Bob{i}", "answer": "12"[i % 2]}
        for i in range(8)
    ]  # fmt: skip
    rows(tmp_path, "allenai/winogrande", "winogrande_xl", {"train": sentences, "validation": sentences})
    suite = load_suite("leaderboard-v1")
    found, _ = one_of(suite, "winogrande", engine, tmp_path, suite.eval_settings(ChatTemplate.OFF))
    assert found.n_requests == 16
    assert "1267 documents in winogrande" in (found.result.remark or "")
    assert "from 40398 documents" in (found.result.remark or "")
    for sample in read_samples(tmp_path / "s.parquet"):
        assert sample.target in sample.choices
        assert len(set(sample.choices)) == 2
        assert sample.correct == float(sample.response == sample.target)


def test_v1_draws_its_examples_in_the_boards_order(tmp_path: Path) -> None:
    """Documents shuffled with seed 42, each question's examples from the same stream."""
    import random

    train = [{"question": f"train {i}", "answer": f"#### {i}"} for i in range(30)]
    test = [{"question": f"test {i}", "answer": f"#### {i}"} for i in range(10)]
    rows(tmp_path, "openai/gsm8k", "main", {"train": train, "test": test})
    suite = load_suite("leaderboard-v1")
    task = load_tasks(suite.benchmark("gsm8k"), suite.eval_settings(ChatTemplate.OFF), tmp_path)["gsm8k"]
    stream = random.Random(42)
    shuffled = list(test)
    stream.shuffle(shuffled)
    for doc, expected in zip(task.eval_docs, shuffled, strict=True):
        assert doc["question"] == expected["question"]
        shots = stream.sample(train, 5)
        prompt = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in shots)
        assert task.fewshot_context(doc, 5) == f"{prompt}Question: {doc['question']}\nAnswer:"


def test_snarks_has_the_boards_line_break(tmp_path: Path) -> None:
    benchmark = load_suite("leaderboard-v2").benchmark("bbh")
    only = benchmark.model_copy(update={"subsets": (benchmark.subset("leaderboard_bbh_snarks"),)})
    rows(tmp_path, "SaylorTwift/bbh", "snarks", {"test": [{"input": "Which?", "target": "(A)"}] * 3})
    (task,) = load_tasks(only, PLAIN, tmp_path).values()
    prompt = task.fewshot_context(task.eval_docs[0], 3)
    assert "ambivalent or witty remarks.\nQ: Which statement is sarcastic?" in prompt


def test_a_target_that_is_no_choice_counts_as_wrong(engine: PathEngine, tmp_path: Path) -> None:
    benchmark = load_suite("leaderboard-v2").benchmark("bbh")
    only = benchmark.model_copy(update={"subsets": (benchmark.subset("leaderboard_bbh_navigate"),)})
    docs = [{"input": "Walk. Back?", "target": t} for t in ("Yes", "No", "(C)")]
    rows(tmp_path, "SaylorTwift/bbh", "navigate", {"test": docs})
    found = evaluate(
        engine,
        SMOKE,
        only,
        PLAIN,
        mirror=tmp_path,
        journal_dir=tmp_path / "j",
        samples_path=tmp_path / "s.parquet",
    )
    last = read_samples(tmp_path / "s.parquet")[-1]
    assert (last.target, last.correct) == ("(C)", 0.0)
    assert found.scores[0].n == 3


def test_gsm8k_reads_the_answer_after_its_mark(tiny_llama: Path, tmp_path: Path) -> None:
    docs = [{"question": f"How many is {i}?", "answer": f"It is.\n#### {i},000"} for i in range(1, 7)]
    rows(tmp_path, "openai/gsm8k", "main", {"train": docs, "test": docs})
    suite = load_suite("leaderboard-v1")
    said = {1: "#### 1,000", 2: "#### 2000", 3: "so 3000", 4: "#### 4,000.", 5: "", 6: "#### 7"}

    class Scripted(Broken):
        def generate(
            self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
        ) -> Iterator[tuple[int, GenerateResult]]:
            for index, request in enumerate(requests):
                assert request.stop == (":", "Question:", "Question")
                assert request.max_new_tokens == 256
                prompt = self._tokenizer.decode(request.prompt)
                number = int(prompt.rsplit("How many is ", 1)[1][0])
                yield index, GenerateResult(text=" " + said[number], n_tokens=3, finish_reason="stop")

    from transformers import AutoTokenizer

    spec = EngineSpec(kind=EngineKind.TRANSFORMERS, version=installed_version(EngineKind.TRANSFORMERS))
    scripted = Scripted(open_engine(spec, tiny_llama))
    scripted._tokenizer = AutoTokenizer.from_pretrained(tiny_llama)  # type: ignore[attr-defined]  # read by generate
    one_of(suite, "gsm8k", scripted, tmp_path, suite.eval_settings(ChatTemplate.OFF))
    found = {s.target.split("#### ")[1][0]: s for s in read_samples(tmp_path / "s.parquet")}
    assert {int(k) for k, s in found.items() if s.correct} == {1, 2}
    assert found["3"].extracted is None
    assert found["6"].extracted == "7"


def test_tasks_and_functions_that_are_not_there(tmp_path: Path) -> None:
    musr = SMOKE.benchmark("musr")
    for change, words in (
        ({"tasks": "mergeboard:nowhere"}, "names the task folder"),
        ({"tasks": "leaderboard/musr"}, "names the task 'smoke_musr_where'"),
        ({"prepare": "os.remove"}, "functions below evals.tasks only"),
        ({"prepare": "evals.tasks.gpqa.absent"}, "no function 'evals.tasks.gpqa.absent'"),
    ):
        with pytest.raises(SuiteError, match=words):
            load_tasks(musr.model_copy(update=change), PLAIN, None)


class Merging:
    """A tokenization of characters in which "a" and "b" are one token."""

    tokenizer = None
    prefix_token_id = 0

    def encode(self, text: str, *, add_special_tokens: bool | None = None) -> list[int]:
        return [ord(character) for character in text.replace("ab", "\u00df")]

    def encode_batch(self, texts: object) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize(
    ("context", "choice", "why"),
    [("which? a", "b", "merges it into the last tokens"), ("which? a", "", "it is an empty text")],
)
def test_a_choice_without_a_token_of_its_own_is_refused(
    engine: PathEngine, tmp_path: Path, context: str, choice: str, why: str
) -> None:
    lm = EngineLM(
        engine, cast("Tokenization", Merging()), cast("Journal", None), cast("ProgressTracker", None), cast("StretchLocks", None)
    )  # fmt: skip
    requests = [
        Instance("loglikelihood", {}, (context, text), number, metadata=("letters", 7, 1))
        for number, text in enumerate((" c", choice, "d"))
    ]
    words = rf"Choice 1 \('{choice}'\) of document 7 of letters has no token of its own, .*{why}"
    with pytest.raises(EvaluationError, match=words):
        lm.loglikelihood(requests)


def test_sampling_is_refused(engine: PathEngine, tmp_path: Path) -> None:
    wild = SMOKE.benchmark("ifeval").model_copy(
        update={"overrides": {"generation_kwargs": {"do_sample": True, "temperature": 1.0, "until": []}}}
    )
    with pytest.raises(EvaluationError, match="engines decode greedily"):
        evaluate(
            engine,
            SMOKE,
            wild,
            PLAIN,
            mirror=None,
            journal_dir=tmp_path / "j",
            samples_path=tmp_path / "s.parquet",
        )
