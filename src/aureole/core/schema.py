"""Plain JSON for frozen dataclasses, with every field checked on the way back.

JSON has no number that is not finite, so those are written as ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` and become
numbers again on reading.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from aureole.core.errors import InputError

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any) -> str:
    r"""Return a dataclass as JSON text.

    Args:
        value: an instance of a dataclass whose fields hold plain values, lists, dictionaries or such dataclasses.

    Returns:
        The text, indented, with a final line break; the fields stand in their order.

    Raises:
        InputError: a field holds a value that JSON does not know.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Point:
        ...     x: float
        >>> to_json(Point(x=1.5))
        '{\n "x": 1.5\n}\n'
    """
    try:
        text = json.dumps(_plain(dataclasses.asdict(value)), indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"a record holds plain JSON values only: {error}; convert the value first") from error
    return text + "\n"


def from_values(kind: type, values: Any) -> Any:
    """Return a dataclass from the values of a parsed JSON text.

    Args:
        kind: the dataclass; its annotations say what each field must hold.
        values: the parsed text.

    Returns:
        An instance of ``kind``.

    Raises:
        InputError: a field is missing, unknown or of a wrong type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Point:
        ...     x: float
        >>> from_values(Point, {"x": "left"})
        Traceback (most recent call last):
        aureole.core.errors.InputError: field x must be a number; got 'left'
    """
    return _read_fields(kind, values, "")


def read_object(path: Path, what: str, mend: str, *, field: str, version: int) -> dict[str, Any]:
    """Return the values of a JSON file that names the version of its format.

    Args:
        path: the file.
        what: what the file should be, in words.
        mend: what to do where it is something else.
        field: the field that holds the version.
        version: the one that is read.

    Raises:
        InputError: the file cannot be read, is not JSON, not an object with such a field, or of another version.

    Example:
        >>> read_object(Path("nowhere.json"), "a run record", "give a run's folder", field="schema", version=1)
        Traceback (most recent call last):
        aureole.core.errors.InputError: cannot read nowhere.json as a run record (No such file or directory): give a ...
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot read {path} as {what} ({reason}): {mend}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not complete JSON ({error}): {mend}") from error
    if not isinstance(values, dict) or field not in values:
        raise InputError(f"{path} is not {what}: expected an object with a field {field!r}; {mend}")
    if type(values[field]) is not int or values[field] != version:
        got = shorten(values[field])
        raise InputError(f"{path} has {field} {got}; this version reads {version}: use the version that wrote it")
    return values


def _plain(value: Any) -> Any:
    """Name the numbers that JSON lacks; everything else stays."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _unplain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unplain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unplain(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def shorten(value: Any) -> str:
    """Return the representation of a value, cut to what fits into a message.

    Example:
        >>> shorten(list(range(100)))
        '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11...'
    """
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _wrong(where: str, expected: str, value: Any) -> InputError:
    return InputError(f"field {where} must be {expected}; got {shorten(value)}")


def _read_fields(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise _wrong(where, "an object", values)
    types_of = get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for name in types_of:
        if name not in values:
            raise InputError(f"field {prefix}{name} is missing: the record is older or was cut")
    for name in values:
        if name not in types_of:
            raise InputError(f"unknown field {prefix}{name}: the record is newer or was edited")
    return kind(**{name: _read(type_of, values[name], prefix + name) for name, type_of in types_of.items()})


def _read_list(kind: Any, value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return [_read(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value)]


def _read_dict(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return {key: _read(get_args(kind)[1], item, f"{where}[{key!r}]") for key, item in value.items()}


def _read_literal(kind: Any, value: Any, where: str) -> Any:
    if value not in get_args(kind):
        raise _wrong(where, "one of " + ", ".join(map(repr, get_args(kind))), value)
    return value


def _read_optional(kind: Any, value: Any, where: str) -> Any:
    return None if value is None else _read(get_args(kind)[0], value, where)


def _read_float(value: Any, where: str) -> float:
    value = _unplain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(where, "a number", value)
    return float(value)


_READERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    list: _read_list,
    dict: _read_dict,
    Literal: _read_literal,
    types.UnionType: _read_optional,
}
_WORDS = {str: "a text", int: "a whole number", bool: "true or false"}


def _read(kind: Any, value: Any, where: str) -> Any:
    reader = _READERS.get(get_origin(kind))
    if reader is not None:
        return reader(kind, value, where)
    if kind is Any:
        return _unplain(value)
    if kind is float:
        return _read_float(value, where)
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, where)
    if type(value) is not kind:
        raise _wrong(where, _WORDS[kind], value)
    return value
