"""Ramps by hand."""

from __future__ import annotations

import math

import pytest

from aureole.core.errors import InputError
from aureole.core.ramps import Constant, Linear, Ramp, Sigmoid


@pytest.mark.parametrize(
    ("ramp", "epoch", "expected"),
    [
        (Constant(), 0, 1.0),
        (Linear(8.0), 0, 0.0),
        (Linear(8.0), 2.5, 0.3125),
        (Linear(8.0), 100, 1.0),
        (Linear(8.0), -1, 0.0),
        (Sigmoid(10.0), 0, math.exp(-5)),
        (Sigmoid(10.0), 5, math.exp(-1.25)),
        (Sigmoid(10.0), 10, 1.0),
        (Sigmoid(10.0), 11, 1.0),
        (Linear(0.0), 0, 1.0),
        (Sigmoid(0.0), 0, 1.0),
    ],
)
def test_a_ramp_by_hand(ramp: Ramp, epoch: float | int, expected: float) -> None:
    assert ramp(epoch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [Linear, Sigmoid])
@pytest.mark.parametrize("length", [-1.0, math.inf, math.nan])
def test_a_length_out_of_range_is_refused(kind: type[Linear] | type[Sigmoid], length: float) -> None:
    with pytest.raises(InputError, match="length of a ramp"):
        kind(length)


@pytest.mark.parametrize("ramp", [Linear(3.0), Sigmoid(0.0)])
def test_a_ramp_asks_for_the_epoch_and_a_constant_does_not(ramp: Ramp) -> None:
    assert Constant()(None) == 1.0
    with pytest.raises(InputError, match=r"pass Batch\(\.\.\., epoch=epoch\), from 0"):
        ramp(None)


def test_a_ramp_is_a_value() -> None:
    assert hash(Sigmoid(3.0)) == hash(Sigmoid(3.0))
    assert Sigmoid(3.0) != Linear(3.0)
