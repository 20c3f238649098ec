"""Drawn scans of a left atrium: a body with veins and an appendage, and beside it a vessel that looks the same."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from torch.nn import functional as F

from aureole.core.random import Streams
from aureole.data.scans.phantom_heart import blurred, smooth
from aureole.data.scans.scan import Scan, scaled

CLASS_NAMES = ("background", "atrium")
# Veins leave the body in these directions, the last one is the appendage: (x, y, z), length and thickness as shares.
_BRANCHES = (
    ((-1.0, 0.5, 0.45), 1.6, 0.30),
    ((-1.0, 0.5, -0.45), 1.6, 0.28),
    ((1.0, 0.5, 0.45), 1.6, 0.30),
    ((1.0, 0.5, -0.45), 1.6, 0.28),
    ((0.9, -0.9, 0.1), 1.3, 0.42),
)


def draw_atrium(seed: int, patient: int, size: int, *, with_label: bool = True) -> Scan:
    """Return a drawn scan of an atrium, z last; the same arguments give the same scan.

    A satellite, a vessel of the same brightness that no label marks, lies apart from the atrium: a network that looks
    at grey levels alone takes both, and keeping the largest component takes the satellite off again.

    Args:
        seed: of all patients.
        patient: number of the patient, at least 0.
        size: mean length of the first axis, in voxels; the second is 0.9 and the third 0.6 of it; all vary.
        with_label: whether to give the label too.

    Returns:
        A scan with an image of mean 0 and standard deviation 1, and 2 classes.

    Example:
        >>> from aureole.data.scans.phantom_atrium import draw_atrium
        >>> scan = draw_atrium(seed=0, patient=0, size=40)
        >>> scan.name, 0.02 < scan.label.float().mean().item() < 0.2
        ('atrium000', True)
    """
    streams = Streams.of(seed, torch.tensor([patient]))
    draw = streams.uniform((1, 16))[0].tolist()
    shape = tuple(round(size * share * (0.88 + 0.24 * u)) for share, u in zip((1.0, 0.9, 0.6), draw, strict=False))
    places = _places(shape, (0.16 * draw[3] - 0.08, 0.16 * draw[4] - 0.08, 0.1 * draw[5] - 0.05), draw[6])
    atrium = _atrium(places, [0.8 + 0.4 * u for u in draw[7:15]])
    near = F.max_pool3d(atrium[None].float(), 5, stride=1, padding=2)[0] > 0
    image = _paint(atrium, _satellite(places, draw[15]) & ~near, streams)
    return Scan(
        name=f"atrium{patient:03d}",
        image=scaled(image[None], "z-score"),
        label=atrium.long() if with_label else None,
        spacing=(120.0 / size, 120.0 / size, 120.0 / size),
        slice_axis=2,
    )


def _places(shape: tuple[int, ...], centre: tuple[float, ...], turn: float) -> Float32[Tensor, "3 d1 d2 d3"]:
    """Return coordinates from the middle of the atrium, -1 to 1 on each axis, turned in the plane of the first two."""
    lines = [(torch.arange(n) + 0.5) * (2 / n) - 1 - shift for n, shift in zip(shape, centre, strict=True)]
    x, y, z = torch.meshgrid(*lines, indexing="ij")
    angle = math.radians(40 * turn - 20)
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.stack([cos * x + sin * y, cos * y - sin * x, z])


def _atrium(places: Tensor, vary: list[float]) -> Bool[Tensor, "d1 d2 d3"]:
    radii = torch.tensor([0.44 * vary[0], 0.38 * vary[1], 0.60 * vary[2]]).view(3, 1, 1, 1)
    found = (places / radii).square().sum(0) < 1
    for (direction, length, thickness), factor in zip(_BRANCHES, vary[3:], strict=True):
        way = torch.tensor(direction) * radii.flatten()
        reach = float(way.norm()) * length * factor
        found |= _capsule(places, way / way.norm() * reach, thickness * 0.4)
    return found


def _capsule(places: Tensor, end: Tensor, radius: float) -> Bool[Tensor, "d1 d2 d3"]:
    """Mark what lies within ``radius`` of the line from the middle to ``end``."""
    share = (torch.einsum("c,cxyz->xyz", end, places) / end.square().sum()).clamp(0, 1)
    return (places - share * end.view(3, 1, 1, 1)).square().sum(0) < radius**2


def _satellite(places: Tensor, draw: float) -> Bool[Tensor, "d1 d2 d3"]:
    """Mark a short vessel in front of the atrium and to its left."""
    centre = torch.tensor([-0.72, -0.70, 0.3 * draw - 0.15]).view(3, 1, 1, 1)
    radii = torch.tensor([0.14, 0.14, 0.6]).view(3, 1, 1, 1)
    return ((places - centre) / radii).square().sum(0) < 1


def _paint(atrium: Tensor, satellite: Tensor, streams: Streams) -> Float32[Tensor, "d1 d2 d3"]:
    patches = smooth(streams, tuple(atrium.shape), (6, 6, 5))
    image = torch.where(atrium | satellite, torch.tensor(1.0), 0.35 + 0.22 * patches)
    image = blurred(image.movedim(2, 0)[:, None])[:, 0].movedim(0, 2)
    bias = 1 + 0.15 * smooth(streams, tuple(atrium.shape), (3, 3, 2))
    return image * bias + 0.1 * streams.normal((1, *atrium.shape))[0]
