"""A table over the classifiers: the layers that distillation looks at, their shapes, and that every part takes part."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aureole.core.taps import Taps, extract, find_taps
from aureole.models import MODELS, ConvLarge, MobileNetV2, ModelConfig, SmallCNN, WideResNet

#: One or two of each family; the others differ in numbers alone.
FAMILIES = [
    "four-blocks",
    "four-blocks-tiny",
    "lenet5",
    "lenet-large",
    "small-cnn",
    "conv-large",
    "resnet20",
    "resnet8x4",
    "resnet18",
    "resnet50",
    "resnet34-imagenet",
    "wrn-16-1",
    "wrn-28-2",
    "vgg8",
    "vgg16",
    "mobilenet-v2",
    "shufflenet-v1",
    "shufflenet-v2",
]

#: Channels and side of each map of a 32x32 image, from the stem on, and the length of the vector before the logits.
SHAPES = {
    "lenet5": ("6x32 16x12", 84),
    "lenet-large": ("32x32 64x16", 1024),
    "four-blocks": ("32x32 64x16 128x8 256x4", 1024),
    "four-blocks-tiny": ("2x32 4x16 8x8 16x4", 64),
    "small-cnn": ("32x30 32x28 64x10", 200),
    "conv-large": ("128x32 128x32 256x16 128x6", 128),
    "resnet18": ("64x32 64x32 128x16 256x8 512x4", 512),
    "resnet50": ("64x32 256x32 512x16 1024x8 2048x4", 2048),
    **{f"resnet{depth}": ("16x32 16x32 32x16 64x8", 64) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": ("32x32 64x32 128x16 256x8", 256) for depth in (8, 32)},
    **{f"resnet{depth}-imagenet": ("64x8 64x8 128x4 256x2 512x1", 512) for depth in (18, 34)},
    "wrn-16-1": ("16x32 16x32 32x16 64x8", 64),
    "wrn-40-1": ("16x32 16x32 32x16 64x8", 64),
    **{f"wrn-{depth}-2": ("16x32 32x32 64x16 128x8", 128) for depth in (16, 28, 40)},
    "wrn-16-4": ("16x32 64x32 128x16 256x8", 256),
    **{f"wrn-{depth}-10": ("16x32 160x32 320x16 640x8", 640) for depth in (28, 34)},
    "wrn-34-20": ("16x32 320x32 640x16 1280x8", 1280),
    "wrn-70-16": ("16x32 256x32 512x16 1024x8", 1024),
    **{f"vgg{depth}": ("64x32 128x16 256x8 512x4 512x4", 512) for depth in (8, 11, 13, 16, 19)},
    "mobilenet-v2": ("16x16 12x16 16x8 48x4 160x2", 1280),
    "shufflenet-v1": ("24x32 240x16 480x8 960x4", 960),
    "shufflenet-v2": ("24x32 116x16 232x8 464x4", 1024),
}


def on_meta(name, side=32):
    """Return the features of a network whose weights take no memory."""
    with torch.device("meta"), torch.no_grad():
        model = MODELS[name](100, (3, side, side)).eval()
        return extract(model, torch.zeros(2, 3, side, side), model.taps)


def sizes(maps) -> str:
    return " ".join(f"{m.shape[1]}x{m.shape[2]}" for m in maps)


@pytest.fixture(params=FAMILIES, scope="module")
def settled(request):
    """A network whose batch normalisation knows the statistics of four images, in evaluation mode; the images."""
    generator = torch.Generator().manual_seed(0)
    model = ModelConfig(name=request.param).build(num_classes=10, image_shape=(3, 16, 16), seed=0).eval()
    if isinstance(model, SmallCNN):
        nn.init.normal_(model[-1].weight, generator=generator)
    x = torch.rand(4, 3, 16, 16, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = 1.0
    with torch.no_grad():
        model(x)
    return model.eval(), x


def test_every_classifier_is_in_the_table():
    assert SHAPES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_features_have_the_published_shapes(name):
    features = on_meta(name)
    assert (sizes(features.maps), features.pooled.shape) == (SHAPES[name][0], (2, SHAPES[name][1]))
    assert [m.shape for m in features.before_relu] == [m.shape for m in features.maps[1:]]
    assert features.logits.shape == (2, 100)
    assert all(m.shape[3] == m.shape[2] for m in features.maps)


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("vgg13", 64, "64x64 128x32 256x16 512x8 512x4"),
        ("vgg8", 63, "64x63 128x31 256x15 512x7 512x7"),
        ("resnet20", 64, "16x64 16x64 32x32 64x16"),
        ("wrn-40-2", 64, "16x64 32x64 64x32 128x16"),
        ("mobilenet-v2", 64, "16x32 12x32 16x16 48x8 160x4"),
        ("shufflenet-v1", 64, "24x64 240x32 480x16 960x8"),
        ("shufflenet-v2", 64, "24x64 116x32 232x16 464x8"),
        ("resnet18-imagenet", 224, "64x56 64x56 128x28 256x14 512x7"),
        ("resnet34-imagenet", 224, "64x56 64x56 128x28 256x14 512x7"),
    ],
)
def test_features_of_larger_images(name, side, expected):
    assert sizes(on_meta(name, side).maps) == expected


def test_gradients_reach_every_parameter(settled):
    model, x = settled
    loss = nn.functional.cross_entropy(model(x), torch.arange(4))
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, grad in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        assert grad.isfinite().all(), name
        assert grad.abs().max() > 1e-12, name


def test_an_image_does_not_depend_on_its_batch(settled):
    model, x = settled
    with torch.no_grad():
        together, alone = model(x), torch.cat([model(image[None]) for image in x])
    assert together.std(0).max() > 0
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4 * float(together.abs().max()))


def test_features_are_those_of_the_pass_itself(settled):
    model, x = settled
    features = extract(model, x, model.taps)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(features.logits, model(x))
    torch.testing.assert_close(head(features.pooled), features.logits)
    first = next(model.parameters())
    for feature in (*features.maps, *features.before_relu, features.pooled):
        (grad,) = torch.autograd.grad(feature.square().sum(), first, retain_graph=True)
        assert grad.abs().max() > 0


def activated(model, features):
    """Return what the maps after the stem should be, from the maps before their activation."""
    if isinstance(model, WideResNet | MobileNetV2):
        return features.before_relu
    slope = 0.1 if isinstance(model, ConvLarge) else 0.0
    return [nn.functional.leaky_relu(before, slope) for before in features.before_relu]


def test_maps_are_the_activated_maps_before_the_last_activation(settled):
    model, x = settled
    features = extract(model, x, model.taps)
    maps = features.maps[1:]
    if isinstance(model, WideResNet):
        norms = (model.stages[1][0].bn1, model.stages[2][0].bn1, model.bn)
        maps = [norm(out) for norm, out in zip(norms, maps, strict=True)]
    for after, expected, before in zip(maps, activated(model, features), features.before_relu, strict=True):
        torch.testing.assert_close(after, expected)
        assert (before < 0).any()


@pytest.mark.parametrize("name", ["lenet5", "resnet8", "wrn-16-1", "vgg8", "mobilenet-v2", "shufflenet-v2"])
def test_the_same_layers_are_found_behind_a_normalisation(name):
    plain = ModelConfig(name=name).build(num_classes=4, image_shape=(3, 16, 16), seed=0)
    behind = ModelConfig(name=name, mean=(0.0,) * 3, std=(1.0,) * 3).build(
        num_classes=4, image_shape=(3, 16, 16), seed=0
    )
    x = torch.rand(2, 3, 16, 16)
    taps = find_taps(plain, x), find_taps(behind, x)
    assert taps == (plain.taps, plain.taps.within("network"))
    ours, theirs = extract(plain.eval(), x, taps[0]), extract(behind.eval(), x, taps[1])
    for one, other in zip((*ours.maps, *ours.before_relu), (*theirs.maps, *theirs.before_relu), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(ours.pooled, theirs.pooled)


def test_taps_put_nothing_into_the_stored_weights():
    model = ModelConfig(name="resnet8").build(num_classes=10, image_shape=(3, 8, 8), seed=0)
    assert isinstance(model.taps, Taps)
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    block = [f"{layer}{i}.{n}" for i in (1, 2) for layer, names in (("conv", norm[:1]), ("bn", norm)) for n in names]
    short = ["shortcut.0.weight", *(f"shortcut.1.{name}" for name in norm)]
    blocks = [f"stages.{k}.0.{name}" for k in range(3) for name in (block if k == 0 else [*block, *short])]
    stem = ["conv1.weight", *(f"bn1.{name}" for name in norm)]
    assert list(model.state_dict()) == [*stem, *blocks, "fc.weight", "fc.bias"]
