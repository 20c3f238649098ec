"""Small networks for small grey images: LeNet-5, the large LeNet of Madry et al., and the CNN of TRADES."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from aureole.core.errors import InputError
from aureole.core.taps import Taps


def _check(model: str, smallest: int, image_size: tuple[int, int]) -> None:
    if min(image_size) < smallest:
        raise InputError(
            f"{model} needs images of at least {smallest}x{smallest} pixels; got {image_size[0]}x{image_size[1]}: "
            "choose lenet5 or a ResNet, or enlarge the images"
        )


class LeNet5(nn.Sequential):
    """LeNet-5 with ReLU and max-pooling: two convolutions and three linear layers.

    61,706 parameters for 28x28 grey images and 10 classes. For images under 12 pixels the second convolution is padded
    too, so that 8x8 digits work.

    Args:
        num_classes: length of the logits.
        in_channels: channels of an image.
        image_size: height and width of an image, at least 4 pixels each.

    Raises:
        InputError: the images are too small.

    Example:
        >>> import torch
        >>> LeNet5(num_classes=10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Source: LeCun, Bottou, Bengio and Haffner 1998; ReLU and max-pooling as is usual today.
    """

    def __init__(self, num_classes: int = 10, *, in_channels: int = 1, image_size: tuple[int, int] = (28, 28)) -> None:
        _check("lenet5", 4, image_size)
        padding = 2 if min(image_size) < 12 else 0
        height, width = ((side // 2 - 4 + 2 * padding) // 2 for side in image_size)
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 6, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5, padding=padding),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(16 * height * width, 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                fc3=nn.Linear(84, num_classes),
            )
        )
        self.taps = Taps(maps=("relu1", "relu2"), pooled="fc3:input", before_relu=("conv2",))


class LeNetLarge(nn.Sequential):
    """The MNIST network of Madry et al.: two convolutions of 32 and 64 channels, and a linear layer of 1,024.

    3,274,634 parameters for 28x28 grey images and 10 classes. The initial weights are torch's, not the authors'
    truncated normal of 0.1.

    Args:
        num_classes: length of the logits.
        in_channels: channels of an image.
        image_size: height and width of an image, at least 4 pixels each.

    Raises:
        InputError: the images are too small.

    Example:
        >>> import torch
        >>> LeNetLarge(num_classes=10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Source: Madry et al. 2018 (their TensorFlow code).
    """

    def __init__(self, num_classes: int = 10, *, in_channels: int = 1, image_size: tuple[int, int] = (28, 28)) -> None:
        _check("lenet-large", 4, image_size)
        height, width = (side // 4 for side in image_size)
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 32, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(32, 64, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(64 * height * width, 1024),
                relu3=nn.ReLU(),
                fc2=nn.Linear(1024, num_classes),
            )
        )
        self.taps = Taps(maps=("relu1", "relu2"), pooled="fc2:input", before_relu=("conv2",))


class SmallCNN(nn.Sequential):
    """The MNIST network of TRADES: four 3x3 convolutions without padding, linear layers of 200 and 200.

    312,202 parameters for 28x28 grey images and 10 classes. As in the authors' code the convolutions start from
    Kaiming's normal distribution, and weight and bias of the last layer start at zero: until the first optimiser step
    all logits are 0 and the gradient to the image is 0.

    Args:
        num_classes: length of the logits.
        in_channels: channels of an image.
        image_size: height and width of an image, at least 16 pixels each.
        dropout: probability of dropping a unit after the first linear layer.

    Raises:
        InputError: the images are too small.

    Example:
        >>> import torch
        >>> SmallCNN(num_classes=10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Source: Zhang et al. 2019 (their code, ``small_cnn.py``); Carlini and Wagner 2017.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        dropout: float = 0.5,
    ) -> None:
        _check("small-cnn", 16, image_size)
        height, width = (((side - 4) // 2 - 4) // 2 for side in image_size)
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 32, 3),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 32, 3),
                relu2=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv3=nn.Conv2d(32, 64, 3),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(64, 64, 3),
                relu4=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(64 * height * width, 200),
                relu5=nn.ReLU(),
                dropout=nn.Dropout(dropout),
                fc2=nn.Linear(200, 200),
                relu6=nn.ReLU(),
                fc3=nn.Linear(200, num_classes),
            )
        )
        self.taps = Taps(maps=("relu1", "relu2", "relu4"), pooled="fc3:input", before_relu=("conv2", "conv4"))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        head = self[-1]
        assert isinstance(head, nn.Linear)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
