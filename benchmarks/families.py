"""Which model families run live layer paths, measured on tiny random checkpoints: the tables of docs/families.md.

    python -m benchmarks.families [--paths 60] [--families gemma2,gpt_oss] [--columns transformers,vllm,gpu] --results DIR
    python -m benchmarks.families --others [--paths 12] --results DIR
    python -m benchmarks.families --write docs/families.md --results DIR

Every cell is run: random layer paths (blocks, repeats, skips, lists) are built as checkpoints and loaded by the transformers
engine, and run live in the transformers engine, in vLLM (CPU build, float32) and in vLLM with the model runner of GPUs on CPU
tensors. Cells say the largest difference of a log-probability from the built checkpoint, and how many greedy texts part other than
at a tie of two tokens. `--others` tries architectures that no list of mergeboard names, by default in the transformers engine.

Results are kept in DIR, one file a family and column, so that a run can be continued and several can share the work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, Field

from benchmarks.family_cells import (
    Cell,
    build_reference,
    transformers_cell,
    vllm_cell,
)
from evals.engine import EngineKind
from evals.live_paths import untested_family
from tests.support.family_checkpoints import FAMILIES, random_checkpoint
from tests.support.other_architectures import OTHERS
from tests.support.random_paths import spelled

COLUMNS = ("transformers", "vllm", "gpu")
START, END = "<!-- table: python -m benchmarks.families -->", "<!-- end of table -->"
OTHERS_START, OTHERS_END = (
    "<!-- table: python -m benchmarks.families --others -->",
    "<!-- end of the table of others -->",
)


class FamilyResult(BaseModel):
    """A row of a table; a column that was not run is null."""

    model_type: str = Field(description="`model_type` of config.json.")
    architecture: str = Field(description="First entry of `architectures`.")
    built: str = Field(description="Number of paths that were built and loaded, and why others could not be.")
    transformers: Cell | None = Field(default=None, description="Live paths in the transformers engine.")
    vllm: Cell | None = Field(default=None, description="Live paths in vLLM's CPU build.")
    gpu: Cell | None = Field(
        default=None, description="Live paths in vLLM with the model runner of GPUs, on CPU tensors."
    )


def main() -> None:
    """Run the cells that the results lack, or write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families")
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--paths", type=int, default=60)
    parser.add_argument("--columns", help="Default: all, and with --others the transformers engine.")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    if options.write is not None:
        write_tables(options.write, options.results)
        return
    listed = OTHERS if options.others else FAMILIES
    families = options.families.split(",") if options.families else list(listed)
    columns = (options.columns or ("transformers" if options.others else ",".join(COLUMNS))).split(",")
    for model_type in families:
        missing = [name for name in columns if not _file(options.results, model_type, name).exists()]
        if not missing:
            continue
        row = measure_family(model_type, options.paths, missing)
        for name in missing:
            part = row.model_dump(include={"model_type", "architecture", "built", name})
            _file(options.results, model_type, name).write_text(json.dumps(part, indent=1), encoding="utf-8")
        print(table_row(row), flush=True)


def _file(results: Path, model_type: str, column: str) -> Path:
    return results / f"{model_type}.{column}.json"


def read_results(results: Path, model_types: Iterable[str]) -> list[FamilyResult]:
    """The rows of these families that were run, with all columns that were."""
    rows = []
    for model_type in model_types:
        # The first column's number of built paths is the row's: the last may have run fewer.
        files = [_file(results, model_type, column) for column in reversed(COLUMNS)]
        parts = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
        if parts:
            rows.append(FamilyResult.model_validate({k: v for part in parts for k, v in part.items()}))
    return rows


def measure_family(model_type: str, n_paths: int, columns: Iterable[str]) -> FamilyResult:
    """One row: builds, loads and runs `n_paths` random layer paths of a tiny checkpoint."""
    settings = FAMILIES.get(model_type, OTHERS.get(model_type, {}))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoint = spelled(random_checkpoint(root / "source", model_type, settings), root / "spelled")
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        reference = build_reference(checkpoint, n_paths)
        row = FamilyResult(
            model_type=model_type, architecture=config["architectures"][0], built=reference.built
        )
        # The transformers engine comes first because vLLM's engines run in processes of their own.
        if "transformers" in columns:
            row.transformers = transformers_cell(reference)
        if "vllm" in columns:
            row.vllm = vllm_cell(reference)
        if "gpu" in columns:
            row.gpu = vllm_cell(reference, gpu_runner=True)
        return row


def write_tables(page: Path, results: Path) -> None:
    """Replace the tables in the page by those of the results."""
    text = page.read_text(encoding="utf-8")
    text = _replaced(text, START, END, table(read_results(results, FAMILIES)))
    text = _replaced(text, OTHERS_START, OTHERS_END, table_of_others(read_results(results, OTHERS)))
    page.write_text(text, encoding="utf-8")


def _replaced(text: str, start: str, end: str, new: str) -> str:
    before, mark, rest = text.partition(start)
    if not mark:
        return text
    return f"{before}{start}\n{new}\n{end}{rest.partition(end)[2]}"


def table(rows: list[FamilyResult]) -> str:
    """The table of the families as Markdown."""
    head = (
        "| family | plan, unasked | built | live in transformers | live in vLLM, CPU | change of path | "
        "vLLM with the GPU's runner, on CPU tensors |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    return "\n".join([head, *map(table_row, rows)])


def table_row(row: FamilyResult) -> str:
    """One row of the table of the families."""
    cells = [f"`{row.model_type}`", _plan(row), row.built]
    cells += ["not run" if cell is None else cell.text for cell in (row.transformers, row.vllm)]
    change = row.vllm
    if change is None or change.change_ms is None or change.grown_mib is None:
        cells.append("")
    else:
        cells.append(f"{change.change_ms:.2f} ms, {change.grown_mib:+.1f} MiB")
    cells.append(_on_gpu_runner(row))
    return _row(cells)


def table_of_others(rows: list[FamilyResult]) -> str:
    """The table of the architectures that no list names, as Markdown."""
    head = "| architecture | built | live in transformers | live in vLLM, CPU |\n| --- | --- | --- | --- |"
    lines = []
    for row in rows:
        cells = ["not run" if cell is None else cell.text for cell in (row.transformers, row.vllm)]
        lines.append(_row([f"`{row.model_type}`", row.built, *cells]))
    return "\n".join([head, *lines])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _on_gpu_runner(row: FamilyResult) -> str:
    if row.gpu is not None:
        return row.gpu.text
    tested = untested_family(row.model_type, row.architecture, kind=EngineKind.VLLM, cpu=False) is None
    return "4 paths (`tests/gpu_runner`)" if tested else "not run"


def _plan(row: FamilyResult) -> str:
    kinds = {EngineKind.TRANSFORMERS: "transformers", EngineKind.VLLM: "vLLM"}
    live = [
        name
        for kind, name in kinds.items()
        if untested_family(row.model_type, row.architecture, kind=kind, cpu=True) is None
    ]
    return f"live in {' and '.join(live)}" if live else "built"


if __name__ == "__main__":
    main()
