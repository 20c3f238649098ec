"""Insertion and deletion: what the pixels that a map ranks first do to a model.

Deletion starts at the image and blanks its pixels, the highest score first; a good map makes the probability of the
class fall at once: a small area under the curve. Insertion starts at the blank image and puts the pixels of the image
in; a good map makes the probability rise at once: a large area. Petsiuk et al. 2018, "RISE", section 4.1.

Departures from the authors' code: the steps are counted and are equal to within one pixel (there, a number of pixels a
step, and a shorter last one); the area is taken over the exact shares of pixels; the blur is a whole Gaussian with
edges repeated (there, the middle 11 x 11 of one, with edges of zero).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.checks import check_classes, check_device, check_labels
from aureole.core.errors import InputError, unknown_name
from aureole.core.model import frozen, predict, random_state_kept
from aureole.metrics.explanation import Maps, check_maps, ranks_of

Baseline = Literal["blur", "zero", "mean"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelCurve:
    """The probability of a class while pixels change, from none to all.

    Attributes:
        shares: of the pixels that have changed, from 0 to 1.
        probabilities: of the class, for each image and share.
    """

    shares: Float[Tensor, " points"]
    probabilities: Float[Tensor, "batch points"]

    @property
    def area(self) -> Float[Tensor, " batch"]:
        """The area under each curve by the trapezium rule, in [0, 1]."""
        return torch.trapezoid(self.probabilities, self.shares)


@dataclass(frozen=True, kw_only=True)
class _Exchange(ABC):
    """Change pixels in the order of a map, the highest score first, and follow the probability of a class.

    After step i of n, exactly floor(i * pixels / n) pixels have changed, over all channels.
    """

    baseline: Baseline
    num_steps: int = 100
    sigma: float = 5.0
    max_batch: int = 128

    def __post_init__(self) -> None:
        if self.baseline not in get_args(Baseline):
            raise unknown_name("baseline", str(self.baseline), get_args(Baseline))
        for name in ("num_steps", "max_batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not 0 < self.sigma < math.inf:
            raise InputError(f"sigma must be positive and finite, in pixels; got {self.sigma}")

    @abstractmethod
    def _ends(self, x: Tensor, blank: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the pixels start, and what they become."""

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch channels h w"],
        maps: Maps,
        y: Int[Tensor, " batch"] | None = None,
    ) -> PixelCurve:
        """Return the curve of each image.

        Args:
            model: any classifier that returns logits; judged in evaluation mode, and left as it was.
            x: the images.
            maps: a finite score for each pixel.
            y: the class to follow; None for the one that the model gives to the image.

        Returns:
            ``num_steps + 1`` points an image.

        Raises:
            InputError: images, maps or classes are unusable, or there are more steps than pixels.
        """
        _check_pictures(model, x, maps, y)
        pixels = maps[0].numel()
        if self.num_steps > pixels:
            raise InputError(f"num_steps must be at most {pixels}, the pixels of an image; got {self.num_steps}")
        counts = torch.arange(self.num_steps + 1, device=x.device) * pixels // self.num_steps
        with random_state_kept(x.device), torch.no_grad(), frozen(model):
            logits = torch.cat([predict(model, part) for part in x.split(self.max_batch)])
            followed = logits.argmax(-1) if y is None else y.long()
            check_classes(followed, logits.shape[1])
            values = self._follow(model, self._ends(x, self._blank(x)), ranks_of(maps), counts, followed)
        if bool(values.isnan().any()):
            raise InputError(f"the model's outputs must be finite; {int(values.isnan().sum())} probabilities are NaN")
        return PixelCurve(shares=(counts / pixels).to(values.dtype), probabilities=values)

    def _follow(
        self, model: nn.Module, ends: tuple[Tensor, Tensor], ranks: Tensor, counts: Tensor, y: Tensor
    ) -> Float[Tensor, "batch points"]:
        first, last = ends
        found = []
        for rows in torch.arange(len(first) * len(counts), device=first.device).split(self.max_batch):
            image, step = rows // len(counts), rows % len(counts)
            changed = (ranks[image] < counts[step, None]).view(-1, 1, *first.shape[2:])
            logits = predict(model, torch.where(changed, last[image], first[image]))
            found.append(logits.softmax(-1).gather(1, y[image, None]))
        return torch.cat(found).view(len(first), len(counts))

    def _blank(self, x: Tensor) -> Tensor:
        if self.baseline == "blur":
            return _blurred(x, self.sigma)
        return torch.zeros_like(x) if self.baseline == "zero" else x.mean((2, 3), keepdim=True).expand_as(x)


@dataclass(frozen=True, kw_only=True)
class Deletion(_Exchange):
    """Blank the pixels of an image in the order of a map; the smaller the area, the better the map.

    Args:
        baseline: what a pixel becomes: ``"zero"``, in the units that the model takes; ``"mean"`` of its channel over
            the image; ``"blur"``, the blurred image.
        num_steps: of equal numbers of pixels; the curve has a point more.
        sigma: standard deviation of the blur, in pixels.
        max_batch: greatest number of images that the model sees at once; the result does not depend on it.

    Example:
        >>> from aureole.metrics import Deletion
        >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(2, 1, 4, 4)
        >>> curve = Deletion(num_steps=8)(model, x, x[:, 0])
        >>> curve.probabilities.shape, curve.area.shape
        (torch.Size([2, 9]), torch.Size([2]))

    Source: Petsiuk et al. 2018, "RISE: Randomized input sampling for explanation of black-box models", section 4.1.
    """

    baseline: Baseline = "zero"

    def _ends(self, x: Tensor, blank: Tensor) -> tuple[Tensor, Tensor]:
        return x, blank


@dataclass(frozen=True, kw_only=True)
class Insertion(_Exchange):
    """Put the pixels of an image into its blank in the order of a map; the larger the area, the better the map.

    Args:
        baseline: as that of :class:`Deletion`; here the blur by default, as in the paper.
        num_steps: as there.
        sigma: as there.
        max_batch: as there.

    Example:
        >>> from aureole.metrics import Insertion
        >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(2, 1, 4, 4)
        >>> curve = Insertion(num_steps=4)(model, x, x[:, 0])
        >>> curve.shares
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])

    Source: Petsiuk et al. 2018, "RISE: Randomized input sampling for explanation of black-box models", section 4.1.
    """

    baseline: Baseline = "blur"

    def _ends(self, x: Tensor, blank: Tensor) -> tuple[Tensor, Tensor]:
        return blank, x


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Return the images under a Gaussian, cut off at three standard deviations, with edges repeated."""
    reach = max(1, math.ceil(3 * sigma))
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=precise.dtype)
    weights = (-0.5 * (offsets / sigma) ** 2).softmax(0)
    one_by_one = F.pad(precise, (reach,) * 4, mode="replicate").flatten(0, 1)[:, None]
    rows = F.conv2d(one_by_one, weights.view(1, 1, 1, -1))
    return F.conv2d(rows, weights.view(1, 1, -1, 1)).view_as(x).to(x.dtype)


def _check_pictures(model: nn.Module, x: Tensor, maps: Tensor, y: Tensor | None) -> None:
    if x.ndim != 4 or x.numel() == 0 or not x.is_floating_point() or not bool(x.isfinite().all()):
        raise InputError(
            f"images must be finite floating-point numbers of shape (batch, channels, height, width); got {x.dtype} of"
            f" shape {tuple(x.shape)}, {int((~x.isfinite()).sum())} of them NaN or infinite"
        )
    check_device(model, x)
    check_maps(maps)
    wanted = (len(x), *x.shape[2:])
    if maps.shape != wanted or maps.device != x.device:
        raise InputError(
            f"expected a map for each image and of its size, {wanted} on {x.device}; got {tuple(maps.shape)} on"
            f" {maps.device}: enlarge the maps to the images"
        )
    if y is not None:
        check_labels(y, x)
