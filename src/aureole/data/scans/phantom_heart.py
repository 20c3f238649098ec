"""Drawn short-axis scans of a heart: right ventricle, myocardium, left ventricle, from above the base to the apex."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from aureole.core.random import Streams
from aureole.data.scans.scan import Scan, scaled

CLASS_NAMES = ("background", "RV", "myocardium", "LV")
FRAMES = ("frame01", "frame02")  # the heart full, and contracted
_LEVELS = (0.38, 0.70, 0.28, 0.78)  # tissue, blood right, muscle, blood left


@dataclass(frozen=True)
class _Heart:
    """Where a patient's heart lies and how large it is; lengths in shares of the smaller side."""

    height: int
    width: int
    num_slices: int
    top: float  # depth of the first slice: 0 is the base, 1 the apex
    centre: tuple[float, float]
    radius: float
    wall: float
    turn: float
    reach: float  # of the right ventricle


def draw_heart(seed: int, patient: int, frame: int, size: int, *, with_label: bool = True) -> Scan:
    """Return a drawn scan of a heart, slices first; the same arguments give the same scan.

    Slices above the base and below the apex are empty, and near the apex only muscle is left. The two frames of a
    patient differ in how far the heart is contracted. Tissue outside has patches as bright as blood and as dark as
    muscle, so that grey levels alone do not tell the classes; a bias field and noise lie over all.

    Args:
        seed: of all patients.
        patient: number of the patient, at least 0.
        frame: 0 for the heart full, 1 for it contracted.
        size: mean height and width, in pixels; both vary by a fifth.
        with_label: whether to give the label too.

    Returns:
        A scan with an image in [0, 1] and 4 classes.

    Example:
        >>> from aureole.data.scans.phantom_heart import draw_heart
        >>> scan = draw_heart(seed=0, patient=0, frame=0, size=48)
        >>> scan.name, scan.label.unique().tolist(), scan.label[0].any().item()
        ('patient000_frame01', [0, 1, 2, 3], False)
    """
    streams = Streams.of(seed, torch.tensor([patient]))
    heart = _heart(streams, size)
    label = torch.stack([_draw_slice(heart, number, frame) for number in range(heart.num_slices)])
    image = _paint(label, streams.fork(1 + frame), streams.fork(0))
    return Scan(
        name=f"patient{patient:03d}_{FRAMES[frame]}",
        image=scaled(image[None], "unit"),
        label=label if with_label else None,
        spacing=(10.0, 100.0 / size, 100.0 / size),
    )


def _heart(streams: Streams, size: int) -> _Heart:
    draw = streams.uniform((1, 10))[0].tolist()
    return _Heart(
        height=round(size * (0.8 + 0.4 * draw[0])),
        width=round(size * (0.8 + 0.4 * draw[1])),
        num_slices=7 + int(4 * draw[2]),
        top=-0.12 - 0.05 * draw[3],
        centre=(0.14 * draw[4] - 0.07, 0.14 * draw[5] - 0.03),
        radius=0.15 + 0.05 * draw[6],
        wall=0.06 + 0.02 * draw[7],
        turn=math.radians(60 * draw[8] - 30),
        reach=0.8 + 0.35 * draw[9],
    )


def _draw_slice(heart: _Heart, number: int, frame: int) -> Int64[Tensor, "h w"]:
    """Return the label of one slice; the heart is a half ellipsoid, the right ventricle a crescent on its side."""
    depth = heart.top + (1.12 - heart.top) * number / (heart.num_slices - 1)
    label = torch.zeros(heart.height, heart.width, dtype=torch.int64)
    if depth < 0 or depth > 1:
        return label
    radius, wall = heart.radius * (0.68 if frame else 1.0), heart.wall * (1.35 if frame else 1.0)
    inner = radius * math.sqrt(max(1 - (depth / 0.9) ** 2, 0.0))
    outer = (radius + wall) * math.sqrt(1 - 0.9 * depth**2)
    along, across = _axes(heart)
    distance = (along**2 + across**2).sqrt()
    right = math.sqrt(max(1 - (depth / 0.75) ** 2, 0.0)) * heart.reach * (0.8 if frame else 1.0)
    if right > 0.15:
        offset = heart.radius + 0.35 * heart.wall
        label[((along + offset) / (0.20 * right)) ** 2 + (across / (0.29 * right)) ** 2 < 1] = 1
    label[distance < outer] = 2
    label[distance < inner] = 3
    return label


def _axes(heart: _Heart) -> tuple[Tensor, Tensor]:
    """Return the two coordinates of every pixel, from the middle of the heart, along and across its septum's normal."""
    smaller = min(heart.height, heart.width)
    row = (torch.arange(heart.height) + 0.5 - heart.height / 2)[:, None] / smaller - heart.centre[0]
    column = (torch.arange(heart.width) + 0.5 - heart.width / 2)[None] / smaller - heart.centre[1]
    cos, sin = math.cos(heart.turn), math.sin(heart.turn)
    return cos * column + sin * row, cos * row - sin * column


def _paint(label: Int64[Tensor, "slices h w"], streams: Streams, anatomy: Streams) -> Float32[Tensor, "slices h w"]:
    """Return grey levels: ``anatomy`` decides what both frames share, ``streams`` the noise."""
    patches = smooth(anatomy, tuple(label.shape), (4, 7, 7))
    gains = anatomy.uniform((1, 4))[0]
    levels = torch.tensor(_LEVELS) * (0.9 + 0.2 * gains)
    body = levels[0] + 0.22 * patches
    image = torch.where(label == 0, body, levels[label])
    image = blurred(image[None])[0]
    bias = 1 + 0.15 * smooth(anatomy, tuple(label.shape), (2, 3, 3))
    return (image * bias + 0.05 * streams.normal((1, *label.shape))[0]).clamp_min(0)


def smooth(streams: Streams, shape: tuple[int, ...], knots: tuple[int, int, int]) -> Float32[Tensor, "d h w"]:
    """Return a random field that varies slowly: normal numbers at the knots, interpolated linearly between them.

    Example:
        >>> from aureole.data.scans.phantom_heart import smooth
        >>> smooth(Streams.of(0, torch.tensor([0])), (5, 9, 9), (2, 3, 3)).shape
        torch.Size([5, 9, 9])
    """
    return F.interpolate(streams.normal((1, *knots))[None], shape, mode="trilinear", align_corners=True)[0, 0]


def blurred(image: Float32[Tensor, "slices channels h w"]) -> Float32[Tensor, "slices channels h w"]:
    """Return the mean of each pixel and its neighbours in the plane: borders are never sharp in a scan.

    Example:
        >>> from aureole.data.scans.phantom_heart import blurred
        >>> blurred(torch.ones(1, 1, 3, 3)).unique().tolist()
        [1.0]
    """
    return F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
