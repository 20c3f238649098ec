"""PVAR: the pixels of a dense attack that matter, picked by a learned map of vulnerable pixels (thesis chapter 3).

    Theta = g(x)                          the vulnerability map
    z     = selection(Theta, M)           at most M = ceil(share H W) pixels
    x_adv = x + z * (x_source - x)        the refined image (3.1)

    minimise  -sum_k p_k(x_source) log p_k(x_adv)      by g, p the victim's predictions (3.4, Algorithm 3.1)

An image that the source attack failed on has its true class for a target, so it is left out of the loss. At test
exactly the M pixels of the largest map values are taken; the thesis does not say so, but its norms are those of exactly
M pixels, and not of the fewer that M draws hit. No public code exists.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.core.errors import InputError, unknown_name
from aureole.core.folding import folded
from aureole.core.model import frozen, predict
from aureole.core.random import Streams, streams_for
from aureole.core.selection import drawn_pixels, num_pixels, top_pixels

Choice = Literal["top", "drawn"]
Among = Literal["all", "changed"]

_NEVER = -1e4  # the logit of a pixel that is not to be chosen: its probability is 0, and it comes last in any ranking


def refined(
    x: Float[Tensor, "batch *event"], x_source: Float[Tensor, "*particles batch *event"], z: Tensor
) -> Float[Tensor, "*particles batch *event"]:
    """Return x + z * (x_source - x), thesis Equation 3.1.

    Args:
        x: images, shape (batch, channels, height, width).
        x_source: images of the source attack, or several of each image in leading dimensions.
        z: selection in [0, 1], shape (batch, height, width), a mask of booleans or a relaxed one; for all channels.

    Example:
        >>> from aureole.refine.refiner import refined
        >>> x, x_source = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
        >>> refined(x, x_source, torch.eye(2)[None])[0, 0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    mask = z.unsqueeze(-3)
    if z.dtype == torch.bool:
        return torch.where(mask, x_source, x)  # exact: no rounding where a pixel keeps its value
    return x + mask.to(x.dtype) * (x_source - x)


def changed_share(x: Float[Tensor, "batch *event"], x_adv: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
    """Return the share of pixels that differ, over all channels; of images (batch, channels, height, width).

    Example:
        >>> from aureole.refine.refiner import changed_share
        >>> changed_share(torch.zeros(1, 3, 2, 2), torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2).expand(1, 3, 2, 2))
        tensor([0.2500])
    """
    return (x != x_adv).any(-3).flatten(1).float().mean(1)


def source_fooled(
    victim: nn.Module, x_source: Float[Tensor, "batch *event"], y: Int[Tensor, " batch"], *, targeted: bool = False
) -> tuple[Float[Tensor, "batch classes"], Bool[Tensor, " batch"]]:
    """Return the victim's logits on the images of an attack, and where the attack reached what it wanted.

    Args:
        victim: maps images to logits; judged in evaluation mode, and left as it was.
        x_source: images of the attack.
        y: labels; with ``targeted`` the classes to reach.
        targeted: success is the class ``y``, not any other.

    Example:
        >>> from aureole.refine.refiner import source_fooled
        >>> victim = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> logits, fooled = source_fooled(victim, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
        >>> bool((fooled == (logits.argmax(-1) != torch.tensor([0, 1]))).all())
        True
    """
    with torch.no_grad(), frozen(victim):
        logits = predict(victim, x_source)
    hit = logits.argmax(-1) == y
    return logits, hit if targeted else ~hit


def check_among(among: str) -> None:
    """Check which pixels a refinement chooses among.

    Raises:
        InputError: there is no such set of pixels.
    """
    if among not in get_args(Among):
        raise unknown_name("set of pixels to choose among", str(among), get_args(Among))


def soft_cross_entropy(
    logits: Float[Tensor, "batch classes"], target: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """Return -sum_k p_k log q_k of each image, p = softmax(target) without gradient, q = softmax(logits).

    Example:
        >>> from aureole.refine.refiner import soft_cross_entropy
        >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[100.0, 0.0]]))
        tensor([0.6931])
    """
    return -(target.detach().softmax(-1) * logits.log_softmax(-1)).sum(-1)


class Refiner(nn.Module):
    """The vulnerability map of an image, and with it the refined image of any dense attack.

    Args:
        network: maps images (batch, channels, height, width) to a map (batch, 1, height, width), such as
            :class:`~aureole.models.UNet`; with ``conditioned`` it takes twice the channels.
        share: greatest share of the pixels that may change, beta in (0, 1].
        conditioned: show the network the perturbation as well, so that each attack gets a map of its own; the thesis
            shows it the image alone, so that one map serves all attacks.
        choice: ``"top"`` takes exactly the M pixels of the largest values; ``"drawn"`` those that M draws hit.
        among: ``"all"`` pixels, as in the thesis; or those that the attack ``"changed"``, so that none is spent where
            it had no room (a black pixel cannot become darker).

    Raises:
        InputError: the share lies outside (0, 1], or there is no such choice.

    Example:
        >>> from aureole.refine.refiner import changed_share
        >>> refiner = Refiner(nn.Conv2d(3, 1, 1), share=0.25)
        >>> x, x_source = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
        >>> changed_share(x, refiner(x, x_source))
        tensor([0.2500, 0.2500])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        share: float = 0.3,
        conditioned: bool = False,
        choice: Choice = "top",
        among: Among = "all",
    ) -> None:
        super().__init__()
        num_pixels(share, 1, 1)  # refuses a share that is none
        if choice not in get_args(Choice):
            raise unknown_name("choice of pixels", str(choice), get_args(Choice))
        check_among(among)
        self.network, self.share, self.conditioned = network, share, conditioned
        self.choice: Choice = choice
        self.among: Among = among

    def folded(self) -> Refiner:
        """Return a refiner for use: the same map up to rounding, in less time (:mod:`aureole.core.folding`)."""
        return Refiner(
            folded(self.network),
            share=self.share,
            conditioned=self.conditioned,
            choice=self.choice,
            among=self.among,
        ).eval()

    def count(self, x: Float[Tensor, "batch channels height width"]) -> int:
        """Return M, the number of pixels that may change in each image."""
        return num_pixels(self.share, *x.shape[-2:])

    def map(
        self, x: Float[Tensor, "batch channels height width"], x_source: Tensor | None = None
    ) -> Float[Tensor, "batch height width"]:
        """Return the vulnerability map Theta; its softmax over the pixels is the categorical distribution.

        Args:
            x: images.
            x_source: images of the attack, which a conditioned network needs.

        Raises:
            InputError: images are no (batch, channels, height, width), the network returns another shape, or a
                conditioned one is given no images of the attack.
        """
        if x.ndim != 4:
            raise InputError(f"refinement needs images (batch, channels, height, width); got {tuple(x.shape)}")
        if self.conditioned and x_source is None:
            raise InputError("this network is conditioned on the perturbation: give the images of the attack, x_source")
        seen = torch.cat([x, x_source - x], dim=1) if self.conditioned and x_source is not None else x
        theta = self.network(seen)
        if not isinstance(theta, Tensor) or theta.shape != (len(x), 1, *x.shape[2:]):
            got, wanted = getattr(theta, "shape", type(theta).__name__), (len(x), 1, *x.shape[2:])
            raise InputError(f"the network must return a map (batch, 1, height, width), here {wanted}; got {got}")
        return theta[:, 0].float()

    def scores(
        self, x: Float[Tensor, "batch channels height width"], x_source: Float[Tensor, "*particles batch channels h w"]
    ) -> Float[Tensor, "batch height width"]:
        """Return the map as a ranking of the pixels: where only changed pixels count, the others come last."""
        return self.eligible(self.map(x, x_source if x_source.ndim == x.ndim else None), x, x_source)

    def eligible(
        self,
        ranking: Float[Tensor, "batch height width"],
        x: Float[Tensor, "batch channels height width"],
        x_source: Float[Tensor, "*particles batch channels h w"],
    ) -> Float[Tensor, "batch height width"]:
        """Return any ranking of the pixels with those last that may not be chosen, as the map's own has them."""
        if self.among == "all":
            return ranking
        changed = (x_source != x).any(-3).reshape(-1, *ranking.shape).any(0)  # by any of the particles
        return ranking.masked_fill(~changed, _NEVER)

    @torch.no_grad()
    def select(
        self, x: Float[Tensor, "batch channels height width"], x_source: Tensor, streams: Streams | None = None
    ) -> Bool[Tensor, "batch height width"]:
        """Return the mask of the pixels that change, with the network in evaluation mode."""
        with frozen(self.network):
            theta = self.scores(x, x_source)
        if self.choice == "top":
            return top_pixels(theta, self.count(x))
        return drawn_pixels(theta, self.count(x), streams_for(x, streams))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], x_source: Tensor, streams: Streams | None = None
    ) -> Tensor:
        """Return the refined images.

        Args:
            x: images.
            x_source: images of the attack, shape of ``x``; or, unless the network is conditioned, several of each image
                in leading dimensions, (particles, batch, channels, height, width), which share the mask.
            streams: of the draws, where the pixels are drawn.

        Returns:
            Images that differ from ``x`` in at most M pixels each, shape of ``x_source``.
        """
        if x_source.shape[-x.ndim :] != x.shape or (self.conditioned and x_source.shape != x.shape):
            raise InputError(f"expected images of the attack, shape {tuple(x.shape)}; got {tuple(x_source.shape)}")
        return refined(x, x_source, self.select(x, x_source, streams))
