"""SS-Net's separation of classes: the embedding of each pixel is drawn to reliable ones of its class.

    l_cs = 1/K sum_c mean_i a_i mean_j b_j (1 - cos(v_i, m_cj)),    v = prediction(projection(e))

over the pixels i of class c (the label's where there is one, else the network's own) and a memory m_c1..m_cM of
projected pixels that the network got right in the last labelled batch with that class. a_i is the sigmoid of a learned
score, scaled to a mean of 1; it learns how much each pixel counts, without a gradient to the pixel. Class 0 has no
memory, but counts in K.

Two oddities of the authors' code are kept, each with a field: of more pixels than the memory holds those with the
lowest score stay (``keep``), and the attention of the memory is divided by itself (``memory_attention``).
The product of the two means is worked out from the mean of the memory, without a table of pixels times memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core import checks
from aureole.core.errors import InputError, unknown_name
from aureole.core.model import frozen
from aureole.models.segmentation import ContrastiveHeads

Keep = Literal["lowest", "highest"]
_FEATURES = 32


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """How classes are kept apart.

    Attributes:
        weight: of the term on labelled and on unlabelled images each, beside the method's own.
        size: vectors that the memory of a class holds.
        keep: which pixels stay where there are more, by the learned score; ``"lowest"`` as the authors' code does,
            ``"highest"`` as its comments say.
        memory_attention: weigh the vectors of the memory too, which the authors' code does not get to.

    Raises:
        InputError: a number is out of its range, or the name is unknown.

    Example:
        >>> from aureole.segment import Contrast
        >>> Contrast().keep
        'lowest'

    Source: SS-Net (Wu et al. 2022), after Alonso et al. 2021.
    """

    weight: float = 0.1
    size: int = 32
    keep: Keep = "lowest"
    memory_attention: bool = False

    def __post_init__(self) -> None:
        checks.check_weight("the contrast's weight", self.weight)
        if self.size < 2:
            raise InputError(f"the memory of a class must hold at least 2 vectors; got size={self.size}")
        if self.keep not in get_args(Keep):
            raise unknown_name("keep", str(self.keep), get_args(Keep))


class PixelMemory(nn.Module):
    """The heads and the memory of each class; stored with a run.

    Args:
        num_classes: with the background.
        channels: of the embedding.
        contrast: the settings.

    Example:
        >>> from aureole.segment import Contrast
        >>> from aureole.segment.contrast import PixelMemory
        >>> memory = PixelMemory(3, 16, Contrast())
        >>> memory.vectors.shape, memory.counts.tolist()
        (torch.Size([3, 32, 32]), [0, 0, 0])
    """

    vectors: Tensor
    counts: Tensor

    def __init__(self, num_classes: int, channels: int, contrast: Contrast) -> None:
        super().__init__()
        self.heads = ContrastiveHeads(num_classes, channels, _FEATURES)
        self.contrast = contrast
        self.register_buffer("vectors", torch.zeros(num_classes, contrast.size, _FEATURES))
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def remember(
        self,
        embedding: Float[Tensor, "rows channels *spatial"],
        logits: Float[Tensor, "rows classes *spatial"],
        y: Int64[Tensor, "rows *spatial"],
    ) -> None:
        """Keep pixels of labelled images that the network got right; a class without any keeps what it had."""
        found = logits.argmax(1)
        right = (found == y) & (found > 0)
        classes = y[right]
        rows = _rows(embedding)[right.flatten()].float()
        with frozen(self.heads):
            projected = self.heads.projection(rows) if len(rows) else rows
            for c in classes.unique().tolist():
                self._store(c, projected[classes == c])

    def _store(self, c: int, vectors: Tensor) -> None:
        size = self.contrast.size
        if len(vectors) > size:
            scores = self.heads.selectors[c](vectors).squeeze(-1).sigmoid()
            order = scores.argsort(descending=self.contrast.keep == "highest", stable=True)
            vectors = vectors[order[:size]]
        self.vectors[c, : len(vectors)] = vectors
        self.counts[c] = len(vectors)

    def forward(
        self, embedding: Float[Tensor, "rows channels *spatial"], classes: Int64[Tensor, "rows *spatial"]
    ) -> Float[Tensor, ""]:
        """Return the loss of pixels of the given classes."""
        v = self.heads.prediction(self.heads.projection(_rows(embedding).float()))
        place, losses = classes.flatten(), []
        for c, count in enumerate(self.counts.tolist()):
            rows = v[place == c]
            if count > 1 and len(rows) > 1:
                losses.append(self._attraction(c, rows, self.vectors[c, :count].clone()))
        return torch.stack(losses).sum() / len(self.counts) if losses else 0.0 * v.sum()

    def _attraction(self, c: int, rows: Tensor, memory: Tensor) -> Tensor:
        memory = F.normalize(memory, dim=-1)
        attention = _to_mean_one(self.heads.selectors[c](rows.detach()).sigmoid())
        strength = torch.ones_like(memory[:, :1])
        if self.contrast.memory_attention:
            strength = _to_mean_one(self.heads.memory_selectors[c](memory).sigmoid())
        centre = (strength * memory).mean(0)
        return (attention.squeeze(-1) * (strength.mean() - F.normalize(rows, dim=-1) @ centre)).mean()


def _to_mean_one(weights: Tensor) -> Tensor:
    return weights / weights.mean()


def _rows(maps: Tensor) -> Tensor:
    """Return one row a pixel, image by image."""
    return maps.movedim(1, -1).flatten(0, -2)
