"""Three of mergekit's kernels in fewer passes over memory: the same operations in the same order and dtype, so the same bits.

mergekit's own pass over whole tensors, multiply by masks of bools, which torch converts element by element, and sum over a first axis of one or
two sources. Here a piece of a tensor stays in the processor's cache until its result is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from recipes.merge.kept import Replacement

if TYPE_CHECKING:
    import torch

PIECE = 1 << 18
"""Elements of a piece."""


def merge_group(original: Callable[..., Any]) -> Callable[..., Any]:
    """mergekit's `GeneralizedTaskArithmeticMerge.merge_group`."""

    def merge(self: Any, group: Any, /, **parameters: Any) -> Any:
        tensors = [entry.tensor for entry in group.entries]
        if self.consensus_method not in ("sum", None) or not group.non_base or not _plain(tensors):
            return original(self, group, **parameters)
        return _task_arithmetic(self, group, **parameters)

    return merge


def _plain(tensors: Sequence[torch.Tensor]) -> bool:
    return all(tensor.is_contiguous() and tensor.is_floating_point() for tensor in tensors)


def _task_arithmetic(method: Any, group: Any, /, **parameters: Any) -> torch.Tensor:
    import torch
    from mergekit.merge_methods import generalized_task_arithmetic
    from mergekit.sparsify import RescaleNorm

    base = group.base.tensor
    vectors = []
    for entry in group.non_base:
        vector = entry.tensor - base
        if method.sparsification_method:
            vector = generalized_task_arithmetic.sparsify(
                vector,
                density=parameters["density"][entry.id],
                method=method.sparsification_method,
                rescale_norm=RescaleNorm.l1 if parameters["rescale"] else None,
                **{key: parameters[key][entry.id] for key in ("gamma", "epsilon") if key in parameters},
            )
        vectors.append(vector.reshape(-1))
    all_weights = torch.tensor([parameters["weight"][entry.id] for entry in group.non_base], dtype=base.dtype)
    weights = all_weights.unbind()
    total_weight = all_weights.sum(dim=0)
    if total_weight.abs() < 1e-8:
        total_weight = torch.ones_like(total_weight)
    result = torch.empty_like(base)
    flat_base, flat_result = base.reshape(-1), result.reshape(-1)
    for begin in range(0, base.numel(), PIECE):
        piece = slice(begin, begin + PIECE)
        deltas = [vector[piece] * weight for vector, weight in zip(vectors, weights, strict=True)]
        if method.consensus_method:
            mixed, divisor = _of_the_same_sign(deltas, weights)
        else:
            mixed, divisor = _sum(deltas), total_weight
        if parameters["normalize"]:
            mixed /= divisor
        if parameters["lambda"] != 1:
            mixed *= parameters["lambda"]
        torch.add(flat_base[piece], mixed, out=flat_result[piece])
    return result


def _of_the_same_sign(
    deltas: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the deltas whose sign is that of all deltas' sum, and the sum of their weights, one where that is zero."""
    import torch

    sign = _sum(deltas)
    torch.ge(sign, 0, out=sign)
    sign.mul_(2).sub_(1)
    masks = [torch.gt(delta * sign, 0, out=torch.empty_like(delta)) for delta in deltas]
    mixed = _sum([delta.mul_(mask) for delta, mask in zip(deltas, masks, strict=True)])
    divisor = _sum([mask.mul_(weight) for mask, weight in zip(masks, weights, strict=True)])
    return mixed, divisor.add_(torch.eq(divisor, 0, out=torch.empty_like(divisor)))


def _sum(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum as `torch.stack(tensors).sum(dim=0)` gives it; a new tensor. Sums of negative zeros are positive there."""
    import torch

    if len(tensors) > 2:
        return torch.stack(list(tensors)).sum(dim=0)
    return tensors[0] + 0.0 if len(tensors) == 1 else torch.add(*tensors).add_(0.0)


def linear(original: Callable[..., Any]) -> Callable[..., Any]:
    """The implementation of mergekit's `linear`."""

    def merge(batch: Any, weight: torch.Tensor, normalize: bool = True) -> Any:
        import torch

        first = batch.tensors[0]
        if first.shape[0] != 1 or first.dtype == torch.float64 or not _plain(batch.tensors):
            return original(batch, weight=weight, normalize=normalize)
        weight = weight.float()
        divisor = weight.sum(dim=1)
        result = torch.empty_like(first)
        sources, flat_result = [tensor.reshape(-1) for tensor in batch.tensors], result.reshape(-1)
        for begin in range(0, first.numel(), PIECE):
            piece = slice(begin, begin + PIECE)
            total = torch.zeros(len(flat_result[piece]))
            for source, coefficient in zip(sources, weight.unbind(1), strict=True):
                total.addcmul_(source[piece], coefficient)
            if normalize:
                total.div_(divisor)
            flat_result[piece] = total
        return result

    return merge


class Angles(Replacement):
    """mergekit's `slerp`, with the cosine of the angle between the sources kept."""

    def __call__(
        self,
        t: torch.Tensor,
        v0: torch.Tensor,
        v1: torch.Tensor,
        dot_threshold: float = 0.9995,
        eps: float = 1e-8,
    ) -> Any:
        """The interpolation at t."""
        import torch

        vector = self.next_vector()
        if vector is None or v0.shape[0] != 1 or v0.numel() == 0 or v0.dtype == torch.float64:
            return self.original(t, v0, v1, dot_threshold=dot_threshold, eps=eps)
        a, b = v0.reshape(-1), v1.reshape(-1)
        key = "cosine", vector, str(v0.dtype), eps
        (dot,) = self.kept_tensors.get_or_make(key, lambda: (_cosine(a, b, eps),))
        t = t.reshape(()).float()
        linear = dot.abs() > dot_threshold
        theta = torch.acos(torch.where(linear, 0, dot))
        sin_theta = torch.sin(theta)
        first = torch.where(linear, 1 - t, torch.sin((1 - t) * theta) / sin_theta)
        second = torch.where(linear, t, torch.sin(t * theta) / sin_theta)
        result = torch.empty_like(a)
        for begin in range(0, len(a), PIECE):
            piece = slice(begin, begin + PIECE)
            result[piece] = (a[piece].float() * first).add_(b[piece].float() * second)
        return result.reshape(v0.shape)


def _cosine(a: torch.Tensor, b: torch.Tensor, eps: float) -> torch.Tensor:
    """Cosine of the angle between two vectors, a scalar, by mergekit's sums over chunks, on whose size the last bits depend."""
    import torch
    from mergekit.merge_methods import slerp

    size = slerp._CHUNK_ELEMENTS

    norms = []
    for vector in (a, b):
        parts = [
            torch.linalg.vector_norm(chunk.float().unsqueeze(0), dim=1, keepdim=True)
            for chunk in vector.split(size)
        ]
        norm = torch.linalg.vector_norm(torch.stack(parts), dim=0)
        norms.append(torch.where(norm > eps, norm, 1))
    dots = [
        (x.float().unsqueeze(0) / norms[0] * (y.float().unsqueeze(0) / norms[1])).sum(dim=1, keepdim=True)
        for x, y in zip(a.split(size), b.split(size), strict=True)
    ]
    return torch.stack(dots).sum(dim=0).clamp(-1, 1).reshape(())
