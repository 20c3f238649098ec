"""L2X: select k patches of an image such that a student predicts from them alone what the teacher predicts.

    training      z = max_{j = 1..k} softmax((s + G_j) / T), element-wise, G_j Gumbel noise over the patches
    evaluation    z_i = 1 for the k patches of the highest scores s, else 0
    X' = z * X    each pixel with the z of its patch, all that the student sees

Chen et al. 2018, sections 3.2 to 3.4, with their T = 0.1; thesis section 4.4.3: the scores come from the features of
ResNet-18, the student is MED-TEX's, and the loss is the output loss alone, ``MEDTEX(weight=0)``. The thesis does not
state k. Here it is a share of the patches, a sixteenth: 4 of 64, where Chen et al. take 4 of 49 for digits. A large k
has a price: k draws may pick one patch or many different ones, so that their number can tell the student the class,
and in evaluation, where there are always k patches, that is lost.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.selection import num_pixels, top_pixels
from aureole.explain.attention import PatchScores, check_temperature, enlarged
from aureole.explain.explainer import ExplainedStudent


class PatchExplainer(nn.Module):
    """Selects patches of an image: one score a pixel for all its channels, relaxed in training mode.

    While it trains, it draws from torch's default generator, as dropout does.

    Args:
        features: as for :class:`~aureole.explain.attention.PatchScores`.
        width: channels of the map.
        share: of the patches that are selected, in (0, 1]: k = ceil(share * patches).
        temperature: T of a draw, positive.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> from aureole.explain.l2x import PatchExplainer
        >>> mask = PatchExplainer(nn.Conv2d(3, 5, 4, stride=4), 5).eval()(torch.rand(2, 3, 32, 32))
        >>> mask.shape, mask.mean().item()
        (torch.Size([2, 1, 32, 32]), 0.0625)
    """

    def __init__(
        self, features: nn.Module | None = None, width: int = 512, *, share: float = 1 / 16, temperature: float = 0.1
    ) -> None:
        super().__init__()
        num_pixels(share, 1, 1)  # checks the share
        check_temperature(temperature)
        self.patches = PatchScores(features, width)
        self.share, self.temperature = share, temperature

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 height width"]:
        """Return z, enlarged to the pixels."""
        return enlarged(self.selected(self.patches(x)[1]), x)[:, None]

    def selected(self, scores: Float[Tensor, "batch h w"]) -> Float[Tensor, "batch h w"]:
        """Return z for the scores of patches."""
        count = num_pixels(self.share, *scores.shape[1:])
        if not self.training:
            return top_pixels(scores, count).to(scores.dtype)
        draws = scores.flatten(1)[:, None].expand(-1, count, -1)
        return F.gumbel_softmax(draws, self.temperature).amax(1).view_as(scores)


class PatchStudent(ExplainedStudent):
    """A student that sees the selected patches of an image; its map is their probability, not the mask.

    Example:
        >>> from aureole.explain.l2x import PatchExplainer, PatchStudent
        >>> explainer = PatchExplainer(nn.Conv2d(3, 5, 4, stride=4), 5)
        >>> network = PatchStudent(explainer, nn.Sequential(nn.Flatten(), nn.Linear(192, 2))).eval()
        >>> x = torch.rand(2, 3, 8, 8)
        >>> network.map(x).shape, network.simplified(x).shape
        (torch.Size([2, 8, 8]), torch.Size([2, 3, 8, 8]))
    """

    explainer: PatchExplainer

    def __init__(self, explainer: PatchExplainer, student: nn.Module) -> None:
        super().__init__(explainer, student)

    def map(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch height width"]:
        """Return for each pixel the probability of its patch, softmax over the patches."""
        return self.explainer.patches.ranking(x)
