"""mergeboard eval"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options


def evaluate(
    checkpoint: options.Checkpoint,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="SUITE",
            help="Suite to score: a name of `mergeboard suite list`, a file, a folder of task files, or a task of lm-eval.",
        ),
    ] = None,
    tasks: options.Tasks = None,
    include: options.Include = None,
    allow_code: options.AllowCode = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark", metavar="BENCHMARK", help="Only this benchmark of the suite (repeatable)."
        ),
    ] = None,
    limit: options.Limit = None,
    layer_path: Annotated[
        str | None,
        typer.Option(
            "--layer-path", metavar="PATH", help='Run this path of its layers, for example "(3, 5)".'
        ),
    ] = None,
    engine: options.EngineName = "vllm",
    dtype: options.Dtype = "bfloat16",
    execution: options.Execution = None,
    batch_invariant: options.BatchInvariant = False,
    try_live: options.TryLive = False,
    chat_template: options.Template = "auto",
    address: options.Address = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Score one checkpoint, or one layer path of it; the base of the path is scored beside it.

    \b
    Example:
      mergeboard eval demo/SmolLM2-135M-Instruct --suite smoke --layer-path "(3, 5)"
      mergeboard eval org/name@commit --tasks arc_easy,gsm8k_cot --limit 100
    """
    from orchestrator.cli.execution import Execution
    from orchestrator.plan.sweep import sweep_of_values
    from orchestrator.settings import Settings

    if not (suite or tasks):
        raise typer.BadParameter("Missing option '--suite' or '--tasks'.", param_hint="--suite")
    settings = Settings.from_environment()
    file = sweep_of_values(
        {
            "name": f"eval {checkpoint} {suite or tasks}"[:120],
            "base": checkpoint,
            "base_name": checkpoint[-120:],
            "recipes": [{"layer_path": layer_path}] if layer_path else [],
            "suites": [
                {
                    **({"suite": suite} if suite else {}),
                    **({"tasks": tasks.split(",")} if tasks else {}),
                    **({"include": str(include)} if include else {}),
                    **({"allow_code": allow_code} if allow_code else {}),
                    **({"benchmarks": benchmark} if benchmark else {}),
                    **({"limit": limit} if limit else {}),
                }
            ],
            "engines": [
                {
                    "kind": engine,
                    "dtype": dtype,
                    **({"execution": execution} if execution else {}),
                    **({"batch_invariant": True} if batch_invariant else {}),
                }
            ],
            "chat_template": chat_template,
            **({"try_live": True} if try_live else {}),
        },
        origin="mergeboard eval",
        options={
            "name": "CHECKPOINT",
            "base": "CHECKPOINT",
            "base_name": "CHECKPOINT",
            "recipes": "--layer-path",
            "suites": "--suite or --tasks",
            "suites.0.include": "--include",
            "suites.0.allow_code": "--allow-code",
            "suites.0.benchmarks": "--benchmark",
            "suites.0.limit": "--limit",
            "engines": "--engine",
            "engines.0.dtype": "--dtype",
            "engines.0.execution": "--execution",
            "chat_template": "--chat-template",
            "try_live": "--try-live",
        },
    )
    Execution(settings, address, as_json, quiet, verbose).of_sweep(file)
