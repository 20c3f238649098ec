"""The explainer of MED-TEX, and the student that sees what it lets through.

Theta = spatial * channel        (batch, channels, height, width), in [0, 1]
X'    = Theta * X                the simplified image (4.3), all that the student sees
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps, own_taps
from aureole.explain.base import Explaining


class ExplainerUNet(nn.Module):
    """A U-Net that scores the positions and the channels of an image; its output is their product.

    The spatial scores come from the decoder through a 1x1 convolution and a sigmoid; the channel scores from the
    encoder's last map, averaged over its positions, through a linear layer and a sigmoid. Each block of encoder and
    decoder is twice [3x3 convolution, batch normalisation, ReLU]. 44,430 parameters for 3 channels.

    Args:
        in_channels: channels of an image.
        widths: channels of the encoder's blocks; those of the decoder are the reverse without the last.

    Raises:
        InputError: a number is not positive, or there are fewer than two widths.

    Example:
        >>> from aureole.explain.explainer import ExplainerUNet
        >>> ExplainerUNet(1)(torch.rand(2, 1, 28, 30)).shape
        torch.Size([2, 1, 28, 30])

    Source: thesis Table 4.2 and section 4.4.1; as the table has it, e0 is not appended to d0. The thesis does not
    state: sizes that 32 does not divide (here pooling rounds up, and each map is enlarged to the size of its partner in
    the encoder, so that any size fits); how a linear layer takes a map of any size (here its mean); biases (here none
    before a batch normalisation, which would cancel them); the first weights (here torch's).
    """

    def __init__(self, in_channels: int = 3, widths: Sequence[int] = (32, 16, 8, 4, 2, 2)) -> None:
        super().__init__()
        if len(widths) < 2 or min(in_channels, *widths) < 1:
            raise InputError(
                f"an explainer needs channels and at least two widths, all positive; got {in_channels} and"
                f" {tuple(widths)}"
            )
        self.in_channels = in_channels
        self.encoder = nn.ModuleList(_block(a, b) for a, b in zip((in_channels, *widths[:-1]), widths, strict=True))
        entering = (widths[-1], *(2 * width for width in reversed(widths[1:-1])))
        self.decoder = nn.ModuleList(_block(a, b) for a, b in zip(entering, reversed(widths[:-1]), strict=True))
        self.head = nn.Conv2d(widths[0], 1, 1)
        self.fc = nn.Linear(widths[-1], in_channels)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Return Theta, the score of each value, in [0, 1]."""
        spatial, channel = self.selection(x)
        return spatial[:, None] * channel[:, :, None, None]

    def selection(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch height width"], Float[Tensor, "batch channels"]]:
        """Return the scores of the positions and those of the channels, each in [0, 1].

        Raises:
            InputError: the images have another shape; or in train mode the deepest map of the batch is one position.
        """
        self._check(x)
        maps: list[Tensor] = []
        for block in self.encoder:
            x = block(F.max_pool2d(maps[-1], 2, ceil_mode=True) if maps else x)
            maps.append(x)
        channel = self.fc(maps.pop().mean(dim=(2, 3))).sigmoid()
        for block in self.decoder:
            partner = maps.pop()
            x = block(F.interpolate(x, size=partner.shape[-2:], mode="nearest"))
            x = torch.cat([x, partner], dim=1) if maps else x
        return self.head(x)[:, 0].sigmoid(), channel

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise InputError(
                f"this explainer takes images (batch, {self.in_channels}, height, width); got {tuple(x.shape)}:"
                " build it with in_channels=..."
            )
        if self.training and len(x) == 1 and max(x.shape[2:]) <= 2 ** len(self.decoder):
            raise InputError(
                "batch norm needs more than one value a channel; got one image, whose deepest map is one position: drop"
                " the last, incomplete batch, or call eval()"
            )


def _block(in_channels: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for entering in (in_channels, channels):
        layers += [nn.Conv2d(entering, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


class PassThrough(nn.Module):
    """The explainer that lets every pixel through: with it a student learns alone.

    Example:
        >>> from aureole.explain.explainer import ExplainedStudent, PassThrough
        >>> student, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(5, 1, 2, 2)
        >>> torch.equal(ExplainedStudent(PassThrough(), student)(x), student(x))
        True
    """

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Return a score of 1 for each value."""
        return torch.ones_like(x)


class ExplainedStudent(Explaining):
    """A student that sees an image through an explainer: f(x) = student(explainer(x) * x).

    Args:
        explainer: maps images to scores in [0, 1] of the same shape, or with one channel for all.
        student: maps images to logits.

    Attributes:
        taps: the layers of the student to look at, where it is a network of this library.

    Example:
        >>> from aureole.explain.explainer import ExplainedStudent, ExplainerUNet
        >>> network = ExplainedStudent(ExplainerUNet(1), nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
        >>> x = torch.rand(3, 1, 8, 8)
        >>> network(x).shape, network.map(x).shape, network.simplified(x).shape
        (torch.Size([3, 2]), torch.Size([3, 8, 8]), torch.Size([3, 1, 8, 8]))

    Source: thesis Figure 4.1 and Eq. 4.3.
    """

    def __init__(self, explainer: nn.Module, student: nn.Module) -> None:
        super().__init__()
        self.explainer, self.student = explainer, student
        self.taps: Taps = own_taps(student).within("student")

    def scores(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch _ height width"]:
        """Return Theta, as the explainer gives it.

        Raises:
            InputError: the explainer returns another shape.
        """
        theta = self.explainer(x)
        if not isinstance(theta, Tensor) or theta.shape not in (x.shape, (x.shape[0], 1, *x.shape[2:])):
            got = tuple(theta.shape) if isinstance(theta, Tensor) else type(theta).__name__
            raise InputError(f"the explainer must return a score of each value, here {tuple(x.shape)}; got {got}")
        return theta

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the student's logits on the simplified images."""
        return self.student(self.simplified(x))

    def map(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch height width"]:
        """Return the mean score over the channels, in [0, 1]; it ranks the pixels as the spatial scores do."""
        return self.scores(x).mean(1)

    def simplified(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return Theta * x."""
        return self.scores(x) * x
