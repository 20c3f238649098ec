"""Networks for small images, and their catalogue by name."""

from aureole.models.catalogue import MAPS, MODELS, ModelConfig
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

__all__ = [
    "MAPS",
    "MODELS",
    "VGG",
    "ConvLarge",
    "FourBlocks",
    "LeNet5",
    "LeNetLarge",
    "MobileNetV2",
    "ModelConfig",
    "Normalize",
    "ResNet",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "SmallCNN",
    "UNet",
    "WideResNet",
]
