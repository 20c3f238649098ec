"""Soft and hard attention: a classifier that looks at the positions of a feature map which it scores highest.

    v = features(x)                   v_i in R^width, one vector for each of the map's positions
    p = softmax_i(w . v_i)            the attention, which is also the explanation
    logits = fc(sum_i a_i v_i)        soft: a = p;  hard: a is one position, drawn from p

A hard draw is straight-through Gumbel-softmax: forward the one-hot vector of argmax_i (w . v_i + G_i), backward the
gradient of softmax((w . v + G) / T). In evaluation mode nothing is random: the likeliest position is taken.

Xu et al. 2015 (soft); Jang et al. 2017, section 2.2 (the draw); thesis section 4.4.3, which trains both with
:class:`~aureole.explain.TeacherLabels`. It does not state: how positions are scored (here a 1x1 convolution without a
bias, which a softmax cannot see) and the temperature T (1 here).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError, unknown_name
from aureole.core.features import FeatureTap
from aureole.core.taps import Taps, own_taps
from aureole.explain.base import Explaining, full_precision
from aureole.models import ResNet

#: All positions, each weighted; or one of them.
Kind = Literal["soft", "hard"]


class LastMap(nn.Module):
    """A classifier of this library up to its last feature map: a ResNet without its fully connected layer.

    Layers that follow the map are left out with their weights: those with weights that come after it in the order of
    definition, which in this library is the order of the computation.

    Args:
        classifier: maps images to logits; what is kept is a copy.

    Raises:
        InputError: the module holds no classifier of this library.

    Example:
        >>> from aureole.explain.attention import LastMap
        >>> from aureole.models import ResNet
        >>> LastMap(ResNet.imagenet(18))(torch.rand(2, 3, 64, 96)).shape
        torch.Size([2, 512, 2, 3])
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        maps = own_taps(classifier).maps
        if not maps:
            raise InputError(
                f"{type(classifier).__name__} does not say which layer gives its last map: pass a classifier of this"
                " library, or as features any module that returns a map"
            )
        self.layer, self.classifier = maps[-1], deepcopy(classifier)
        modules = list(self.classifier.named_modules())
        last = max(place for place, (name, _) in enumerate(modules) if f"{name}.".startswith(f"{self.layer}."))
        for name, module in modules[last + 1 :]:
            if any(True for _ in module.parameters(recurse=False)):
                self.classifier.set_submodule(name, nn.Identity())

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features h w"]:
        """Return the map."""
        return FeatureTap(self.classifier, (self.layer,))(x).features[0]


class PatchScores(nn.Module):
    """A feature map, and a score for each of its positions by a 1x1 convolution; a position stands for a patch.

    Args:
        features: maps images to a map (batch, width, h, w); None takes ResNet-18 for ImageNet up to its last map, with
            8 x 8 positions for images of 256 x 256 pixels.
        width: channels of the map.

    Example:
        >>> from aureole.explain.attention import PatchScores
        >>> features, scores = PatchScores(nn.Conv2d(3, 5, 4, stride=4), 5)(torch.rand(2, 3, 32, 32))
        >>> features.shape, scores.shape
        (torch.Size([2, 5, 8, 8]), torch.Size([2, 8, 8]))
    """

    def __init__(self, features: nn.Module | None = None, width: int = 512) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width must be at least 1; got {width}")
        self.features = LastMap(ResNet.imagenet(18)) if features is None else features
        self.score = nn.Conv2d(width, 1, 1, bias=False)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch features h w"], Float[Tensor, "batch h w"]]:
        """Return the map and the scores.

        Raises:
            InputError: the features are no such map.
        """
        v, width = self.features(x), self.score.in_channels
        if not isinstance(v, Tensor) or v.ndim != 4 or v.shape[:2] != (x.shape[0], width):
            got = tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__
            raise InputError(
                f"expected features of shape ({len(x)}, {width}, height, width); got {got}: give a module that returns"
                " a map, and the number of its channels as width=..."
            )
        return v, full_precision(self.score(v)[:, 0])

    def ranking(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch height width"]:
        """Return for each pixel the probability of its patch, softmax over the patches; without noise."""
        return enlarged(_over_positions(self(x)[1]), x)


def enlarged(
    scores: Float[Tensor, "batch h w"], x: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch height width"]:
    """Return the scores of patches as scores of the pixels of some images: each pixel has that of its patch.

    Example:
        >>> from aureole.explain.attention import enlarged
        >>> enlarged(torch.tensor([[[1.0, 2.0]]]), torch.zeros(1, 3, 2, 4))
        tensor([[[1., 1., 2., 2.],
                 [1., 1., 2., 2.]]])
    """
    return F.interpolate(scores[:, None], size=x.shape[2:], mode="nearest")[:, 0]


class Attention(Explaining):
    """A classifier that attends to the positions of a feature map, all by their weight or one of them.

    While it trains, hard attention draws from torch's default generator, as dropout does.

    Args:
        features: as for :class:`PatchScores`.
        num_classes: length of the logits.
        width: channels of the map.
        kind: ``"soft"`` or ``"hard"``.
        temperature: T of a hard draw, positive; the smaller, the closer is its gradient to that of a one-hot vector.

    Attributes:
        taps: the layers of the features to look at, where they are a network of this library.

    Raises:
        InputError: the kind is unknown, or a number is not positive.

    Example:
        >>> from aureole.explain.attention import Attention
        >>> network = Attention(nn.Conv2d(3, 5, 4, stride=4), 2, width=5, kind="hard")
        >>> x = torch.rand(3, 3, 32, 32)
        >>> network(x).shape, network.map(x).shape
        (torch.Size([3, 2]), torch.Size([3, 32, 32]))

    Source: the module's first lines.
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        num_classes: int = 2,
        *,
        width: int = 512,
        kind: Kind = "soft",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise unknown_name("attention", str(kind), get_args(Kind))
        check_temperature(temperature)
        if num_classes < 1:
            raise InputError(f"num_classes must be at least 1; got {num_classes}")
        self.kind, self.temperature = kind, temperature
        self.patches = PatchScores(features, width)
        self.fc = nn.Linear(width, num_classes)
        self.taps: Taps = replace(own_taps(self.patches).within("patches"), pooled="fc:input")

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        v, scores = self.patches(x)
        return self.fc(torch.einsum("bchw,bhw->bc", v, self.weights(scores).to(v.dtype)))

    def weights(self, scores: Float[Tensor, "batch h w"]) -> Float[Tensor, "batch h w"]:
        """Return a, the weight of each position, from the scores; they sum to 1."""
        if self.kind == "soft":
            return _over_positions(scores)
        flat = scores.flatten(1)
        soft = F.gumbel_softmax(flat, self.temperature) if self.training else flat.softmax(-1)
        one_hot = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
        return (one_hot + (soft - soft.detach())).view_as(scores)

    def map(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch height width"]:
        """Return for each pixel the attention p to its patch, without noise for either kind."""
        return self.patches.ranking(x)


def check_temperature(temperature: float) -> None:
    """Check the temperature of a Gumbel-softmax.

    Raises:
        InputError: it is not positive.
    """
    if not temperature > 0:
        raise InputError(f"temperature must be positive; got {temperature}")


def _over_positions(scores: Tensor) -> Tensor:
    return scores.flatten(1).softmax(-1).view_as(scores)
