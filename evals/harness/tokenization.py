"""Tokenization and chat templates as in lm-eval's `hf` and `vllm` models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from lm_eval.models.utils import has_bos_prefix

from evals.errors import EvaluationError
from evals.scores import ChatTemplate

BATCH = 512
"""Number of texts encoded together; fast tokenizers use all cores for a batch."""


def load_tokenizer(
    checkpoint: Path, *, trust_remote_code: bool = False, add_bos_token: bool | None = None
) -> Any:
    """Load the checkpoint's tokenizer; EvaluationError if that fails."""
    from transformers import AutoTokenizer

    extra = {} if add_bos_token is None else {"add_bos_token": add_bos_token}
    try:
        return AutoTokenizer.from_pretrained(str(checkpoint), trust_remote_code=trust_remote_code, **extra)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EvaluationError(
            f"The tokenizer of {checkpoint} cannot be loaded ({reason}); put its tokenizer files beside the weights."
        ) from error


def resolve_chat_template(checkpoint: Path, *, trust_remote_code: bool = False) -> ChatTemplate:
    """Resolve `auto` for a checkpoint: on if its tokenizer has a chat template."""
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    return ChatTemplate.ON if tokenizer.chat_template else ChatTemplate.OFF


def adds_bos(checkpoint: Path) -> bool | None:
    """Whether the tokenizer adds a BOS token by default; False if it adds nothing, None if it adds other tokens.

    EvaluationError if it cannot be loaded.
    """
    tokenizer = load_tokenizer(checkpoint)
    by_default, bare = (tokenizer.encode("a", **special) for special in ({}, {"add_special_tokens": False}))
    if by_default == bare:
        return False
    return True if by_default == [tokenizer.bos_token_id, *bare] else None


class Tokenization:
    """A tokenizer with the settings of an evaluation."""

    def __init__(self, checkpoint: Path, *, trust_remote_code: bool, add_bos_token: bool | None) -> None:
        self.checkpoint = checkpoint
        self.tokenizer = load_tokenizer(
            checkpoint, trust_remote_code=trust_remote_code, add_bos_token=add_bos_token
        )
        self._add_bos_token = add_bos_token
        self._encoded: dict[str, list[int]] = {}
        prefix = self.prefix_token_id
        self._bos_text: str | None = None if prefix is None else self.tokenizer.decode(prefix)

    @property
    def prefix_token_id(self) -> int | None:
        """The token that replaces an empty context."""
        begin: int | None = self.tokenizer.bos_token_id
        end: int | None = self.tokenizer.eos_token_id
        return end if begin is None else begin

    def encode(self, text: str, *, add_special_tokens: bool | None = None) -> list[int]:
        """Token ids; no BOS token is added if the text starts with its text."""
        if add_special_tokens is None and text in self._encoded:
            return self._encoded[text]
        tokens: list[int] = self.tokenizer.encode(text, **self._special(text, add_special_tokens))
        return tokens

    def encode_batch(self, texts: Iterable[str]) -> None:
        """Encode texts in batches for later calls of `encode`; replaces those of the previous call."""
        self._encoded = {}
        groups: dict[bool | None, list[str]] = {}
        for text in dict.fromkeys(texts):
            if text:
                groups.setdefault(self._special(text, None).get("add_special_tokens"), []).append(text)
        for special, group in groups.items():
            kwargs = {} if special is None else {"add_special_tokens": special}
            for begin in range(0, len(group), BATCH):
                chunk = group[begin : begin + BATCH]
                encoded = self.tokenizer(chunk, return_attention_mask=False, **kwargs).input_ids
                self._encoded.update(zip(chunk, encoded, strict=True))

    def _special(self, text: str, add_special_tokens: bool | None) -> dict[str, bool]:
        if add_special_tokens is not None:
            return {"add_special_tokens": add_special_tokens}
        if has_bos_prefix(text, self._bos_text):
            return {"add_special_tokens": False}
        return {} if self._add_bos_token is None else {"add_special_tokens": self._add_bos_token}

    def render(self, turns: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A chat as one text; without the system turn if the template rejects it."""
        try:
            return self._render(turns, add_generation_prompt)
        except jinja2.exceptions.TemplateError:
            return self._render([t for t in turns if t["role"] != "system"], add_generation_prompt)

    def _render(self, turns: list[dict[str, str]], add_generation_prompt: bool) -> str:
        if not self.tokenizer.chat_template:
            raise EvaluationError(
                f"The tokenizer of {self.checkpoint} has no chat template; evaluate with `--chat-template off`."
            )
        text: str = self.tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text
