"""Reading the arrays that runs keep beside their records for pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aureole.core.errors import InputError


def read_arrays(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file of arrays.

    Args:
        path: an npz file without objects.
        needed: names of arrays that it must hold.

    Returns:
        Name -> array.

    Raises:
        InputError: the file cannot be read, or an array is missing.
    """
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is not a complete npz file without objects: repeat the run") from error
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise InputError(f"{path.name} has no array {missing[0]!r}: repeat the run")
    return arrays
