"""Parameter counts as published, output shapes, and what the papers say about single layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.models import LeNet5, LeNetLarge, Normalize, ResNet, SmallCNN, WideResNet


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("network", "expected"), [(LeNet5, 61_706), (LeNetLarge, 3_274_634), (SmallCNN, 312_202)])
def test_small_networks_have_the_published_size(network, expected):
    assert count(network()) == expected
    assert network()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("depth", "expected"), [(8, 83_892), (20, 278_324), (32, 472_756), (56, 861_620), (110, 1_736_564)]
)
def test_cifar_resnets_have_the_published_size(depth, expected):
    assert count(ResNet.cifar(depth, num_classes=100)) == expected


def test_resnet18_has_the_published_size():
    assert count(ResNet.resnet18()) == 11_173_962


@pytest.mark.parametrize(
    ("depth", "factor", "classes", "expected"),
    [
        (40, 2, 100, 2_255_156),
        (16, 1, 100, 180_916),
        (40, 1, 100, 569_780),
        (28, 10, 10, 36_479_194),
        (34, 10, 10, 46_160_474),
    ],
)
def test_wide_resnets_have_the_published_size(depth, factor, classes, expected):
    with torch.device("meta"):
        assert count(WideResNet(depth, factor, num_classes=classes)) == expected


@pytest.mark.parametrize("side", [4, 5, 8, 11, 12, 13, 28, 32])
@pytest.mark.parametrize("network", [LeNet5, LeNetLarge])
def test_lenets_take_every_size_from_four_pixels(network, side):
    model = network(3, in_channels=2, image_size=(side, side + 1))
    assert model(torch.zeros(2, 2, side, side + 1)).shape == (2, 3)


@pytest.mark.parametrize(("network", "side"), [(LeNet5, 3), (LeNetLarge, 3), (SmallCNN, 15)])
def test_images_that_are_too_small_are_refused(network, side):
    with pytest.raises(InputError, match=rf"at least \d+x\d+ pixels; got {side}x32"):
        network(image_size=(side, 32))


def test_small_cnn_takes_its_smallest_image():
    assert SmallCNN(image_size=(16, 16))(torch.zeros(1, 1, 16, 16)).shape == (1, 10)


def test_small_cnn_starts_with_zero_logits_and_drops_units_in_training():
    model = SmallCNN()
    assert model(torch.rand(2, 1, 28, 28)).abs().max() == 0
    nn.init.normal_(model[-1].weight)
    x = torch.rand(2, 1, 28, 28)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("model", [ResNet.cifar(8), ResNet.resnet18(), WideResNet(10, 2)])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 9, 12)])
def test_residual_networks_take_any_size(model, shape):
    assert model(torch.rand(2, *shape)).shape == (2, 10)


def test_stages_halve_the_resolution():
    model = ResNet.cifar(8)
    out = model.stages(torch.rand(1, 16, 32, 32))
    assert out.shape == (1, 64, 8, 8)
    assert WideResNet(10, 2).stages(torch.rand(1, 16, 32, 32)).shape == (1, 128, 8, 8)


def test_wide_shortcut_is_a_bare_convolution_of_the_activated_input():
    block = WideResNet(10, 2).stages[1][0].eval()
    x = torch.randn(2, 32, 8, 8)
    active = block.bn1(x).relu()
    expected = block.conv2(block.bn2(block.conv1(active)).relu()) + block.shortcut(active)
    assert isinstance(block.shortcut, nn.Conv2d)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("make", [lambda: ResNet.cifar(30), lambda: WideResNet(17, 2), lambda: ResNet.cifar(2)])
def test_impossible_depths_are_refused(make):
    with pytest.raises(InputError, match="has depth 6n"):
        make()


def test_normalize_shifts_and_scales_each_channel():
    x = torch.rand(2, 3, 4, 4)
    layer = Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), strict=True)):
        torch.testing.assert_close(layer(x)[:, channel], (x[:, channel] - mean) / std)
    assert layer.mean.shape == (1, 3, 1, 1)
    assert set(layer.state_dict()) == {"mean", "std"}


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((0.5,), (0.0,)), ((), ())])
def test_unusable_normalisation_is_refused(mean, std):
    with pytest.raises(InputError):
        Normalize(mean, std)
