"""Masks of mergekit's sparsification, from kept orders of magnitudes and kept random numbers.

The masks are mergekit's own bit for bit:

- its sort orders equal magnitudes in a way that depends on the processor, so the place of every element in the order is kept, not a
  threshold; another density is then one comparison;
- `torch.bernoulli` draws a float32 number for each element, as `torch.rand` does, and compares it with the probability. The numbers are
  kept under the state of the generator before the draw, and the state after it is set again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from recipes.merge.kept import Replacement

if TYPE_CHECKING:
    import torch


_DRAWN = ("random", "della_magprune")
"""Methods of sparsification that draw random numbers."""


class Sparsifier(Replacement):
    """mergekit's `sparsify` with kept orders and draws."""

    def __call__(
        self,
        tensor: torch.Tensor,
        density: float,
        method: Any,
        gamma: float = 0,
        epsilon: float = 0,
        rescale_norm: Any = None,
    ) -> Any:
        """A task vector with most of its elements set to zero; kept while density and random numbers stay."""
        import torch

        vector = self.next_vector()
        settings = density, method, gamma, epsilon, rescale_norm
        if vector is None:
            return self._sparsified(None, tensor, *settings)
        before = state_digest(torch.get_rng_state()) if method.value in _DRAWN else None
        key = "sparsified", vector, str(tensor.dtype), settings, before
        sparsified, after = self.kept_tensors.get_or_make_repeated(
            key, lambda: (self._sparsified(vector, tensor, *settings), torch.get_rng_state())
        )
        if before is not None:
            torch.set_rng_state(after)
        return sparsified

    def _sparsified(
        self,
        vector: Hashable | None,
        tensor: torch.Tensor,
        density: float,
        method: Any,
        gamma: float,
        epsilon: float,
        rescale_norm: Any,
    ) -> torch.Tensor:
        from mergekit.sparsify import rescaled_masked_tensor

        if 0 < density < 1 and 0 < tensor.numel() < 1 << 31 and tensor.is_contiguous():
            key = None if vector is None else (vector, str(tensor.dtype), tuple(tensor.shape))
            mask = self._mask(tensor, key, density, method.value, gamma, epsilon)
            if mask is not None:
                masked = rescaled_masked_tensor(tensor.to(mask.dtype), mask, rescale_norm)
                return masked.to(tensor.dtype)
        return self.original(
            tensor, density=density, method=method, gamma=gamma, epsilon=epsilon, rescale_norm=rescale_norm
        )

    def _mask(
        self,
        tensor: torch.Tensor,
        key: Hashable | None,
        density: float,
        method: str,
        gamma: float,
        epsilon: float,
    ) -> torch.Tensor | None:
        """The mask, one for elements that stay; None where mergekit computes it.

        Magnitudes are compared in the tensor's dtype, random numbers in the dtype in which mergekit draws them.
        """
        if method == "random":
            return self._drawn(tensor, density)
        if key is None:
            return None
        if method == "magnitude":
            return _between(
                self._ranks(tensor, key, descending=True), 0, max(1, int(density * tensor.numel())), tensor
            )
        if method == "magnitude_outliers":
            target = int(density * tensor.numel())
            bottom = max(0, tensor.numel() - target - int(gamma * tensor.numel()))
            return _between(self._ranks(tensor, key, descending=False), bottom, bottom + target, tensor)
        row = tensor.shape[min(1, tensor.ndim - 1)] if tensor.ndim else 0
        if method == "della_magprune" and density - epsilon > 0 and density + epsilon < 1 and row > 1:
            return self._drawn(tensor, (density - epsilon) + self._row_ranks(tensor, key) * 2 * epsilon)
        return None

    def _ranks(self, tensor: torch.Tensor, key: Hashable, *, descending: bool) -> torch.Tensor:
        """Place of each element in the order of magnitudes, from 0, as int32."""
        import torch

        def make() -> tuple[torch.Tensor]:
            magnitudes = tensor.abs().reshape(-1)
            # mergekit does the same; equal magnitudes keep the order of its sort only if sort and dtype are the same.
            if magnitudes.device.type == "cpu":
                magnitudes = magnitudes.float()
            order = torch.argsort(magnitudes, descending=descending)
            ranks = torch.empty(len(order), dtype=torch.int32)
            ranks[order] = torch.arange(len(order), dtype=torch.int32)
            return (ranks.reshape(tensor.shape),)

        return self.kept_tensors.get_or_make(("ranks", descending, key), make)[0]

    def _row_ranks(self, tensor: torch.Tensor, key: Hashable) -> torch.Tensor:
        """Place of each element in its row's order of magnitudes, from 0 to 1; a vector is one row."""
        import torch

        def make() -> tuple[torch.Tensor]:
            rows = tensor.abs() if tensor.ndim > 1 else tensor.abs().unsqueeze(0)
            order = torch.argsort(rows, dim=1, descending=False)
            ranks = order.argsort(dim=1).to(_drawn_dtype(tensor)) + 1
            least, most = ranks.min(dim=1, keepdim=True).values, ranks.max(dim=1, keepdim=True).values
            return (((ranks - least) / (most - least)).clamp(0, 1).reshape(tensor.shape),)

        return self.kept_tensors.get_or_make(("row ranks", key), make)[0]

    def _drawn(self, tensor: torch.Tensor, probability: torch.Tensor | float) -> torch.Tensor | None:
        """The mask that `torch.bernoulli` draws for this probability or these; None for a dtype that it draws otherwise."""
        import torch

        dtype = _drawn_dtype(tensor)
        if dtype not in (torch.bfloat16, torch.float32) or tensor.dtype == torch.float64:
            return None
        before = torch.get_rng_state()

        def draw() -> tuple[torch.Tensor, torch.Tensor]:
            numbers = torch.rand(tensor.shape)
            if dtype == torch.bfloat16:
                # Rounded down, a number is below a bfloat16 probability exactly if it is so itself.
                numbers = (numbers.view(torch.int32) >> 16).to(torch.int16).view(torch.bfloat16)
            return numbers, torch.get_rng_state()

        numbers, after = self.kept_tensors.get_or_make(
            ("draws", state_digest(before), tensor.shape, str(dtype)), draw
        )
        torch.set_rng_state(after)
        if not isinstance(probability, torch.Tensor):
            probability = torch.tensor(probability, dtype=dtype)
        return torch.lt(numbers, probability, out=torch.empty(tensor.shape, dtype=dtype))


def _between(ranks: torch.Tensor, first: int, end: int, tensor: torch.Tensor) -> torch.Tensor:
    """One where first <= rank < end, in the tensor's dtype."""
    import torch

    mask = torch.lt(ranks, end, out=torch.empty(tensor.shape, dtype=tensor.dtype))
    return mask.mul_(ranks >= first) if first > 0 else mask


def _drawn_dtype(tensor: torch.Tensor) -> torch.dtype:
    """The dtype of probabilities in mergekit on a CPU."""
    import torch

    return torch.bfloat16 if tensor.dtype == torch.bfloat16 else torch.float32


def state_digest(state: torch.Tensor) -> bytes:
    """Identifies a state of torch's random generator."""
    return hashlib.blake2b(state.numpy().tobytes(), digest_size=16).digest()
