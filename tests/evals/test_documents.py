"""The questions beside the samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.datasets import content_digest, find_dataset
from evals.documents import Document, documents_path, question_of, read_documents, write_documents
from evals.errors import EvaluationError
from evals.harness.evaluate import store_questions
from evals.harness.tasks import load_tasks
from evals.samples import read_samples
from evals.scores import ChatTemplate
from evals.suite import load_suite
from tests.evals.test_harness import engine, run  # noqa: F401 - a fixture

SMOKE = load_suite("smoke")
BBH = SMOKE.benchmark("bbh")
SETTINGS = SMOKE.eval_settings(ChatTemplate.OFF, limit=3)


def test_every_sample_finds_its_question(engine: object, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    """All questions are kept whatever the limit, and without the examples that stand before them in a prompt."""
    run(engine, "bbh", tmp_path, SETTINGS, home=tmp_path)  # type: ignore[arg-type]  # any engine
    path = tmp_path / documents_path(BBH.digest, content_digest(find_dataset(BBH, None), BBH))
    found = read_documents(path)
    assert len(found) == 98
    samples = read_samples(tmp_path / "samples.parquet")
    assert len(samples) == 6
    for sample in samples:
        question = question_of(sample, found)
        assert question is not None
        assert question.count("Q: ") <= 1
    assert set(read_documents(path, subset="smoke_bbh_days")) == {("smoke_bbh_days", i) for i in range(48)}
    other = samples[0].model_copy(update={"doc_hash": "0" * 16})
    assert question_of(other, found) is None


def test_the_questions_are_written_once(tmp_path: Path) -> None:
    tasks = load_tasks(BBH, SETTINGS, None)
    store_questions(tmp_path, BBH, tasks, None)
    (path,) = (tmp_path / "documents").iterdir()
    before = path.stat().st_mtime_ns
    store_questions(tmp_path, BBH, tasks, None)
    assert path.stat().st_mtime_ns == before
    assert path.stat().st_size < 12_000


def test_without_a_file_there_are_no_questions_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert read_documents(tmp_path / "none.parquet") == {}
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(EvaluationError, match=r"broken\.parquet cannot be read"):
        read_documents(broken)


def test_half_a_character_is_marked(tmp_path: Path) -> None:
    one = Document(subset="s", doc_id=0, doc_hash="0" * 16, question="half \ud83d")
    write_documents(tmp_path / "one.parquet", [one])
    assert read_documents(tmp_path / "one.parquet")["s", 0].question == "half ?"
