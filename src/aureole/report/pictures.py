"""Pictures of particles (thesis, Figure 5.1): the clean image, every perturbation, every adversarial image."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aureole.core.errors import InputError
from aureole.core.records import Record
from aureole.report.layout import number

PARTICLES_PATTERN = "particles*.npz"
_MOST_IMAGES = 6
_MOST_PARTICLES = 8
_LONGEST_SIDE = 128


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: its address, which holds the picture itself, and what it shows in words."""

    source: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Particle:
    """One particle of one image.

    Args:
        perturbation: the perturbation in diverging colours.
        adversarial: the adversarial image.
        predicted: the predicted class.
        fooled: whether it differs from the label.
    """

    perturbation: Picture
    adversarial: Picture
    predicted: str
    fooled: bool


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image with its label and particles."""

    clean: Picture
    label: str
    particles: Sequence[Particle]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures of one run.

    Args:
        title: whose they are.
        sentence: what to see.
        note: how the colours are made, and what is left out.
        examples: the images.
    """

    title: str
    sentence: str
    note: str
    examples: Sequence[Example]


def galleries(found: Sequence[tuple[Path, Record]]) -> list[Gallery]:
    """Return the pictures of the runs that have files ``particles*.npz`` beside their record.

    Args:
        found: records and their files.

    Returns:
        One gallery for each file of each label, data set and number of particles: its run with the lowest seed.

    Raises:
        InputError: such a file is not what :func:`read_particles` expects.
    """
    chosen: dict[Any, tuple[Path, Record]] = {}
    for path, record in found:
        if any(path.parent.glob(PARTICLES_PATTERN)):
            key = (record.data, record.label, record.method, record.num_particles)
            if key not in chosen or record.seed < chosen[key][1].seed:
                chosen[key] = (path, record)
    several = len({record.data for _, record in chosen.values()}) > 1
    shown = []
    for path, record in chosen.values():
        title = f"{record.label}, seed {record.seed}" + (f", {record.data.name}" if several else "")
        shown += [_gallery(file, title) for file in sorted(path.parent.glob(PARTICLES_PATTERN))]
    return shown


def read_particles(path: Path) -> dict[str, Any]:
    """Read and check a file of particles.

    Args:
        path: an npz file with ``x`` (k, C, H, W), ``x_adv`` (n, k, C, H, W), ``labels`` (k,), ``predictions`` (n, k)
            and, if there are any, ``class_names`` and a ``title``.

    Returns:
        Name -> array.

    Raises:
        InputError: the file cannot be read, or an array is missing or has another shape.
    """
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a complete npz file without objects: write it again") from error
    for name in ("x", "x_adv", "labels", "predictions"):
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    shape, num_particles = arrays["x"].shape, arrays["x_adv"].shape[:1]
    expected = {"x_adv": num_particles + shape, "labels": shape[:1], "predictions": num_particles + shape[:1]}
    if len(shape) != 4 or 0 in shape + num_particles:
        raise InputError(
            f"{path}: x must have the shape (images, channels, height, width), none of them 0; got {shape}"
        )
    for name, wanted in expected.items():
        if arrays[name].shape != wanted:
            raise InputError(f"{path}: {name} must have the shape {wanted}; got {arrays[name].shape}")
    return arrays


def _gallery(path: Path, title: str) -> Gallery:
    import numpy as np

    arrays = read_particles(path)
    title = f"{title}: {arrays['title']}" if "title" in arrays else title
    x, x_adv = arrays["x"].astype(np.float64), arrays["x_adv"].astype(np.float64)
    delta = (x_adv - x).mean(axis=2)
    largest = float(np.abs(delta).max()) or 1.0
    low, high = min(0.0, float(x.min()), float(x_adv.min())), max(1.0, float(x.max()), float(x_adv.max()))
    names = [str(name) for name in arrays.get("class_names", [])]
    num_particles, num_images = min(len(x_adv), _MOST_PARTICLES), min(len(x), _MOST_IMAGES)
    examples = []
    for i in range(num_images):
        label = _class_name(names, int(arrays["labels"][i]))
        particles = []
        for n in range(num_particles):
            predicted = _class_name(names, int(arrays["predictions"][n, i]))
            colours = diverging(delta[n, i] / largest)
            words = f"Perturbation of particle {n + 1}"
            adversarial = picture((x_adv[n, i] - low) / (high - low), f"Adversarial image, classified as {predicted}")
            particles.append(
                Particle(
                    perturbation=Picture(source=address(colours), words=words),
                    adversarial=adversarial,
                    predicted=predicted,
                    fooled=predicted != label,
                )
            )
        clean = picture((x[i] - low) / (high - low), f"Clean image, class {label}")
        examples.append(Example(clean=clean, label=label, particles=particles))
    note = _note(x_adv.shape, largest, low, high)
    return Gallery(title=title, sentence=_sentence(arrays), note=note, examples=examples)


def _class_name(names: list[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else str(index)


def _sentence(arrays: dict[str, Any]) -> str:
    wrong = arrays["predictions"] != arrays["labels"]
    kinds = [len(set(arrays["predictions"][wrong[:, i], i].tolist())) for i in range(wrong.shape[1])]
    return (
        f"{int(wrong.sum())} of {wrong.size} particles change the class; the particles of one image reach up to "
        f"{max(kinds)} different wrong class{'' if max(kinds) == 1 else 'es'}."
    )


def _note(shape: tuple[int, ...], largest: float, low: float, high: float) -> str:
    num_particles, num_images, channels, *size = shape
    note = f"Perturbations are amplified: full colour is a change of {number(largest, 3)}, orange up, blue down"
    note += ", as the mean of the channels." if channels > 1 else "."
    if (low, high) != (0.0, 1.0):
        note += f" Images are scaled from [{number(low, 3)}, {number(high, 3)}] to black and white."
    if num_images > _MOST_IMAGES or num_particles > _MOST_PARTICLES:
        note += f" Shown: the first {min(num_images, _MOST_IMAGES)} of {num_images} images and "
        note += f"{min(num_particles, _MOST_PARTICLES)} of {num_particles} particles."
    if max(size) > _LONGEST_SIDE:
        note += f" Shown at a longest side of {_LONGEST_SIDE} pixels."
    return note


def diverging(values: Any) -> Any:
    """Map [-1, 1] to blue, white, orange (H, W, 3); the two ends are as dark as each other."""
    import numpy as np

    white, blue, orange = np.array([0.97, 0.97, 0.97]), np.array([0.02, 0.30, 0.62]), np.array([0.72, 0.31, 0.0])
    strength = np.abs(values)[..., None] ** 0.8
    return white + strength * (np.where(values[..., None] < 0, blue, orange) - white)


def picture(image: Any, words: str) -> Picture:
    """Return an image (C, H, W): colour for three channels, else the grey of the channels' mean."""
    import numpy as np

    pixels = np.moveaxis(image, 0, -1) if len(image) == 3 else np.repeat(image.mean(axis=0)[..., None], 3, axis=-1)
    return Picture(source=address(pixels), words=words)


def address(pixels: Any) -> str:
    """Return an address that holds a picture (H, W, 3) with values in [0, 1]."""
    import numpy as np
    from PIL import Image

    levels = np.round(np.nan_to_num(pixels, nan=0.5).clip(0, 1) * 255).astype(np.uint8)
    grey = bool((levels == levels[..., :1]).all())
    image = Image.fromarray(levels[..., 0] if grey else levels)
    if max(image.size) > _LONGEST_SIDE:
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
