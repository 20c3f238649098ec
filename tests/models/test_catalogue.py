"""The catalogue builds every network, from a seed alone."""

from __future__ import annotations

import pytest
import torch

from aureole.core.errors import InputError
from aureole.models import MAPS, MODELS, ModelConfig

SHAPE = (1, 28, 28)


def build(name="lenet5", seed=0, shape=SHAPE, **normalisation):
    return ModelConfig(name=name, **normalisation).build(num_classes=10, image_shape=shape, seed=seed)


def same(one, other) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["lenet5", "small-cnn", "resnet8", "wrn-16-1"])
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    first = build(name)
    torch.manual_seed(2)
    assert same(first, build(name))
    assert not same(first, build(name, seed=1))


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    build()
    assert torch.equal(before, torch.get_rng_state())


def test_the_global_random_state_is_left_alone_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(InputError):
        build("small-cnn", shape=(1, 8, 8))
    assert torch.equal(before, torch.get_rng_state())


def test_a_default_device_does_not_change_the_weights():
    expected = build()
    with torch.device("meta"):
        assert same(expected, build())


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith(("-10", "-20", "-16", "110"))])
def test_every_small_network_maps_images_to_logits(name):
    model = build(name, shape=(3, 20, 16)).eval()
    assert model(torch.rand(2, 3, 20, 16)).shape == (2, 10)


@pytest.mark.parametrize("name", MAPS)
def test_map_networks_make_one_map(name):
    images = 2 if name.endswith("conditioned") else 1
    model = build(name, shape=(3, 20, 16)).eval()
    assert model(torch.rand(2, 3 * images, 20, 16)).shape == (2, 1, 20, 16)


def test_the_promised_names_are_there():
    promised = "lenet5 lenet-large small-cnn resnet18 resnet20 resnet32 resnet56 resnet110 wrn-28-10 wrn-34-10 wrn-40-2"
    distilled = "resnet8x4 resnet32x4 resnet50 resnet18-imagenet resnet34-imagenet vgg8 vgg13 vgg19 mobilenet-v2"
    assert set(promised.split()) | set(distilled.split()) | {"wrn-28-2", "wrn-16-1"} <= set(MODELS)
    assert {"shufflenet-v1", "shufflenet-v2"} <= set(MODELS)


def test_vgg_is_told_the_size_of_the_images():
    with pytest.raises(InputError, match="at least 8x8"):
        build("vgg8", shape=(1, 4, 4))


def test_normalisation_inside_equals_normalisation_outside():
    x = torch.rand(2, *SHAPE)
    model = build(mean=(0.13,), std=(0.31,))
    assert list(dict(model.named_children())) == ["normalize", "network"]
    torch.testing.assert_close(model(x), build()((x - 0.13) / 0.31))


def test_one_number_normalises_every_channel():
    x, colour = torch.rand(2, 3, 32, 32), (3, 32, 32)
    one = build("resnet8", shape=colour, mean=(0.5,), std=(0.25,))
    torch.testing.assert_close(one(x), build("resnet8", shape=colour, mean=(0.5,) * 3, std=(0.25,) * 3)(x))


def test_no_name_is_both_a_classifier_and_a_map():
    assert MAPS.keys().isdisjoint(MODELS)


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(InputError, match="unknown model 'resnet-18': did you mean 'resnet18'"):
        build("resnet-18")
    with pytest.raises(InputError, match="unknown model 'vulnerability-net': did you mean 'vulnerability-unet'"):
        build("vulnerability-net")


@pytest.mark.parametrize("wrong", [{"mean": (0.5,)}, {"std": (0.5,)}, {"mean": (0.5, 0.5), "std": (0.5, 0.5)}])
def test_normalisation_must_fit_the_channels(wrong):
    with pytest.raises(InputError, match="one number for each of the 1 channels"):
        build(**wrong)


def test_no_classes_is_refused():
    with pytest.raises(InputError, match="num_classes"):
        ModelConfig().build(num_classes=0, image_shape=SHAPE, seed=0)
