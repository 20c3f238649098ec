"""Soft and hard attention: weights and context by hand, a draw and its gradient, the last map of a network, misuse."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.features import FeatureTap
from aureole.core.taps import own_taps
from aureole.explain import Attention, LastMap, PatchScores, own_map
from aureole.explain.attention import Kind
from aureole.models import ModelConfig

KINDS: tuple[Kind, ...] = ("soft", "hard")


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def grid(width: int = 5) -> nn.Module:
    """Features of patches of 4 x 4 pixels, with batch normalisation."""
    return nn.Sequential(nn.Conv2d(3, width, 4, stride=4), nn.BatchNorm2d(width), nn.Tanh())


def network(kind: Kind = "soft", temperature: float = 1.0) -> Attention:
    return Attention(grid(), 3, width=5, kind=kind, temperature=temperature)


def by_hand(kind: Kind) -> tuple[Attention, Tensor]:
    """The image itself is the map: two channels, positions (1, 0), (0, 1), (2, 2), (0, 0); the first one's score."""
    model = Attention(nn.Identity(), 2, width=2, kind=kind)
    with torch.no_grad():
        model.patches.score.weight.copy_(torch.tensor([math.log(2), 0.0]).view(1, 2, 1, 1))
        model.fc.weight.copy_(torch.eye(2))
        model.fc.bias.zero_()
    return model.eval(), torch.tensor([[[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]]]])


def test_soft_attention_by_hand():
    model, x = by_hand("soft")  # the scores are log 2 times (1, 0, 2, 0): p = (2, 1, 4, 1) / 8
    torch.testing.assert_close(model.map(x), torch.tensor([[[2.0, 1.0], [4.0, 1.0]]]) / 8)
    torch.testing.assert_close(model(x), torch.tensor([[2 * 1 + 4 * 2, 1 * 1 + 4 * 2]]) / 8)


def test_hard_attention_takes_the_likeliest_position():
    model, x = by_hand("hard")
    torch.testing.assert_close(model(x), torch.tensor([[2.0, 2.0]]))
    torch.testing.assert_close(model.map(x), torch.tensor([[[2.0, 1.0], [4.0, 1.0]]]) / 8)


def test_a_hard_draw_is_one_hot_and_has_the_gradient_of_the_soft_one():
    model, scores = network("hard", 0.7).train(), torch.randn(6, 2, 4, dtype=torch.float64).requires_grad_()
    direction = torch.randn_like(scores)
    torch.manual_seed(3)
    hard = model.weights(scores)
    assert ((hard == 0) | (hard == 1)).all()
    assert (hard.sum((1, 2)) == 1).all()
    torch.manual_seed(3)
    gumbel = -torch.empty(6, 8, dtype=torch.float64).exponential_().log()
    soft = ((scores.flatten(1) + gumbel) / 0.7).softmax(1).view(6, 2, 4)
    assert torch.equal(hard.flatten(1).argmax(1), soft.flatten(1).argmax(1))
    found, wanted = (torch.autograd.grad((part * direction).sum(), scores)[0] for part in (hard, soft))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-13)


def test_hard_draws_come_as_often_as_the_attention_says():
    model, scores = network("hard").train(), torch.tensor([1.0, 2.0, 3.0, 4.0]).log().view(1, 2, 2)
    share = model.weights(scores.expand(20_000, 2, 2)).mean(0)
    torch.testing.assert_close(share, torch.tensor([[0.1, 0.2], [0.3, 0.4]]), rtol=0, atol=0.015)


def test_draws_depend_on_the_seed_and_evaluation_draws_nothing():
    model, x = network("hard", 2.0).train(), torch.rand(8, 3, 16, 16)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(model(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    soft, state = network("soft").train(), torch.get_rng_state()
    soft(x)
    model.map(x)
    assert torch.equal(model.eval()(x), model(x))
    assert torch.equal(state, torch.get_rng_state())


def test_the_map_is_made_of_patches_that_are_probabilities():
    model, x = network().eval(), torch.rand(2, 3, 16, 12)
    found = model.map(x)
    patches = found[:, ::4, ::4]
    assert found.shape == (2, 16, 12)
    torch.testing.assert_close(patches.sum((1, 2)), torch.ones(2))
    assert torch.equal(found, patches.repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert patches.std() > 0
    torch.testing.assert_close(model.simplified(x), found[:, None] * x)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_gets_a_gradient(kind):
    model = network(kind)
    nn.functional.cross_entropy(model(torch.rand(4, 3, 16, 16)), torch.tensor([0, 1, 2, 0])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith("0.bias"):  # a batch normalisation follows
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_stored_weights_give_the_same_map(kind):
    model, other, x = network(kind), network(kind), torch.rand(2, 3, 16, 16)
    model(x)  # moves the statistics
    assert not torch.allclose(own_map(model, x), own_map(other, x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(own_map(model, x), own_map(other, x))


def test_half_precision_scores_are_compared_in_full():
    model, x = network("soft").eval(), torch.rand(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.map(x).dtype == torch.float32
        torch.testing.assert_close(model(x).float(), model.float()(x).float(), rtol=0.05, atol=0.05)


# The last map of a network

SMALL = (
    "lenet5", "small-cnn", "conv-large", "resnet8", "resnet18", "resnet18-imagenet", "wrn-16-1", "vgg8",
    "four-blocks-tiny", "mobilenet-v2", "shufflenet-v1", "shufflenet-v2",
)  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_the_last_map_is_that_of_the_whole_network_and_nothing_else_is_kept(name):
    whole = ModelConfig(name=name).build(num_classes=2, image_shape=(3, 32, 32), seed=0).eval()
    layer = own_taps(whole).maps[-1]
    values = {key: value.clone() for key, value in whole.state_dict().items()}
    cut, x = LastMap(whole).eval(), torch.rand(2, 3, 32, 32)
    found = cut(x)
    assert torch.equal(found, FeatureTap(whole, (layer,))(x).features[0])
    assert all(torch.equal(value, values[key]) for key, value in whole.state_dict().items())
    assert whole(x).shape == (2, 2)
    grads = torch.autograd.grad(found.square().sum(), list(cut.parameters()))  # raises where one is not used
    assert len(grads) < len(list(whole.parameters()))


def test_resnet_18_is_the_default_without_its_fully_connected_layer():
    model = Attention()
    count = sum(p.numel() for p in model.parameters())
    assert count == 11_689_512 - (512 * 1000 + 1000) + 512 + (2 * 512 + 2)
    assert model.taps.maps[-1] == "patches.features.classifier.stages.3"
    tapped = FeatureTap(model.eval(), (model.taps.maps[-1], str(model.taps.pooled)))(torch.rand(1, 3, 64, 64))
    assert [f.shape for f in tapped.features] == [(1, 512, 2, 2), (1, 512)]


# Misuse


def test_features_that_do_not_fit():
    x = torch.rand(2, 3, 8, 8)
    with says(r"expected features of shape \(2, 7, height, width\); got \(2, 5, 2, 2\): .*width="):
        Attention(grid(), width=7)(x)
    with says(r"got \(2, 192\)"):
        Attention(nn.Flatten(), width=192)(x)
    with says("Flatten does not say which layer gives its last map"):
        LastMap(nn.Flatten())
    with says("width must be at least 1"):
        PatchScores(grid(), 0)


@pytest.fixture
def untyped() -> Iterator[None]:
    """No checks of annotations, as for a user: what a misuse raises then."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def test_fields_out_of_range(untyped):
    with says("unknown attention 'sofd': did you mean 'soft'"):
        Attention(grid(), width=5, kind="sofd")  # pyright: ignore[reportArgumentType]
    for temperature in (0.0, -1.0, math.nan):
        with says("temperature must be positive"):
            Attention(grid(), width=5, kind="hard", temperature=temperature)
    with says("num_classes must be at least 1"):
        Attention(grid(), 0, width=5)
