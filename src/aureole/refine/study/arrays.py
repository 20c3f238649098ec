"""Pairs of a study from the files that a run of refinement leaves behind."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from aureole.core.errors import InputError
from aureole.refine.study.pairs import StudyPair

PAIRS_NAME = "pairs.npz"
_IMAGES = ("x", "x_source", "x_refined")


def read_pairs(path: Path, num_images: int = 15) -> list[StudyPair]:
    """Return the first pairs of a file whose two images differ in 8 bits.

    Args:
        path: an npz file with ``x``, ``x_source`` and ``x_refined``, each (images, channels, height, width) in [0, 1],
            a text ``attack``, and, if there are any, texts ``names`` (images,); or the folder of a run that holds it
            as ``pairs.npz``.
        num_images: at most so many, at least 1; the thesis took 15.

    Returns:
        The pairs, in the order of the file; without ``names``, they are called by their index in it.

    Raises:
        InputError: the file is missing or not of this kind, or all its pairs look the same.
    """
    import numpy as np
    import torch

    if num_images < 1:
        raise InputError(f"num_images must be at least 1; got {num_images}")
    path = Path(path)
    path = path / PAIRS_NAME if path.is_dir() else path
    arrays = _read(path)
    attack, names = _texts(path, arrays)
    shown = [np.round(arrays[name].astype(np.float64) * 255) for name in ("x_source", "x_refined")]
    differ = np.flatnonzero((shown[0] != shown[1]).any(axis=(1, 2, 3)))
    if not len(differ):
        raise InputError(f"{path}: x_source and x_refined look the same in every pair: refine with a smaller share")
    pairs = []
    for index in differ[:num_images].tolist():
        clean, source, refined = (torch.from_numpy(arrays[name][index].astype(np.float32)) for name in _IMAGES)
        pairs.append(StudyPair(name=names[index], attack=attack, source=source, refined=refined, clean=clean))
    return pairs


def _read(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise InputError(f"no pairs at {path}: give an .npz file, or a run's folder with {PAIRS_NAME}") from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a complete npz file without objects: write it again") from error
    for name in (*_IMAGES, "attack"):
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    for name in _IMAGES:
        _check_images(path, name, arrays[name], arrays["x"].shape)
    return arrays


def _check_images(path: Path, name: str, images: Any, shape: tuple[int, ...]) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape or images.dtype.kind not in "fiub":
        wanted = "numbers of the shape (images, 1 or 3 channels, height, width)"
        raise InputError(f"{path}: {name} must hold {wanted}; got {images.dtype} of the shape {images.shape}")
    if images.shape != shape:
        raise InputError(f"{path}: {name} must have the shape of x, {shape}; got {images.shape}")
    low, high = float(images.min()), float(images.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(f"{path}: {name} must lie in [0, 1]; got values from {low:g} to {high:g}: rescale the images")


def _texts(path: Path, arrays: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the attack and the pairs' names, which must differ."""
    attack, num_pairs = arrays["attack"], len(arrays["x"])
    if attack.ndim != 0 or attack.dtype.kind != "U" or not str(attack).strip():
        raise InputError(f"{path}: attack must be a text, the source attack's name; got {str(attack)[:40]!r}")
    names = [str(name) for name in arrays.get("names", range(num_pairs))]
    if len(names) != num_pairs or len(set(names)) != num_pairs:
        raise InputError(f"{path}: names must be {num_pairs} different texts; got {len(set(names))}")
    return str(attack), names
