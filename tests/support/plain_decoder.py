"""Layer paths with partial and damped visits in plain torch, from the tensors of a checkpoint: no engine, no cache, no model class.

Written from the definitions alone, for Llama, Mistral, Qwen2, Qwen3 and Phi-3, as a second opinion on both engines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from evals.engine import ScoreRequest, ScoreResult

Parts = tuple[int, str, float]
"""Source layer, part (`layer`, `attention` or `mlp`), and factor."""


class PlainDecoder:
    """The checkpoint in float32."""

    def __init__(self, checkpoint: Path) -> None:
        self.config = json.loads((checkpoint / "config.json").read_text())
        self.tensors = {
            name: tensor.float() for name, tensor in load_file(checkpoint / "model.safetensors").items()
        }

    def logprobs(self, tokens: Sequence[int], path: Sequence[Parts]) -> torch.Tensor:
        """Log-probabilities of the next token after each token, [tokens, vocabulary]."""
        x = self.tensors["model.embed_tokens.weight"][torch.tensor(list(tokens))]
        for layer, part, factor in path:
            y = x
            if part != "mlp":
                y = y + self._attention(layer, self._norm(f"model.layers.{layer}.input_layernorm", y))
            if part != "attention":
                y = y + self._mlp(layer, self._norm(f"model.layers.{layer}.post_attention_layernorm", y))
            x = x + factor * (y - x)
        head = self.tensors.get("lm_head.weight", self.tensors["model.embed_tokens.weight"])
        return torch.log_softmax(self._norm("model.norm", x) @ head.T, dim=-1)

    def score(self, request: ScoreRequest, path: Sequence[Parts]) -> ScoreResult:
        """The request's answer."""
        sums, greedy = [], []
        for continuation in request.continuations:
            table = self.logprobs((*request.context, *continuation[:-1]), path)[len(request.context) - 1 :]
            sums.append(sum(float(table[row, token]) for row, token in enumerate(continuation)))
            greedy.append(table.argmax(dim=-1).tolist() == list(continuation))
        return ScoreResult(logprobs=tuple(sums), is_greedy=tuple(greedy))

    def continue_greedily(
        self, prompt: Sequence[int], path: Sequence[Parts], count: int
    ) -> tuple[list[int], float]:
        """The likeliest tokens one by one, and the smallest lead over the second likeliest, in log-probability."""
        tokens, lead = list(prompt), math.inf
        for _ in range(count):
            best = self.logprobs(tokens, path)[-1].topk(2)
            lead = min(lead, float(best.values[0] - best.values[1]))
            tokens.append(int(best.indices[0]))
        return tokens[len(prompt) :], lead

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + self.config["rms_norm_eps"])
        return x * scale * self.tensors[f"{name}.weight"]

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        bias = self.tensors.get(f"{name}.bias")
        return x @ self.tensors[f"{name}.weight"].T + (0 if bias is None else bias)

    def _attention(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        prefix, config = f"model.layers.{layer}.self_attn", self.config
        heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        if f"{prefix}.qkv_proj.weight" in self.tensors:
            q, k, v = self._linear(f"{prefix}.qkv_proj", x).split(
                [heads * size, shared * size, shared * size], dim=-1
            )
        else:
            q, k, v = (self._linear(f"{prefix}.{name}_proj", x) for name in "qkv")
        n = len(x)
        q, k, v = q.view(n, heads, size), k.view(n, shared, size), v.view(n, shared, size)
        if f"{prefix}.q_norm.weight" in self.tensors:
            q, k = self._norm(f"{prefix}.q_norm", q), self._norm(f"{prefix}.k_norm", k)
        angles = torch.arange(n)[:, None] * config["rope_theta"] ** (-torch.arange(0, size, 2) / size)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]

        def rotate(t: torch.Tensor) -> torch.Tensor:
            a, b = t[..., : size // 2], t[..., size // 2 :]
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

        q, k = rotate(q), rotate(k).repeat_interleave(heads // shared, dim=1)
        weights = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(size)
        weights = weights.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf).softmax(dim=-1)
        mixed = torch.einsum("hqk,khd->qhd", weights, v.repeat_interleave(heads // shared, dim=1))
        return self._linear(f"{prefix}.o_proj", mixed.reshape(n, heads * size))

    def _mlp(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        prefix = f"model.layers.{layer}.mlp"
        if f"{prefix}.gate_up_proj.weight" in self.tensors:
            gate, up = self._linear(f"{prefix}.gate_up_proj", x).chunk(2, dim=-1)
        else:
            gate, up = self._linear(f"{prefix}.gate_proj", x), self._linear(f"{prefix}.up_proj", x)
        return self._linear(f"{prefix}.down_proj", torch.nn.functional.silu(gate) * up)
