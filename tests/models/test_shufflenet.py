"""ShuffleNet has the published sizes, and its units compute what the papers draw."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aureole.models import ShuffleNetV1, ShuffleNetV2
from aureole.models.shufflenet import shuffle


@pytest.mark.parametrize(("network", "expected"), [(ShuffleNetV1, 949_258), (ShuffleNetV2, 1_355_528)])
def test_it_has_the_published_size(network, expected):
    model = network(100)
    assert sum(p.numel() for p in model.parameters()) == expected
    assert [len(stage) for stage in model.stages] == [4, 8, 4]


@pytest.mark.parametrize(("channels", "groups"), [(12, 1), (12, 2), (12, 3), (12, 12)])
def test_shuffle_is_that_of_torch(channels, groups):
    x = torch.randn(2, channels, 3, 5)
    assert torch.equal(shuffle(x, groups), nn.ChannelShuffle(groups)(x))


def branch(unit, x):
    """Return a grouped unit's convolutions, the shuffle done one channel at a time."""
    out = unit.bn1(unit.conv1(x)).relu()
    each = out.shape[1] // unit.groups
    out = torch.stack([out[:, g * each + i] for i in range(each) for g in range(unit.groups)], 1)
    return unit.bn3(unit.conv3(unit.bn2(unit.conv2(out)).relu()))


def test_a_unit_of_version_1_adds_or_joins_its_input():
    model = ShuffleNetV1().eval()
    first, second = model.stages[0][0], model.stages[0][1]
    x = torch.rand(2, 24, 8, 8)
    out = first(x)
    torch.testing.assert_close(out[:, :216], branch(first, x).relu())
    torch.testing.assert_close(out[:, 216:], F.avg_pool2d(x, 3, stride=2, padding=1))
    torch.testing.assert_close(second(out), (branch(second, out) + out).relu())
    assert (first.groups, first.conv3.groups, second.groups) == (1, 3, 3)
    assert (first.conv1.out_channels, second.conv1.out_channels) == (54, 60)


def test_a_unit_of_version_2_lets_half_of_the_channels_pass():
    model = ShuffleNetV2().eval()
    unit = model.stages[0][1]
    x = torch.rand(2, 116, 4, 4)
    out = unit.bn2(unit.conv2(unit.bn1(unit.conv1(x[:, 58:])).relu()))
    out = unit.bn3(unit.conv3(out)).relu()
    torch.testing.assert_close(unit(x)[:, 0::2], x[:, :58])
    torch.testing.assert_close(unit(x)[:, 1::2], out)


def test_a_halving_unit_of_version_2_has_two_branches():
    unit = ShuffleNetV2().eval().stages[0][0]
    x = torch.rand(2, 24, 8, 8)
    left = unit.bn2(unit.conv2(unit.bn1(unit.conv1(x)))).relu()
    right = unit.bn5(unit.conv5(unit.bn4(unit.conv4(unit.bn3(unit.conv3(x)).relu())))).relu()
    torch.testing.assert_close(unit(x)[:, 0::2], left)
    torch.testing.assert_close(unit(x)[:, 1::2], right)


@pytest.mark.parametrize("network", [ShuffleNetV1, ShuffleNetV2])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 9, 12), (3, 64, 64)])
def test_other_images(network, shape):
    assert network(3, in_channels=shape[0]).eval()(torch.zeros(2, *shape)).shape == (2, 3)
