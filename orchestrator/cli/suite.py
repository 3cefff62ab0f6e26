"""mergeboard suite list, mergeboard suite show"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from evals.suite import Suite


def list_suites(as_json: options.AsJson = False) -> None:
    """List the suites and the set of probes, by the names that --suite and a sweep's `suites` take.

    \b
    Example:
      mergeboard suite list
    """
    from evals.probes import probe_keys
    from evals.scores import PROBE_SUITE
    from evals.suite import load_suite, suite_names
    from orchestrator.cli.console import print_rows

    suites = [load_suite(name) for name in suite_names()]
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
            metavar="SUITE", help="Name of a suite, or `probes` for all probes.", show_default=False
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """List the benchmarks of a suite with shots, metrics and documents, or all probes.

    \b
    Example:
      mergeboard suite show leaderboard-v2
    """
    from evals.scores import PROBE_SUITE
    from evals.suite import load_suite
    from orchestrator.cli.console import print_rows

    if suite == PROBE_SUITE:
        _show_probes(as_json)
        return
    chosen = load_suite(suite)
    if as_json:
        print(chosen.model_dump_json(indent=2))
        return
    typer.echo(f"{chosen.title} ({chosen.name})")
    print_rows(
        ("benchmark", "title", "shots", "asks for", "metrics", "subsets", "documents", "data set"),
        _benchmark_rows(chosen),
    )


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
