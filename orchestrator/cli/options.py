"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# The values of EngineKind, ExecutionMode, RankMethod and ColourScale: those modules are too heavy for a command's help.
EngineChoice = Literal["vllm", "transformers"]
DtypeChoice = Literal["bfloat16", "float16", "float32"]
TemplateChoice = Literal["auto", "on", "off"]
ExecutionChoice = Literal["eager", "graphs", "compiled"]
RankChoice = Literal["balanced_z", "mean_delta"]
ColourChoice = Literal["own", "published", "full"]

ADDRESS_FORMS = "Ray cluster: HOST:6379, http://HOST:8265, ray://HOST:10001, or auto."

Address = Annotated[
    str | None,
    typer.Option(
        "--address", help=f"{ADDRESS_FORMS} Without it Ray is started on this machine.", metavar="ADDRESS"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text for people.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr: only results and errors.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Digests of jobs and weights too, and where in the code an error comes from."
    ),
]
EngineName = Annotated[EngineChoice, typer.Option("--engine", help="Inference engine.")]
Dtype = Annotated[DtypeChoice, typer.Option("--dtype", help="Dtype of weights and activations.")]
Execution = Annotated[
    ExecutionChoice | None,
    typer.Option("--execution", help="How vLLM runs; by default graphs on GPUs, else eager."),
]
BatchInvariant = Annotated[
    bool,
    typer.Option(
        "--batch-invariant", help="vLLM kernels whose results do not depend on the batch: slower, GPUs only."
    ),
]
Template = Annotated[
    TemplateChoice,
    typer.Option("--chat-template", help="Chat template of the tokenizer; auto: on where it has one."),
]
TryLive = Annotated[
    bool,
    typer.Option(
        "--try-live",
        help="Run layer paths live in any architecture: the engine checks itself when it opens; what it refuses is built instead.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, metavar="N", help="Only the first N documents of each subset; marked as partial."
    ),
]
ConfirmSuite = Annotated[
    str | None,
    typer.Option(
        "--confirm-suite", metavar="SUITE", help="Also score the confirmed layer paths on this suite."
    ),
]
Probes = Annotated[
    str | None,
    typer.Option(
        "--probes",
        metavar="KEY,KEY",
        help="Keys of the probes (`mergeboard suite show probes`); three scored ones by default.",
    ),
]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="VARIANT",
        help="How the second pass through a block runs: whole, attention, mlp, damped=0.5, or attention:damped=0.5 (repeatable).",
    ),
]
SourceMap = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="NAME=REPO@SHA",
        help="What a source name of a recipe stands for (repeatable).",
    ),
]
Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="A directory, an embedded name, or org/name@commit.", show_default=False
    ),
]
SweepPath = Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="A sweep file.", show_default=False)]
Whole = Annotated[
    bool,
    typer.Option(
        "--whole",
        help="Ask whole benchmarks although the sweep stops when it is decided; answers that were asked before are not asked again.",
    ),
]
RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Id of a run, or its beginning; `mergeboard status` lists them.",
        show_default=False,
    ),
]
FromRun = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="Only this run, by its id or the beginning of its id."),
]

Tasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        metavar="TASK,TASK",
        help="Tasks and groups of lm-eval, or of --include, instead of a suite.",
    ),
]
Include = Annotated[
    Path | None, typer.Option("--include", metavar="DIR", help="Folder of lm-eval task files of your own.")
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="TASK",
        help="Let this task of yours run the Python that it brings (repeatable).",
    ),
]
