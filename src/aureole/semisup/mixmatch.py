"""MixMatch: guess the labels of unlabelled images from several views, sharpen them, and mix all images with all.

    q = sharpen(mean_k softmax f(u_k)),    sharpen(p)_c = p_c^(1/T) / sum_d p_d^(1/T)
    W = shuffle([x_l; u_1; ..; u_K]),    x' = s x + (1 - s) W,    s = max(l, 1 - l),    l ~ Beta(alpha, alpha)
    L = CE(f(x_l'), p_l') + weight * ramp(epoch) * mean_c (softmax f(u') - q')^2

Berthelot et al. 2019, Algorithm 1 and Eqs. 2 to 11: K = 2, T = 0.5, alpha = 0.75, weight 75 with a linear ramp. The
guesses are constants, and leave the running statistics alone. The ``labelled`` term is the cross-entropy of *mixed*
labels on mixed images, as in the paper. One share s an image, as the authors' code draws them. Departures: the two
parts are not interleaved into batches of equal size (``batch_norm="together"`` runs them in one pass instead); the
ramp counts epochs; the weights' moving average (0.999), which the paper evaluates, is kept, its extra weight decay is
not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from aureole.core import checks
from aureole.core.checks import check_positive
from aureole.core.method import Batch, Terms
from aureole.core.mixing import Mixing, beta, permutation
from aureole.core.model import quiet
from aureole.core.objectives import SquaredDifference
from aureole.core.ramps import Linear, Ramp
from aureole.core.random import Streams
from aureole.semisup.base import (
    SemiSupervised,
    as_logits,
    labelled_streams,
    unlabelled_streams,
    warn_constant,
)
from aureole.semisup.passes import BatchNorm, run_passes


def sharpen(probabilities: Float[Tensor, "rows classes"], temperature: float) -> Float[Tensor, "rows classes"]:
    """Return p^(1/T), normalised: surer for a temperature T below 1.

    Example:
        >>> from aureole.semisup.mixmatch import sharpen
        >>> sharpen(torch.tensor([[0.75, 0.25]]), 0.5)
        tensor([[0.9000, 0.1000]])
    """
    return (as_logits(probabilities) / temperature).softmax(-1)


@dataclass(frozen=True, kw_only=True)
class MixMatch(SemiSupervised):
    """Guessed, sharpened and mixed labels.

    Attributes:
        weight: of the squared difference on unlabelled images.
        temperature: of the sharpening; positive.
        alpha: of the Beta distribution; positive.
        batch_norm: of the trained pass.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import MixMatch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> views = Unlabelled((torch.rand(8, 1, 2, 2), torch.rand(8, 1, 2, 2)))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=views)
        >>> list(MixMatch().loss(model, batch))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "MixMatch"
    views: ClassVar[tuple[str, ...]] = ("weak", "weak")

    weight: float = 75.0
    ramp: Ramp = Linear(16.0)
    batch_norm: BatchNorm = "together"
    ema_decay: float | None = 0.999
    temperature: float = 0.5
    alpha: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("temperature", self.temperature)
        check_positive("alpha", self.alpha)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy of mixed labels, and the squared difference from mixed guesses."""
        views = self._views(model, batch)
        guess = self.guess(model, batch, views)
        checks.check_classes(batch.y, guess.shape[1])
        labels = one_hot(batch.y.long(), guess.shape[1]).to(guess.dtype)
        mixing = self._draw(batch, len(views))
        images, targets = mixing(torch.cat([batch.x, *views])), mixing(torch.cat([labels, *[guess] * len(views)]))
        count = len(batch)
        passes = run_passes(model, self.batch_norm, images[:count], trained=[images[count:]])
        difference = SquaredDifference()(passes.trained[0], as_logits(targets[count:]))
        return Terms(
            labelled=cross_entropy(passes.labelled, targets[:count]), unlabelled=self._weighted(batch, difference)
        )

    def guess(self, model: nn.Module, batch: Batch, views: tuple[Tensor, ...]) -> Float[Tensor, "rows classes"]:
        """Return the sharpened mean prediction of the views, a constant."""
        logits = [quiet(model, view) for view in views]
        warn_constant(logits[0], batch)
        return sharpen(torch.stack([each.softmax(-1) for each in logits]).mean(0), self.temperature)

    def _draw(self, batch: Batch, num_views: int) -> Mixing:
        """Draw a partner and a share, at least 1/2, for every image of the step."""
        unlabelled = unlabelled_streams(batch)
        keys = [labelled_streams(batch).keys, *(unlabelled.fork(view).keys for view in range(num_views))]
        streams = Streams(torch.cat(keys))
        share = beta(self.alpha, streams)
        return Mixing(torch.maximum(share, 1 - share), permutation(streams))
