"""VGG has the published sizes, layers and initial weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.models import VGG


@pytest.mark.parametrize(
    ("depth", "expected"), [(8, 3_965_028), (11, 9_277_284), (13, 9_462_180), (16, 14_774_436), (19, 20_086_692)]
)
def test_it_has_the_published_size(depth, expected):
    with torch.device("meta"):
        model = VGG(depth, num_classes=100)
    assert sum(p.numel() for p in model.parameters()) == expected
    kinds = [type(module).__name__ for module in model.modules()]
    # Depth 8 has five convolutions and one linear layer; the deeper ones are named after three linear layers.
    convolutions = 5 if depth == 8 else depth - 3
    assert [kinds.count(kind) for kind in ("Conv2d", "BatchNorm2d", "ReLU")] == [convolutions] * 3
    assert (kinds.count("Linear"), kinds.count("MaxPool2d")) == (1, 3)


def test_initial_weights():
    model = VGG(8, num_classes=1000)
    last = model.stages[4].layer0.conv
    assert float(last.weight.detach().std()) == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert float(model.stages[1].layer0.conv.weight.detach().std()) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert float(model.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.01)
    assert max(float(module.bias.detach().abs().max()) for module in (last, model.fc)) == 0


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28), (64, 64), (65, 70)])
def test_other_images(size):
    model = VGG(8, num_classes=3, in_channels=1, image_size=size).eval()
    assert model(torch.zeros(2, 1, *size)).shape == (2, 3)


def test_large_images_are_halved_once_more_and_need_no_other_weights():
    small, large = VGG(8), VGG(8, image_size=(64, 64))
    large.load_state_dict(small.state_dict())
    assert isinstance(large.stages[4].pool, nn.MaxPool2d)
    assert not hasattr(small.stages[4], "pool")


def test_other_depths_are_refused():
    with pytest.raises(InputError, match="depth 8, 11, 13, 16, 19; got 12"):
        VGG(12)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match=r"vgg11 needs images of at least 8x8 pixels; got 32x7"):
        VGG(11, image_size=(32, 7))
