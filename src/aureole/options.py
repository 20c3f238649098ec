"""Command-line options from signatures and frozen dataclasses, with one clear line for each mistake."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any, cast

from aureole.core.errors import InputError

_ROLE = re.compile(r":\w+:`(~[\w.]*\.)?([^`]*)(`|$)")  # of Sphinx, such as :func:`~aureole.data.read`
_BOX = re.compile(r"[╭╮╰╯│─]+|-{4,}")  # where the output is no UTF-8, lines are drawn with hyphens


def parse(
    target: Callable[..., Any],
    arguments: Sequence[str],
    *,
    prog: str,
    default: Any = None,
    elsewhere: Iterable[str] = (),
) -> Any:
    """Return what ``target`` makes of the arguments; all of them must be its own.

    Args:
        target: a function, or a dataclass whose ``default`` says what to change.
        arguments: the command line's.
        prog: how help texts call the command.
        default: an instance of the dataclass.
        elsewhere: names of options that were parsed before; a misspelt one of them is left over for this target.

    Raises:
        InputError: an option is unknown (the nearest is offered) or its value unusable.
        SystemExit: help was asked for, and printed.
    """
    try:
        return _call(target, arguments, prog, default, rest=False)
    except InputError as error:
        raise InputError(_offer(str(error), elsewhere)) from None


def parse_known(target: Callable[..., Any], arguments: Sequence[str], *, prog: str) -> tuple[Any, list[str]]:
    """Return what ``target`` makes of the arguments that are its own, and the others."""
    return _call(target, arguments, prog, None, rest=True)


def _call(target: Callable[..., Any], arguments: Sequence[str], prog: str, default: Any, *, rest: bool) -> Any:
    import tyro

    given: dict[str, Any] = {"default": default} if default is not None and is_dataclass(default) else {}
    errors, plain = io.StringIO(), cast("Any", _Plain(sys.stdout))
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(plain):
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


def _offer(message: str, elsewhere: Iterable[str]) -> str:
    """Offer options that were parsed before, where one of them is near to one that nobody knows."""
    said, _, offered = message.partition(": did you mean ")
    if not said.startswith("unrecognized options"):
        return message
    known = [f"--{name.replace('_', '-')}" for name in elsewhere]
    unknown = [word.rstrip(",") for word in said.split() if word.startswith("--")]
    near = [match for word in unknown for match in difflib.get_close_matches(word, known, n=1, cutoff=0.75)]
    if not near:
        return message
    offers = dict.fromkeys([*near, *filter(None, offered.rstrip("?").split(" or "))])
    return f"{said.partition(';')[0]}: did you mean {' or '.join(list(offers)[:3])}?"


class _Plain:
    """Standard output without the markup of docstrings: the boxes stay as wide as they were."""

    def __init__(self, out: Any) -> None:
        self.out = out

    def write(self, text: str) -> int:
        return self.out.write("".join(without_markup(line) for line in text.splitlines(keepends=True)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.out, name)


def without_markup(line: str) -> str:
    """Return a line of help without the markup of its docstring, padded where a box ends it.

    Example:
        >>> without_markup('│ ``"test"`` or :func:`~aureole.data.read` │')
        '│ "test" or read                           │'
    """
    text = _ROLE.sub(r"\2", line).replace("``", "")
    border = text.rfind("│")
    return text if border < 0 else text[:border] + " " * (len(line) - len(text)) + text[border:]


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
