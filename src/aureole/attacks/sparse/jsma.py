"""JSMA, the Jacobian-based saliency map attack: change the two features that most help the target class, again.

    S(p, q) = -alpha * beta   where alpha = a_p + a_q > 0 and beta = b_p + b_q < 0, else 0
    a = d logit_target / dx,  b = sum over the other classes of d logit / dx        (for theta < 0: signs turned)

Papernot et al. 2016, Algorithms 1 to 3; thesis section 3.4.2. The features of the best pair move by theta and are
clipped to the box; those at its end leave the search; at most gamma * features / 2 pairs are changed. As the authors
do, the logits are differentiated, not the softmax. Features are counted one by one, so a pixel of three channels is
three. An image is given up where no pair has a positive saliency.

The exact best pair costs a sort, not the D x D matrix of all pairs; see :func:`best_pairs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.attacks.fields import check_counts, check_numbers
from aureole.attacks.jacobian import Linearised
from aureole.attacks.sparse.box import SparseAttack
from aureole.core.checks import check_target
from aureole.core.errors import InputError
from aureole.core.model import predict
from aureole.core.random import Streams

_MAX_SCORES = 2**22  # scores of pairs held at once


def best_pairs(
    gain: Float[Tensor, "batch features"], drop: Float[Tensor, "batch features"], free: Bool[Tensor, "batch features"]
) -> tuple[Int[Tensor, "batch 2"], Bool[Tensor, " batch"]]:
    """Return the free features p != q with the greatest (gain_p + gain_q)(drop_p + drop_q), both sums positive.

    It is exact. Say that r dominates p if gain_r >= gain_p and drop_r >= drop_p: then r in place of p lowers neither
    sum. If two features dominate p, one of them is not q and may replace p. So some best pair has only features that
    at most one other dominates, and these lie in the first two layers of the Pareto front of the points (gain, drop).
    The layers come from one sort by gain and two running maxima of drop; only pairs of the layers are scored.

    Args:
        gain: what a feature gains for the target class.
        drop: what it takes from the other classes together.
        free: features that can still change.

    Returns:
        The pair of each row, and whether there is any; the pair of a row without one is meaningless.

    Example:
        >>> gain, drop = torch.tensor([[1.0, 3.0, 2.0, -1.0]]), torch.tensor([[1.0, -0.5, 2.0, 9.0]])
        >>> best_pairs(gain, drop, torch.tensor([[True, True, True, True]]))
        (tensor([[1, 3]]), tensor([True]))
    """
    gain, drop = (_scaled(values).masked_fill(~free, -torch.inf) for values in (gain, drop))
    gain, drop, features = _front(gain, drop)
    size = gain.shape[1]
    best, place = gain.new_zeros(len(gain)), torch.zeros(len(gain), dtype=torch.int64, device=gain.device)
    rows = max(1, _MAX_SCORES // gain.numel())
    for begin in range(0, size, rows):
        part = slice(begin, begin + rows)
        alpha, beta = (t[:, part, None] + t[:, None, :] for t in (gain, drop))
        score = torch.where((alpha > 0) & (beta > 0), alpha * beta, 0).triu(begin + 1).flatten(1)
        value, at = score.max(1)
        place = torch.where(value > best, at + begin * size, place)
        best = torch.maximum(value, best)
    pairs = torch.stack([place // size, place % size], 1)
    return features.gather(1, pairs), best > 0


def _scaled(values: Tensor) -> Tensor:
    """Divide each row by its largest absolute value, so that products of tiny gradients do not underflow."""
    return values / values.abs().amax(1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)


def _front(gain: Tensor, drop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two layers of the front: gain, drop and number of each feature, rows padded by -inf to one length."""
    features = torch.arange(gain.shape[1], device=gain.device).expand_as(gain)
    first = (gain + drop).argmax(1, keepdim=True)
    second = (gain + drop).scatter(1, first, -torch.inf).argmax(1, keepdim=True)
    strong = torch.cat([first, second], 1)  # what both of these dominate need not be sorted
    least_gain, least_drop = (t.gather(1, strong).amin(1, keepdim=True) for t in (gain, drop))
    kept = ((gain > least_gain) | (drop > least_drop)).scatter(1, strong, True)
    gain, drop, features = _compact(kept, gain, drop, features)
    gain, order = gain.sort(dim=1, descending=True, stable=True)
    drop, features = drop.gather(1, order), features.gather(1, order)
    first = _is_record(drop)
    return _compact(first | _is_record(drop.masked_fill(first, -torch.inf)), gain, drop, features)


def _compact(kept: Tensor, gain: Tensor, drop: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move what is kept of each row to its front, in order, and cut the rows to the longest."""
    rows, places = kept.nonzero(as_tuple=True)
    counts = kept.sum(1)
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    table = gain.new_full((len(kept), max(int(counts.max()), 2)), -torch.inf)
    gain, drop = (table.index_put((rows, slots), values[rows, places]) for values in (gain, drop))
    return gain, drop, torch.zeros_like(table, dtype=torch.int64).index_put((rows, slots), features[rows, places])


def _is_record(values: Tensor) -> Tensor:
    """Say which values exceed all those before them in their row."""
    highest = values.cummax(1).values
    before = torch.cat([torch.full_like(highest[:, :1], -torch.inf), highest[:, :-1]], 1)
    return values > before


@dataclass(frozen=True, kw_only=True)
class JSMA(SparseAttack):
    """The Jacobian-based saliency map attack (Papernot et al. 2016).

    Without ``targeted`` an image is done as soon as it is misclassified. The most likely wrong classes are tried as its
    target in the order of their logits, each from the image itself, until one fools the model; with ``num_targets=1``
    the runner-up alone, which is faster and weaker. The thesis takes theta 0.3 on MNIST and 0.03 on CIFAR-10 and
    ImageNet, and gamma 0.3, 0.3 and 0.1; the paper theta 1 and gamma 0.145.

    Attributes:
        theta: change of a feature in one step, in the units of the images; negative values decrease features.
        gamma: the limit: as many single changes as this share of the features, in (0, 1].
        targeted: reach the class ``y`` instead of leaving it.
        num_targets: classes to try as the target of an untargeted attack; None for all.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> x = torch.rand(2, 1, 4, 4)
        >>> x_adv = JSMA(theta=0.5, gamma=0.25)(model, x)
        >>> bool(((x_adv != x).flatten(1).sum(1) <= 4).all())
        True
    """

    theta: float = 1.0
    gamma: float = 0.1
    targeted: bool = False
    num_targets: int | None = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "gamma")
        check_counts(self, num_targets=1)
        if self.theta == 0 or not -torch.inf < self.theta < torch.inf:
            raise InputError(f"theta must be a finite number other than 0; got {self.theta!r}")
        if self.gamma > 1:
            raise InputError(f"gamma is a share of the features, at most 1; got {self.gamma}")

    def minimize(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images; see :class:`aureole.attacks.minimal.MinimalAttack`."""
        check_target(y, targeted=self.targeted)
        return super().minimize(model, x, y, generator=generator)

    def _minimize_correct(self, model: nn.Module, x: Tensor, y: Tensor, clean: Tensor, streams: Streams) -> Tensor:
        if not self.targeted:
            return super()._minimize_correct(model, x, y, clean, streams)
        x_adv, away = x.clone(), clean.argmax(-1) != y
        if bool(away.any()):
            x_adv[away] = self._reach(model, x[away], None, y[away])[0]
        return x_adv

    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        wrong = predict(model, x).scatter(1, y[:, None], -torch.inf)
        targets = wrong.argsort(dim=1, descending=True, stable=True)[:, :-1][:, : self.num_targets]
        x_adv, standing = x.clone(), torch.arange(len(x), device=x.device)
        for target in targets.unbind(1):
            found, fooled = self._reach(model, x[standing], y[standing], target[standing])
            x_adv[standing] = found
            standing = standing[~fooled]
            if not len(standing):
                break
        return x_adv

    def _reach(self, model: nn.Module, x: Tensor, y: Tensor | None, target: Tensor) -> tuple[Tensor, Tensor]:
        """Change pairs until the images leave ``y``, or without it reach ``target``; return failed ones unchanged."""
        low, high = (bound.flatten(1) for bound in self._box(x))
        features = x.flatten(1).clone()
        fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        live = torch.arange(len(x), device=x.device)
        max_pairs = max(1, int(self.gamma * features.shape[1] / 2))
        for count in range(max_pairs + 1):
            here = Linearised(model, features[live].view(-1, *x.shape[1:]))
            answer = here.logits.argmax(-1)
            done = answer == target[live] if y is None else answer != y[live]
            fooled[live] = done
            if count == max_pairs or bool(done.all()):
                break
            free = features[live] < high[live] if self.theta > 0 else features[live] > low[live]
            pairs, useful = self._salient(here, target[live], free)
            going = useful & ~done
            live, pairs = live[going], pairs[going]
            if not len(live):
                break
            moved = features[live].scatter_add_(1, pairs, features.new_full(pairs.shape, self.theta))
            features[live] = moved.clamp(low[live], high[live])
        return torch.where(fooled[:, None], features, x.flatten(1)).view_as(x), fooled

    def _salient(self, here: Linearised, target: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """Return the most salient pair of each image, and whether there is one."""
        wanted = torch.zeros_like(here.logits).scatter_(1, target[:, None], 1.0)
        sign = 1 if self.theta > 0 else -1
        gain, drop = (here.gradient(weights).flatten(1) for weights in (sign * wanted, sign * (wanted - 1)))
        return best_pairs(gain, drop, free)
