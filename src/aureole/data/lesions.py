"""Painted lesions: blobs of known shape on photographs of healthy retinas, so that a map has a ground truth.

They are no real disease, and every figure that uses them calls them painted lesions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError, unknown_name
from aureole.core.random import Streams
from aureole.data.fundus import Fundus

KINDS = ("bright", "dark")
# Colour of a bright lesion, as a share of the brightest tissue: from the yellow of atrophy to the cream of exudate.
_YELLOW, _CREAM = (0.92, 0.72, 0.36), (0.95, 0.88, 0.66)
# What a dark lesion leaves of each channel: haemorrhage, red, to pigment, brown.
_BLOOD, _PIGMENT = (0.55, 0.30, 0.34), (0.42, 0.40, 0.44)
_REACH = 1.9  # a blob ends within this many radii
_STRETCH = 1.35
_TRIALS = 40
_SHRINK = 0.75


@dataclass(frozen=True, kw_only=True)
class LesionPainter:
    """Paint irregular blobs with blurred edges, bright or dark, inside the disk of a fundus photograph.

    A blob covers a pixel by the share

        alpha = smoothstep((1 - rho + u) / (2 edge) + 1/2),

    rho being the distance to its centre in radii of its ellipse and u smooth noise. There, the slowly varying part of
    the photograph is replaced by the lesion's mottled colour, lit as its surroundings, while its fine detail stays as a
    factor: vessels and grain run through. The mask marks alpha >= 1/2; where alpha is 0 no pixel changes.

    Attributes:
        num_lesions: fewest and most lesions of a photograph.
        radius: smallest and largest radius, as a share of the image's side; drawn log-uniformly.
        edge: narrowest and widest blurred edge, as a share of the radius.
        strength: weakest and strongest cover, as a share of the lesion's colour.
        kinds: which of ``"bright"`` and ``"dark"`` to paint.

    Raises:
        InputError: a range is empty or out of bounds, or a kind is unknown.

    Example:
        >>> from aureole.data.drawn import draw_fundus
        >>> from aureole.data.lesions import LesionPainter
        >>> streams = Streams.of(0, torch.tensor([5]))
        >>> photograph = draw_fundus(64, streams)
        >>> painted, mask = LesionPainter().paint(photograph, streams, "a photograph")
        >>> bool((painted != photograph).any(0)[mask].float().mean() > 0.9)
        True
    """

    num_lesions: tuple[int, int] = (1, 4)
    radius: tuple[float, float] = (0.035, 0.11)
    edge: tuple[float, float] = (0.15, 0.35)
    strength: tuple[float, float] = (0.6, 0.9)
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        for name, most in (("num_lesions", 50), ("radius", 0.25), ("edge", 0.35), ("strength", 1)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise InputError(f"{name} must be a range above 0 and at most {most}; got {low} to {high}")
        if not self.kinds:
            raise InputError(f"kinds must name at least one of {', '.join(KINDS)}; got none")
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown_name("kind of lesion", kind, KINDS)

    def paint(
        self, photograph: UInt8[Tensor, "3 height width"], streams: Streams, where: str
    ) -> tuple[UInt8[Tensor, "3 height width"], Bool[Tensor, "height width"]]:
        """Return the photograph with painted lesions, and their mask.

        Args:
            photograph: red, green and blue, 0 to 255, with a dark background.
            streams: one stream, which decides everything.
            where: names the photograph in a message.

        Raises:
            InputError: the photograph shows no disk, or one too small for a lesion.
        """
        disk = Fundus().disk(photograph, where)
        x = photograph.float() / 255
        light = _light(x, disk)
        mask = torch.zeros_like(disk)
        touched = torch.zeros_like(disk)
        low, high = self.num_lesions
        for _ in range(low + int(_draw(streams, 1)[0] * (high - low + 1))):
            blob, kind = self._blob(streams, x.shape[1]), self.kinds[int(_draw(streams, 1)[0] * len(self.kinds))]
            place = _place(blob, disk & ~touched, light, kind, streams)
            if place is not None:
                blob, rows, columns = place
                x[:, rows, columns] = _cover(x, light, rows, columns, blob, kind, self._strength(streams), streams)
                mask[rows, columns] |= blob >= 0.5
                touched[rows, columns] |= blob > 0
        if not mask.any():
            raise InputError(f"{where} must have room for a lesion; its disk is too small: use a larger picture")
        painted = (x * 255).round().clamp(0, 255).to(torch.uint8)
        return torch.where(touched, painted, photograph), mask

    def _strength(self, streams: Streams) -> float:
        low, high = self.strength
        return low + float(_draw(streams, 1)[0]) * (high - low)

    def _blob(self, streams: Streams, side: int) -> Tensor:
        """Return the cover alpha of one blob on a square patch; 0 at its border."""
        size, edge, stretch, angle = _draw(streams, 4).tolist()
        radius = max(1.5, side * math.exp(math.log(self.radius[0]) + size * math.log(self.radius[1] / self.radius[0])))
        edge = self.edge[0] + edge * (self.edge[1] - self.edge[0])
        stretch, angle = 1 + stretch * (_STRETCH - 1), math.pi * angle
        half = math.ceil(_REACH * _STRETCH * radius)
        y, x = torch.meshgrid(*2 * [torch.arange(-half, half + 1) / radius], indexing="ij")
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        rho = ((along / stretch) ** 2 + (across * stretch) ** 2).sqrt()
        ragged = 0.2 * _noise(streams, 6, rho.shape) + 0.12 * _noise(streams, 14, rho.shape)
        t = ((1 - rho + ragged.clamp(-0.45, 0.45)) / (2 * edge) + 0.5).clamp(0, 1)
        return t * t * (3 - 2 * t)


def _draw(streams: Streams, count: int) -> Tensor:
    return streams.uniform((1, count))[0]


def _noise(streams: Streams, cells: int, shape: tuple[int, ...]) -> Tensor:
    """Return smooth noise of about unit variance, with ``cells`` knots along each side."""
    grid = streams.normal((1, 1, cells, cells))
    return F.interpolate(grid, (shape[0], shape[1]), mode="bicubic", align_corners=True)[0, 0] * 1.25


def _blur(planes: Tensor, width: float) -> Tensor:
    """Return planes blurred by a Gaussian of standard deviation ``width`` pixels, borders repeated."""
    half = max(1, math.ceil(2.5 * width))
    kernel = torch.exp(-(torch.arange(-half, half + 1) ** 2) / (2 * width**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(planes[:, None], (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[:, 0]


def _light(x: Tensor, disk: Tensor) -> Tensor:
    """Return the slowly varying part of a photograph, taken over its disk alone."""
    width = x.shape[1] / 64
    weight = _blur(disk[None].float(), width).clamp_min(1e-3)
    return _blur(x * disk, width) / weight


def _place(
    blob: Tensor, free: Tensor, light: Tensor, kind: str, streams: Streams
) -> tuple[Tensor, slice, slice] | None:
    """Return the blob, shrunk if need be, and where it fits: on free tissue that is not as bright, or dark, itself."""
    level = light.mean(0)
    low, high, most = level[free].quantile(torch.tensor([0.25, 0.85, 0.97])).tolist()
    for attempt in range(4):
        size = max(3, round(len(blob) * _SHRINK**attempt))
        small = blob if attempt == 0 else F.interpolate(blob[None, None], (size, size), mode="area")[0, 0]
        support, spots = small > 0, _draw(streams, 2 * _TRIALS).view(-1, 2)
        room = torch.tensor(free.shape) - size
        for top, left in (spots * (room + 1)).long().tolist() if (room >= 0).all() else ():
            rows, columns = slice(top, top + size), slice(left, left + size)
            here = level[rows, columns][support].mean()
            if free[rows, columns][support].all() and (here < high if kind == "bright" else low < here < most):
                return small, rows, columns
    return None


def _cover(
    x: Tensor, light: Tensor, rows: slice, columns: slice, blob: Tensor, kind: str, strength: float, streams: Streams
) -> Tensor:
    """Return the patch under a blob: the lesion's colour in place of the light, the detail kept."""
    patch, local = x[:, rows, columns], light[:, rows, columns]
    tint = float(_draw(streams, 1)[0])
    mottle = 0.7 * _noise(streams, 10, blob.shape) + 0.7 * _noise(streams, 26, blob.shape)
    if kind == "bright":
        pale = torch.tensor(_YELLOW) * (1 - tint) + torch.tensor(_CREAM) * tint
        white = light.amax(0).flatten().quantile(0.99).clamp(0.55, 0.9)
        shade = (local.mean(0) / local.mean()).clamp(0.6, 1.25)
        rim = 1 - 0.18 * (4 * blob * (1 - blob))
        colour = pale[:, None, None] * white * shade * rim * (1 + 0.10 * mottle)
    else:
        left = torch.tensor(_BLOOD) * (1 - tint) + torch.tensor(_PIGMENT) * tint
        colour = local * left[:, None, None] * (1 + 0.12 * mottle)
    detail = (patch + 0.02) / (local + 0.02)
    lesion = colour * detail.clamp(0.4, 1.6)
    alpha = blob * strength * (1 - 0.15 * mottle.clamp(0, 2))
    return ((1 - alpha) * patch + alpha * lesion).clamp(0, 1)
