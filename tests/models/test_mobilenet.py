"""MobileNetV2 has the published size, blocks and initial weights."""

from __future__ import annotations

import pytest
import torch

from aureole.core.errors import InputError
from aureole.models import MobileNetV2
from aureole.models.mobilenet import InvertedResidual


def test_it_has_the_published_size():
    model = MobileNetV2(100)
    assert sum(p.numel() for p in model.parameters()) == 812_836
    assert [len(stage) for stage in model.stages] == [1, 2, 3, 4, 3, 3, 1]


def test_a_block_adds_its_input_only_where_the_shape_stays():
    x = torch.randn(2, 8, 5, 5)
    for channels, stride, adds in ((8, 1, True), (8, 2, False), (6, 1, False)):
        block = InvertedResidual(8, channels, stride, 6).eval()
        branch = block.filter.relu(block.filter.bn(block.filter.conv(block.expand(x))))
        branch = block.bn(block.project(branch))
        torch.testing.assert_close(block(x), branch + x if adds else branch)
        assert block.filter.conv.groups == 48


def test_initial_weights():
    model = MobileNetV2(1000)
    # N(0, 2 / (k^2 C_out)), also where each channel is filtered alone.
    inside = model.stages[6][0].filter.conv
    assert inside.weight.shape == (480, 1, 3, 3)
    assert float(inside.weight.detach().std()) == pytest.approx((2 / (9 * 480)) ** 0.5, rel=0.05)
    assert float(model.head.conv.weight.detach().std()) == pytest.approx((2 / 1280) ** 0.5, rel=0.01)
    assert float(model.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.01)
    assert float(model.fc.bias.detach().abs().max()) == 0


def test_the_stem_may_keep_the_resolution():
    model = MobileNetV2(3, stem_stride=1).eval()
    assert model.stem(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 32, 32)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 12), (3, 64, 64)])
def test_other_images(shape):
    assert MobileNetV2(3, in_channels=shape[0]).eval()(torch.zeros(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("wrong", [{"width": 0.05}, {"width": float("nan")}, {"stem_stride": 3}])
def test_an_impossible_shape_is_refused(wrong):
    with pytest.raises(InputError, match="width of at least 1/16, and 1 or 2 as stride"):
        MobileNetV2(**wrong)
