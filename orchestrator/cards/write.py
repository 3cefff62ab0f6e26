"""Write scores: `model-index` in the leaderboard bot's form, `.eval_results`, tables, README metadata."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import yaml_dump
from pydantic import Field

from evals.claims.facts import Fact, Facts
from evals.engine import Frozen
from evals.rounding import change_text, points_text, rounded
from evals.scores import BenchmarkScore, SuiteScore
from evals.suite import Benchmark, CardEntry, Suite
from orchestrator.cards.front_matter import KEY, decoded, with_model_index
from orchestrator.cards.hub_results import HubValue, hub_yaml
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
    """The source of scores in a card."""

    name: str = Field(description="Display name.")
    url: str = Field(description="Address of the result.")


def board_source(suite: Suite, checkpoint: str) -> CardSource | None:
    """The source that the leaderboard's bot wrote for a repository; only for its own scores."""
    if suite.card_source_name is None or suite.card_source_url is None:
        return None
    return CardSource(name=suite.card_source_name, url=suite.card_source_url.format(checkpoint=checkpoint))


def writable(suite: Suite, score: SuiteScore) -> tuple[BenchmarkScore, ...]:
    """The benchmarks of a suite for a card. Raises CardError if one must not be written."""
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
    """The `model-index` of a card: leaderboard names and key order, normalized scores with two decimals."""
    results = []
    for result in writable(suite, score):
        card = suite.benchmark(result.benchmark).card
        if card is None:
            continue
        value = shown_value(suite.benchmark(result.benchmark), result)
        results.append(entry(card, card.dataset_name, value, source))
    index: list[dict[str, Any]] = ModelCardData(model_name=name, eval_results=results).to_dict()[KEY]
    return index


def shown_value(benchmark: Benchmark, result: BenchmarkScore) -> float:
    """A score as others write it: from 0 to 100, but a perplexity or another metric without bounds as it is."""
    unbounded = benchmark.lower_is_better or abs(result.normalized) > 100
    return result.raw if unbounded else result.normalized


def entry(
    card: CardEntry, dataset_name: str, normalized: float, source: CardSource | None = None
) -> EvalResult:
    """One result of a `model-index`, with the leaderboard's texts except for the data set's name."""
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
        metric_value=rounded(normalized),
        source_name=source.name if source else None,
        source_url=source.url if source else None,
    )


def model_index_yaml(index: list[dict[str, Any]]) -> str:
    """The `model-index` as YAML for the metadata of a card."""
    text: str = yaml_dump({KEY: index}, sort_keys=False)
    return text


def eval_results_yaml(
    suite: Suite,
    score: SuiteScore,
    facts: Facts,
    measured_at: Mapping[str, datetime.datetime],
    source: CardSource | None = None,
) -> tuple[str, tuple[str, ...]]:
    """The content of a file in `.eval_results/`, and why scores are not in it: only what a benchmark of the hub defines.

    `measured_at` is the end of each benchmark's evaluation by benchmark name. For an entry without a date, the
    hub uses the day on which the file was added. Raises CardError if no score is accepted.
    """
    values = [
        HubValue(
            result=result,
            definition=suite.benchmark(result.benchmark),
            facts=facts.plus({Fact.SHOTS: str(suite.benchmark(result.benchmark).shots)}),
            of_suite=True,
            measured_at=measured_at.get(result.benchmark),
            source_name=source.name if source else None,
            source_url=source.url if source else None,
            notes=(*circumstances(facts), *([result.remark.rstrip(".")] if result.remark else [])),
        )
        for result in writable(suite, score)
    ]
    return hub_yaml(values)


def markdown_table(suite: Suite, score: SuiteScore, facts: Facts, measured_with: str = "mergeboard") -> str:
    """The table for a card's body in the leaderboard bot's form, with the tool and the measuring conditions below."""
    results = writable(suite, score)
    rows = [
        (_label(suite.benchmark(r.benchmark)), points_text(shown_value(suite.benchmark(r.benchmark), r)))
        for r in results
    ]
    if score.average is not None:
        rows.insert(0, ("Avg.", points_text(score.average)))
    elif score.partial_average is not None:
        missing = ", ".join(suite.benchmark(m).title for m in score.missing)
        rows.append((f"Mean of these {len(results)}, without {missing}", points_text(score.partial_average)))
    remarks = [f"- {r.title}: {r.remark}" for r in results if r.remark]
    below = [f"Measured with {measured_with}: {'; '.join([suite.title, *circumstances(facts)])}.", *remarks]
    return "\n".join([*padded_table(("Metric", "Value"), rows, right=(1,)), "", *below]) + "\n"


def improvement_table(suite: Suite, candidate: SuiteScore, base: SuiteScore, name: str) -> str:
    """Relative changes to the base per benchmark, with the difference in points below.

    Computed from the unrounded scores and rounded once, as `mergeboard compare` shows them.
    """
    pairs = _pairs(suite, candidate, base)
    header = ("", *(title for title, _, _ in pairs))
    relative = [f"{change_text((c / b - 1) * 100)}%" if b > 0 else "n/a" for _, c, b in pairs]
    points = [change_text(c - b) for _, c, b in pairs]
    rows = [(f"{name}, relative change", *relative), (f"{name}, points", *points)]
    return "\n".join(padded_table(header, rows, right=tuple(range(1, len(header))))) + "\n"


def update_readme(card: str | bytes, index: list[dict[str, Any]], source: str = "README.md") -> str:
    """The card with this `model-index` in its front matter; all other characters are unchanged."""
    return with_model_index(decoded(card, source), index, source)


def update_readme_file(path: Path, index: list[dict[str, Any]]) -> None:
    """Write the `model-index` into a card's file, atomically."""
    updated = update_readme(read_bytes(path), index, str(path)).encode("utf-8")
    try:
        write_file(path, updated)
    except OSError as error:
        raise CardError(f"Card {path} cannot be written ({error.strerror}); it is as it was.") from error


def _pairs(suite: Suite, candidate: SuiteScore, base: SuiteScore) -> list[tuple[str, float, float]]:
    """Title, candidate and base of the average (if both have all benchmarks) and of each common benchmark."""
    candidate_scores = {r.benchmark: r for r in writable(suite, candidate)}
    base_scores = {r.benchmark: r for r in writable(suite, base)}
    common = [b for b in suite.benchmarks if b.name in candidate_scores and b.name in base_scores]
    if not common:
        raise CardError(
            f"Candidate and base have no benchmark of {suite.title} in common; evaluate both first."
        )
    pairs = [(b.title, candidate_scores[b.name].normalized, base_scores[b.name].normalized) for b in common]
    if candidate.average is not None and base.average is not None:
        pairs.insert(0, ("Average", candidate.average, base.average))
    return pairs


def _label(benchmark: Benchmark) -> str:
    return benchmark.card.dataset_name if benchmark.card is not None else benchmark.title


def circumstances(facts: Facts) -> list[str]:
    """The measuring conditions as text that `read_card` can parse."""
    return [f"{fact} {facts.known[fact]}" for fact in _SHOWN if fact in facts.known]


def padded_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """A Markdown table with padded columns; the columns in `right` are right-aligned."""
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
