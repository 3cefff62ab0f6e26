"""Log-probabilities of many continuations from one forward pass; shared prefixes are computed once.

The continuations of a question form a tree of tokens. One forward pass runs the part of the context that the previous
question did not share, followed by every inner node of the tree, each attending to the context and its ancestors. The
last token of a continuation is not an input; its log-probability is read from the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evals.engine import ScoreResult
from evals.token_tree import TokenTree, common_prefix

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ROWS_PER_SOFTMAX = 256
"""Number of logit rows converted to float32 at once."""


class CachedTreeScorer:
    """Scores continuations with a KV cache that is reused between questions."""

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._cached: tuple[int, ...] = ()
        self._cache: Any = None

    def forget(self) -> None:
        """Drop the cache; required after every change of the model."""
        self._cached, self._cache = (), None

    def score(self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]]) -> ScoreResult:
        """Sums of log-probabilities (float32 log-softmax) and whether greedy decoding would generate the continuations."""
        import torch
        from transformers import DynamicCache

        tree = TokenTree.of(continuations)
        start = min(common_prefix(context, self._cached), len(context) - 1)
        if self._cache is None or start == 0:
            self._cache, start = DynamicCache(), 0
        elif start < len(self._cached):
            self._cache.crop(start - len(self._cached))
        fresh = len(context) - start
        ids = torch.tensor([[*context[start:], *tree.tokens]], device=self._device)
        last = len(context) - 1
        positions = torch.tensor(
            [[*range(start, len(context)), *(last + d for d in tree.depths)]], device=self._device
        )
        with torch.inference_mode():
            logits = self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=self._masks(len(context), fresh, tree, positions),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=torch.arange(fresh - 1, ids.shape[1], device=self._device),
            ).logits[0]
        if tree.tokens:
            self._cache.crop(-len(tree.tokens))
        self._cached = context
        return _look_up(logits, tree, continuations)

    def _masks(self, length: int, fresh: int, tree: TokenTree, positions: torch.Tensor) -> Any:
        """The 4-D attention masks of the new tokens, for full and for sliding-window attention."""
        import torch

        nodes, device = len(tree.tokens), self._device
        visible = torch.zeros(fresh + nodes, length + nodes, dtype=torch.bool, device=device)
        visible[:, :length] = torch.arange(length, device=device) <= positions[0, :, None]
        ancestors = torch.eye(nodes, dtype=torch.bool)
        for node, parent in enumerate(tree.parents):
            if parent:
                ancestors[node] |= ancestors[parent - 1]
        visible[fresh:, length:] = ancestors.to(device)
        full = self._as_bias(visible)
        config = self._model.config
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ())
        if window is None or kinds == {"full_attention"}:
            return {"full_attention": full} if kinds else full
        where = torch.cat([torch.arange(length, device=device), positions[0, fresh:]])
        near = self._as_bias(visible & (where > positions[0, :, None] - window))
        return {"full_attention": full, "sliding_attention": near} if kinds else near

    def _as_bias(self, visible: torch.Tensor) -> torch.Tensor:
        import torch

        bias = torch.zeros(visible.shape, dtype=self._model.dtype, device=self._device)
        return bias.masked_fill_(~visible, torch.finfo(self._model.dtype).min)[None, None]


class PlainScorer:
    """Scores each continuation as a separate sequence in one padded batch; correct for every causal model."""

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self._model = model
        self._device = device

    def forget(self) -> None:
        """No state is shared between questions."""

    def score(self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]]) -> ScoreResult:
        """Sums of log-probabilities (float32 log-softmax) and whether greedy decoding would generate the continuations."""
        import torch

        sequences = [[*context, *continuation[:-1]] for continuation in continuations]
        width = max(map(len, sequences))
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        mask = torch.zeros(len(sequences), width, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        with torch.inference_mode():
            logits = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).logits
        sums, greedy = [], []
        for row, continuation in enumerate(continuations):
            begin = len(context) - 1
            target = torch.tensor(continuation, device=logits.device)
            logprobs = torch.log_softmax(
                logits[row, begin : begin + len(continuation)], dim=-1, dtype=torch.float32
            )
            sums.append(float(logprobs.gather(1, target[:, None]).sum()))
            greedy.append(bool((logprobs.argmax(dim=-1) == target).all()))
        return ScoreResult(logprobs=tuple(sums), is_greedy=tuple(greedy))


def _look_up(logits: torch.Tensor, tree: TokenTree, continuations: Sequence[tuple[int, ...]]) -> ScoreResult:
    import torch

    tokens_at: dict[int, set[int]] = {}
    for rows, continuation in zip(tree.rows, continuations, strict=True):
        for row, token in zip(rows, continuation, strict=True):
            tokens_at.setdefault(row, set()).add(token)
    logprobs_by_pair: dict[tuple[int, int], float] = {}
    best: list[int] = []
    for begin in range(0, len(logits), ROWS_PER_SOFTMAX):
        logprobs = torch.log_softmax(logits[begin : begin + ROWS_PER_SOFTMAX], dim=-1, dtype=torch.float32)
        best += logprobs.argmax(dim=-1).tolist()
        pairs = [
            (row, t) for row in range(begin, begin + len(logprobs)) for t in sorted(tokens_at.get(row, ()))
        ]
        rows_, tokens = [row - begin for row, _ in pairs], [t for _, t in pairs]
        logprobs_by_pair.update(zip(pairs, logprobs[rows_, tokens].tolist(), strict=True))
    scored = [list(zip(rows, c, strict=True)) for rows, c in zip(tree.rows, continuations, strict=True)]
    return ScoreResult(
        logprobs=tuple(sum(logprobs_by_pair[pair] for pair in pairs) for pairs in scored),
        is_greedy=tuple(all(best[row] == token for row, token in pairs) for pairs in scored),
    )
