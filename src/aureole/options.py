"""Command-line options from signatures and frozen dataclasses, with one clear line for each mistake."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Any

from aureole.core.errors import InputError

_BOX = re.compile(r"[╭╮╰╯│─]+|-{4,}")  # where the output is no UTF-8, lines are drawn with hyphens


def parse(target: Callable[..., Any], arguments: Sequence[str], *, prog: str, default: Any = None) -> Any:
    """Return what ``target`` makes of the arguments; all of them must be its own.

    Args:
        target: a function, or a dataclass whose ``default`` says what to change.
        arguments: the command line's.
        prog: how help texts call the command.
        default: an instance of the dataclass.

    Raises:
        InputError: an option is unknown (the nearest is offered) or its value unusable.
        SystemExit: help was asked for, and printed.
    """
    return _call(target, arguments, prog, default, rest=False)


def parse_known(target: Callable[..., Any], arguments: Sequence[str], *, prog: str) -> tuple[Any, list[str]]:
    """Return what ``target`` makes of the arguments that are its own, and the others."""
    return _call(target, arguments, prog, None, rest=True)


def _call(target: Callable[..., Any], arguments: Sequence[str], prog: str, default: Any, *, rest: bool) -> Any:
    import tyro

    given: dict[str, Any] = {"default": default} if default is not None and is_dataclass(default) else {}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                target,
                args=list(arguments),
                prog=prog,
                return_unknown_args=rest,
                config=(tyro.conf.AvoidSubcommands,),
                **given,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(one_line(errors.getvalue())) from None


def one_line(boxed: str) -> str:
    """Return the message of a boxed error as one line, with the option that it offers.

    Example:
        >>> box = ["╭─ Unrecognized options ─╮", "│ Unrecognized options: --epoch, 3 │", "│ ────── │"]
        >>> one_line(chr(10).join([*box, "│ Perhaps you meant: │", "│     --epochs INT │", "╰──────╯"]))
        'unrecognized options: --epoch, 3: did you mean --epochs?'
    """
    parts: list[list[str]] = [[]]
    for line in boxed.strip().splitlines()[1:]:  # the first is the title
        text = _BOX.sub(" ", line).strip()
        if text:
            parts[-1].append(text)
        elif parts[-1]:
            parts.append([])
    parts = [part for part in parts if part] or [["the options cannot be read"]]
    said = re.sub(r"^Error parsing ([A-Z]\w*: )?", "", " ".join(parts[0])).rstrip(".")
    offers = [line.split()[0].rstrip(",") for part in parts[1:] for line in part if line.startswith("--")]
    meant = any(part[0].startswith(("Perhaps you meant", "Arguments similar to")) for part in parts)
    hint = f": did you mean {' or '.join(offers[:3])}?" if meant and offers else "; see --help"
    return said[0].lower() + said[1:] + hint
