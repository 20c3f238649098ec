"""Initial weights that several families of networks share."""

from __future__ import annotations

from torch import nn


def fan_out_convolutions(model: nn.Module) -> None:
    """Draw every convolution from Kaiming's normal distribution over the fan-out: N(0, 2 / (k^2 C_out)).

    Biases become zero. Of a convolution in groups, C_out counts all channels.

    Args:
        model: changed in place, from torch's global generator.

    Example:
        >>> from aureole.models.initial import fan_out_convolutions
        >>> model = nn.Conv2d(1, 4, 3)
        >>> fan_out_convolutions(model)
        >>> float(model.bias.detach().abs().max())
        0.0

    Source: He et al. 2015, Eq. 14.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def small_linear(layer: nn.Linear) -> None:
    """Draw a linear layer's weights from N(0, 0.01^2); its biases become zero.

    Args:
        layer: changed in place, from torch's global generator.

    Example:
        >>> from aureole.models.initial import small_linear
        >>> layer = nn.Linear(4, 3)
        >>> small_linear(layer)
        >>> layer.bias.tolist()
        [0.0, 0.0, 0.0]
    """
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
