"""What a user did wrong, in one line: what was expected, what came, and the usual mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that the caller gave is unusable; the message is complete and fit for a person.

    The command line prints it as its only line and exits with status 2.

    Example:
        >>> raise InputError("num_steps must be at least 0; got -1")
        Traceback (most recent call last):
        aureole.core.errors.InputError: num_steps must be at least 0; got -1
    """


class UntrustedResult(UserWarning):
    """A result was computed, but something about the model or the data makes it hard to believe.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", UntrustedResult)  # where a doubtful result is to stop a run
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a name that is not in a catalogue, with the nearest names.

    Args:
        kind: what the name should name, such as ``"recipe"``.
        name: what came.
        known: every valid name.

    Returns:
        An exception for the caller to raise.

    Example:
        >>> str(unknown_name("recipe", "robust-pgb", ["robust-pgd", "semisup-vat"]))
        "unknown recipe 'robust-pgb': did you mean 'robust-pgd'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose one of {', '.join(names)}"
    return InputError(f"unknown {kind} {name!r}: {offer}")


def first_line(error: BaseException) -> str:
    r"""Return the first line of what an exception says, or its type where it says nothing.

    Example:
        >>> first_line(OSError("the disk is full\nadvice"))
        'the disk is full'
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
