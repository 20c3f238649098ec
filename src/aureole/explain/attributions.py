"""Maps of any classifier behind one interface: integrated gradients, and the map of a network that explains itself."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core.checks import check_classes, check_device, check_labels
from aureole.core.errors import InputError
from aureole.core.model import predict, random_state_kept, searched
from aureole.explain.base import full_precision, own_map


@dataclass(frozen=True, kw_only=True)
class Attributing(ABC):
    """What the maps of a classifier share: a call (model, x, target) -> map, which leaves the model as it was.

    Attributes:
        max_batch: most images in one pass through the model, at least 1.
    """

    max_batch: int = 16

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise InputError(f"max_batch must be at least 1; got {self.max_batch}")

    def __call__(
        self, model: nn.Module, x: Float[Tensor, "batch *event"], target: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch height width"]:
        """Return the score of each pixel, the larger, the more it matters; the model is in evaluation mode.

        Args:
            model: maps images to logits; it and the global random state are left as they were.
            x: images (batch, channels, height, width), as the model takes them.
            target: class that is explained, for each image; None takes the model's own.

        Returns:
            Maps in float32 or better, without gradient.

        Raises:
            InputError: images or classes are not usable, or the map is not finite or of another size.
        """
        check_device(model, x)
        _check_images(x)
        with random_state_kept(x.device), searched(model, x) as images:
            maps = full_precision(self._maps(model, images, self._classes(model, images, target)))
        _check_maps(maps, x)
        return maps.detach()

    def _classes(self, model: nn.Module, x: Tensor, target: Tensor | None) -> Tensor:
        """Return the class that is explained for each image, checked."""
        if target is not None:
            check_labels(target, x)
            check_classes(target, logits(model)(x[:1]).shape[1])
            return target.long()
        return torch.cat([logits(model)(part).argmax(-1) for part in x.split(self.max_batch)])

    @abstractmethod
    def _maps(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Return the maps; the model is frozen, and gradients are off."""


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Attributing):
    """Integrated gradients: the gradient of the class's logit on the way from a plain image, times that way.

    v = (x - b) * integral over t in [0, 1] of grad f_target(b + t (x - b)),    M = sum over the channels of |v|

    The integral is a Gauss-Legendre sum. Over all values of an image, v sums to f_target(x) - f_target(b).

    Attributes:
        num_steps: terms of the sum, at least 1.
        baseline: value of each pixel of b.
        signed: sum v over the channels, and not |v|: pixels that speak against the class are negative.
        max_batch: most images in one pass, at least 1.

    Example:
        >>> from aureole.explain.attributions import IntegratedGradients
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        >>> x, zero = torch.rand(1, 1, 2, 2), torch.tensor([0])
        >>> torch.allclose(IntegratedGradients(signed=True)(model, x, zero).sum(), model(x)[0, 0], atol=1e-6)
        True

    Source: Sundararajan et al. 2017; computed by captum.
    """

    num_steps: int = 32
    baseline: float = 0.0
    signed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_steps < 1:
            raise InputError(f"num_steps must be at least 1; got {self.num_steps}")
        check_baseline(self.baseline)

    def _maps(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        together = max(1, self.max_batch // self.num_steps)  # images whose steps fit in one pass
        steps_at_once, maps = min(self.num_steps, self.max_batch), []
        with captum_attributions() as captum:
            integrated = captum.IntegratedGradients(logits(model))
            for part, classes in zip(x.split(together), target.split(together), strict=True):
                values = integrated.attribute(
                    part,
                    baselines=self.baseline,
                    target=classes,
                    n_steps=self.num_steps,
                    internal_batch_size=steps_at_once * len(part),
                ).detach()
                maps.append((values if self.signed else values.abs()).sum(1))
        return torch.cat(maps)


@dataclass(frozen=True, kw_only=True)
class OwnMap(Attributing):
    """The map of a network that explains itself; see :func:`~aureole.explain.base.own_map`.

    Attributes:
        max_batch: most images in one pass, at least 1.

    Example:
        >>> from aureole.explain.attributions import OwnMap
        >>> from aureole.explain.explainer import ExplainedStudent, ExplainerUNet
        >>> student = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> OwnMap()(ExplainedStudent(ExplainerUNet(1), student), torch.rand(3, 1, 8, 8)).shape
        torch.Size([3, 8, 8])
    """

    def _classes(self, model: nn.Module, x: Tensor, target: Tensor | None) -> Tensor:
        return torch.zeros(len(x), dtype=torch.int64, device=x.device)  # such a network has one map for all classes

    def _maps(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return torch.cat([own_map(model, part) for part in x.split(self.max_batch)])


def logits(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return images -> logits by a model that may overwrite what it is given: it is given copies."""
    return lambda x: predict(model, x.clone())


@contextmanager
def captum_attributions() -> Iterator[Any]:
    """Yield captum's module of attributions; what captum warns of inside stays unsaid.

    Raises:
        InputError: captum is not installed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"captum\b")
        try:
            from captum import attr
        except ModuleNotFoundError:
            raise InputError(
                "this attribution needs captum, which is missing: pip install 'aureole[explain]'"
            ) from None
        yield attr


def check_baseline(baseline: float) -> None:
    """Check that the value that stands for nothing is finite.

    Raises:
        InputError: it is not.
    """
    if not math.isfinite(baseline):
        raise InputError(f"baseline must be finite; got {baseline}")


def _check_images(x: Tensor) -> None:
    if x.ndim != 4 or x.numel() == 0 or not x.is_floating_point() or not bool(x.isfinite().all()):
        raise InputError(
            f"images must be finite floating-point numbers of shape (batch, channels, height, width); got {x.dtype} of"
            f" shape {tuple(x.shape)}, {int((~x.isfinite()).sum())} of them NaN or infinite"
        )


def _check_maps(maps: Tensor, x: Tensor) -> None:
    wanted = (len(x), *x.shape[2:])
    if maps.shape != wanted:
        raise InputError(
            f"expected a map for each image and of its size, {wanted}; the network gave {tuple(maps.shape)}"
        )
    if not bool(maps.isfinite().all()):
        raise InputError(
            f"{int((~maps.isfinite()).sum())} scores of the map are NaN or infinite: check the model's weights and the"
            " scale of the images"
        )
