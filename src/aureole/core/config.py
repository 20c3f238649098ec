"""Configurations as plain values and back: what a run writes down is enough to repeat it.

A frozen dataclass becomes ``{"type": "aureole.core.balls:Linf", "radius": 0.3, ...}``. Only classes of this library are
ever looked up, so that a configuration file cannot run foreign code.
"""

from __future__ import annotations

import importlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from aureole.core.errors import InputError

_MOVED = {"aureole.refine.selection": "aureole.core.selection"}  # modules that older records know by another name


def to_values(config: Any) -> Any:
    """Return a configuration as dictionaries, lists, numbers, strings and None.

    Args:
        config: a frozen dataclass of this library, or a value inside one.

    Raises:
        InputError: it holds something that cannot be written down, such as a module.

    Example:
        >>> to_values(Linf(0.5, bounds=None))
        {'type': 'aureole.core.balls:Linf', 'radius': 0.5, 'bounds': None}
    """
    if is_dataclass(config) and not isinstance(config, type):
        name = f"{type(config).__module__}:{type(config).__qualname__}"
        return {"type": name} | {f.name: to_values(getattr(config, f.name)) for f in fields(config) if f.init}
    if isinstance(config, tuple | list):
        return [to_values(value) for value in config]
    if isinstance(config, dict):
        return {str(key): to_values(value) for key, value in config.items()}
    if isinstance(config, Path):
        return str(config)
    if config is None or isinstance(config, bool | int | float | str):
        return config
    raise InputError(f"a configuration holds plain values and aureole's own classes; got {type(config).__name__}")


def from_values(values: Any) -> Any:
    """Return the configuration that :func:`to_values` wrote; lists become tuples.

    Raises:
        InputError: it names a class or a field that this version does not have.

    Example:
        >>> from_values(to_values(Linf(0.5)))
        Linf(radius=0.5, bounds=(0.0, 1.0))
    """
    if isinstance(values, list):
        return tuple(from_values(value) for value in values)
    if not isinstance(values, dict):
        return values
    given = {key: from_values(value) for key, value in values.items()}
    if "type" not in given:
        return given
    kind = _class_named(str(given.pop("type")))
    try:
        return kind(**given)
    except TypeError as error:
        raise InputError(
            f"the configuration of {kind.__name__} does not fit this version of aureole: {error}"
        ) from None


def _class_named(name: str) -> type:
    module, _, qualname = name.partition(":")
    module, found = _MOVED.get(module, module), None
    if module == "aureole" or module.startswith("aureole."):
        try:
            found = getattr(importlib.import_module(module), qualname, None)
        except ImportError:
            found = None
    if not (isinstance(found, type) and is_dataclass(found)):
        raise InputError(f"the configuration names {name!r}, which this version of aureole does not have")
    return found
