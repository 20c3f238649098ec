"""The catalogue builds every segmentation network, from a seed alone."""

from __future__ import annotations

import pytest
import torch

from aureole.core.errors import InputError
from aureole.models.segmentation import SEGMENTERS, SegmenterConfig


def build(name="unet-small", seed=0, shape=(1, 32, 32), classes=3):
    return SegmenterConfig(name=name).build(num_classes=classes, image_shape=shape, seed=seed)


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", ["unet-small", "mcnet"])
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    first = build(name)
    before = torch.get_rng_state()
    torch.manual_seed(2)
    assert same(first, build(name))
    assert not same(first, build(name, seed=1))
    torch.manual_seed(1)
    build(name)
    torch.manual_seed(1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("plain", "other", "shape"),
    [
        ("unet", "unet-contrastive", (1, 32, 32)),
        ("unet", "urpc", (1, 32, 32)),
        ("unet", "mcnet", (1, 32, 32)),
        ("vnet", "vnet-contrastive", (1, 16, 16, 16)),
        ("vnet", "mcnet", (1, 16, 16, 16)),
    ],
)
def test_methods_that_are_compared_start_from_the_same_weights(plain, other, shape):
    expected, found = (build(name, shape=shape).state_dict() for name in (plain, other))
    assert len(found) > len(expected)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_network_segments_pictures_of_any_number_of_channels(name):
    with torch.no_grad():
        assert build(name, shape=(2, 32, 48)).eval()(torch.rand(1, 2, 32, 48)).shape == (1, 3, 32, 48)


@pytest.mark.parametrize("name", ["unet-small", "vnet-small", "mcnet", "urpc", "vnet-sdf", "unet-sdf"])
def test_networks_segment_scans(name):
    with torch.no_grad():
        assert build(name, shape=(1, 16, 16, 16)).eval()(torch.rand(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


def test_a_wrong_name_offers_the_right_one():
    with pytest.raises(InputError, match="unet-contrastive"):
        build("unet-contrastve")


@pytest.mark.parametrize(
    ("shape", "message"),
    [((32, 32), "put the channels"), ((1, 20, 32), "multiple of 16; got 20 x 32"), ((0, 32, 32), "in_channels=0")],
)
def test_a_shape_that_does_not_fit_is_refused_before_training(shape, message):
    with pytest.raises(InputError, match=message) as error:
        build(shape=shape)
    assert "\n" not in str(error.value)
