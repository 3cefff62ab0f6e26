"""Converts probe questions to prompts and token ids.

Without a chat template a prompt is `Question: ... / Answer:` text; with one, the turns contain the same labels. The
labels improve a small chat model's answers (0.47 against 0.20 for the correct digit of two-digit sums,
SmolLM2-135M-Instruct).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import Field

from evals.engine import Frozen, ScoreRequest
from evals.scores import ChatTemplate


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that probes use."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any:
        """The conversation as text by the chat template."""


class Example(Frozen):
    """A few-shot example."""

    question: str = Field(description="The question.")
    answer: str = Field(description="Its answer.")


class Ask(Frozen):
    """One question to an engine and, in the scored form, the answers to score."""

    question: str = Field(description="The question.")
    lead: str = Field(default="", description="Beginning of the answer, after `Answer:`.")
    options: tuple[str, ...] = Field(
        default=(), description="Continuations of the lead that are scored; empty to generate."
    )


class Style(Frozen):
    """System message, examples and labels of a probe's prompts."""

    system: str | None = Field(default=None, description="System message; null for the template's default.")
    examples: tuple[Example, ...] = Field(default=(), description="Few-shot examples.")
    question_label: str = Field(default="Question: ", description="Text before a question.")
    answer_label: str = Field(default="Answer:", description="Text before an answer.")


def prompt_text(tokenizer: Tokenizer, template: ChatTemplate, style: Style, ask: Ask) -> str:
    """The prompt text, including the lead."""
    if template is ChatTemplate.OFF:
        return _plain_text(style, ask)
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
    """Token ids of a prompt; the tokenizer adds special tokens only without a chat template, which contains its own."""
    return tuple(tokenizer.encode(text, add_special_tokens=template is ChatTemplate.OFF))


def score_request(
    tokenizer: Tokenizer, template: ChatTemplate, text: str, options: Sequence[str]
) -> ScoreRequest:
    """A request whose context is the common token prefix and whose continuations are the options.

    Prompt and option are tokenised together, so that tokens may span their boundary.
    """
    sequences = [prompt_ids(tokenizer, template, text + option) for option in options]
    shortest = min(map(len, sequences))
    common = next((k for k in range(shortest) if len({ids[k] for ids in sequences}) > 1), shortest - 1)
    return ScoreRequest(context=sequences[0][:common], continuations=tuple(ids[common:] for ids in sequences))


def _plain_text(style: Style, ask: Ask) -> str:
    head = f"{style.system}\n\n" if style.system else ""
    shown = "".join(
        f"{style.question_label}{e.question}\n{style.answer_label} {e.answer}".rstrip() + "\n\n"
        for e in style.examples
    )
    return f"{head}{shown}{style.question_label}{ask.question}\n{style.answer_label}{ask.lead}"
