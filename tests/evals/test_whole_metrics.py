"""Metrics over all documents at once: equal to lm-eval's, with intervals and paired differences from sums per document."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from lm_eval.api import metrics as lm_eval_metrics

from evals.benchmark import Formula
from evals.engines import open_engine
from evals.errors import EvaluationError
from evals.harness import evaluate
from evals.harness.corpus import vectors_of
from evals.samples import read_samples
from evals.scores import ChatTemplate, Evaluation, Sample
from evals.stats import SignificanceTest, delta, documents, estimate
from evals.stats.formulas import statistics, value
from evals.suite import Benchmark, Suite
from evals.suite_file import SuiteRequest, read_suite_file, resolve_suite
from evals.suite_text import formula, suite_text
from orchestrator.compare import Side, compare, measurement_of
from tests.support.parity import spec_of

RNG = np.random.default_rng(7)
_WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps"]
_TEXTS = [" ".join(RNG.choice(_WORDS, 3 + n % 9)) for n in range(60)]
_OTHERS = [" ".join(RNG.choice(_WORDS, 3 + n % 9)) if n % 3 else text for n, text in enumerate(_TEXTS)]
_GOLD = RNG.integers(0, 2, 60).tolist()
_GUESS = [int(g) if n % 4 else 1 - int(g) for n, g in enumerate(_GOLD)]
CASES: dict[str, tuple[Formula, list[object]]] = {
    "f1": (Formula.F1, list(zip(_GOLD, _GUESS, strict=True))),
    "mcc": (
        Formula.MCC,
        list(zip(RNG.integers(0, 4, 60).tolist(), RNG.integers(0, 4, 60).tolist(), strict=True)),
    ),
    "bleu": (Formula.BLEU, list(zip(_TEXTS, _OTHERS, strict=True))),
    "chrf": (Formula.CHRF, list(zip(_TEXTS, _OTHERS, strict=True))),
    "chrf++": (Formula.CHRF, list(zip(_TEXTS, _OTHERS, strict=True))),
    "ter": (Formula.TER, list(zip(_TEXTS, _OTHERS, strict=True))),
    "brier_score": (Formula.BRIER, [(g, RNG.dirichlet([1, 1, 1]).tolist()) for g in _GOLD]),
    "perplexity": (Formula.PERPLEXITY, RNG.normal(-3, 1, 60).tolist()),
    "word_perplexity": (Formula.PERPLEXITY, [(-40.0 - n, 10 + n % 7) for n in range(60)]),
}
OF_LM_EVAL = {
    "f1": lm_eval_metrics.f1_score,
    "mcc": lm_eval_metrics.matthews_corrcoef,
    "bleu": lambda items: lm_eval_metrics.bleu(items) / 100,
    "chrf": lambda items: lm_eval_metrics.chrf(items) / 100,
    "chrf++": lambda items: lm_eval_metrics.chrfpp(items) / 100,
    "ter": lambda items: lm_eval_metrics.ter(items) / 100,
    "brier_score": lm_eval_metrics.brier_score,
    "perplexity": lm_eval_metrics.perplexity,
    "word_perplexity": lm_eval_metrics.weighted_perplexity,
}


@pytest.mark.parametrize("metric", CASES)
def test_the_formulas_are_lm_evals_on_any_part_of_the_documents(metric: str) -> None:
    formula, items = CASES[metric]
    for part in (items, items[:7], items[30:31], items[1:2] * 3):
        expected = float(OF_LM_EVAL[metric](part))
        vectors = vectors_of(formula, metric, part, expected)
        assert vectors is not None, (metric, len(part))
        sums = statistics(formula, np.array(vectors)[:, None]).sum(axis=0)
        assert value(formula, sums)[0] == pytest.approx(expected, abs=1e-9)
    assert vectors_of(formula, metric, items, 0.123) is None  # another formula under the same name


# --- on an engine ------------------------------------------------------------------------------------------------------

FILES = {
    "f1.yaml": """
task: whole_f1
dataset_path: json
dataset_kwargs: {data_files: {test: data.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_choice: [" no", " yes"]
doc_to_target: label
metric_list: [{metric: f1}]
""",
    "mcc.yaml": "include: f1.yaml\ntask: whole_mcc\nmetric_list: [{metric: mcc}]\n",
    "brier.yaml": "include: f1.yaml\ntask: whole_brier\nmetric_list: [{metric: brier_score}]\n",
    "bleu.yaml": """
task: whole_bleu
include: f1.yaml
output_type: generate_until
doc_to_choice: null
doc_to_target: text
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: bleu}, {metric: chrf}, {metric: ter}]
""",
    "pages.yaml": """
task: whole_pages
include: f1.yaml
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_choice: null
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
""",
    "own.yaml": "include: f1.yaml\ntask: whole_own\nmetric_list: [{metric: acc, aggregation: !function own.worst, higher_is_better: true}]\n",
    "own.py": "def worst(items):\n    return min(items)\n",
}
TASKS = ("whole_f1", "whole_mcc", "whole_brier", "whole_bleu", "whole_pages", "whole_own")


@pytest.fixture(scope="module")
def measured(
    tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Suite, dict[str, tuple[Evaluation, tuple[Sample, ...]]]]:
    folder = tmp_path_factory.mktemp("whole")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    rows = [{"q": f"Is {t}?", "label": g, "text": t} for t, g in zip(_TEXTS[:24], _GOLD, strict=False)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = SuiteRequest(tasks=TASKS, include=str(folder), allow_code=("whole_own",), name="whole")
    suite = resolve_suite(request, folder)
    suite = suite.model_copy(update={"settings": suite.settings.model_copy(update={"max_length": 256})})
    results = {}
    engine = open_engine(spec_of(suite), tiny_llama)
    # lm-eval starts processes for its own bootstrap, which is not compared here.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(importlib.import_module("evals.harness.evaluate"), "_BOOTSTRAP", 2)
    for benchmark in suite.benchmarks:
        path = folder / f"{benchmark.name}.parquet"
        evaluation = evaluate(
            engine,
            suite,
            benchmark,
            suite.eval_settings(ChatTemplate.OFF),
            mirror=None,
            journal_dir=folder / "journal" / benchmark.name,
            samples_path=path,
        )
        results[benchmark.name] = evaluation, read_samples(path)
    monkeypatch.undo()
    engine.close()
    return suite, results


def test_columns_have_lm_evals_value_and_an_interval(
    measured: tuple[Suite, dict[str, tuple[Evaluation, tuple[Sample, ...]]]],
) -> None:
    suite, results = measured
    formulas = {b.name: b.formula for b in suite.benchmarks}
    assert formulas == dict(
        zip(TASKS, ("f1", "mcc", "brier_score", "bleu", "perplexity", "other"), strict=True)
    )
    for benchmark in suite.benchmarks[:-1]:
        evaluation, samples = results[benchmark.name]
        score = next(s for s in evaluation.scores if s.metric == benchmark.metrics[0])
        assert all(sample.sums for sample in samples)
        found = estimate(documents([samples], benchmark))
        assert found.value == pytest.approx(100 * score.value, abs=1e-6) == evaluation.result.normalized
        assert found.interval.low <= found.value <= found.interval.high
        measurement = measurement_of(evaluation, benchmark, "x", samples)
        assert measurement.estimate == found


def test_a_metric_whose_formula_or_error_is_unknown_has_no_interval_and_no_difference(
    measured: tuple[Suite, dict[str, tuple[Evaluation, tuple[Sample, ...]]]],
) -> None:
    suite, results = measured
    for name in ("whole_own", "whole_pages"):
        evaluation, samples = results[name]
        benchmark = suite.benchmark(name)
        kept = samples if name == "whole_own" else ()  # pages: as in a store without its samples
        measurement = measurement_of(evaluation, benchmark, "x", kept)
        assert measurement.estimate.stderr_points == 100.0
        assert (
            measurement.estimate.interval.low
            <= measurement.estimate.value
            <= measurement.estimate.interval.high
        )
        side = Side(measurement, kept)
        (compared,) = compare([side], {"candidate": [side]}, [suite])
        assert compared.rows[0].delta is None
        assert (
            "has neither samples that it can be computed from nor a standard error"
            in compared.rows[0].refused[0]
        )


def test_a_paired_difference_of_two_classifiers() -> None:
    """The better one of two that err on different questions is shown better; one against itself is not."""
    gold = RNG.integers(0, 2, 300)
    right = {"base": RNG.random(300) < 0.7, "candidate": RNG.random(300) < 0.9}
    benchmark = Benchmark.model_validate(
        {
            "name": "b", "title": "b", "tasks": "", "shots": 0, "metrics": ["f1"], "aggregation": "pooled", "formula": "f1",
            "output": "multiple_choice", "extraction": "choice", "dataset": {"path": "x"}, "subsets": [{"task": "t"}],
        }
    )  # fmt: skip
    sides = {
        name: [
            Sample(
                benchmark="b", subset="t", doc_id=i, doc_hash="a", prompt_hash="a", target="", response="", correct=float(ok),
                metrics={"f1": float(ok)}, sums=(float(g), float(g if ok else 1 - g)),
            )
            for i, (g, ok) in enumerate(zip(gold, oks, strict=True))
        ]
        for name, oks in right.items()
    }  # fmt: skip
    found = delta(documents([sides["base"], sides["candidate"]], benchmark))
    assert found.test is SignificanceTest.BOOTSTRAP
    assert found.p < 0.001
    assert 0 < found.interval.low < found.delta_points < found.interval.high
    assert (found.gained, found.lost) == (
        int((right["candidate"] & ~right["base"]).sum()),
        int((~right["candidate"] & right["base"]).sum()),
    )
    same = delta(documents([sides["base"], sides["base"]], benchmark))
    assert (same.delta_points, same.p) == (0, 1)
    bare = [s.model_copy(update={"sums": ()}) for s in sides["base"]]
    with pytest.raises(EvaluationError, match="do not determine f1, which is computed over all documents"):
        estimate(documents([bare], benchmark))


@pytest.mark.parametrize("formula", [Formula.F1, Formula.MCC])
def test_intervals_cover_the_true_value(formula: Formula) -> None:
    """95 % intervals of 150 questions, 400 simulations; the true value is that of a million questions."""
    from evals.stats.resample import SubsetDocuments, draws, interval

    def sums(n: int) -> np.ndarray:
        gold = (RNG.random(n) < 0.4).astype(float)
        guess = np.where(RNG.random(n) < 0.8, gold, 1 - gold)
        return statistics(formula, np.stack([gold, guess], axis=-1)[:, None])

    truth = 100 * value(formula, sums(1_000_000).sum(axis=0))[0]
    covered = 0
    for seed in range(400):
        blank = np.zeros((150, 1, 1))
        subset = SubsetDocuments("t", 0.0, blank, blank[:, 0] + 1, formula=formula, sums=sums(150))
        covered += interval(draws([subset], True, 400, seed)[:, 0]).holds(float(truth))
    assert 0.92 <= covered / 400 <= 0.98


def test_a_suite_file_with_a_formula_is_read_as_it_was_written(tmp_path: Path) -> None:
    suite = resolve_suite(SuiteRequest(tasks=("wikitext",), name="w"), tmp_path)
    page = suite.benchmarks[0].model_copy(
        update={"metrics": ("word_perplexity",), "formula": Formula.PERPLEXITY}
    )
    assert formula(page) == "100 * word_perplexity over all documents (lower is better)"
    text = suite_text(suite.model_copy(update={"benchmarks": (page,)}), other_metrics={})
    (tmp_path / "w.yaml").write_text(text)
    assert read_suite_file(tmp_path / "w.yaml").benchmarks[0].digest == page.digest
