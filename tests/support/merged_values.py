"""Probe values of task-arithmetic merges in this process, at a fraction of an engine's cost.

Made for sources that differ from their base in the last blocks alone, as `specialists.py` trains them: what the blocks below give for
each question is computed once. The rest is what a live merge in the transformers engine does, in float32: base + sum of weight x
(source - base), then the log-probabilities of every continuation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.engine import ScoreRequest, ScoreResult
from evals.probes import AnyProbe, ProbeResult
from evals.scores import ChatTemplate

if TYPE_CHECKING:
    import torch

_ROWS_AT_ONCE = 16


class MergedValues:
    """Answers of merges of a base and its sources to probes."""

    def __init__(self, base: Path, sources: Sequence[Path], probes: Sequence[AnyProbe]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(str(base))
        self._deltas = [_changes(base, source) for source in sources]
        changed = {name for deltas in self._deltas for name in deltas}
        parameters = dict(self._model.named_parameters())
        self._base = {name: parameters[name].detach().clone() for name in sorted(changed)}
        first = min(int(name.split(".")[2]) for name in changed)
        self._probes = [_Asked.of(probe, tokenizer) for probe in probes]
        with torch.inference_mode():
            self._below = [
                [_below(self._model, part, first) for part in asked.parts] for asked in self._probes
            ]
        layers = self._model.model.layers[first:]
        for number, layer in enumerate(layers):
            layer.self_attn.layer_idx = number
        self._model.model.layers = layers
        self._model.config.num_hidden_layers = len(layers)
        self._parameters = {name: parameters[name] for name in self._base}

    def answers(self, weights: Sequence[float]) -> tuple[ProbeResult, ...]:
        """The answers to each probe of base + sum of weight x (source - base)."""
        import torch

        with torch.inference_mode():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._base[name])
                for weight, deltas in zip(weights, self._deltas, strict=True):
                    if name in deltas:
                        parameter.add_(deltas[name], alpha=weight)
            return tuple(
                asked.probe.score(self._scores(asked, below))
                for asked, below in zip(self._probes, self._below, strict=True)
            )

    def _scores(self, asked: _Asked, below: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[ScoreResult]:
        """Sums of log-probabilities of all continuations of a probe."""
        import torch

        by_prefix: dict[tuple[int, ...], torch.Tensor] = {}
        for part, (prefix, rest) in zip(asked.parts, below, strict=True):
            hidden = self._above(prefix, rest)
            places = [(row, end) for row, ids in enumerate(part.rows) for end in part.ends[row]]
            picked = hidden[[row for row, _ in places], [end - 1 - part.shared for _, end in places]]
            logprobs = torch.log_softmax(self._model.lm_head(picked).float(), dim=-1)
            by_prefix.update(
                {part.rows[row][:end]: logprob for (row, end), logprob in zip(places, logprobs, strict=True)}
            )
        return [_result(request, by_prefix) for request in asked.requests]

    def _above(self, prefix: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Normed hidden states of the rows behind the shared prefix; batch x length x width."""
        from transformers import DynamicCache

        if prefix.shape[1] == 0:
            return self._model.model(inputs_embeds=rest, use_cache=False).last_hidden_state
        cache = DynamicCache()
        self._model.model(inputs_embeds=prefix, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(rest.shape[0])
        return self._model.model(inputs_embeds=rest, past_key_values=cache, use_cache=True).last_hidden_state


@dataclass(frozen=True)
class _Part:
    """Some token sequences of about one length, which go through the model together."""

    rows: list[tuple[int, ...]]
    ends: list[list[int]]
    """By row, after how many tokens a log-probability is read."""
    shared: int
    """Tokens with which all rows begin."""


@dataclass(frozen=True)
class _Asked:
    """A probe's requests as token sequences."""

    probe: AnyProbe
    requests: list[ScoreRequest]
    parts: list[_Part]

    @classmethod
    def of(cls, probe: AnyProbe, tokenizer: Any) -> _Asked:
        """Each sequence once: one that another begins with is read off the longer one."""
        requests = [r for r in probe.requests(tokenizer, ChatTemplate.OFF) if isinstance(r, ScoreRequest)]
        ends = {
            (*r.context, *continuation[:length])
            for r in requests
            for continuation in r.continuations
            for length in range(len(continuation))
        }
        rows: dict[tuple[int, ...], list[int]] = {}
        longer: tuple[int, ...] = ()
        for ids in sorted(ends, reverse=True):
            if longer[: len(ids)] != ids:
                longer = ids
            rows.setdefault(longer, []).append(len(ids))
        shared = _common([r.context for r in requests])
        ordered = sorted(rows, key=len)
        chunks = [ordered[n : n + _ROWS_AT_ONCE] for n in range(0, len(ordered), _ROWS_AT_ONCE)]
        return cls(probe, requests, [_Part(chunk, [rows[ids] for ids in chunk], shared) for chunk in chunks])


def _common(contexts: Sequence[tuple[int, ...]]) -> int:
    """Length of what all contexts begin with, less than the shortest."""
    shortest = min(map(len, contexts)) - 1
    return next((n for n in range(shortest) if len({ids[n] for ids in contexts}) > 1), shortest)


def _result(request: ScoreRequest, logprobs: Mapping[tuple[int, ...], torch.Tensor]) -> ScoreResult:
    sums = [
        sum(float(logprobs[*request.context, *c[:n]][token]) for n, token in enumerate(c))
        for c in request.continuations
    ]
    return ScoreResult(logprobs=tuple(sums), is_greedy=(False,) * len(sums))


def _below(model: Any, part: _Part, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states before block `first`: of the shared prefix (1 x length x width) and of the rows behind it."""
    import torch

    longest = max(map(len, part.rows))
    # Causal attention: padding on the right changes nothing before it.
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in part.rows])
    hidden = model.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[first]
    return hidden[:1, : part.shared].clone(), hidden[:, part.shared :].clone()


def _changes(base: Path, source: Path) -> dict[str, torch.Tensor]:
    """Source minus base in float32, of the tensors that differ."""
    import torch
    from safetensors.torch import load_file

    before, after = load_file(base / "model.safetensors"), load_file(source / "model.safetensors")
    return {
        name: tensor.to(torch.float32) - before[name].to(torch.float32)
        for name, tensor in after.items()
        if name in before and not torch.equal(tensor, before[name])
    }
