"""Greedy generation in batches, with stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evals.engine import GenerateRequest, GenerateResult
from evals.text_stop import cut_at_stops, with_end_token

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LENGTH, STOP = "length", "stop"


class Generator:
    """Runs one batch of prompts at a time; all prompts of a batch have the same `max_new_tokens`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        max_length: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._max_length = max_length
        stated = model.generation_config.eos_token_id if model.generation_config else None
        listed = list(stated) if isinstance(stated, (list, tuple)) else [stated]
        self._ends: list[int] = [end for end in (*listed, tokenizer.eos_token_id) if end is not None]
        self._end_text: str = (
            tokenizer.decode([tokenizer.eos_token_id]) if tokenizer.eos_token_id is not None else ""
        )

    def run(self, requests: Sequence[GenerateRequest]) -> list[GenerateResult]:
        """The greedy continuations, in order; prompts that are too long lose tokens on the left."""
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        new = requests[0].max_new_tokens
        room = max(self._max_length - new, 1)
        prompts = [request.prompt[-room:] for request in requests]
        width = max(map(len, prompts))
        pad = self._ends[0] if self._ends else 0
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        stops = [with_end_token(request.stop, self._end_text) for request in requests]
        watch = _StopStrings(self._tokenizer, stops, width)
        with torch.inference_mode():
            out = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=GenerationConfig(
                    max_new_tokens=new, do_sample=False, eos_token_id=self._ends or None, pad_token_id=pad
                ),
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        rows = out[:, width:].tolist()
        return [self._result(row, watch.ended[i], stops[i]) for i, row in enumerate(rows)]

    def _result(self, row: list[int], ended: int | None, stops: tuple[str, ...]) -> GenerateResult:
        end = next((index + 1 for index, token in enumerate(row) if token in self._ends), None)
        cuts = [cut for cut in (end, ended) if cut is not None]
        tokens = row[: min(cuts)] if cuts else row
        text = cut_at_stops(self._tokenizer.decode(tokens, skip_special_tokens=True), stops)
        return GenerateResult(text=text, n_tokens=len(tokens), finish_reason=STOP if cuts else LENGTH)


class _StopStrings:
    """A stopping criterion with stop strings of each row's own."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[tuple[str, ...]], prompt_width: int
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._width = prompt_width
        # A token is at least one byte, so a stop string lies within this many of the last tokens.
        self._reach = [max((len(s.encode()) for s in row), default=0) + 1 for row in stops]
        self.ended: list[int | None] = [None] * len(stops)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        import torch

        for row, tokens in enumerate(input_ids[:, self._width :].tolist()):
            if self.ended[row] is None and self._stops[row]:
                tail = self._tokenizer.decode(tokens[-self._reach[row] :])
                if any(stop and stop in tail for stop in self._stops[row]) and self._confirmed(tokens, row):
                    self.ended[row] = len(tokens)
        return torch.tensor([end is not None for end in self.ended], device=input_ids.device)

    def _confirmed(self, tokens: list[int], row: int) -> bool:
        """Whether the whole text has the stop string, and not only its tail decoded alone."""
        text = self._tokenizer.decode(tokens)
        return any(stop and stop in text for stop in self._stops[row])
