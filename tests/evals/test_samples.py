"""Samples as Parquet files."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evals.errors import EvaluationError
from evals.samples import read_samples, write_samples
from evals.scores import Sample, SampleItem


def sample(doc_id: int, subset: str = "task") -> Sample:
    return Sample(
        benchmark="bench",
        subset=subset,
        doc_id=doc_id,
        doc_hash=f"{doc_id:016x}",
        prompt_hash=f"{doc_id:016x}",
        target="(A)",
        choices=("(A)", "(B)"),
        logprobs=(-0.1 - doc_id, -2.5),
        response="(A)",
        extracted="(A)",
        metrics={"acc": 1.0, "acc_norm": 0.0},
        correct=1.0,
    )


def test_samples_come_back_exactly(tmp_path: Path) -> None:
    written = Sample(
        benchmark="bench",
        subset="other",
        doc_id=0,
        doc_hash="0" * 16,
        prompt_hash="1" * 16,
        target="",
        response="Line one\nline two",
        extracted=None,
        n_tokens=7,
        truncated=True,
        metrics={"inst_level_strict_acc": 0.5},
        correct=0.5,
        weights={"inst_level_strict_acc": 2.0},
        items=(
            SampleItem(name="keywords:existence", metric="inst_level_strict_acc", value=1.0),
            SampleItem(name="punctuation:no_comma", metric="inst_level_strict_acc", value=0.0),
        ),
    )
    path = tmp_path / "deep" / "samples.parquet"
    write_samples(path, [sample(1), written])
    assert read_samples(path) == (sample(1), written)
    assert [p.name for p in path.parent.iterdir()] == ["samples.parquet"]


def test_a_file_of_an_earlier_version_has_no_items(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    write_samples(path, [sample(1)])
    pq.write_table(pq.read_table(path).drop_columns(["items"]), path)
    assert read_samples(path) == (sample(1),)


def test_they_are_small_and_one_subset_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    write_samples(path, [sample(i, f"task{i % 3}") for i in range(3000)])
    assert path.stat().st_size < 40 * 3000
    assert {s.subset for s in read_samples(path, subset="task1")} == {"task1"}
    assert len(read_samples(path, subset="task1")) == 1000
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_equal_samples_are_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_samples(tmp_path / name, [sample(i) for i in range(10)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_text_that_utf8_cannot_hold_is_kept_readable(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    write_samples(path, [sample(1).model_copy(update={"response": "a\ud83d", "choices": ("b\ud83d", "c")})])
    assert read_samples(path)[0].response == "a?"
    assert read_samples(path)[0].choices == ("b?", "c")


def test_files_that_are_no_samples_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_samples(broken)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_samples(tmp_path / "absent.parquet")
    import pyarrow as pa

    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"subset": ["x"]}), other)
    with pytest.raises(EvaluationError, match="lacks columns"):
        read_samples(other)
