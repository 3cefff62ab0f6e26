"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="Ray cluster; without it Ray is started on this machine.", metavar="ADDRESS"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]
EngineName = Annotated[str, typer.Option("--engine", help="vllm or transformers.")]
Dtype = Annotated[str, typer.Option("--dtype", help="bfloat16, float16 or float32.")]
BatchInvariant = Annotated[
    bool,
    typer.Option(
        "--batch-invariant", help="vLLM kernels whose results do not depend on the batch: slower, GPUs only."
    ),
]
Template = Annotated[
    str, typer.Option("--chat-template", help="on, off, or auto: on where the tokenizer has one.")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only the first N documents of each subset; marked as partial."),
]
SuiteName = Annotated[str, typer.Option("--suite", help="Suite to score.")]
SourceMap = Annotated[
    list[str] | None, typer.Option("--source", help="NAME=REPO@SHA: what a recipe's source name stands for.")
]
SweepPath = Annotated[Path, typer.Argument(help="A sweep file (YAML).", show_default=False)]
RunId = Annotated[
    str, typer.Argument(help="Id of a run, as `mergeboard status` lists them.", show_default=False)
]
