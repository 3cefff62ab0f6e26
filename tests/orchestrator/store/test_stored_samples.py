"""Samples are checked against their hash whenever they are read, and a bad file is the reason of its own row alone."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from dashboard.comparer import Comparer
from evals.errors import SamplesError
from evals.samples import SCHEMA, StoredSamples, write_samples
from evals.suite import load_suite
from orchestrator.compare import Comparison
from orchestrator.compare.family import RunFamily
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.compare.sides import compare_names
from orchestrator.errors import RunError
from orchestrator.exchange.imports import import_path
from orchestrator.search.probe_answers import read_probe
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.tables import evaluations
from tests.orchestrator.exchange.test_imports import MUSR, answers, gained, run_folder
from tests.support.demo_stores import Maker
from tests.support.made_results import Made, block, samples_of
from tests.support.probe_store import probe_store

SUITE = load_suite("smoke").model_copy(update={"benchmarks": load_suite("smoke").benchmarks[:2]})
X, Y = block(12, 14, ability=0.4), block(3, 6, ability=0.5)


@pytest.fixture
def run_id(store: Store, tmp_path: Path) -> str:
    return Maker(store, tmp_path, SUITE, n=6, whole=False).run((Made("base"), X, Y))


def gone(file: Path, other: Path) -> str:
    file.unlink()
    return "are gone"


def swapped(file: Path, other: Path) -> str:
    shutil.copy(other, file)
    return "their sha256 differs"


def edited(file: Path, other: Path) -> str:
    """One answer made right, the file's size and times kept as far as one can."""
    before = file.stat()
    made = Made("another", ability=1.0)
    write_samples(file, samples_of(made, SUITE.benchmarks[0], 6))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return "their sha256 differs"


def cut(file: Path, other: Path) -> str:
    file.write_bytes(file.read_bytes()[:-100])
    return "their sha256 differs"


def outside(file: Path, other: Path) -> str:
    elsewhere = file.parents[2] / f"{file.name}.elsewhere"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)
    return "lie outside of MERGEBOARD_HOME"


WAYS = [gone, swapped, edited, cut, outside]


def files_of(store: Store, run_id: str, home: Path) -> dict[tuple[str, str], tuple[str, Path]]:
    """Job and samples file of every candidate's benchmarks."""
    return {
        (result.candidate.name, job.benchmark): (job.digest, home / outcome.samples_path)
        for result in results_of_run(store, run_id)
        for job, outcome in result.evaluated
    }


def expect_one_refusal(found: tuple[Comparison, ...], benchmark: str, digest: str, words: str) -> None:
    """X is refused in one benchmark; its other one and all of Y are compared."""
    rows = {(c.candidate, r.benchmark): r for c in found for r in c.rows}
    (reason,) = rows[X.name, benchmark].refused
    assert rows[X.name, benchmark].delta is None
    assert f"The samples of job {digest}, " in reason
    assert words in reason
    assert "; " in reason  # the next step
    assert [key for key, row in rows.items() if row.delta is None] == [(X.name, benchmark)]


@pytest.mark.parametrize("spoil", WAYS)
def test_a_bad_file_refuses_its_own_row_and_no_other(
    store: Store, run_id: str, tmp_path: Path, spoil: Callable[[Path, Path], str]
) -> None:
    benchmark = SUITE.benchmarks[0].name
    files = files_of(store, run_id, tmp_path)
    digest, file = files[X.name, benchmark]
    words = spoil(file, files[Y.name, benchmark][1])
    expect_one_refusal(run_comparisons(results_of_run(store, run_id), tmp_path), benchmark, digest, words)
    (named,) = compare_names(store, [X.name], "base", tmp_path)
    assert [words in " ".join(r.refused) for r in named.rows] == [True, False]
    # No flag can force what is not known to be the answers.
    (forced,) = compare_names(store, [X.name], "base", tmp_path, force=True)
    assert forced.rows[0].delta is None


def test_where_nothing_is_left_to_compare_it_is_an_error(store: Store, run_id: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "samples")
    with pytest.raises(
        RunError, match=r"The samples of job [0-9a-f]{16}, .* are gone .*; restore MERGEBOARD_HOME"
    ):
        run_comparisons(results_of_run(store, run_id), tmp_path)
    with pytest.raises(RunError, match="are gone"):
        compare_names(store, [X.name], "base", tmp_path)


def test_a_file_that_was_stored_broken_is_contained(
    store: Store, run_id: str, tmp_path: Path, url: str
) -> None:
    benchmark = SUITE.benchmarks[0].name
    digest, file = files_of(store, run_id, tmp_path)[X.name, benchmark]
    file.write_bytes(b"PAR1" + b"\0" * 200 + b"PAR1")
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(
            sa.update(evaluations)
            .where(evaluations.c.job_digest == digest)
            .values(samples_sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        )
    engine.dispose()
    expect_one_refusal(
        run_comparisons(results_of_run(store, run_id), tmp_path), benchmark, digest, "cannot be read"
    )


def test_the_dashboard_refuses_the_same_row_until_the_file_is_back(
    store: Store, run_id: str, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = SUITE.benchmarks[0].name
    digest, file = files_of(store, run_id, tmp_path)[X.name, benchmark]
    kept = file.read_bytes()
    words = cut(file, file)
    with Pages.open(url, create=False, read_only=True) as pages:
        assert isinstance(pages, Pages)
        comparer = Comparer(pages, tmp_path)
        key = pages.columns(run_id)[0].engine_key

        def compared() -> tuple[Comparison, ...]:
            for position in (1, 2):
                comparer.now(run_id, 0, (position, key))
            return comparer.ask(run_id, 0, RunFamily.comparisons)

        found = compared()
        expect_one_refusal(found, benchmark, digest, words)
        file.write_bytes(kept)
        assert compared() == found
        monkeypatch.setattr("dashboard.comparer._AGAIN_S", -1.0)
        assert all(row.delta is not None for comparison in compared() for row in comparison.rows)


def test_samples_of_an_imported_run_that_were_altered_are_not_used(
    tmp_path: Path, home: Path, store: Store, url: str
) -> None:
    settings = Settings(home=home, database_url=url, datasets=None, ray_address=None)
    right = answers()
    for name, values in (("base", right), ("variant", gained(right))):
        import_path(run_folder(tmp_path / name, values), settings)
    (run,) = store.find_imports("org/variant")
    (result,) = (r for r in store.imported_results([run.id])[run.id] if r.samples_path)
    assert result.benchmark == MUSR.name
    file = home / str(result.samples_path)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(RunError, match=rf"imported run {run.id}, .* sha256 differs\); import it again"):
        compare_names(store, ["org/variant"], "org/base", home)


def test_probes_are_read_from_the_file_that_was_stored(home: Path) -> None:
    run_id = probe_store(home)
    with Store.open(f"sqlite:///{home}/store.sqlite", read_only=True) as store:
        planned = store.run_jobs(run_id)[1]
        outcome = store.outcomes([planned.job.digest])[planned.job.digest]
    read_probe(planned.job, outcome, home)  # type: ignore[arg-type] # an evaluation
    file = home / outcome.samples_path  # type: ignore[union-attr] # an evaluation
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(SamplesError, match=f"job {planned.job.digest}, .* sha256 differs"):
        read_probe(planned.job, outcome, home)  # type: ignore[arg-type] # an evaluation


def test_a_file_outside_of_the_home_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    write_samples(file, samples_of(Made("x"), SUITE.benchmarks[0], 1))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(StoredSamples(tmp_path, "a.parquet", sha256, "job 1").read()) == len(
        SUITE.benchmarks[0].subsets
    )
    with pytest.raises(SamplesError, match="outside of MERGEBOARD_HOME"):
        StoredSamples(tmp_path / "home", "../a.parquet", sha256, "job 1").read()


@pytest.mark.parametrize(
    "change",
    [{"metrics": None}, {"doc_id": None}, {"logprobs": None}, {"choices": [None]}, {"subset": None}],
    ids=str,
)
def test_rows_that_are_no_samples_are_refused_in_a_sentence(
    tmp_path: Path, change: dict[str, object]
) -> None:
    file = tmp_path / "a.parquet"
    write_samples(file, samples_of(Made("x"), SUITE.benchmarks[0], 1))
    rows = [{**row, **change} for row in pq.read_table(file).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(SamplesError, match=r"samples of job 1, .* cannot be read \(.*\); evaluate again"):
        StoredSamples(tmp_path, "a.parquet", sha256, "job 1").read()
