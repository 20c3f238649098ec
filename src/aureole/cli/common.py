"""What the commands share: how they print, and what they are about."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from aureole.core.errors import InputError
from aureole.options import parse


def say(text: str) -> None:
    """Print a text on standard output."""
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    """Print one line on standard error."""
    sys.stderr.write(f"aureole: {text}\n")


def positional(arguments: Sequence[str], what: str, command: str, options: Any) -> tuple[str, list[str]]:
    """Split off the first argument, which says what a command is about; in its place, help may be asked for."""
    if arguments and arguments[0] in ("-h", "--help"):
        parse(type(options), ["--help"], prog=f"aureole {command} {what.upper()}", default=options)
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"'aureole {command}' needs {what} first: aureole {command} {what.upper()} [--field value]")
    return arguments[0], list(arguments[1:])
