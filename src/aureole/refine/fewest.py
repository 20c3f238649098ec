"""How few pixels of an attack suffice for one image, along a ranking of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.model import frozen, predict
from aureole.refine.refiner import refined, source_fooled


@dataclass(frozen=True, eq=False)
class Fewest:
    """What :func:`fewest_pixels` found.

    Attributes:
        x_adv: the images with the fewest pixels changed; where the attack failed, the attack's own.
        count: how many pixels of the ranking these take; all of them where the attack failed.
        fooled: whether the attack succeeded at all, and so does ``x_adv``.
    """

    x_adv: Float[Tensor, "batch *event"]
    count: Int64[Tensor, " batch"]
    fooled: Bool[Tensor, " batch"]


def fewest_pixels(
    victim: nn.Module,
    x: Float[Tensor, "batch channels height width"],
    x_source: Float[Tensor, "batch channels height width"],
    ranking: Float[Tensor, "batch height width"],
    y: Int[Tensor, " batch"] | None = None,
    *,
    targeted: bool = False,
) -> Fewest:
    """Find by bisection a number of pixels with which an attack still succeeds, and with one fewer does not.

    Success need not grow with the number of pixels; the result then is one such number, not the least of all. Every
    image has its own, all are asked about in one pass: log2(height * width) + 2 passes in all.

    Args:
        victim: maps images to logits; judged in evaluation mode, and left as it was.
        x: images.
        x_source: images of the attack.
        ranking: the larger, the sooner a pixel is taken, such as a :meth:`~aureole.refine.Refiner.map`.
        y: labels; None takes the victim's predictions. With ``targeted`` the classes to reach.
        targeted: success is the class ``y``, not any other.

    Raises:
        InputError: the ranking has another shape, or there is no target.

    Example:
        >>> victim = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
        >>> _ = victim[1].weight.data.copy_(torch.stack([torch.ones(16), -torch.ones(16)]))
        >>> x, x_source = torch.full((1, 1, 4, 4), 0.1), torch.full((1, 1, 4, 4), -0.2)
        >>> found = fewest_pixels(victim, x, x_source, torch.rand(1, 4, 4), torch.tensor([0]))
        >>> found.count.tolist(), found.fooled.tolist()  # 16 * 0.1 - 0.3 k < 0 from k = 6 on
        ([6], [True])
    """
    if ranking.shape != (len(x), *x.shape[2:]):
        raise InputError(f"expected a ranking of shape {(len(x), *x.shape[2:])}; got {tuple(ranking.shape)}")
    if y is None:
        if targeted:
            raise InputError("a targeted search needs y, the class to reach for each image; none was given")
        with torch.no_grad(), frozen(victim):
            y = predict(victim, x).argmax(-1)
    place = ranking.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(ranking)

    def ask(count: Tensor) -> tuple[Tensor, Tensor]:
        x_adv = refined(x, x_source, place < count[:, None, None])
        return x_adv, source_fooled(victim, x_adv, y, targeted=targeted)[1]

    size = place[0].numel()
    enough = torch.full((len(x),), size, dtype=torch.int64, device=x.device)
    best, fooled = ask(enough)
    nothing, already = ask(torch.zeros_like(enough))  # the victim may be wrong without any change
    enough, best = torch.where(already, 0, enough), torch.where(already[:, None, None, None], nothing, best)
    fooled = fooled | already
    too_few = torch.where(fooled & ~already, 0, enough - 1)
    for _ in range(size.bit_length()):
        middle = (enough + too_few + 1) // 2
        x_adv, hit = ask(middle)
        better = hit & fooled & (middle < enough)
        best = torch.where(better[:, None, None, None], x_adv, best)
        enough = torch.where(better, middle, enough)
        too_few = torch.where(hit, too_few, torch.maximum(too_few, torch.minimum(middle, enough - 1)))
    return Fewest(best, enough, fooled)
