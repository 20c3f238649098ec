"""SS-Net's heads on the embedding of single pixels."""

from __future__ import annotations

from torch import nn

from aureole.core.errors import InputError


class ContrastiveHeads(nn.Module):
    """What SS-Net learns beside the network: two maps of pixel embeddings, and scores of pixels for each class.

        v = prediction(projection(e)),    a_i proportional to sigmoid(selectors[c](v_i))

    ``projection`` and ``prediction`` are [linear, batch normalisation, ReLU, linear], and each of ``selectors`` and
    ``memory_selectors`` (one a class) is [linear, batch normalisation, leaky ReLU 0.2, linear]. All read rows (pixels,
    features): ``embedding.movedim(1, -1).flatten(0, -2)``. 13,064 parameters for 4 classes, 8,452 for 2; torch's first
    weights.

    Args:
        num_classes: how many selectors, with the background's, which nothing trains in SS-Net.
        channels: of the embedding.
        features: of the projected rows.

    Raises:
        InputError: a number is not positive.

    Example:
        >>> from aureole.models.segmentation import ContrastiveHeads
        >>> heads = ContrastiveHeads(4)
        >>> rows = heads.prediction(heads.projection(torch.rand(50, 16)))
        >>> rows.shape, heads.selectors[1](rows).shape
        (torch.Size([50, 32]), torch.Size([50, 1]))

    Source: SS-Net (Wu et al. 2022), after Alonso et al. 2021.
    """

    def __init__(self, num_classes: int, channels: int = 16, features: int = 32) -> None:
        super().__init__()
        if min(num_classes, channels, features) < 1:
            raise InputError(
                f"classes, channels and features must be positive; got {num_classes}, {channels} and {features}"
            )
        self.projection = _mlp(channels, features, features, nn.ReLU())
        self.prediction = _mlp(features, features, features, nn.ReLU())
        self.selectors = nn.ModuleList(_selector(features) for _ in range(num_classes))
        self.memory_selectors = nn.ModuleList(_selector(features) for _ in range(num_classes))


def _selector(features: int) -> nn.Sequential:
    return _mlp(features, features, 1, nn.LeakyReLU(0.2))


def _mlp(before: int, hidden: int, after: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, hidden), nn.BatchNorm1d(hidden), activation, nn.Linear(hidden, after))
