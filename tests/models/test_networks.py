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
    ("depth", "expected"),
    [
        (8, 83_892),
        (14, 181_108),
        (20, 278_324),
        (32, 472_756),
        (44, 667_188),
        (56, 861_620),
        (110, 1_736_564),
    ],
)
def test_cifar_resnets_have_the_published_size(depth, expected):
    assert count(ResNet.cifar(depth, num_classes=100)) == expected


@pytest.mark.parametrize(("depth", "expected"), [(8, 1_233_540), (32, 7_433_860)])
def test_cifar_resnets_of_four_times_the_width_have_the_published_size(depth, expected):
    with torch.device("meta"):
        assert count(ResNet.cifar(depth, wide=True, num_classes=100)) == expected


def test_resnet18_has_the_published_size():
    assert count(ResNet.resnet18()) == 11_173_962


def test_resnet50_has_the_published_size():
    with torch.device("meta"):
        assert count(ResNet.resnet50(num_classes=100)) == 23_705_252


@pytest.mark.parametrize(("depth", "expected"), [(18, 11_689_512), (34, 21_797_672)])
def test_resnets_for_imagenet_have_the_published_size(depth, expected):
    with torch.device("meta"):
        assert count(ResNet.imagenet(depth)) == expected


def test_the_stem_for_imagenet_is_a_convolution_and_a_pooling_of_stride_two():
    model = ResNet.imagenet(18, num_classes=3).eval()
    x = torch.rand(1, 3, 40, 48)
    stem = torch.conv2d(x, model.conv1.weight, stride=2, padding=3)
    stem = torch.max_pool2d(model.bn1(stem).relu(), 3, 2, 1)
    assert stem.shape == (1, 64, 10, 12)
    torch.testing.assert_close(model(x), model.fc(model.stages(stem).mean((2, 3))))


def test_a_bottleneck_halves_in_its_wide_convolution():
    block = ResNet.resnet50().stages[1][0].eval()
    x = torch.rand(1, 256, 6, 6)
    out = block.bn2(torch.conv2d(block.bn1(block.conv1(x)).relu(), block.conv2.weight, stride=2, padding=1)).relu()
    expected = (block.bn3(block.conv3(out)) + block.shortcut(x)).relu()
    assert (block.conv1.out_channels, expected.shape) == (128, (1, 512, 3, 3))
    torch.testing.assert_close(block(x), expected)


def test_resnets_start_from_the_fan_out():
    model = ResNet.cifar(8, wide=True)
    weight = model.stages[2][0].conv1.weight.detach()
    assert weight.shape == (256, 128, 3, 3)
    assert float(weight.std()) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("depth", "factor", "classes", "expected"),
    [
        (40, 2, 100, 2_255_156),
        (16, 1, 100, 180_916),
        (16, 2, 100, 703_284),
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


@pytest.mark.parametrize(
    "model", [ResNet.cifar(8), ResNet.resnet18(), ResNet.imagenet(18, num_classes=10), WideResNet(10, 2)]
)
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


def test_other_depths_for_imagenet_are_refused():
    with pytest.raises(InputError, match="depth 18 or 34; got 50"):
        ResNet.imagenet(50)


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
