"""The same answers from transformers in float32, and how an engine's are held against them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from evals.engine import EngineKind, GenerateRequest, GenerateResult, ScoreResult
from tests.gpu_runner.answers import PATHS, REQUESTS, Answers, Written, texts_asked
from tests.support.engine_requests import largest_difference, opened, scored

TOLERANCE = 1e-4
NEAR_TIE = 1e-3
"""Two tokens whose logits differ by less may change places between libraries."""


@contextmanager
def reference_of(checkpoint: Path) -> Iterator[Any]:
    """The transformers engine; its layers are threaded by a code of its own."""
    with opened(EngineKind.TRANSFORMERS, checkpoint) as engine:
        yield engine


def check_scores(reference: Any, ours: list[ScoreResult]) -> None:
    """Log-probabilities of the reference's present path, and whether each continuation is greedy."""
    expected = scored(reference, REQUESTS)
    assert largest_difference(ours, expected) < TOLERANCE
    assert [r.is_greedy for r in ours] == [r.is_greedy for r in expected]


def near_ties(reference: Any, asked: list[GenerateRequest], texts: list[Written]) -> int:
    """Texts that leave the likeliest tokens of plain forward passes at a near-tie; any other difference fails."""
    ties = 0
    for request, text in zip(asked, texts, strict=True):
        _check_end(request, text)
        tokens = torch.tensor([request.prompt + text.tokens])
        with torch.inference_mode():
            logits = reference._model(tokens, use_cache=False).logits[0, len(request.prompt) - 1 : -1]
        chosen = logits[torch.arange(len(text.tokens)), torch.tensor(text.tokens)]
        short = logits.max(dim=-1).values - chosen
        if float(short.max()) > 0:
            assert float(short.max()) < NEAR_TIE, f"{text} against {logits.argmax(-1).tolist()}"
            ties += 1
    return ties


def _check_end(request: GenerateRequest, text: Written) -> None:
    """A text ends at its limit, or at a stop string or end token, none of which is in it."""
    assert len(text.tokens) == text.result.n_tokens <= request.max_new_tokens
    assert not any(stop in text.result.text for stop in request.stop)
    if text.result.finish_reason == "length":
        assert len(text.tokens) == request.max_new_tokens


def check_answers(checkpoint: Path, answers: Answers) -> int:
    """Everything of one engine; gives the number of texts that differ by a near-tie."""
    ties = 0
    with reference_of(checkpoint) as reference:
        for number, path in enumerate(PATHS):
            reference.set_layer_path(path)
            check_scores(reference, answers.scores[number])
            ties += near_ties(reference, texts_asked(), answers.texts[number])
            if answers.outside_scores:
                check_scores(reference, answers.outside_scores[number])
                _check_same(answers.texts[number], answers.outside_texts[number])
    return ties


def _check_same(texts: list[Written], outside: list[GenerateResult]) -> None:
    assert [text.result for text in texts] == outside


def score_difference(reference: Any, requests: list[Any], ours: list[ScoreResult]) -> float:
    """Largest difference of other requests' log-probabilities; whether they are greedy must agree."""
    expected = scored(reference, requests)
    assert [r.is_greedy for r in ours] == [r.is_greedy for r in expected]
    return largest_difference(ours, expected)
