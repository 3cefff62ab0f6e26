"""What lm-eval's `hf` model answers to requests of tokens, one at a time: the reference of both engines."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from lm_eval.models.huggingface import HFLM

from evals.engine import GenerateRequest, ScoreRequest
from evals.transformers.rope import restore_rope


def stock_hf(checkpoint: Path, **kwargs: object) -> HFLM:
    """lm-eval's model in float32 on the CPU, with a batch size of one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its cache of logits confuses a context with another one that goes on with the other's continuation.
        return HFLM(
            pretrained=str(checkpoint),
            dtype="float32",
            device="cpu",
            batch_size=1,
            logits_cache=False,
            **kwargs,
        )


def stock_scores(model: HFLM, requests: Sequence[ScoreRequest]) -> list[list[float]]:
    """Log-probabilities, each sequence as if it were the first."""
    scores = []
    for request in requests:
        scores.append([])
        for continuation in request.continuations:
            restore_rope(model.model)
            pair = (("", ""), list(request.context), list(continuation))
            ((logprob, _),) = model._loglikelihood_tokens([pair], disable_tqdm=True)
            scores[-1].append(logprob)
    return scores


def stock_texts(model: HFLM, requests: Sequence[GenerateRequest]) -> list[str]:
    """Texts, as `generate_until` makes them."""
    texts = []
    for request in requests:
        restore_rope(model.model)
        prompt = torch.tensor([request.prompt])
        stops = [*request.stop, model.tokenizer.decode(model.eot_token_id)]
        length = len(request.prompt) + request.max_new_tokens
        (tokens,) = model._model_generate(
            prompt, length, stops, attention_mask=torch.ones_like(prompt)
        ).tolist()
        text = model.tok_decode(tokens[len(request.prompt) :])
        for stop in stops:
            text = text.split(stop)[0]
        texts.append(text)
    return texts
