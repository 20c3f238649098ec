"""What one network can teach another beside its logits: feature maps, and the vector that its last layer reads.

A network of this library says itself which layers these are (``taps``); of any other they are named, and without names
the vector before the logits is found by a dry run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.features import FeatureTap, hidden_layer
from aureole.core.model import frozen, logits_of, random_state_kept


class Features(NamedTuple):
    """What a network computes for a batch.

    Attributes:
        logits: shape (batch, classes).
        maps: feature maps from the first stage to the last, each (batch, channels, height, width).
        pooled: what the last layer reads, shape (batch, features).
        before_relu: the maps before their last activation, where the network names them.

    Example:
        >>> Features(torch.zeros(2, 10), (torch.zeros(2, 16, 8, 8),), torch.zeros(2, 64)).before_relu
        ()
    """

    logits: Float[Tensor, "batch classes"]
    maps: tuple[Tensor, ...]
    pooled: Float[Tensor, "batch features"]
    before_relu: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Taps:
    """Which layers of a network are looked at; names as in :class:`~aureole.core.features.FeatureTap`.

    Attributes:
        maps: layers that give feature maps, from the first stage to the last.
        pooled: the layer of the vector before the logits, such as ``"fc:input"``; None finds it.
        before_relu: layers that give the maps before their last activation.

    Example:
        >>> from aureole.core.taps import Taps
        >>> Taps(maps=("layer1", "layer2"), pooled="fc:input").maps
        ('layer1', 'layer2')
    """

    maps: tuple[str, ...] = ()
    pooled: str | None = None
    before_relu: tuple[str, ...] = ()

    def within(self, prefix: str) -> Taps:
        """Return the names as seen from a module that holds the network under ``prefix``."""
        dot = f"{prefix}." if prefix else ""
        return Taps(
            maps=tuple(dot + name for name in self.maps),
            pooled=None if self.pooled is None else dot + self.pooled,
            before_relu=tuple(dot + name for name in self.before_relu),
        )


def find_taps(model: nn.Module, x: Float[Tensor, "batch *event"], taps: Taps | None = None) -> Taps:
    """Return the layers of a network to look at, checked by a dry run in evaluation mode and without gradient.

    Args:
        model: any module that maps images to logits; it and the global random state are left as they were.
        x: an example batch; its first image is run through the model.
        taps: layers by name; None takes the model's own, or where it has none the vector before the logits alone.

    Raises:
        InputError: a layer does not exist, does not run, or gives no map.

    Example:
        >>> from aureole.core.taps import find_taps
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> find_taps(model, torch.rand(1, 1, 2, 2))
        Taps(maps=(), pooled='3:input', before_relu=())
    """
    taps = own_taps(model) if taps is None else taps
    taps = replace(taps, pooled=hidden_layer(model, x[:1])) if taps.pooled is None else taps
    with random_state_kept(x.device), torch.no_grad(), frozen(model):
        features = extract(model, x[:1], taps)
    maps = zip((*taps.maps, *taps.before_relu), (*features.maps, *features.before_relu), strict=True)
    for name, value in maps:
        if value.ndim != 4:
            raise InputError(
                f"expected a map (batch, channels, height, width) from layer {name!r}; got {tuple(value.shape)}: name"
                " a convolution or a block"
            )
    return taps


def extract(model: nn.Module, x: Float[Tensor, "batch *event"], taps: Taps) -> Features:
    """Run a network once, in the mode that it is in, and return its logits and features, with their gradients.

    Args:
        model: maps images to logits.
        x: images.
        taps: as :func:`find_taps` returns them.

    Example:
        >>> from aureole.core.taps import extract, find_taps
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> x = torch.rand(5, 1, 2, 2)
        >>> features = extract(model, x, find_taps(model, x))
        >>> features.logits.shape, features.pooled.shape, features.maps
        (torch.Size([5, 2]), torch.Size([5, 3]), ())
    """
    assert taps.pooled is not None
    tapped = FeatureTap(model, (*taps.maps, *taps.before_relu, taps.pooled))(x)
    maps, rest = tapped.features[: len(taps.maps)], tapped.features[len(taps.maps) :]
    return Features(logits_of(tapped.output, len(x)), maps, rest[-1].flatten(1), rest[:-1])


def own_taps(model: nn.Module) -> Taps:
    """Return the taps of the network of this library that a module is or holds; none where there is no such network.

    Example:
        >>> from aureole.core.taps import own_taps
        >>> own_taps(nn.Linear(4, 3))
        Taps(maps=(), pooled=None, before_relu=())
    """
    for name, module in model.named_modules():
        taps = getattr(module, "taps", None)
        if isinstance(taps, Taps):
            return taps.within(name)
    return Taps()
