"""The checks of an attack's fields."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from aureole.attacks.fields import check_counts, check_numbers
from aureole.core.errors import InputError


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_counts_are_integers_of_at_least_one(value: object) -> None:
    with pytest.raises(InputError, match="num_steps must be an integer of at least 1; got "):
        check_counts(SimpleNamespace(num_steps=value), num_steps=1)


@pytest.mark.parametrize("value", [1, 7, None])
def test_counts_may_be_none(value: object) -> None:
    check_counts(SimpleNamespace(num_steps=value), num_steps=1)


@pytest.mark.parametrize("value", [0, -0.5, math.nan, math.inf, "1"])
def test_numbers_are_positive_and_finite(value: object) -> None:
    with pytest.raises(InputError, match="theta must be a positive finite number; got "):
        check_numbers(SimpleNamespace(theta=value), "theta")


def test_zero_is_a_number_where_it_may_be() -> None:
    check_numbers(SimpleNamespace(theta=0.0), "theta", zero=True)
    with pytest.raises(InputError, match="at least 0"):
        check_numbers(SimpleNamespace(theta=-1.0), "theta", zero=True)
