"""Stand-ins for fundus photographs: drawn ones, and variants of the one picture that ships with scikit-image."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError, first_line
from aureole.core.random import Streams

if TYPE_CHECKING:
    from PIL import ImageDraw

#: Names of the stand-ins, as a source of photographs.
RETINA, DRAWN = "retina", "drawn"


def fundus_source(folder: str) -> str:
    """Return the folder of fundus photographs; if there is none, ``"retina"`` or ``"drawn"``.

    ``"retina"`` stands for scikit-image's picture, where that package is installed and has it at hand.

    Example:
        >>> fundus_source("no/such/folder") in ("retina", "drawn")
        True
    """
    if Path(folder).expanduser().is_dir():
        return folder
    try:
        retina_picture()
    except InputError:
        return DRAWN
    return RETINA


def retina_picture() -> UInt8[Tensor, "3 height width"]:
    """Return the fundus photograph of scikit-image.

    Raises:
        InputError: scikit-image is not installed, or must fetch the picture and cannot.
    """
    try:
        pixels = importlib.import_module("skimage.data").retina()
    except Exception as error:  # a missing package, or whatever its way of fetching the file raises
        raise InputError(
            f"the retina of scikit-image cannot be had ({first_line(error)}); "
            "install scikit-image, or use the source 'drawn'"
        ) from error
    return torch.from_numpy(np.ascontiguousarray(pixels[..., :3])).permute(2, 0, 1).contiguous()


def vary(photograph: UInt8[Tensor, "3 size size"], streams: Streams) -> UInt8[Tensor, "3 size size"]:
    """Return a variant of a square photograph: turned about its centre, perhaps mirrored, its channels scaled.

    Args:
        photograph: prepared by :class:`aureole.data.fundus.Fundus`, so that the disk fills it.
        streams: one stream, which decides everything.
    """
    turn, mirror, *gains = streams.uniform((1, 5))[0].tolist()
    angle, sign = 2 * math.pi * turn, 1.0 if mirror < 0.5 else -1.0
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[[sign * cos, -sin, 0.0], [sign * sin, cos, 0.0]]])
    grid = F.affine_grid(matrix, [1, *photograph.shape], align_corners=False)
    turned = F.grid_sample(photograph[None].float(), grid, align_corners=False)[0]
    scaled = turned * (0.85 + 0.3 * torch.tensor(gains))[:, None, None]
    return scaled.round().clamp(0, 255).to(torch.uint8)


def draw_fundus(size: int, streams: Streams) -> UInt8[Tensor, "3 size size"]:
    """Return a drawn fundus: a shaded disk with an optic disc, a macula and branching vessels.

    Args:
        size: height and width, in pixels.
        streams: one stream, which decides everything.

    Example:
        >>> draw_fundus(32, Streams.of(0, torch.tensor([0]))).shape
        torch.Size([3, 32, 32])
    """
    side, lift, hue, gain, shift = streams.uniform((1, 5))[0].tolist()
    eye = 1.0 if side < 0.5 else -1.0
    y, x = torch.meshgrid(*2 * [(torch.arange(size) + 0.5) * (2 / size) - 1], indexing="ij")
    centre = (eye * (0.42 + 0.12 * shift), 0.16 * (lift - 0.5))
    macula = (centre[0] - eye * 0.62, centre[1] + 0.05)
    ground = torch.tensor([0.62, 0.30 + 0.06 * hue, 0.14 + 0.05 * hue]) * (0.8 + 0.4 * gain)
    cloud = F.interpolate(streams.normal((1, 1, 5, 5)), (size, size), mode="bicubic", align_corners=True)[0, 0]
    shade = (1.05 - 0.35 * (x**2 + y**2)) * (1 + 0.05 * cloud) - 0.25 * _spot(x, y, macula, 0.13)
    image = ground[:, None, None] * shade
    vessels = _vessels(size, centre, eye, streams)
    image = image * (1 - torch.tensor([0.30, 0.55, 0.50])[:, None, None] * vessels)
    optic = torch.sigmoid((0.12 - ((x - centre[0]) ** 2 + ((y - centre[1]) / 1.1) ** 2).sqrt()) * 60)
    pale = torch.tensor([0.95, 0.78, 0.50])[:, None, None] * (1 - 0.35 * vessels)
    image = image * (1 - optic) + pale * optic + 0.01 * streams.normal((1, 3, size, size))[0]
    inside = ((0.98 - (x**2 + y**2).sqrt()) * size / 2 + 0.5).clamp(0, 1)
    return (image.clamp(0, 1) * inside * 255).round().to(torch.uint8)


def _spot(x: Tensor, y: Tensor, centre: tuple[float, float], width: float) -> Tensor:
    return torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2))


def _vessels(size: int, centre: tuple[float, float], eye: float, streams: Streams) -> Tensor:
    """Return how much of each pixel vessels cover: arcs from the optic disc around the macula, and their branches."""
    from PIL import Image, ImageDraw, ImageFilter

    scale = 3
    canvas = Image.new("L", (scale * size, scale * size))
    draw = ImageDraw.Draw(canvas)
    toward = math.pi if eye > 0 else 0.0  # the direction of the macula
    trunks = [(1.0, 0.75), (1.0, -0.75), (0.5, 2.2), (0.5, -2.2), (0.8, 1.2), (0.8, -1.2)]
    for bend, offset in trunks:
        start = toward + offset + 0.3 * float(streams.uniform((1, 1))[0, 0] - 0.5)
        turn = -math.copysign(0.03 * bend, offset)
        paths = [(centre, start + math.copysign(0.5 * bend, offset), turn, 0.022)]
        while paths:
            path = paths.pop()
            paths += _grow(draw, path, scale * size, streams)
    return torch.from_numpy(
        np.asarray(canvas.filter(ImageFilter.GaussianBlur(scale / 2)).resize((size, size), Image.Resampling.BOX)) / 255
    ).float()


def _grow(
    draw: ImageDraw.ImageDraw,
    path: tuple[tuple[float, float], float, float, float],
    side: int,
    streams: Streams,
) -> list[tuple[tuple[float, float], float, float, float]]:
    """Draw one vessel to its end; return the branches that leave it."""
    (x, y), angle, turn, width = path
    steps = 45
    wobble, forks = streams.normal((1, steps))[0].tolist(), streams.uniform((1, steps))[0].tolist()
    branches = []
    for step in range(steps):
        angle += turn + 0.07 * wobble[step]
        new = (x + 0.04 * math.cos(angle), y + 0.04 * math.sin(angle))
        points = [((v + 1) * side / 2, (w + 1) * side / 2) for v, w in ((x, y), new)]
        draw.line(points, fill=210, width=max(1, round(width * side / 2)))
        (x, y), width = new, width * 0.975
        if forks[step] < 0.08 and width > 0.009 and step > 3:
            side_of = 1.0 if forks[step] < 0.04 else -1.0
            branches.append(((x, y), angle + 0.6 * side_of, -0.01 * side_of, 0.6 * width))
        if x**2 + y**2 > 1:
            break
    return branches
