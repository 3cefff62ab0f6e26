"""Which model families run live layer paths, measured on tiny random checkpoints: the table of docs/families.md.

    python -m benchmarks.families [--paths 60] [--families gemma2,gpt_oss] [--without-vllm] --results FILE.json
    python -m benchmarks.families --write docs/families.md --results FILE.json

Every cell is run: random layer paths (blocks, repeats, skips, lists) are built as checkpoints and loaded by the transformers
engine, and run live in the transformers engine and in vLLM (CPU build, float32). Cells say the largest difference of a
log-probability from the built checkpoint, and how many greedy texts part other than at a tie of two tokens. Results are kept by
family in the file, so that a run can be continued.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from pydantic import BaseModel, Field

from evals.engine import EngineKind, EngineTuning, PathEngine
from evals.errors import EngineError
from evals.live_paths import untested_family
from recipes.errors import RecipeError
from recipes.relayer import write_layer_path
from tests.support.engine_requests import largest_difference, opened, prompts_of, random_requests
from tests.support.family_checkpoints import FAMILIES, family_checkpoint, layers_of
from tests.support.random_paths import (
    Answers,
    Asked,
    Kind,
    Layers,
    answers,
    random_paths,
    spelled,
    text_differences,
)
from tests.support.tiny_checkpoints import VOCABULARY

START, END = "<!-- table: python -m benchmarks.families -->", "<!-- end of table -->"


class Cell(BaseModel):
    """One engine's layer paths of one family, compared with built checkpoints."""

    paths: int = Field(default=0, description="Number of layer paths.")
    largest: float = Field(default=0.0, description="Largest difference of a log-probability.")
    texts: int = Field(default=0, description="Number of greedy texts.")
    ties: int = Field(default=0, description="Texts that part where two tokens are equally likely.")
    parted: int = Field(default=0, description="Texts that part elsewhere.")
    way: str = Field(
        default="", description="How vLLM scores paths: `passes` of our own, or its `scheduler`."
    )
    refusal: str = Field(default="", description="Why the engine runs no path; empty if it does.")

    @property
    def text(self) -> str:
        """The cell as Markdown."""
        if self.refusal:
            return f"no: {self.refusal}"
        ties = f", {self.ties} ties in {self.texts} texts" if self.ties else ""
        parted = f", **{self.parted} texts differ**" if self.parted else ""
        way = f" ({self.way})" if self.way else ""
        return f"{self.paths} paths, {self.largest:.0e}{ties}{parted}{way}"


class FamilyResult(BaseModel):
    """A row of the table."""

    model_type: str = Field(description="`model_type` of config.json.")
    architecture: str = Field(description="First entry of `architectures`.")
    built: str = Field(description="Number of paths that were built and loaded, or why none can be.")
    transformers: Cell = Field(description="Live paths in the transformers engine.")
    vllm: Cell | None = Field(description="Live paths in vLLM's CPU build; null if not run.")


def main() -> None:
    """Run the families that the results lack, then write the table if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--paths", type=int, default=60)
    parser.add_argument("--without-vllm", action="store_true")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    results = read_results(options.results)
    if options.write is None:
        for model_type in options.families.split(","):
            row = results.get(model_type)
            if row is not None and (row.vllm is not None or options.without_vllm):
                continue
            results[model_type] = measure_family(
                model_type, options.paths, with_vllm=not options.without_vllm
            )
            print(table_row(results[model_type]), flush=True)
            data = {name: row.model_dump() for name, row in results.items()}
            options.results.write_text(json.dumps(data, indent=1), encoding="utf-8")
        return
    page = options.write.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    rows = [results[name] for name in FAMILIES if name in results]
    options.write.write_text(f"{before}{START}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def read_results(path: Path) -> dict[str, FamilyResult]:
    """Results by family; none if the file does not exist."""
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {name: FamilyResult.model_validate(row) for name, row in data.items()}


def measure_family(model_type: str, n_paths: int, *, with_vllm: bool) -> FamilyResult:
    """One row: builds, loads and runs `n_paths` random layer paths of a tiny checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoint = spelled(family_checkpoint(root / "source", model_type), root / "spelled")
        paths = paths_of(layers_of(checkpoint), n_paths)
        requests = random_requests(3, vocabulary=VOCABULARY, count=3, longest=45)
        asked = Asked(requests, prompts_of(requests[:2], new=6))
        references: list[Answers] = []
        built = f"{len(paths)} of {len(paths)} paths"
        try:
            references = [built_answers(checkpoint, path, asked) for path in paths]
        except RecipeError as error:
            built = f"no: {error}".replace(str(root), "")
        in_transformers = live_cell(EngineKind.TRANSFORMERS, checkpoint, paths, asked, references)
        in_vllm = live_cell(EngineKind.VLLM, checkpoint, paths, asked, references) if with_vllm else None
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        return FamilyResult(
            model_type=model_type,
            architecture=config["architectures"][0],
            built=built,
            transformers=in_transformers,
            vllm=in_vllm,
        )


def paths_of(n_layers: int, count: int) -> list[Layers]:
    """So many random paths, of all kinds."""
    by_kind = [random_paths(kind, n_layers, each=-(-count // len(Kind))) for kind in Kind]
    return [path for group in zip(*by_kind, strict=True) for path in group][:count]


def built_answers(checkpoint: Path, path: Layers, asked: Asked) -> Answers:
    """The answers of a path that is built and loaded by the transformers engine."""
    folder = checkpoint.parent / "built"
    try:
        write_layer_path(checkpoint, path, folder)
        with opened(EngineKind.TRANSFORMERS, folder) as engine:
            return answers(engine, asked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def live_cell(
    kind: EngineKind, checkpoint: Path, paths: list[Layers], asked: Asked, references: list[Answers]
) -> Cell:
    """Live paths of one engine, compared with the built checkpoints."""
    extra = max(map(len, paths)) - layers_of(checkpoint)
    tuning = EngineTuning(threads=1, live=True, extra_layer_slots=max(extra, 1), kv_cache_gib=0.25)
    try:
        with opened(kind, checkpoint, tuning) as engine:
            live = [on_path(engine, path, asked) for path in paths]
            way = "" if kind is EngineKind.TRANSFORMERS else way_of(engine)
    except EngineError as error:
        return Cell(refusal=str(error).splitlines()[0].replace(str(checkpoint), "it"))
    cell = Cell(paths=len(references), way=way, texts=len(references) * len(asked.prompts))
    answered = list(zip(paths, live, references, strict=False))
    cell.largest = max((largest_difference(mine[0], other[0]) for _, mine, other in answered), default=0.0)
    differing = [(path, mine[1], other[1]) for path, mine, other in answered if mine[1] != other[1]]
    if differing:
        with opened(EngineKind.TRANSFORMERS, checkpoint) as judge:
            for path, texts, others in differing:
                judge.set_layer_path(path)
                ties, parted = text_differences(judge, asked.prompts, texts, others)
                cell.ties, cell.parted = cell.ties + ties, cell.parted + parted
    return cell


def on_path(engine: PathEngine, path: Layers, asked: Asked) -> Answers:
    """The engine's answers on a layer path."""
    engine.set_layer_path(path)
    return answers(engine, asked)


def way_of(engine: PathEngine) -> str:
    """How a vLLM engine scores layer paths."""
    return "own passes" if getattr(engine, "_unscheduled", None) is not None else "scheduler"


def table(rows: list[FamilyResult]) -> str:
    """The table as Markdown."""
    head = "| family | plan, unasked | built | live in transformers | live in vLLM, CPU | live in vLLM, GPU |\n| --- | --- | --- | --- | --- | --- |"
    return "\n".join([head, *map(table_row, rows)])


def table_row(row: FamilyResult) -> str:
    """One row of the table."""
    cells = [f"`{row.model_type}`", _plan(row), row.built, row.transformers.text]
    cells.append("not run" if row.vllm is None else row.vllm.text)
    on_gpu = untested_family(row.model_type, row.architecture, kind=EngineKind.VLLM, cpu=False)
    cells.append("not run on a GPU; its runner on CPU tensors" if on_gpu is None else "not run")
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


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
