"""Tensors that a thread makes while the ones before are loaded."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing

import pytest
import torch

from evals.made_ahead import NamedTensors, made_ahead


def numbered(count: int, *, fails: bool = False, closed: threading.Event | None = None) -> NamedTensors:
    """`count` tensors of 400 bytes, then an error or the end."""
    try:
        for number in range(count):
            yield f"tensor {number}", torch.full((100,), float(number))
        if fails:
            raise ValueError("no such source")
    finally:
        if closed is not None:
            closed.set()


def test_tensors_come_in_order_and_unchanged() -> None:
    taken = list(made_ahead(numbered(50), bytes_ahead=1000))
    assert [name for name, _ in taken] == [f"tensor {number}" for number in range(50)]
    assert all(torch.equal(tensor, torch.full((100,), float(n))) for n, (_, tensor) in enumerate(taken))


def test_an_error_of_the_maker_comes_after_the_tensors_before_it() -> None:
    tensors = made_ahead(numbered(7, fails=True))
    assert [name for name, _ in itertools.islice(tensors, 7)] == [f"tensor {n}" for n in range(7)]
    with pytest.raises(ValueError, match="no such source"):
        next(tensors)


def test_the_maker_is_closed_when_nobody_takes_the_rest() -> None:
    closed = threading.Event()
    with closing(made_ahead(numbered(10**9, closed=closed), bytes_ahead=1000)) as tensors:
        next(tensors)
    assert closed.is_set()


def test_what_waits_is_bounded() -> None:
    begun = 0

    def counted() -> NamedTensors:
        nonlocal begun
        for name, tensor in numbered(20):
            begun += 1
            yield name, tensor

    tensors = made_ahead(counted(), bytes_ahead=1000)
    for taken, _ in enumerate(tensors, 1):
        # Two tensors wait, and a third is made that finds no room.
        assert begun <= taken + 3
    assert begun == 20


def test_the_maker_computes_with_the_callers_number_of_threads() -> None:
    before = torch.get_num_threads()
    numbers: list[int] = []

    def noting() -> NamedTensors:
        numbers.append(torch.get_num_threads())
        yield "tensor", torch.zeros(1)

    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            list(made_ahead(noting()))
    finally:
        torch.set_num_threads(before)
    assert numbers == [1, 2]
