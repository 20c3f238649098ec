"""SASSNet's discriminator of labelled and unlabelled shapes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.models.segmentation.blocks import Layers

_HALVINGS = 4


class ShapeDiscriminator(nn.Module):
    """Tell from signed distances and the picture that they are of whether the picture was labelled (1) or not (0).

    Convolutions of size 4, stride 2 and padding 1: one of the distances and one of the picture, to 64 channels each,
    summed; then 128, 256 and 512 channels. Each sum and convolution is followed by a leaky ReLU 0.2 and, but for the
    last, dropout of whole channels 0.5. The average over all positions and a linear layer give the logits. The
    authors' average is over 7 x 7 x 5 positions, all that there are of 112 x 112 x 80 voxels; here any size fits.
    Torch's first weights.

    Args:
        num_classes: of the segmentation; each but the background has a distance.
        in_channels: of the picture.
        spatial_dims: 3, or 2.
        width: channels after the first convolutions.

    Raises:
        InputError: a number is too small, or there are not 2 or 3 spatial dimensions.

    Example:
        >>> from aureole.models.segmentation import ShapeDiscriminator
        >>> discriminator = ShapeDiscriminator(num_classes=2)
        >>> discriminator(torch.zeros(2, 1, 16, 16, 16), torch.zeros(2, 1, 16, 16, 16)).shape
        torch.Size([2, 2])

    Source: SASSNet (Li et al. 2020).
    """

    def __init__(self, *, num_classes: int, in_channels: int = 1, spatial_dims: int = 3, width: int = 64) -> None:
        super().__init__()
        if num_classes < 2 or in_channels < 1 or width < 1:
            raise InputError(
                "a discriminator of shapes needs at least 2 classes, and a channel and a width of at least 1; got"
                f" num_classes={num_classes}, in_channels={in_channels}, width={width}"
            )
        layers = Layers(spatial_dims)
        self.of_distances = layers.strided(num_classes - 1, width, 4, 1)
        self.of_picture = layers.strided(in_channels, width, 4, 1)
        stages: list[nn.Module] = []
        for channels in (width, 2 * width, 4 * width):
            stages += [nn.LeakyReLU(0.2), layers.channel_dropout(0.5), layers.strided(channels, 2 * channels, 4, 1)]
        self.stages = nn.Sequential(*stages, nn.LeakyReLU(0.2), layers.averaged(), nn.Flatten())
        self.linear = nn.Linear(8 * width, 2)

    def forward(
        self, distances: Float[Tensor, "batch foreground *spatial"], picture: Float[Tensor, "batch channels *spatial"]
    ) -> Float[Tensor, "batch 2"]:
        """Return the logits of unlabelled and labelled; a size below 16 raises InputError."""
        if min(picture.shape[2:]) < 2**_HALVINGS:
            size = " x ".join(map(str, picture.shape[2:]))
            raise InputError(
                f"the discriminator halves its input {_HALVINGS} times, so every size must be at least"
                f" {2**_HALVINGS}; got {size}: give larger patches"
            )
        return self.linear(self.stages(self.of_distances(distances) + self.of_picture(picture)))
