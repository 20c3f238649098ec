"""TALD that keeps particles between the visits of an image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams

from .conftest import PLAIN, Count, batch, network


def test_reused_particles_are_kept_for_so_many_visits_and_then_found_afresh() -> None:
    student, teacher, index = network(2), network(1), torch.tensor([5, 2, 9, 0])
    rows = torch.arange(4)
    tald = replace(PLAIN, reuse=2)
    memory = tald.memory(10, batch().x)
    seen = Count(teacher)
    values = []
    for visit in range(7):
        data = replace(batch(rows, index=index), streams=Streams.of(100 + visit, rows))
        values.append(tald(student, teacher, data, memory).item())
    assert seen.rows == 3 * [4, 16, 16]
    assert values[0] == values[1] == values[2] != values[3] == values[4] == values[5] != values[6]
    first = replace(batch(rows), streams=Streams.of(100, rows))
    assert values[0] == pytest.approx(PLAIN(student, teacher, first).item(), rel=0.02)  # half precision


def test_each_image_has_its_own_visits() -> None:
    student, teacher = network(2), network(1)
    tald = replace(PLAIN, reuse=1)
    memory = tald.memory(10, batch().x)
    for rows, due in (([0, 1], 2), ([1, 2], 1), ([0, 1, 2, 3], 2), ([0, 1, 2, 3], 2), ([2, 3, 5], 2)):
        seen, places = Count(teacher), torch.tensor(rows)
        tald(student, teacher, batch(places, index=places), memory)
        assert seen.rows[:1] == [due]


def test_the_memory_is_stored() -> None:
    student, teacher, index = network(2), network(1), torch.arange(8)
    tald = replace(PLAIN, reuse=5)
    memory, again = (tald.memory(8, batch().x) for _ in range(2))
    assert memory is not None
    assert again is not None
    value = tald(student, teacher, batch(index=index), memory)
    again.load_state_dict(memory.state_dict())
    other = replace(batch(index=index), streams=Streams.of(77, index))
    assert tald(student, teacher, other, again) == value
    assert tald(student, teacher, other, tald.memory(8, batch().x)) != value
    assert {name: b.dtype for name, b in memory.named_buffers()} == {
        "x_adv": torch.float16,
        "losses": torch.float32,
        "left": torch.int16,
    }
    assert PLAIN.memory(None, batch().x) is None


@pytest.mark.parametrize(
    ("index", "size", "message"),
    [
        (None, 8, r"pass memory\(num_examples, x\)"),
        (torch.arange(8), None, r"pass memory\(num_examples, x\)"),
        (torch.arange(8), 5, "has 5 images; the batch has places from 0 to 7"),
        (torch.arange(8) - 1, 8, "places from -1 to 6"),
    ],
)
def test_reuse_without_a_place_is_refused(index: Tensor | None, size: int | None, message: str) -> None:
    tald = replace(PLAIN, reuse=1)
    memory = None if size is None else tald.memory(size, batch().x)
    with pytest.raises(InputError, match=message):
        tald(network(2), network(1), batch(index=index), memory)
    with pytest.raises(InputError, match="pass num_examples"):
        tald.memory(None, batch().x)
    with pytest.raises(InputError, match="holds images of shape"):
        tald(network(2), network(1), batch(index=torch.arange(8)), tald.memory(8, torch.rand(1, 7)))
