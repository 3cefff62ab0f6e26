"""From questions to token ids: the one place where probes meet a tokenizer.

Without a chat template a prompt is `Question: ... / Answer:` text; with one, the same labels stand inside the turns.
Keeping the labels matters: a small chat model answers them as well as plain text (0.47 against 0.20 for the right
digit of two-digit sums, SmolLM2-135M-Instruct).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import Field

from evals.engine import Frozen, ScoreRequest
from evals.scores import ChatTemplate


class Tokenizer(Protocol):
    """What probes need of a transformers tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any:
        """The conversation in the template's form."""


class Example(Frozen):
    """A question that is shown with its answer before the real one."""

    question: str = Field(description="The question.")
    answer: str = Field(description="Its answer.")


class Ask(Frozen):
    """One question to an engine, and, in a scored form, the answers whose probabilities are wanted."""

    question: str = Field(description="The question.")
    lead: str = Field(default="", description="How the answer already begins; put behind `Answer:`.")
    options: tuple[str, ...] = Field(
        default=(), description="Ways to go on behind the lead; empty to let it write."
    )


class Style(Frozen):
    """What stands around the questions of a probe."""

    system: str | None = Field(default=None, description="System message, or null for the template's own.")
    examples: tuple[Example, ...] = Field(
        default=(), description="Questions that are shown with their answers."
    )
    question_label: str = Field(default="Question: ", description="What is put before a question.")
    answer_label: str = Field(default="Answer:", description="What is put before an answer.")


def prompt_text(tokenizer: Tokenizer, template: ChatTemplate, style: Style, ask: Ask) -> str:
    """The prompt as the model sees it, up to and with the lead."""
    if template is ChatTemplate.OFF:
        return _plain(style, ask)
    turns = [{"role": "system", "content": style.system}] if style.system else []
    for example in style.examples:
        turns.append({"role": "user", "content": style.question_label + example.question})
        turns.append({"role": "assistant", "content": f"{style.answer_label} {example.answer}".strip()})
    turns.append({"role": "user", "content": style.question_label + ask.question})
    text: str = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return text + style.answer_label + ask.lead if style.examples else text + ask.lead


def prompt_ids(tokenizer: Tokenizer, template: ChatTemplate, text: str) -> tuple[int, ...]:
    """Token ids of a prompt. A chat template writes its own special tokens, plain text gets the tokenizer's."""
    return tuple(tokenizer.encode(text, add_special_tokens=template is ChatTemplate.OFF))


def score_request(
    tokenizer: Tokenizer, template: ChatTemplate, text: str, options: Sequence[str]
) -> ScoreRequest:
    """The options as continuations of what all of them have in common.

    Prompt and option are tokenised together, so that no option is cut where the tokenizer would not cut.
    """
    whole = [prompt_ids(tokenizer, template, text + option) for option in options]
    shortest = min(map(len, whole))
    common = next((k for k in range(shortest) if len({ids[k] for ids in whole}) > 1), shortest - 1)
    return ScoreRequest(context=whole[0][:common], continuations=tuple(ids[common:] for ids in whole))


def _plain(style: Style, ask: Ask) -> str:
    head = f"{style.system}\n\n" if style.system else ""
    shown = "".join(
        f"{style.question_label}{e.question}\n{style.answer_label} {e.answer}".rstrip() + "\n\n"
        for e in style.examples
    )
    return f"{head}{shown}{style.question_label}{ask.question}\n{style.answer_label}{ask.lead}"
