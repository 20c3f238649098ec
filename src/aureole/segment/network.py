"""What a segmentation network gives beside its logits: of our networks, and of any other by the name of a layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.features import FeatureTap
from aureole.core.model import logits_of, predict
from aureole.models.segmentation import Segmenter, SegmenterOutputs

#: Names of the two maps of our networks that features are taken from.
BOTTLENECK, EMBEDDING = "bottleneck", "embedding"


def outputs_of(
    model: nn.Module, x: Float[Tensor, "batch channels *spatial"], layer: str = EMBEDDING
) -> SegmenterOutputs:
    """Return all that a network gives for a batch, in one pass and in its mode.

    Args:
        model: one of our networks, or any module that maps images to logits of each position.
        x: images.
        layer: of another network, the layer whose map of full size is the embedding; ``"embedding"`` where nothing
            needs one, and the logits then stand for it.

    Raises:
        InputError: the model gives no logits of each position, or has no such layer, or one of another size.

    Example:
        >>> from aureole.segment.network import outputs_of
        >>> model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
        >>> outputs_of(model, torch.zeros(2, 1, 4, 4), "1").embedding.shape
        torch.Size([2, 8, 4, 4])
    """
    if isinstance(model, Segmenter):
        return model.outputs(x)
    if layer == EMBEDDING:
        logits = predict(model, x, positions=True)
        return SegmenterOutputs(logits, logits)
    tapped = FeatureTap(model, (layer,))(x)
    logits, embedding = logits_of(tapped.output, len(x), positions=True), tapped.features[0]
    if embedding.shape[2:] != logits.shape[2:]:
        wanted, size = (" x ".join(map(str, found.shape[2:])) or "no" for found in (logits, embedding))
        raise InputError(
            f"the embedding must have the {wanted} positions of the logits; the layer {layer!r} has {size}"
        )
    return SegmenterOutputs(logits, embedding)


def check_layer(model: nn.Module, layer: str, method: str) -> None:
    """Check that a map can be found in a network.

    Raises:
        InputError: the network is not ours, and the layer is not named.
    """
    if not isinstance(model, Segmenter) and layer in (BOTTLENECK, EMBEDDING):
        raise InputError(
            f"{method} looks at the {layer} of the network; {type(model).__name__} does not say which layer that is:"
            " give its name, one of model.named_modules()"
        )


class Extractor(nn.Module):
    """A map of a network as one vector of unit length an image: Phi of thesis Eq. 6.6.

    Args:
        model: one of our networks, or any module.
        layer: ``"bottleneck"`` (the encoder alone runs) or ``"embedding"`` of our networks, or the name of a layer.

    Raises:
        InputError: the network is not ours, and the layer is not named.

    Example:
        >>> from aureole.models.segmentation import UNetSegmenter
        >>> from aureole.segment.network import Extractor
        >>> Extractor(UNetSegmenter(num_classes=4, width=4), "bottleneck")(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 256])
    """

    def __init__(self, model: nn.Module, layer: str = BOTTLENECK) -> None:
        super().__init__()
        check_layer(model, layer, "a kernel on features")
        self.model, self.layer = model, layer

    def forward(self, x: Float[Tensor, "rows channels *spatial"]) -> Float[Tensor, "rows features"]:
        """Return the vectors, differentiably."""
        found = self._map(x).flatten(1)
        return F.normalize(found.to(torch.promote_types(found.dtype, torch.float32)), dim=1)

    def _map(self, x: Tensor) -> Tensor:
        if isinstance(self.model, Segmenter):
            if self.layer == BOTTLENECK:
                return self.model.encode(x)[-1]
            if self.layer == EMBEDDING:
                return self.model.decoder(self.model.encode(x))
        return FeatureTap(self.model, (self.layer,))(x).features[0]
