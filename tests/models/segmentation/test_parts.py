"""What the networks are made of: dropout, decoders, disturbances, heads, the discriminator."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.models.segmentation import (
    ContrastiveHeads,
    MCNetSegmenter,
    SDFSegmenter,
    ShapeDiscriminator,
    UNetSegmenter,
    URPCSegmenter,
    VNetSegmenter,
)
from aureole.models.segmentation.blocks import Decoder
from aureole.models.segmentation.urpc import FeatureDropout, FeatureNoise


def layers(module: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[Any]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def test_the_unet_drops_values_in_its_encoder_alone():
    network = UNetSegmenter(num_classes=4)
    assert [layer.p for layer in layers(network.encoder, nn.Dropout)] == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert layers(network.decoder, nn.Dropout) == []
    assert {layer.negative_slope for layer in layers(network, nn.LeakyReLU)} == {0.01}


def test_the_vnet_drops_channels_of_the_bottleneck_and_of_the_embedding():
    network = VNetSegmenter(num_classes=2, width=4).train()
    x = torch.rand(2, 1, 16, 16, 16)
    with torch.no_grad():
        bottleneck, embedding = network.encode(torch.rand(2, 1, 32, 32, 32))[-1], network.outputs(x).embedding
    for found in (bottleneck, embedding):
        silent = (found == 0).flatten(2).all(2).float().mean()
        assert 0.1 < silent < 0.9
    assert [layer.p for layer in layers(network, nn.Dropout3d)] == [0.5, 0.5]
    network.eval()
    assert torch.equal(network(x), network(x))


def test_the_convolutions_of_the_vnet():
    network = VNetSegmenter(num_classes=2, width=2)
    threes = [[c for c in layers(stage, nn.Conv3d) if c.kernel_size[0] == 3] for stage in network.encoder.stages]
    assert [len(stage) for stage in threes] == [1, 2, 3, 3, 3]
    assert [len(layers(block, nn.Conv3d)) for block in network.decoder.blocks] == [3, 3, 2, 1]


def test_a_decoder_joins_each_level_with_the_map_of_its_size():
    decoder = Decoder([nn.Upsample(scale_factor=2) for _ in range(2)], [nn.Identity() for _ in range(2)], torch.add)
    maps = [torch.full((1, 1, size, size), value) for size, value in ((4, 100.0), (2, 10.0), (1, 1.0))]
    assert [float(level.mean()) for level in decoder.levels(maps)] == [11.0, 111.0]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_decoders_of_mcnet_differ_in_how_they_enlarge(dims):
    network = MCNetSegmenter(num_classes=2, width=2, spatial_dims=dims, num_decoders=3)
    transposed = (nn.ConvTranspose2d, nn.ConvTranspose3d)
    decoders = [network.decoder, *network.other_decoders]
    ways = [{layer.mode for layer in layers(decoder, nn.Upsample)} for decoder in decoders]
    linear = "bilinear" if dims == 2 else "trilinear"
    assert ways == ([{linear}, set(), {"nearest"}] if dims == 2 else [set(), {linear}, {"nearest"}])
    assert [len(layers(decoder, transposed)) for decoder in decoders] == [0 if way else 4 for way in ways]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_decoders_of_mcnet_give_different_logits_from_one_encoder(dims):
    network = MCNetSegmenter(num_classes=2, width=2, spatial_dims=dims, num_decoders=3).eval()
    x = torch.rand(2, 1, *[32 if dims == 2 else 16] * dims)
    runs = []
    network.encoder.register_forward_hook(lambda *_: runs.append(1))
    found = network.outputs(x)
    every = (found.logits, *found.auxiliary)
    assert (len(runs), len(every)) == (1, 3)
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in pairwise(every))


def test_feature_dropout_silences_where_the_mean_is_near_each_images_maximum():
    x = torch.zeros(2, 2, 1, 4)
    x[:, 0, 0] = torch.tensor([1.0, 0.95, 0.6, 0.1])
    x[1] *= 10
    found = FeatureDropout()(x)
    expected = x * torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.equal(found, expected)
    assert torch.equal(FeatureDropout().eval()(x), x)


def test_the_share_of_feature_dropout_is_drawn_anew():
    x = torch.linspace(0.5, 1, 100).view(1, 1, 10, 10)
    kept = [int((FeatureDropout()(x) != 0).sum()) for _ in range(50)]
    assert len(set(kept)) > 10
    assert all(38 <= count <= 81 for count in kept)


def test_feature_noise_is_one_for_the_batch_and_within_its_spread():
    x = torch.ones(3, 4, 20, 20)
    found = FeatureNoise()(x)
    assert torch.equal(found[0], found[1])
    assert 0.7 <= float(found.min()) < 0.72
    assert 1.28 < float(found.max()) <= 1.3
    assert torch.equal(FeatureNoise().eval()(x), x)


def test_urpc_disturbs_its_coarser_heads_alone_and_in_training_alone():
    network = URPCSegmenter(num_classes=3, width=2)
    for layer in layers(network.encoder, nn.Dropout):
        layer.p = 0.0
    x = torch.rand(2, 1, 32, 32)
    one, two = network.outputs(x), network.outputs(x)
    assert torch.equal(one.logits, two.logits)
    assert [torch.equal(a, b) for a, b in zip(one.auxiliary, two.auxiliary, strict=True)] == [False] * 3
    network.eval()
    one, two = network.outputs(x), network.outputs(x)
    assert all(torch.equal(a, b) for a, b in zip(one.auxiliary, two.auxiliary, strict=True))


def test_the_levels_of_urpc_are_enlarged_by_nearest_neighbours():
    network = URPCSegmenter(num_classes=3, width=2).eval()
    coarse, middle, fine = network.outputs(torch.rand(1, 1, 32, 32)).auxiliary
    for logits, factor in ((coarse, 8), (middle, 4), (fine, 2)):
        assert torch.equal(
            logits, logits[..., ::factor, ::factor].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        )
        assert not torch.equal(logits[..., 0], logits[..., factor])


def test_the_softmax_of_two_classes_is_the_sigmoid_of_the_only_logit():
    network = SDFSegmenter(num_classes=2, width=2).eval()
    found = network.outputs(torch.rand(2, 1, 16, 16, 16))
    only = network.head[0](found.embedding)
    assert torch.allclose(found.logits.softmax(1)[:, 1:], only.sigmoid(), atol=1e-6)
    assert found.distances is not None
    assert found.distances.shape == only.shape
    assert torch.equal(found.distances, network.distance[0](found.embedding).tanh())


def test_heads_have_the_published_counts():
    counts = [sum(p.numel() for p in ContrastiveHeads(classes).parameters()) for classes in (4, 2)]
    assert counts == [13_064, 8_452]
    assert all(f"{count:,}" in str(ContrastiveHeads.__doc__) for count in counts)


def test_heads_of_no_class_are_refused():
    with pytest.raises(InputError, match="must be positive; got 0, 16 and 32"):
        ContrastiveHeads(0)


def published(foreground: int, channels: int, dims: int) -> int:
    """Parameters of convolutions of size 4 to 64, 128, 256 and 512 channels, and of the linear layer."""
    steps = [(foreground, 64), (channels, 64), (64, 128), (128, 256), (256, 512)]
    return sum(4**dims * a * b + b for a, b in steps) + 512 * 2 + 2


@pytest.mark.parametrize(("dims", "classes", "channels"), [(3, 2, 1), (2, 4, 3)])
def test_the_discriminator_has_the_layers_of_the_sheet(dims, classes, channels):
    network = ShapeDiscriminator(num_classes=classes, in_channels=channels, spatial_dims=dims)
    assert sum(p.numel() for p in network.parameters()) == published(classes - 1, channels, dims)
    assert [layer.negative_slope for layer in layers(network, nn.LeakyReLU)] == [0.2] * 4
    assert [layer.p for layer in layers(network, (nn.Dropout2d, nn.Dropout3d))] == [0.5] * 3


def test_the_average_of_the_discriminator_is_over_all_positions():
    network = ShapeDiscriminator(num_classes=2, spatial_dims=2, width=2).eval()
    x = torch.rand(1, 1, 48, 32)
    found: Any = {}
    network.stages[-3].register_forward_hook(lambda _, args, output: found.update(maps=output))
    logits = network(x, x)
    assert found["maps"].shape[2:] == (3, 2)
    assert torch.allclose(logits, network.linear(found["maps"].mean((2, 3))), atol=1e-6)


def test_the_discriminator_learns_to_tell_shapes_apart():
    """It reads the distances: noise is told from a ball within a few steps, of the same pictures."""
    network = ShapeDiscriminator(num_classes=2, spatial_dims=2, width=8)
    grid = torch.linspace(-1, 1, 32)
    ball = (grid[:, None] ** 2 + grid**2 - 0.3).expand(4, 1, 32, 32)
    noise, picture, y = torch.rand(4, 1, 32, 32) * 2 - 1, torch.rand(8, 1, 32, 32), torch.arange(8) // 4
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.99))
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.cat([noise, ball]), picture), y).backward()
        optimizer.step()
    network.eval()
    assert torch.equal(network(torch.cat([noise, ball]), picture).argmax(1), y)
    assert all(not torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_a_patch_too_small_for_the_discriminator_is_refused():
    x = torch.zeros(1, 1, 16, 16, 8)
    with pytest.raises(InputError, match="at least 16; got 16 x 16 x 8") as error:
        ShapeDiscriminator(num_classes=2, width=1)(x, x)
    assert "\n" not in str(error.value)


def test_a_discriminator_of_one_class_is_refused():
    with pytest.raises(InputError, match="at least 2 classes"):
        ShapeDiscriminator(num_classes=1)
