"""Greedy generation in batches, with stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evals.checkpoint_settings import GenerationSettings
from evals.engine import GenerateRequest, GenerateResult
from evals.text_stop import StopStrings, end_text_of, end_tokens, final_text
from evals.transformers.rope import restore_rope
from evals.transformers.sampling import RowSampler, RowSampling

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

STEPS = 32
"""Number of decoding steps after which finished sequences are removed from the batch."""


class Generator:
    """Runs one batch of prompts at a time; all prompts of a batch have the same `max_new_tokens`.

    `narrows`: finished sequences can be removed from the model's cache. A prompt that can grow beyond `constant_rope` tokens
    (None: none can) runs alone in one call of transformers, because its keys are rotated by the length of the longest sequence
    of the batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        max_length: int,
        *,
        narrows: bool,
        settings: GenerationSettings,
        constant_rope: int | None,
    ) -> None:
        from transformers import GenerationConfig

        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._max_length = max_length
        self._narrows = narrows
        self._penalty = settings.repetition_penalty
        self._constant_rope = constant_rope
        self._ends = end_tokens(tokenizer, getattr(model.generation_config, "eos_token_id", None))
        # transformers takes unset options of a call from here; the relevant ones are in `settings`.
        model.generation_config = GenerationConfig()
        self._end_text = end_text_of(tokenizer)

    def run(self, requests: Sequence[GenerateRequest]) -> list[GenerateResult]:
        """The greedy continuations, in order; prompts that are too long are truncated on the left."""
        results: dict[int, GenerateResult] = {}
        short = []
        for index, request in enumerate(requests):
            length = len(self._prompt(request)) + request.max_new_tokens
            if self._constant_rope is not None and length > self._constant_rope:
                restore_rope(self._model)
                results[index] = self._run([request], None)[0]
                restore_rope(self._model)
            else:
                short.append(index)
        if short:
            answers = self._run([requests[index] for index in short], self._empty_cache())
            results.update(zip(short, answers, strict=True))
        return [results[index] for index in range(len(requests))]

    def _prompt(self, request: GenerateRequest) -> tuple[int, ...]:
        return request.prompt[-max(self._max_length - request.max_new_tokens, 1) :]

    def _run(self, requests: Sequence[GenerateRequest], cache: Cache | None) -> list[GenerateResult]:
        import torch

        new = requests[0].max_new_tokens
        prompts = [self._prompt(request) for request in requests]
        width = max(map(len, prompts))
        pad = min(self._ends, default=0)
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        rows: list[list[int]] = [[] for _ in requests]
        stopped: list[int | None] = [None] * len(requests)
        stops = [StopStrings(self._tokenizer, request.stop) for request in requests]
        running = list(range(len(requests)))
        samplers = [RowSampler.of(request.sampling) for request in requests]
        while running and ids.shape[1] < width + new:
            watch = _RowsStopped([stops[row] for row in running], width)
            n_left = width + new - ids.shape[1]
            ids = self._extend(
                ids,
                mask,
                cache,
                n_left if cache is None else min(STEPS, n_left),
                pad,
                watch,
                [samplers[row] for row in running],
            )
            for place, (row, tokens) in enumerate(zip(running, ids[:, width:].tolist(), strict=True)):
                rows[row], stopped[row] = tokens, watch.ended[place]
            unfinished = [
                place
                for place, row in enumerate(running)
                if stopped[row] is None and self._ends.isdisjoint(rows[row])
            ]
            if cache is None:
                break
            if len(unfinished) < len(running):
                indices = torch.tensor(unfinished, dtype=torch.long, device=self._device)
                ids, mask, running = ids[indices], mask[indices], [running[place] for place in unfinished]
                cache.batch_select_indices(indices)
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
        samplers: Sequence[RowSampler | None],
    ) -> torch.Tensor:
        """Generate up to `new` further tokens of each sequence: [sequences, tokens so far and new]."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        processors = LogitsProcessorList(
            [] if self._penalty == 1.0 else [_RepetitionPenalty(self._penalty, mask)]
        )
        if any(samplers):
            processors.append(RowSampling(samplers))
        with torch.inference_mode():
            return self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=GenerationConfig(
                    max_new_tokens=new,
                    do_sample=False,
                    eos_token_id=sorted(self._ends) or None,
                    pad_token_id=pad,
                ),
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList([watch]),
            )

    def _result(self, row: list[int], stopped: int | None, stops: tuple[str, ...]) -> GenerateResult:
        ended = next((index + 1 for index, token in enumerate(row) if token in self._ends), None)
        cuts = [cut for cut in (ended, stopped) if cut is not None]
        tokens = row[: min(cuts)] if cuts else row
        return GenerateResult(
            text=final_text(self._tokenizer, tokens, stops, self._end_text),
            n_tokens=len(tokens),
            finish_reason="stop" if cuts else "length",
        )


class _RepetitionPenalty:
    """transformers' repetition penalty without padding tokens, so that a row's text does not depend on the other rows.

    `mask` is [rows, tokens so far], 0 for padding.
    """

    def __init__(self, penalty: float, mask: torch.Tensor) -> None:
        from transformers import RepetitionPenaltyLogitsProcessor

        self._processor = RepetitionPenaltyLogitsProcessor(penalty)
        self._mask = mask.bool()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        width = self._mask.shape[1]
        # Padding is replaced by the last token, which is penalised anyway, and only once.
        tokens_so_far = torch.where(self._mask, input_ids[:, :width], input_ids[:, width - 1 : width])
        return self._processor(torch.cat([tokens_so_far, input_ids[:, width:]], dim=1), scores)


class _RowsStopped:
    """A stopping criterion with separate stop strings for each row."""

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
