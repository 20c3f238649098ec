"""The U-Net fits images of any size, uses every skip, and has the parameters of the thesis's layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aureole.core.errors import InputError
from aureole.models.unet import UNet

WIDTHS = (32, 64, 128, 256)


def conv(a, b):
    """A 3x3 convolution without bias, and the scale and shift of a batch normalisation."""
    return 9 * a * b + 2 * b


def test_parameters_are_those_of_the_thesis_layers():
    encoder = sum(conv(a, b) + 2 * conv(b, b) for a, b in zip((3, *WIDTHS), WIDTHS, strict=False))
    decoder = conv(512, 256) + conv(256, 256) + conv(256 + 128, 128) + conv(128, 128)
    decoder += conv(128 + 64, 64) + conv(64, 64) + conv(64 + 32, 32) + conv(32, 32)
    count = sum(p.numel() for p in UNet().parameters())
    assert count == encoder + decoder + 32 + 1
    assert f"{count:,}" in str(UNet.__doc__)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (33, 47), (16, 16)])
def test_maps_have_the_size_of_the_image(size):
    assert UNet(2, 3, widths=(4, 8, 8, 16))(torch.rand(2, 2, *size)).shape == (2, 3, *size)


def test_the_default_takes_large_images():
    with torch.no_grad():
        assert UNet().eval()(torch.rand(1, 3, 224, 224)).shape == (1, 1, 224, 224)


def test_other_depths():
    net: Any = UNet(1, widths=(4, 8), encoder_convs=1, decoder_convs=3)
    assert net(torch.rand(1, 1, 4, 5)).shape == (1, 1, 4, 5)
    assert [len(block) for block in net.encoder] == [3, 3]
    assert [len(block) for block in net.decoder] == [9, 9]


def test_an_image_that_is_too_small_says_how_small():
    with pytest.raises(InputError, match="at least 16 x 16; got 15 x 28") as error:
        UNet(1, widths=(2, 2, 2, 2))(torch.rand(1, 1, 15, 28))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"widths": ()}, {"widths": (4, 0)}, {"in_channels": 0}, {"decoder_convs": 0}])
def test_numbers_that_are_not_positive_are_refused(wrong):
    with pytest.raises(InputError, match="must be positive"):
        UNet(**wrong)


def test_the_gradient_reaches_every_parameter():
    net: Any = UNet(1, widths=(4, 4, 8))
    net(torch.rand(2, 1, 20, 20)).square().sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert dead == []


def test_every_skip_is_used():
    """A decoder block reads the second half of its channels from its skip, the deepest first."""
    net: Any = UNet(1, widths=(4, 6, 8)).eval()
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        before = net(x)
        for block, width in zip(net.decoder, (8, 6, 4), strict=True):
            weight = block[0].weight
            kept = weight[:, -width:].clone()
            weight[:, -width:] = 0
            assert not torch.equal(net(x), before)
            weight[:, -width:] = kept
        assert torch.equal(net(x), before)


def test_the_first_skip_keeps_single_pixels():
    """With what comes from below cut off, a pixel moves its neighbourhood only; what comes from below reaches far."""
    net: Any = UNet(1, widths=(4, 4, 4), encoder_convs=1, decoder_convs=1).eval()
    x = torch.rand(1, 1, 32, 32)
    other = x.clone()
    other[0, 0, 9, 9] += 1
    far = torch.ones(32, 32, dtype=torch.bool)
    far[7:12, 7:12] = False
    with torch.no_grad():
        assert bool((net(x) - net(other))[0, 0][far].any())
        net.decoder[-1][0].weight[:, :4] = 0
        change = (net(x) - net(other))[0, 0]
    assert not bool(change[far].any())
    assert bool(change.any())


def test_the_deepest_feature_is_the_pooled_last_map():
    """No block lies between: the first decoder block takes twice the last width."""
    net: Any = UNet(1, widths=(4, 8))
    assert net.decoder[0][0].in_channels == 16
    assert len(list(net.children())) == 3
