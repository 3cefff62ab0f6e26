"""Greedy generation in batches, with stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evals.engine import GenerateRequest, GenerateResult
from evals.text_stop import StopStrings, cut_at_stops, end_text_of, end_tokens, with_end_token

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

STEPS = 32
"""Decoding steps after which the sequences that have ended leave the batch."""


class Generator:
    """Runs one batch of prompts at a time; all prompts of a batch have the same `max_new_tokens`.

    `narrows`: the model's cache can lose sequences, so that those which have ended cost nothing further.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        max_length: int,
        *,
        narrows: bool,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._max_length = max_length
        self._narrows = narrows
        self._ends = end_tokens(tokenizer, getattr(model.generation_config, "eos_token_id", None))
        self._end_text = end_text_of(tokenizer)

    def run(self, requests: Sequence[GenerateRequest]) -> list[GenerateResult]:
        """The greedy continuations, in order; prompts that are too long lose tokens on the left."""
        import torch

        new = requests[0].max_new_tokens
        prompts = [request.prompt[-max(self._max_length - new, 1) :] for request in requests]
        width = max(map(len, prompts))
        pad = min(self._ends, default=0)
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        rows: list[list[int]] = [[] for _ in requests]
        stopped: list[int | None] = [None] * len(requests)
        stops = [StopStrings(self._tokenizer, request.stop) for request in requests]
        running, cache = list(range(len(requests))), self._empty_cache()
        while running and ids.shape[1] < width + new:
            watch = _RowsStopped([stops[row] for row in running], width)
            left = width + new - ids.shape[1]
            ids = self._extend(ids, mask, cache, min(STEPS, left) if self._narrows else left, pad, watch)
            for place, (row, tokens) in enumerate(zip(running, ids[:, width:].tolist(), strict=True)):
                rows[row], stopped[row] = tokens, watch.ended[place]
            going = [
                place
                for place, row in enumerate(running)
                if stopped[row] is None and self._ends.isdisjoint(rows[row])
            ]
            if cache is None:
                break
            if len(going) < len(running):
                kept = torch.tensor(going, dtype=torch.long, device=self._device)
                ids, mask, running = ids[kept], mask[kept], [running[place] for place in going]
                cache.batch_select_indices(kept)
            mask = torch.cat([mask, mask.new_ones(len(mask), ids.shape[1] - mask.shape[1])], dim=1)
        return [self._result(row, stopped[i], requests[i].stop) for i, row in enumerate(rows)]

    def _empty_cache(self) -> Cache | None:
        if not self._narrows:
            return None
        from evals.transformers.decoding import roomy_cache

        return roomy_cache()

    def _extend(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        cache: Cache | None,
        new: int,
        pad: int,
        watch: _RowsStopped,
    ) -> torch.Tensor:
        """Up to `new` further tokens of each sequence: [sequences, tokens so far and new]."""
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        with torch.inference_mode():
            return self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                # Not the checkpoint's own settings: a repetition penalty in them is not greedy decoding.
                generation_config=GenerationConfig(
                    max_new_tokens=new,
                    do_sample=False,
                    eos_token_id=sorted(self._ends) or None,
                    pad_token_id=pad,
                ),
                stopping_criteria=StoppingCriteriaList([watch]),
            )

    def _result(self, row: list[int], stopped: int | None, stops: tuple[str, ...]) -> GenerateResult:
        ended = next((index + 1 for index, token in enumerate(row) if token in self._ends), None)
        cuts = [cut for cut in (ended, stopped) if cut is not None]
        tokens = row[: min(cuts)] if cuts else row
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return GenerateResult(
            text=cut_at_stops(text, with_end_token(stops, self._end_text)),
            n_tokens=len(tokens),
            finish_reason="stop" if cuts else "length",
        )


class _RowsStopped:
    """A stopping criterion with stop strings of each row's own."""

    def __init__(self, stops: Sequence[StopStrings], prompt_width: int) -> None:
        self._stops = stops
        self._width = prompt_width
        self.ended: list[int | None] = [None] * len(stops)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        import torch

        for row, tokens in enumerate(input_ids[:, self._width :].tolist()):
            if self.ended[row] is None and self._stops[row].reached(tokens):
                self.ended[row] = len(tokens)
        return torch.tensor([end is not None for end in self.ended], device=input_ids.device)
