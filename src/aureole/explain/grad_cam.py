"""Grad-CAM: where the features of a layer speak for a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aureole.core.errors import InputError, unknown_name
from aureole.core.features import FeatureTap
from aureole.core.taps import own_taps
from aureole.explain.attributions import Attributing, captum_attributions, logits
from aureole.explain.base import full_precision

#: How a coarse map is brought to the size of the image.
Enlargement = Literal["nearest", "bilinear"]

_INPUT = ":input"


@dataclass(frozen=True, kw_only=True)
class GradCAM(Attributing):
    """Grad-CAM: the channels of a map, weighted by how the logit of the class rises with their mean.

    M = relu(sum_c w_c A_c),    w_c = mean over the positions of d f_target / d A_c

    Attributes:
        layer: the submodule whose map A is taken, or its input with the suffix ``":input"``; None takes the last map
            that the network names itself, else the last module that gives a map of more than one position.
        enlargement: of M to the image: ``"nearest"`` makes patches, as in the thesis, ``"bilinear"`` is smooth.
        max_batch: most images in one pass, at least 1.

    Example:
        >>> from aureole.explain.grad_cam import GradCAM
        >>> from aureole.models import FourBlocks
        >>> GradCAM()(FourBlocks((2, 4, 8, 16)), torch.rand(5, 3, 64, 48)).shape
        torch.Size([5, 64, 48])

    Source: Selvaraju et al. 2017; computed by captum.
    """

    layer: str | None = None
    enlargement: Enlargement = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.enlargement not in get_args(Enlargement):
            raise unknown_name("enlargement", str(self.enlargement), get_args(Enlargement))

    def _maps(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        layer = _map_layer(model, x[:1]) if self.layer is None else self.layer
        _check_layer(model, x[:1], layer)
        module, takes_input = model.get_submodule(layer.removesuffix(_INPUT)), layer.endswith(_INPUT)
        with captum_attributions() as captum:
            cam, coarse = captum.LayerGradCam(logits(model), module), []
            for part, classes in zip(x.split(self.max_batch), target.split(self.max_batch), strict=True):
                try:
                    found = cam.attribute(part, classes, attribute_to_layer_input=takes_input, relu_attributions=True)
                except RuntimeError as error:
                    raise _without_gradient(error, layer) from None
                coarse.append(full_precision(found.detach()))
        return F.interpolate(torch.cat(coarse), size=x.shape[2:], mode=self.enlargement)[:, 0]


def _map_layer(model: nn.Module, x: Tensor) -> str:
    """Return the layer of the last map: that which the network names, else what the last module gives."""
    named = own_taps(model).maps
    if named:
        return named[-1]
    found: list[str] = []

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            found.append(name)

    modules = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(lambda *a, name=name: keep(name, a[-1])) for name, module in modules]
    try:
        logits(model)(x)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise InputError(f"no module of {type(model).__name__} gives a map of several positions: Grad-CAM needs one")
    return found[-1]


def _check_layer(model: nn.Module, x: Tensor, layer: str) -> None:
    (found,) = FeatureTap(model, (layer,))(x.clone()).features
    if found.ndim != 4 or len(found) != len(x):
        raise InputError(
            f"expected a map (batch, channels, height, width) from layer {layer!r}; got {tuple(found.shape)}: name a"
            " convolution or a block"
        )


def _without_gradient(error: RuntimeError, layer: str) -> Exception:
    """Return the error of a layer on which the logits do not depend; any other as it is."""
    if "have been used" in str(error) or "does not require grad" in str(error):
        return InputError(f"the logits do not depend on layer {layer!r}, or hide their gradient: name another layer")
    return error
