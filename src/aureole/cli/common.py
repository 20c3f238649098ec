"""What the commands share: how they print, and what they are about."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
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


def watched(paths: Sequence[Path], what: str, *, shown: bool) -> Iterator[Path]:
    """Yield files; after 5 seconds a bar says how many are done, and how long the others will take."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
    task, start, started = bar.add_task(what, total=len(paths)), time.monotonic(), False
    try:
        for done, path in enumerate(paths):
            if not started and time.monotonic() - start > 5:
                bar.start()
                started = True
            bar.update(task, completed=done)
            yield path
    finally:
        if started:
            bar.stop()
