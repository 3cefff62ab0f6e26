"""mergeboard suite list, mergeboard suite show, mergeboard suite init"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from evals.suite import Suite


def list_suites(as_json: options.AsJson = False) -> None:
    """List the suites and the set of probes, by the names that --suite and a sweep's `suites` take.

    Suites of your own are listed once a run has scored them; every task of lm-eval is a suite of its own by name.

    \b
    Example:
      mergeboard suite list
    """
    from evals.probes import probe_keys
    from evals.scores import PROBE_SUITE
    from evals.suite import load_suite, suite_names
    from orchestrator.cli.console import print_rows

    stored = {suite.name: suite for suite in _stored_suites()}
    suites = [*map(load_suite, suite_names()), *stored.values()]
    if as_json:
        data = [
            {"name": s.name, "title": s.title, "benchmarks": [b.name for b in s.benchmarks]} for s in suites
        ]
        data.append({"name": PROBE_SUITE, "title": "Probes", "benchmarks": list(probe_keys())})
        print(json.dumps(data, indent=2))
        return
    rows = [(s.name, s.title, ", ".join(b.name for b in s.benchmarks)) for s in suites]
    rows.append(
        (PROBE_SUITE, "Probes", f"{len(probe_keys())} screening sets, never reported as benchmark scores")
    )
    print_rows(("suite", "title", "benchmarks"), rows)


def show_suite(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE",
            help="A suite's name, file or folder, a task or group of lm-eval, or `probes` for all probes.",
            show_default=False,
        ),
    ],
    include: options.Include = None,
    allow_code: options.AllowCode = None,
    as_json: options.AsJson = False,
) -> None:
    """Explain a suite: shots, metrics, documents, data, and how each column is computed; or list all probes.

    \b
    Example:
      mergeboard suite show leaderboard-v2
      mergeboard suite show my-suite.yaml
    """
    from evals.datasets import DatasetState, check
    from evals.scores import PROBE_SUITE
    from evals.suite_file import SuiteRequest, resolve_suite
    from evals.suite_text import formula
    from orchestrator.cli.console import print_rows
    from orchestrator.settings import Settings

    if suite == PROBE_SUITE:
        _show_probes(as_json)
        return
    _stored_suites()
    request = SuiteRequest(
        suite=suite, include=str(include) if include else None, allow_code=tuple(allow_code or ())
    )
    chosen = resolve_suite(request, Path.cwd())
    if as_json:
        print(chosen.model_dump_json(indent=2))
        return
    typer.echo(f"{chosen.title} ({chosen.name})")
    print_rows(
        ("benchmark", "title", "shots", "asks for", "metrics", "subsets", "documents", "data set"),
        _benchmark_rows(chosen),
    )
    mirror = Settings.from_environment().datasets
    for benchmark in chosen.benchmarks:
        typer.echo(f"{benchmark.name} = {formula(benchmark)}")
        if benchmark.code:
            typer.echo(f"  runs the Python of {', '.join(benchmark.code)}")
        if check(benchmark, mirror).state is not DatasetState.AVAILABLE:
            typer.echo(f"  its data is not here; get it with: mergeboard data get {suite}")


def init_suite(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.", show_default=False)],
    tasks: Annotated[
        str,
        typer.Option("--tasks", metavar="TASK,TASK", help="Tasks and groups of lm-eval, or of --include."),
    ],
    include: options.Include = None,
    allow_code: options.AllowCode = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a suite of lm-eval tasks as a file to edit: metrics, shots, answers, lower bounds, data sets, with comments.

    \b
    Example:
      mergeboard suite init my-suite.yaml --tasks arc_easy,gsm8k_cot
    """
    import os

    from evals.harness.describe import with_data_facts
    from evals.suite_file import SuiteRequest, read_suite_file, resolve_suite
    from evals.suite_of_tasks import metrics_of_tasks
    from evals.suite_text import suite_text
    from orchestrator.errors import SweepError
    from orchestrator.settings import Settings
    from recipes.atomic_file import write_file

    if file.exists() and not force:
        raise SweepError(f"{file} exists; choose another name, or replace it with --force.")
    if file.suffix not in (".yaml", ".yml"):
        raise SweepError(f"{file} is no name of a suite file; let it end in .yaml.")
    names = tuple(name.strip() for name in tasks.split(",") if name.strip())
    request = SuiteRequest(
        tasks=names,
        include=str(include) if include else None,
        allow_code=tuple(allow_code or ()),
        name=file.stem,
    )
    suite = resolve_suite(request, Path.cwd())
    mirror = Settings.from_environment().datasets
    described = suite.model_copy(
        update={"benchmarks": tuple(with_data_facts(b, mirror) for b in suite.benchmarks)}
    )
    text = suite_text(
        described,
        other_metrics=metrics_of_tasks(names, include),
        include=os.path.relpath(include, file.parent) if include else None,
        allow_code=allow_code or (),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, text.encode())
    read_suite_file(file)
    typer.echo(
        f"{file}: {len(suite.benchmarks)} benchmarks. Try it with: mergeboard suite show {file}; mergeboard eval CHECKPOINT --suite {file} "
        "--limit 20"
    )


def _stored_suites() -> tuple[Suite, ...]:
    """The users' suites of the store, which are known by name from now on; none where there is no store."""
    from orchestrator.errors import StoreError
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    try:
        with Store.open(Settings.from_environment().database_url, create=False, read_only=True) as store:
            return store.suites()
    except StoreError:
        return ()


def _benchmark_rows(suite: Suite) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for benchmark in suite.benchmarks:
        counts = [subset.n_documents for subset in benchmark.subsets]
        documents = f"{sum(c or 0 for c in counts):,}" if all(counts) else "unknown"
        place = "shipped" if benchmark.dataset.shipped else benchmark.dataset.path
        rows.append(
            (
                benchmark.name,
                benchmark.title,
                str(benchmark.shots),
                benchmark.output.value.replace("_", " "),
                ", ".join(benchmark.metrics),
                str(len(benchmark.subsets)),
                documents,
                f"{place} (gated)" if benchmark.dataset.gated else place,
            )
        )
    return rows


def _show_probes(as_json: bool) -> None:
    from evals.probes import SCAN_KEYS, probe_keys, probe_pair
    from orchestrator.cli.console import print_rows

    pairs = [(key, *probe_pair(key)) for key in probe_keys()]
    if as_json:
        data = [
            {
                "key": key,
                "family": search.family.value,
                "difficulty": search.difficulty.value,
                "form": search.form.value,
                "search_questions": len(search.items),
                "confirmation_questions": len(confirmation.items),
                "asked_by_default": key in SCAN_KEYS,
            }
            for key, search, confirmation in pairs
        ]
        print(json.dumps(data, indent=2))
        return
    rows = [
        (
            key,
            search.form.value,
            str(len(search.items)),
            str(len(confirmation.items)),
            "yes" if key in SCAN_KEYS else "",
        )
        for key, search, confirmation in pairs
    ]
    print_rows(
        ("probe", "answers are", "search questions", "confirmation questions", "asked by default"), rows
    )
