"""Conv-Large has the published size and layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.models.conv_large import ConvLarge


def test_it_has_the_published_size() -> None:
    assert sum(p.numel() for p in ConvLarge(10).parameters()) == 3_123_850


def test_its_layers() -> None:
    model = ConvLarge(10)
    kinds = [type(m).__name__ for m in model.modules()]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d"), kinds.count("LeakyReLU")) == (9, 9, 9)
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    assert model.dropout.p == 0.5
    seen: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[1:])))
    model.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == [(128, 32, 32)] * 3 + [(256, 16, 16)] * 3 + [(512, 6, 6), (256, 6, 6), (128, 6, 6)]


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 12), (3, 33)])
def test_other_images(channels: int, size: int) -> None:
    model = ConvLarge(4, in_channels=channels, image_size=(size, size)).eval()
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 4)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="12x12"):
        ConvLarge(image_size=(8, 8))


def test_dropout_acts_in_training_alone() -> None:
    model, x = ConvLarge(10), torch.rand(2, 3, 12, 12)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
