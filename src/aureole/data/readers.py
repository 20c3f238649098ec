"""One function that reads any source of labelled images."""

from __future__ import annotations

from pathlib import Path

from aureole.core.errors import InputError, unknown_name
from aureole.data.arrays import is_idx_folder, read_digits, read_idx_folder, read_npz
from aureole.data.streamed import ImageSet
from aureole.data.tables import EXPECTED, read_table

#: Decoded images of at most this many bytes are held in memory.
MEMORY_LIMIT = 2 * 2**30


def read(source: str, part: str, *, memory_limit: int = MEMORY_LIMIT) -> ImageSet:
    """Read the training or the test part of a set of labelled images.

    Args:
        source: one of

            - ``"digits"``: the 1,797 8x8 digits of scikit-learn, split 1,437 to 360 class by class with a fixed seed;
            - a folder with the IDX files of MNIST or Fashion-MNIST, gzip-compressed or not;
            - an ``.npz`` file with ``x_train``, ``y_train``, ``x_test``, ``y_test``, or with ``images`` and ``labels``,
              of which a fifth, chosen class by class with a fixed seed, is the test part;
            - a folder of class folders (``train/cat/1.png``, ``test/cat/2.png``), of parquet files, or anything else
              that 🤗 ``datasets`` reads, or a name on its hub; the validation split stands in for a missing test split.
        part: ``"train"`` or ``"test"``. Only the files of this part are read, and for the test part what tells
            the classes of the training part, with which its own must agree.
        memory_limit: decoded images of more bytes than this stay on the disk.

    Returns:
        ``Images`` in memory, or ``Streamed`` ones that are read on demand.

    Raises:
        InputError: there is nothing at ``source``, it is unreadable, or it cannot be used as labelled images.

    Example:
        >>> len(read("digits", "train")), len(read("digits", "test"))
        (1437, 360)
    """
    if part not in ("train", "test"):
        raise unknown_name("part", part, ("train", "test"))
    if source == "digits":
        return read_digits(part)
    path = Path(source).expanduser()
    if path.is_dir():
        return read_idx_folder(path, part) if is_idx_folder(path) else read_table(source, part, memory_limit)
    if path.is_file() and path.suffix != ".npz":
        raise InputError(f"{source} is a {path.suffix or 'nameless kind of'} file; expected {EXPECTED}")
    if path.is_file():
        return read_npz(path, part)
    # A word, or a file in a folder that is here, is a slip of the pen: do not ask the hub for it.
    if source.count("/") != 1 or source.startswith((".", "~", "/")) or path.parent.is_dir():
        raise InputError(f"there is nothing at {source}; expected {EXPECTED}")
    return read_table(source, part, memory_limit)
