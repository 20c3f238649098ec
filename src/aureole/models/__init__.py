"""Networks for small images, and their catalogue by name."""

from aureole.models.catalogue import MODELS, ModelConfig
from aureole.models.conv_large import ConvLarge
from aureole.models.lenet import LeNet5, LeNetLarge, SmallCNN
from aureole.models.normalize import Normalize
from aureole.models.resnet import ResNet
from aureole.models.unet import UNet
from aureole.models.wide_resnet import WideResNet

__all__ = [
    "MODELS",
    "ConvLarge",
    "LeNet5",
    "LeNetLarge",
    "ModelConfig",
    "Normalize",
    "ResNet",
    "SmallCNN",
    "UNet",
    "WideResNet",
]
