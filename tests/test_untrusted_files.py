"""Files that somebody else made: bounded in time and memory, refused in a sentence, whatever they are."""

from __future__ import annotations

import json
import os
import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.errors import ClaimError, EvaluationError
from evals.results_files import read_logged_samples, read_result_file
from evals.samples import read_samples
from evals.suite import load_suite
from orchestrator import cli
from orchestrator.cards.read import load_card
from orchestrator.compare.run_comparisons import results_of_run
from orchestrator.errors import CardError, StoreError, SweepError
from orchestrator.plan.sweep import load_sweep
from orchestrator.store import Store
from recipes.checkpoint import Checkpoint, layer_tensor_name
from recipes.errors import CheckpointError, LayerPathError, RecipeError, RecipeSyntaxError
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath
from recipes.outside_file import MAX_JSON_VALUES, parse_json, read_file
from recipes.recipe import Recipe
from recipes.tensor_file import read_header
from recipes.yaml_text import load_yaml
from tests.support.demo_stores import demo_store
from tests.support.fuzz_campaign import Trial, run, summary
from tests.support.time_bound import cpu_bound
from tests.support.tiny_checkpoints import tiny_checkpoint


def _directory(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _missing(path: Path) -> None:
    assert not path.exists()


def _empty(path: Path) -> None:
    path.touch()


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def _utf16(path: Path) -> None:
    path.write_bytes("name: s\nbase: x\n".encode("utf-16"))


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 5_000_000_000)


KINDS = (_directory, _pipe, _loop, _device, _missing, _empty, _binary, _utf16, _huge)
COMMANDS = (
    ("plan", ".yaml"), ("plan", ".md"), ("run", ".yaml"), ("build", ".yaml", "--out", "OUT"), ("import", ".json"), ("import", ".md"),
    ("reproduce", ".md", "--dry-run"),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0] + c[1])
@pytest.mark.parametrize("make", KINDS, ids=lambda k: k.__name__)
def test_no_file_makes_a_traceback(
    make: Callable[[Path], None],
    command: tuple[str, ...],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"file{command[1]}"
    make(path)
    words = [command[0], str(path), *(str(tmp_path / "out") if w == "OUT" else w for w in command[2:])]
    monkeypatch.setattr("sys.argv", ["mergeboard", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    output = capsys.readouterr()
    assert caught.value.code == 2, output
    assert len(output.err.strip().splitlines()) == 1, output.err


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, word in (
        (tmp_path / "pipe", "pipe"),
        (Path("/dev/zero"), "device"),
        (tmp_path / "a\0b", "NUL"),
    ):
        with pytest.raises(OSError, match=word):
            read_file(path, 10)
    (tmp_path / "f").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_file(tmp_path / "f", 10)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" + "{}," * MAX_JSON_VALUES + "0]", "1" * 5_000, '{"a": "\xed\xa0\x80"', "NaN,"]
)
def test_json_is_bounded(text: str) -> None:
    with cpu_bound(2), pytest.raises(ValueError, match=r"values|deep|limit|Expecting|Extra|char"):
        parse_json(text)


def test_half_of_a_surrogate_pair_becomes_a_mark() -> None:
    assert parse_json(r'{"a\u0000": ["\ud800x"]}') == {"a\ufffd": ["?x"]}


@pytest.mark.parametrize(
    "text",
    ["- a\n" * 1_000_000, "[" * 1_000_000, "a: " * 1_000_000, "? " * 1_000_000, "a: &a [x]\nb: [" + "*a," * 900_000 + "]"],
    ids=["items", "brackets", "keys", "questions", "aliases"],
)  # fmt: skip
def test_yaml_of_four_megabytes_is_refused_quickly(text: str) -> None:
    with cpu_bound(5), pytest.raises(RecipeSyntaxError):
        load_yaml(text[:4_000_000], "x.yaml")


def test_layer_paths_and_grids_have_bounds() -> None:
    for text in (
        "(0, 1000000000)",
        "(0, 999999999)",
        "layers:0-999999999",
        "repeat:1*999999999",
        "layers:" + "9" * 99_000,
    ):
        with pytest.raises(LayerPathError):
            LayerPath.parse(text, 80)
    for text in ("i=0:99999999 j=1:99999999", "i=999999999", "max_added=999999999999"):
        with pytest.raises(LayerPathError):
            LayerPathGrid.parse(text).paths(80)


def test_sweep_fields_with_brackets_are_named(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\nbase: x\nsuites: [smoke]\n'[bold]': 1\n")
    with pytest.raises(SweepError, match="no such field"):
        load_sweep(tmp_path / "s.yaml")


def test_a_header_of_four_megabytes_is_read_in_a_second(tmp_path: Path) -> None:
    n = 64_000
    header = {f"m{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(n)}
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) > 4_000_000
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * n)
    with cpu_bound(2):
        assert len(read_header(tmp_path, "m.safetensors")) == n


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "U8", "shape": [1] * 100_000, "data_offsets": [0, 1]},
        {"dtype": "U8", "shape": [10**4000] * 16, "data_offsets": [0, 1]},
        {"dtype": "U8", "shape": [1e400], "data_offsets": [0, 1]},
    ],
    ids=["dimensions", "sizes", "infinity"],
)
def test_shapes_that_no_tensor_has_are_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    text = json.dumps({"w" * 100_000: entry}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0")
    with pytest.raises(CheckpointError) as caught:
        read_header(tmp_path, "m.safetensors")
    assert len(str(caught.value)) < 1_000


def test_layer_numbers_of_thousands_of_digits_are_no_layers() -> None:
    assert layer_tensor_name("model.layers." + "9" * 5_000 + ".w") is None


@pytest.mark.parametrize(
    "key", ["hidden_size", "vocab_size", "num_attention_heads", "max_position_embeddings"]
)
def test_sizes_that_no_config_has_are_refused(tmp_path: Path, key: str) -> None:
    tiny_checkpoint(tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(json.dumps({**config, key: 10**400}))
    with pytest.raises(CheckpointError, match=key):
        Checkpoint.open(tmp_path / "m")


def result_file(tmp_path: Path, **metrics: object) -> Path:
    path = tmp_path / "results_1.json"
    path.write_text(json.dumps({"results": {"leaderboard_musr_murder_mysteries": metrics}, "date": 10**400}))
    return path


@pytest.mark.parametrize("value", [10**400, float("inf"), float("-inf"), 1e308])
def test_numbers_that_no_metric_has_are_left_out(tmp_path: Path, value: float) -> None:
    file = read_result_file(result_file(tmp_path, **{"acc_norm,none": value, "sample_len": 2**80}))
    assert (file.tasks[0].metrics, file.tasks[0].n, file.measured_at) == ({}, None, None)


def samples_file(tmp_path: Path, lines: list[object]) -> Path:
    path = tmp_path / "samples_x.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def read(path: Path) -> int:
    return len(
        read_logged_samples(
            path, load_suite("leaderboard-v2").benchmark("musr"), "leaderboard_musr_murder_mysteries"
        )
    )


@pytest.mark.parametrize(
    "entry",
    [
        {"doc_id": 2**70, "acc_norm": 1},
        {"doc_id": 0, "acc_norm": 10**400},
        {"doc_id": 0, "metrics": [{}], "acc_norm": 1},
        {"doc_id": 0, "acc_norm": [1e308, 1e308, -1e308]},
    ],
    ids=["document", "integer", "name", "sum"],
)
def test_hostile_entries_are_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    with pytest.raises(EvaluationError):
        read(samples_file(tmp_path, [entry]))


def test_an_entry_that_never_ends_is_refused_with_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "samples_x.jsonl"
    path.write_bytes(b'{"doc_id": 0, "doc": [' + b"{}," * 30_000_000)
    tracemalloc.start()
    with pytest.raises(ClaimError, match="too long"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000_000


def test_thousands_of_answers_to_one_document_are_refused(tmp_path: Path) -> None:
    lines: list[object] = [{"doc_id": 0, "filter": str(n), "acc_norm": 1} for n in range(5_000)]
    with pytest.raises(ClaimError, match="exceeds the limits of one task"):
        read(samples_file(tmp_path, lines))


def test_many_short_entries_are_read_in_linear_time(tmp_path: Path) -> None:
    entry = {
        "acc_norm": 1.0,
        "arguments": [["c", " a"], ["c", " b"]],
        "resps": [[["-1", "True"]], [["-2", "False"]]],
    }
    path = samples_file(tmp_path, [{**entry, "doc_id": n} for n in range(20_000)])
    with cpu_bound(10):
        assert read(path) == 20_000


@pytest.mark.parametrize(
    "columns", [{"a": [1] * 3_000_000}, {f"c{n}": [1] for n in range(500)}, {"a": [{"b": {"c": [[[1]]]}}]}]
)
def test_parquet_of_another_making_is_refused(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(EvaluationError):
        read_samples(tmp_path / "s.parquet")


def test_a_store_whose_rows_are_no_records_is_refused(home: Path) -> None:
    demo_store(home)
    path = home / "store.sqlite"
    data = path.read_bytes().replace(b'"dtype"', b'"dt\xffpe"').replace(b'"kind"', b'"k\x80nd"')
    path.write_bytes(data)
    with Store.open(f"sqlite:///{path}", create=False, read_only=True) as store, pytest.raises(StoreError):
        store.snapshot()


def test_a_store_with_a_value_that_its_enum_does_not_have_is_refused(home: Path) -> None:
    demo_store(home)
    path = home / "store.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE runs SET ended_as = 'guess'")
    with Store.open(f"sqlite:///{path}", create=False, read_only=True) as store, pytest.raises(StoreError):
        store.snapshot()


@pytest.mark.parametrize("table", ["scores", "protocols"])
def test_results_whose_parts_are_gone_are_refused(home: Path, table: str) -> None:
    run_id = demo_store(home)
    path = home / "store.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"DELETE FROM {table}")
    with (
        Store.open(f"sqlite:///{path}", create=False, read_only=True) as store,
        pytest.raises(StoreError, match="Restore it from a backup"),
    ):
        results_of_run(store, run_id)


def test_cards_and_recipes_of_other_kinds_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.md")
    with pytest.raises(CardError, match="pipe"):
        load_card(tmp_path / "f.md")
    with pytest.raises(RecipeError, match="pipe"):
        Recipe.load(tmp_path / "f.md")


@pytest.mark.parametrize(
    "count", [300, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])]
)
def test_the_fuzz_campaign_finds_nothing(tmp_path: Path, count: int) -> None:
    trials = list(run(count, 1, tmp_path))
    assert [f"{t.number} {t.reader}: {t.problem}" for t in trials if t.problem is not None] == []
    figures: dict[str, list[Trial]] = {}
    for trial in trials:
        figures.setdefault(trial.reader, []).append(trial)
    assert sum(row["inputs"] for row in summary(figures).values()) == count
