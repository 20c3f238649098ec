"""The networks by name, and the configuration that builds one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import nn

from aureole.core.errors import InputError, unknown_name
from aureole.core.random import mix_seed
from aureole.models.conv_large import ConvLarge
from aureole.models.four_blocks import FourBlocks
from aureole.models.lenet import LeNet5, LeNetLarge, SmallCNN
from aureole.models.mobilenet import MobileNetV2
from aureole.models.normalize import Normalize
from aureole.models.resnet import ResNet
from aureole.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from aureole.models.unet import UNet
from aureole.models.vgg import VGG
from aureole.models.wide_resnet import WideResNet

_Network = TypeVar("_Network", bound=nn.Module)

#: Makes a network from the number of classes and the shape (channels, height, width) of an image.
Builder = Callable[[int, tuple[int, int, int]], nn.Module]


def _small(network: type[LeNet5] | type[LeNetLarge] | type[SmallCNN]) -> Builder:
    return lambda classes, shape: network(classes, in_channels=shape[0], image_size=shape[1:])


def _resnet(depth: int, *, wide: bool = False) -> Builder:
    return lambda classes, shape: ResNet.cifar(depth, wide=wide, num_classes=classes, in_channels=shape[0])


def _imagenet(depth: int) -> Builder:
    return lambda classes, shape: ResNet.imagenet(depth, num_classes=classes, in_channels=shape[0])


def _vgg(depth: int) -> Builder:
    return lambda classes, shape: VGG(depth, num_classes=classes, in_channels=shape[0], image_size=shape[1:])


def _compact(network: type[MobileNetV2] | type[ShuffleNetV1] | type[ShuffleNetV2]) -> Builder:
    return lambda classes, shape: network(classes, in_channels=shape[0])


def _wide(depth: int, widen_factor: int) -> Builder:
    return lambda classes, shape: WideResNet(depth, widen_factor, num_classes=classes, in_channels=shape[0])


def _four_blocks(widths: tuple[int, ...]) -> Builder:
    return lambda classes, shape: FourBlocks(widths, classes, shape[0], shape[1:])


def _map(images: int, widths: tuple[int, ...] = (32, 64, 128, 256)) -> Builder:
    """Return the builder of a U-Net that sees so many images at once and makes one map."""
    return lambda classes, shape: UNet(images * shape[0], 1, widths)


_WIDE = ((16, 1), (16, 2), (16, 4), (28, 2), (28, 10), (34, 10), (34, 20), (40, 1), (40, 2), (70, 16))

#: The classifiers by name: images to logits.
MODELS: Mapping[str, Builder] = MappingProxyType(
    {
        "lenet5": _small(LeNet5),
        "lenet-large": _small(LeNetLarge),
        "small-cnn": _small(SmallCNN),
        "resnet18": lambda classes, shape: ResNet.resnet18(num_classes=classes, in_channels=shape[0]),
        "resnet50": lambda classes, shape: ResNet.resnet50(num_classes=classes, in_channels=shape[0]),
        "conv-large": lambda classes, shape: ConvLarge(classes, in_channels=shape[0], image_size=shape[1:]),
        **{f"resnet{depth}": _resnet(depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
        **{f"resnet{depth}x4": _resnet(depth, wide=True) for depth in (8, 32)},
        **{f"resnet{depth}-imagenet": _imagenet(depth) for depth in (18, 34)},
        **{f"wrn-{depth}-{factor}": _wide(depth, factor) for depth, factor in _WIDE},
        **{f"vgg{depth}": _vgg(depth) for depth in (8, 11, 13, 16, 19)},
        "four-blocks": _four_blocks((32, 64, 128, 256)),
        "four-blocks-tiny": _four_blocks((2, 4, 8, 16)),
        "mobilenet-v2": _compact(MobileNetV2),
        "shufflenet-v1": _compact(ShuffleNetV1),
        "shufflenet-v2": _compact(ShuffleNetV2),
    }
)

#: The networks that make a map of an image's pixels (batch, 1, height, width), by name.
MAPS: Mapping[str, Builder] = MappingProxyType(
    {
        "vulnerability-unet": _map(1),
        "vulnerability-unet-conditioned": _map(2),
        "vulnerability-unet-small": _map(1, (16, 32, 64)),
        "vulnerability-unet-small-conditioned": _map(2, (16, 32, 64)),
    }
)


def build_seeded(build: Callable[[], _Network], seed: int) -> _Network:
    """Return what ``build`` makes, on the CPU, with initial weights that depend on the seed alone.

    The global random state is left as it was.

    Args:
        build: makes the network, from torch's global generator.
        seed: of the initial weights.

    Example:
        >>> from aureole.models.catalogue import build_seeded
        >>> one, two = (build_seeded(lambda: nn.Linear(2, 3), seed=0) for _ in range(2))
        >>> torch.equal(one.weight, two.weight)
        True
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed: that would also reseed the accelerators.
        torch.default_generator.manual_seed(mix_seed(seed))
        return build()


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, and with what normalisation in front of it.

    Attributes:
        name: a key of ``MODELS``, or of ``MAPS`` where a map is trained.
        mean: mean of each channel of the pixels in [0, 1], or one number for all; None for no normalisation.
        std: standard deviation of each channel, or one number for all; given exactly when ``mean`` is.

    Example:
        >>> model = ModelConfig(name="lenet5").build(num_classes=10, image_shape=(1, 28, 28), seed=0)
        >>> sum(p.numel() for p in model.parameters())
        61706
    """

    name: str = "lenet5"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def build(self, *, num_classes: int, image_shape: tuple[int, int, int], seed: int) -> nn.Module:
        """Return a new model on the CPU, whose initial weights depend on the seed alone.

        The global random state is left as it was.

        Args:
            num_classes: length of the logits, at least 1.
            image_shape: channels, height and width of an image.
            seed: of the initial weights.

        Returns:
            A module that maps images in [0, 1] of shape (batch, channels, height, width) to logits, or to a map.

        Raises:
            InputError: the name is unknown, the network cannot take such images, or the normalisation does not fit.
        """
        known = {**MODELS, **MAPS}
        if self.name not in known:
            raise unknown_name("model", self.name, known)
        if num_classes < 1:
            raise InputError(f"num_classes must be at least 1; got {num_classes}")
        normalize = self._normalize(image_shape[0])
        network = build_seeded(lambda: known[self.name](num_classes, image_shape), seed)
        return network if normalize is None else nn.Sequential(OrderedDict(normalize=normalize, network=network))

    def _normalize(self, channels: int) -> Normalize | None:
        if self.mean is None and self.std is None:
            return None
        for field, values in (("mean", self.mean), ("std", self.std)):
            if values is None or len(values) not in (1, channels):
                raise InputError(f"{field} needs one number for each of the {channels} channels; got {values}")
        mean, std = (values * channels if len(values) == 1 else values for values in (self.mean or (), self.std or ()))
        return Normalize(mean, std)
