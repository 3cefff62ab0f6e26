"""Scores out: `model-index` as the board's bot wrote it, `.eval_results`, Markdown tables, a README's metadata."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump
from pydantic import Field

from evals.claims.facts import Fact, Facts
from evals.engine import Frozen
from evals.scores import BenchmarkScore, SuiteScore
from evals.suite import Benchmark, CardEntry, Suite
from orchestrator.cards.front_matter import KEY, decoded, with_model_index
from orchestrator.cards.read import read_bytes
from orchestrator.errors import CardError
from recipes.atomic_file import write_file

_TASK_TYPE = "text-generation"
_TASK_NAME = "Text Generation"
_SHOWN = (
    Fact.HARNESS_VERSION,
    Fact.ENGINE,
    Fact.DTYPE,
    Fact.QUANTIZATION,
    Fact.TEMPLATE,
    Fact.MULTITURN,
    Fact.LIMIT,
)


class CardSource(Frozen):
    """Who measured the scores, as a card names it."""

    name: str = Field(description="Name for people.")
    url: str = Field(description="Address where the result can be seen.")


def board_source(suite: Suite, checkpoint: str) -> CardSource | None:
    """The source that the board's bot wrote for a repository; only for scores that the board itself measured."""
    if suite.card_source_name is None or suite.card_source_url is None:
        return None
    return CardSource(name=suite.card_source_name, url=suite.card_source_url.format(checkpoint=checkpoint))


def writable(suite: Suite, score: SuiteScore) -> tuple[BenchmarkScore, ...]:
    """The benchmarks of a suite as they may stand in a card; CardError says why one may not."""
    if suite.smoke:
        raise CardError(
            f"Scores of {suite.title} only show that everything works; a card takes a leaderboard's suite."
        )
    if not score.benchmarks:
        raise CardError(f"There is no score of {suite.title} to write; evaluate the checkpoint first.")
    for result in score.benchmarks:
        if result.partial:
            raise CardError(
                f"{result.title} is partial ({result.n} documents); evaluate it without --limit before it goes in a card."
            )
        if result.alarms:
            alarm = result.alarms[0]
            raise CardError(
                f"{result.title} raised an alarm ({alarm.share:.0%} of its responses are {alarm.kind}); look at its "
                "samples before it goes in a card."
            )
        if suite.benchmark(result.benchmark).card is None:
            raise CardError(f"{result.title} has no place in a card; leave it out.")
    return score.benchmarks


def model_index(
    suite: Suite, score: SuiteScore, name: str, source: CardSource | None = None
) -> list[dict[str, Any]]:
    """The `model-index` of a card: the board's names and key order, normalized scores with two decimals."""
    results = []
    for result in writable(suite, score):
        card = suite.benchmark(result.benchmark).card
        if card is None:
            continue
        results.append(entry(card, card.dataset_name, result.normalized, source))
    index: list[dict[str, Any]] = ModelCardData(model_name=name, eval_results=results).to_dict()[KEY]
    return index


def entry(
    card: CardEntry, dataset_name: str, normalized: float, source: CardSource | None = None
) -> EvalResult:
    """One result of a `model-index`, in the board's own words but for the data set's name."""
    return EvalResult(
        task_type=_TASK_TYPE,
        task_name=_TASK_NAME,
        dataset_type=card.dataset_type,
        dataset_name=dataset_name,
        dataset_config=card.dataset_config,
        dataset_split=card.dataset_split,
        dataset_args={"num_few_shot": card.num_few_shot},
        metric_type=card.metric_type,
        metric_name=card.metric_name,
        metric_value=round(normalized, 2),
        source_name=source.name if source else None,
        source_url=source.url if source else None,
    )


def model_index_yaml(index: list[dict[str, Any]]) -> str:
    """The `model-index` as the text that stands between a card's '---' lines."""
    text: str = yaml_dump({KEY: index}, sort_keys=False)
    return text


def eval_results_yaml(
    suite: Suite,
    score: SuiteScore,
    facts: Facts,
    measured_at: Mapping[str, datetime.datetime],
    source: CardSource | None = None,
) -> str:
    """The content of a file in `.eval_results/`: one entry per benchmark, what it was measured with in its notes.

    `measured_at` says when the evaluation of each benchmark ended, by the benchmark's name; an entry without one
    has no date, and the hub then takes the day on which the file was added.
    """
    entries = []
    for result in writable(suite, score):
        benchmark = suite.benchmark(result.benchmark)
        notes = [f"{suite.title}, {benchmark.shots}-shot, normalized score", *_circumstances(facts)]
        if result.remark:
            notes.append(result.remark.rstrip("."))
        entries.append(
            EvalResultEntry(
                dataset_id=benchmark.dataset.path,
                task_id=benchmark.name,
                value=round(result.normalized, 2),
                date=_utc(measured_at.get(result.benchmark)),
                source_url=source.url if source else None,
                source_name=source.name if source else None,
                notes="; ".join(notes),
            )
        )
    text: str = yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return text


def markdown_table(suite: Suite, score: SuiteScore, facts: Facts) -> str:
    """The table of a card's body, as the board's bot laid it out, with what it was measured with below."""
    results = writable(suite, score)
    rows = [(_label(suite.benchmark(r.benchmark)), f"{r.normalized:.2f}") for r in results]
    if score.average is not None:
        rows.insert(0, ("Avg.", f"{score.average:.2f}"))
    elif score.partial_average is not None:
        missing = ", ".join(suite.benchmark(m).title for m in score.missing)
        rows.append((f"Mean of these {len(results)}, without {missing}", f"{score.partial_average:.2f}"))
    remarks = [f"- {r.title}: {r.remark}" for r in results if r.remark]
    below = [f"Measured with mergeboard: {'; '.join([suite.title, *_circumstances(facts)])}.", *remarks]
    return "\n".join([*_table(("Metric", "Value"), rows, right=(1,)), "", *below]) + "\n"


def improvement_table(suite: Suite, candidate: SuiteScore, base: SuiteScore, name: str) -> str:
    """Relative changes against the base, benchmark by benchmark, with the points below them so that none misleads.

    They are taken from the scores as a card shows them, with two decimals, so that a reader can follow them.
    """
    pairs = _pairs(suite, candidate, base)
    header = ("", *(title for title, _, _ in pairs))
    relative = [f"{(c / b - 1) * 100:+z.2f}%" if b > 0 else "n/a" for _, c, b in pairs]
    points = [f"{c - b:+z.2f}" for _, c, b in pairs]
    rows = [(f"{name}, relative change", *relative), (f"{name}, points", *points)]
    return "\n".join(_table(header, rows, right=tuple(range(1, len(header))))) + "\n"


def update_readme(card: str | bytes, index: list[dict[str, Any]], source: str = "README.md") -> str:
    """The card with this `model-index` in its front matter and every other character as it was."""
    return with_model_index(decoded(card, source), index, source)


def update_readme_file(path: Path, index: list[dict[str, Any]]) -> None:
    """Puts the `model-index` into a card's file; it is replaced whole or left as it was."""
    updated = update_readme(read_bytes(path), index, str(path)).encode("utf-8")
    try:
        write_file(path, updated)
    except OSError as error:
        raise CardError(f"Card {path} cannot be written ({error.strerror}); it is as it was.") from error


def _pairs(suite: Suite, candidate: SuiteScore, base: SuiteScore) -> list[tuple[str, float, float]]:
    """Title, candidate and base of the average (only where both have the board's) and of every common benchmark."""
    ours = {r.benchmark: r for r in writable(suite, candidate)}
    theirs = {r.benchmark: r for r in writable(suite, base)}
    common = [b for b in suite.benchmarks if b.name in ours and b.name in theirs]
    if not common:
        raise CardError(
            f"Candidate and base have no benchmark of {suite.title} in common; evaluate both first."
        )
    pairs = [
        (b.title, round(ours[b.name].normalized, 2), round(theirs[b.name].normalized, 2)) for b in common
    ]
    if candidate.average is not None and base.average is not None:
        pairs.insert(0, ("Average", round(candidate.average, 2), round(base.average, 2)))
    return pairs


def _utc(moment: datetime.datetime | None) -> str | None:
    """A moment as ISO 8601 in UTC, to the second."""
    return None if moment is None else moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _label(benchmark: Benchmark) -> str:
    return benchmark.card.dataset_name if benchmark.card is not None else benchmark.title


def _circumstances(facts: Facts) -> list[str]:
    """What the scores were measured with, in words that reading a card understands again."""
    return [f"{fact} {facts.known[fact]}" for fact in _SHOWN if fact in facts.known]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """A Markdown table with columns of equal width, the given ones aligned to the right."""
    clean = [[c.replace("|", "\\|") for c in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    lines = [
        "|"
        + "|".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))
        )
        + "|"
        for r in clean
    ]
    rule = "|" + "|".join("-" * (w - 1) + ":" if i in right else "-" * w for i, w in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:]]
