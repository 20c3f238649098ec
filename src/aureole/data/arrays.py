"""Images stored as plain arrays: IDX files, NumPy archives, and the digits that ship with scikit-learn."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import cast

import numpy as np
import torch

from aureole.core.errors import InputError
from aureole.data.images import Images
from aureole.data.stratify import stratified

DIGITS_TEST = 360
_SPLIT_SEED = 0
_TEST_SHARE = 0.2
_IDX_PREFIX = {"train": "train", "test": "t10k"}
_NPZ_KEYS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}


def is_idx_folder(folder: Path) -> bool:
    """Return whether the folder holds a file named like those of MNIST."""
    return any(_idx_files(folder, prefix, "images") for prefix in _IDX_PREFIX.values())


def _idx_files(folder: Path, prefix: str, kind: str) -> list[Path]:
    rank = 3 if kind == "images" else 1
    stems = [f"{prefix}-{kind}{dot}idx{rank}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    return [folder / stem for stem in stems if (folder / stem).is_file()]


def _find_idx(folder: Path, prefix: str, kind: str) -> Path:
    files = _idx_files(folder, prefix, kind)
    if not files:
        rank = 3 if kind == "images" else 1
        raise InputError(f"{folder} has no file {prefix}-{kind}-idx{rank}-ubyte, with or without .gz")
    return files[0]


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Return the unsigned bytes of an IDX file, gzip-compressed or not.

    Args:
        path: the file; compressed if its name ends in ``.gz``.
        rank: how many dimensions it must have.

    Raises:
        InputError: the file is truncated, corrupt, or something else than an IDX file of that rank.

    Source: the format's description on the MNIST page: two zero bytes, type 8 for unsigned bytes, the rank, then one
    big-endian 32-bit size a dimension, then the data.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read ({error}): the file is truncated or corrupt, fetch it again"
        ) from error
    start = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    if content[:4] != magic or len(content) < start:
        raise InputError(f"{path} must start with the IDX magic number {magic.hex()}; got {content[:4].hex()}")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise InputError(
            f"{path} must hold {math.prod(shape)} bytes of data for its shape {shape}; "
            f"got {len(content) - start}: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx_folder(folder: Path, part: str) -> Images:
    """Read a folder with the files of MNIST or Fashion-MNIST; the classes are those of the training labels."""
    prefix = _IDX_PREFIX[part]
    images = read_idx(_find_idx(folder, prefix, "images"), 3)
    labels = read_idx(_find_idx(folder, prefix, "labels"), 1)
    known = labels if part == "train" else _train_labels(folder, labels)
    return _images(images, labels, known, folder.name or str(folder), str(folder))


def _train_labels(folder: Path, otherwise: np.ndarray) -> np.ndarray:
    files = _idx_files(folder, _IDX_PREFIX["train"], "labels")
    return read_idx(files[0], 1) if files else otherwise


def read_npz(path: Path, part: str) -> Images:
    """Read a NumPy archive.

    Either it holds both parts (``x_train``, ``y_train``, ``x_test``, ``y_test``, or ``train_images``, ...), or
    ``images`` and ``labels``: then a fifth of them, chosen class by class with a fixed seed, is the test part. Images
    are uint8, or floats in [0, 1], of shape (n, height, width), (n, height, width, channels) or
    (n, channels, height, width), with 1 or 3 channels; labels are integers of shape (n,) or (n, 1).

    Raises:
        InputError: the archive is unreadable, lacks these names, or an array is not as above.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _from_archive(archive, part, path)
    except InputError:
        raise
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read ({reason}): the file is truncated, corrupt or no archive") from error


def _from_archive(archive: np.lib.npyio.NpzFile, part: str, path: Path) -> Images:
    for (x, y), (_, y_train) in zip(_NPZ_KEYS[part], _NPZ_KEYS["train"], strict=True):
        if x in archive and y in archive:
            known = archive[y_train] if y_train in archive else archive[y]
            return _images(archive[x], archive[y], known, path.stem, str(path))
    if "images" in archive and "labels" in archive:
        whole = _images(archive["images"], archive["labels"], archive["labels"], path.stem, str(path))
        test, train = stratified(whole.labels, round(_TEST_SHARE * len(whole)), _SPLIT_SEED)
        return whole.subset(train if part == "train" else test)
    wanted = " and ".join(_NPZ_KEYS[part][0])
    raise InputError(f"{path} must hold the arrays {wanted}, or images and labels; it holds {', '.join(archive.files)}")


def read_digits(part: str) -> Images:
    """Return the 8x8 digits of scikit-learn, grey levels 0 to 16 scaled to 0 to 255: 1,437 to train, 360 to test."""
    from sklearn.datasets import load_digits

    levels, labels = cast("tuple[np.ndarray, np.ndarray]", load_digits(return_X_y=True))
    pixels = np.rint(levels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    whole = _images(pixels, labels, labels, "digits", "digits")
    test, train = stratified(whole.labels, DIGITS_TEST, _SPLIT_SEED)
    return whole.subset(train if part == "train" else test)


def _images(pixels: np.ndarray, labels: np.ndarray, known: np.ndarray, name: str, where: str) -> Images:
    """Check and convert two arrays; ``known`` are the labels that define the classes."""
    if not (np.issubdtype(labels.dtype, np.integer) and labels.size == len(labels)):
        raise InputError(f"labels of {where} must be integers of shape (n,); got {labels.dtype} {labels.shape}")
    num_classes = max(int(known.max(initial=0)), 0) + 1
    return Images(
        torch.from_numpy(_channels_first(_bytes(pixels, where), where)),
        torch.from_numpy(labels.reshape(-1).astype(np.int64)),
        tuple(str(c) for c in range(num_classes)),
        name,
    )


def _bytes(pixels: np.ndarray, where: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(f"images of {where} must be uint8, or floats in [0, 1]; got {pixels.dtype}")
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputError(
            f"floating-point images of {where} must lie in [0, 1]; got {pixels.min():g} to {pixels.max():g}: scale them"
        )
    return np.rint(pixels * 255).astype(np.uint8)


def _channels_first(pixels: np.ndarray, where: str) -> np.ndarray:
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise InputError(
            f"images of {where} must have the shape (n, height, width) or (n, height, width, channels) "
            f"with 1 or 3 channels; got {pixels.shape}"
        )
    return np.array(pixels, order="C")
