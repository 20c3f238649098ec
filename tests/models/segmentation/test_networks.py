"""The segmentation networks: their sizes, their parts, and what they give."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.features import FeatureTap
from aureole.models.segmentation import (
    SEGMENTERS,
    MCNetSegmenter,
    SDFSegmenter,
    SegmenterConfig,
    UNetSegmenter,
    URPCSegmenter,
    VNetSegmenter,
)

PICTURE, SCAN = (1, 32, 32), (1, 16, 16, 16)
#: With another width, where the layers are the same and the pass is quicker.
SMALL: dict[str, Any] = {
    "unet": UNetSegmenter(num_classes=4, width=2, contrastive=True),
    "unet in 3-D": UNetSegmenter(num_classes=3, width=2, spatial_dims=3),
    "vnet": VNetSegmenter(num_classes=2, width=2, contrastive=True),
    "vnet in 2-D": VNetSegmenter(num_classes=3, in_channels=2, width=2, spatial_dims=2),
    "mcnet in 2-D": MCNetSegmenter(num_classes=4, width=2),
    "mcnet in 3-D": MCNetSegmenter(num_classes=2, width=2, spatial_dims=3, num_decoders=3),
    "urpc": URPCSegmenter(num_classes=4, width=2),
    "urpc in 3-D": URPCSegmenter(num_classes=2, width=2, spatial_dims=3),
    "sdf": SDFSegmenter(num_classes=2, width=2),
    "sdf in 2-D": SDFSegmenter(num_classes=4, width=2, spatial_dims=2),
}


@pytest.fixture(params=SMALL)
def network(request) -> Any:
    return copy.deepcopy(SMALL[request.param])


def inputs(network: Any, batch: int = 2) -> Tensor:
    sizes = (PICTURE if network.spatial_dims == 2 else SCAN)[1:]
    return torch.rand(batch, network.in_channels, *sizes, generator=torch.Generator().manual_seed(3))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "shape", "expected"),
    [
        ("unet", 4, PICTURE, 1_813_764),
        ("unet-contrastive", 4, PICTURE, 1_826_828),
        ("vnet", 2, SCAN, 9_448_866),
        ("vnet-contrastive", 2, SCAN, 9_457_318),
        ("vnet-sdf", 2, SCAN, 9_448_866),
        ("mcnet", 4, PICTURE, 2_577_624),
        ("mcnet", 2, SCAN, 12_347_716),
        ("urpc", 4, PICTURE, 1_831_060),
    ],
)
def test_parameters_are_the_published_ones(name, classes, shape, expected):
    network = SEGMENTERS[name](classes, shape, None)
    assert count(network) == expected
    assert any(f"{expected:,}" in str(cls.__doc__) for cls in type(network).__mro__)


def test_the_encoder_of_the_unet_has_the_published_count():
    assert count(UNetSegmenter(num_classes=4).encoder) == 1_180_464


def test_logits_have_the_size_of_the_input(network):
    x = inputs(network)
    found = network.outputs(x)
    classes = found.logits.shape[1]
    assert found.logits.shape == (2, classes, *x.shape[2:])
    assert found.embedding.shape == (2, network.width, *x.shape[2:])
    assert all(logits.shape == found.logits.shape for logits in found.auxiliary)


def test_the_three_ways_to_the_logits_agree(network):
    network.eval()
    x = inputs(network)
    maps = network.encode(x)
    logits = network(x)
    assert torch.equal(network.decode(maps), logits)
    assert torch.equal(network.outputs(x).logits, logits)
    assert maps[-1].shape == (2, 16 * network.width, *(n // 16 for n in x.shape[2:]))
    assert not torch.equal(logits[0], logits[1])


def test_the_taps_are_the_bottleneck_and_the_embedding(network):
    network.eval()
    x = inputs(network)
    for call in (network, network.outputs):
        bottleneck, embedding = FeatureTap(_Calls(network, call), network.taps.within("network").maps)(x).features
        assert torch.equal(bottleneck, network.encode(x)[-1])
        assert torch.equal(embedding, network.outputs(x).embedding)


class _Calls(nn.Module):
    def __init__(self, network, call):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, x):
        return self.call(x)


def test_the_encoder_runs_without_the_decoder(network):
    x = inputs(network)
    network.decoder.forward = network.head.forward = None
    network.encode(x)[-1].sum().backward()
    assert all(p.grad is not None for p in network.encoder.parameters())
    assert all(p.grad is None for p in network.decoder.parameters())


def test_every_parameter_learns_from_the_outputs(network):
    logits, embedding, auxiliary, distances = network.outputs(inputs(network))
    values = [logits, *auxiliary, *([] if distances is None else [distances])]
    heads = getattr(network, "contrastive", None)
    if heads is not None:
        rows = heads.prediction(heads.projection(embedding.movedim(1, -1).flatten(0, -2)))
        values += [selector(rows) for selector in (*heads.selectors, *heads.memory_selectors)]
    torch.stack([(value**3).mean() for value in values]).sum().backward()
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, p in learning.items() if p.grad is None or not p.grad.isfinite().all()] == []
    still = set(dict(network.named_parameters())) - set(learning)
    assert all(name.startswith("unused_head.") for name in still)
    # A bias before a batch normalisation changes nothing, so that only weights must have a gradient that is not zero.
    assert [name for name, p in learning.items() if p.ndim > 1 and not p.grad.any()] == []


def test_a_weight_of_the_unused_head_of_urpc_changes_nothing():
    network = copy.deepcopy(SMALL["urpc"]).eval()
    before = network.outputs(inputs(network))
    nn.init.ones_(network.unused_head.weight)
    after = network.outputs(inputs(network))
    assert torch.equal(before.logits, after.logits)
    assert all(torch.equal(a, b) for a, b in zip(before.auxiliary, after.auxiliary, strict=True))


@pytest.mark.parametrize("size", [(24, 32), (32, 8), (8, 8)])
def test_a_size_that_does_not_divide_names_the_multiple(size):
    with pytest.raises(InputError, match=r"multiple of 16; got \d+ x \d+: resize, pad or crop it") as error:
        SMALL["unet"](torch.zeros(1, 1, *size))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 1, 32), (1, 1, 16, 16, 16)])
def test_other_channels_and_dimensions_are_refused(shape):
    with pytest.raises(InputError, match="expected 2-D inputs of 1 channels"):
        SMALL["unet"](torch.zeros(*shape))


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (UNetSegmenter, {"num_classes": 1}),
        (VNetSegmenter, {"num_classes": 2, "width": 0}),
        (VNetSegmenter, {"num_classes": 2, "in_channels": 0}),
        (UNetSegmenter, {"num_classes": 2, "spatial_dims": 1}),
        (MCNetSegmenter, {"num_classes": 2, "num_decoders": 1}),
    ],
)
def test_numbers_that_make_no_network_are_refused(network, options):
    with pytest.raises(InputError) as error:
        network(**options)
    assert "\n" not in str(error.value)


def test_channels_last_gives_the_same_logits(network):
    network.eval()
    x = inputs(network)
    expected = network(x)
    layout: Any = (torch.channels_last, torch.channels_last_3d)[network.spatial_dims - 2]
    found = network.to(memory_format=layout)(x.to(memory_format=layout))
    assert torch.allclose(found, expected, atol=1e-5)


def test_state_goes_round(network):
    x = inputs(network)
    network(x)  # moves the statistics of the batch normalisations
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.eval()(x), network.eval()(x))


def test_a_full_slice_fits_the_unet():
    with torch.no_grad():
        assert UNetSegmenter(num_classes=4, width=4).eval()(torch.rand(1, 1, 256, 256)).shape == (1, 4, 256, 256)


def test_a_full_patch_fits_the_vnet():
    with torch.no_grad():
        assert VNetSegmenter(num_classes=2, width=2).eval()(torch.rand(1, 1, 112, 112, 80)).shape[2:] == (112, 112, 80)


def test_a_width_of_ones_own() -> None:
    network = SegmenterConfig(name="mcnet", width=4).build(num_classes=3, image_shape=(1, 32, 32), seed=0)
    assert network.width == 4
    assert network.outputs(torch.zeros(1, 1, 32, 32)).embedding.shape == (1, 4, 32, 32)
