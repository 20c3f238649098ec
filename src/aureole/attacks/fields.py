"""Checks of an attack's fields, with one line that names the field."""

from __future__ import annotations

import math

from aureole.core.errors import InputError


def check_counts(owner: object, **least: int) -> None:
    """Check that each named field is an integer of at least so much, or None where that is its meaning.

    Raises:
        InputError: one is not.

    Example:
        >>> from types import SimpleNamespace
        >>> check_counts(SimpleNamespace(num_steps=0), num_steps=1)
        Traceback (most recent call last):
        aureole.core.errors.InputError: num_steps must be an integer of at least 1; got 0
    """
    for name, low in least.items():
        value = getattr(owner, name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
            raise InputError(f"{name} must be an integer of at least {low}; got {value!r}")


def check_numbers(owner: object, *names: str, zero: bool = False) -> None:
    """Check that each named field is a positive finite number; with ``zero``, or zero.

    Raises:
        InputError: one is not.

    Example:
        >>> from types import SimpleNamespace
        >>> check_numbers(SimpleNamespace(overshoot=-1.0), "overshoot", zero=True)
        Traceback (most recent call last):
        aureole.core.errors.InputError: overshoot must be a finite number of at least 0; got -1.0
    """
    for name in names:
        value = getattr(owner, name)
        good = isinstance(value, int | float) and math.isfinite(value) and (value > 0 or (zero and value == 0))
        if not good:
            wanted = "finite number of at least 0" if zero else "positive finite number"
            raise InputError(f"{name} must be a {wanted}; got {value!r}")
