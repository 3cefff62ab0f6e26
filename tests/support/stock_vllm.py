"""lm-eval's own vllm model, on an engine that is running already."""

from __future__ import annotations

from typing import Any

from evals.engine import ScoreRequest, ScoreResult
from evals.vllm.engine import VllmEngine
from evals.vllm.environment import answer_for_cpu_build


def stock(engine: VllmEngine) -> Any:
    """lm-eval's own vllm model, on the engine that is running already."""
    answer_for_cpu_build()
    from lm_eval.models.vllm_causallms import VLLM

    model = VLLM.__new__(VLLM)
    super(VLLM, model).__init__()
    model.model, model.tokenizer = engine._llm, engine._llm.get_tokenizer()
    model.batch_size, model.data_parallel_size, model.lora_request = 1000, 1, None
    model._max_length, model.truncation_side, model.think_end_token = engine.max_length, "left", None
    model.add_bos_token, model.custom_prefix_token_id, model._max_gen_toks = None, None, 256
    model.enable_thinking, model.hf_chat_template, model.chat_template_args = None, None, {}
    return model


def stock_scores(engine: VllmEngine, requests: list[ScoreRequest]) -> list[ScoreResult]:
    flat = [(("", ""), list(r.context), list(c)) for r in requests for c in r.continuations]
    answers = iter(stock(engine)._loglikelihood_tokens(flat, disable_tqdm=True))
    found = [[next(answers) for _ in r.continuations] for r in requests]
    return [ScoreResult(logprobs=tuple(a for a, _ in f), is_greedy=tuple(b for _, b in f)) for f in found]
