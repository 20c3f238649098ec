"""The configurations build every explained network: from a seed alone, written down and read back, and misuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from jaxtyping import config as checks
from torch import nn

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.explain import (
    Attention,
    AttentionModel,
    ExplainedModel,
    ExplainedStudent,
    ExplainerUNet,
    PassThrough,
    PatchExplainer,
    PatchStudent,
    own_map,
)
from aureole.models import FourBlocks, ModelConfig, Normalize
from aureole.training.config import Training

SHAPE = (3, 32, 32)
NORM: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
CONFIGS: dict[str, ModelConfig] = {
    "med-tex": ExplainedModel(),
    "l2x": ExplainedModel(explainer="patches", features="resnet8", share=0.5, temperature=0.2),
    "student": ExplainedModel(explainer="none"),
    "soft": AttentionModel(name="resnet8"),
    "hard": AttentionModel(name="resnet8", kind="hard", temperature=0.5),
    "hard, normalised": AttentionModel(name="resnet8", kind="hard", **NORM),
    "med-tex, normalised": ExplainedModel(**NORM),
}
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def build(config: ModelConfig, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Any:
    return config.build(num_classes=4, image_shape=shape, seed=seed)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@every
def test_logits_and_a_map_of_any_image(config):
    for shape in ((3, 32, 32), (3, 41, 36)):
        model, x = build(config, shape=shape).eval(), torch.rand(2, *shape)
        assert model(x).shape == (2, 4)
        assert own_map(model, x).shape == (2, *shape[1:])


@every
def test_weights_depend_on_the_seed_alone_and_the_global_state_is_kept(config):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(config)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(first, build(config))
    assert not same(first, build(config, seed=1))


@every
def test_a_configuration_is_written_down_and_read_back(config):
    training = Training(model=config)
    read = from_values(to_values(training)).model
    assert read == config
    assert type(read) is type(config)
    assert same(build(read), build(config))


@pytest.mark.parametrize("name", ["med-tex", "l2x", "soft"])
def test_a_default_device_does_not_change_the_weights(name):
    expected = build(CONFIGS[name])
    with torch.device("meta"):
        assert same(expected, build(CONFIGS[name]))


def test_each_explainer():
    unet, patches, none = (build(CONFIGS[name]) for name in ("med-tex", "l2x", "student"))
    kinds = [(type(model), type(model.explainer)) for model in (unet, patches, none)]
    assert kinds == [
        (ExplainedStudent, ExplainerUNet), (PatchStudent, PatchExplainer), (ExplainedStudent, PassThrough)
    ]  # fmt: skip
    assert all(isinstance(model.student, FourBlocks) for model in (unet, patches, none))
    assert same(unet.student, none.student)
    assert same(unet.student, patches.student)
    assert unet.taps.maps == ("student.b1", "student.b2", "student.b3", "student.b4")
    assert (patches.explainer.share, patches.explainer.temperature) == (0.5, 0.2)
    mask = patches.eval().explainer(torch.rand(1, *SHAPE))
    assert mask.mean() == 0.5


def test_no_two_parts_start_from_the_same_numbers():
    config = ExplainedModel(name="resnet8", explainer="patches", features="resnet8")
    model: Any = config.build(num_classes=2, image_shape=SHAPE, seed=0)
    assert not torch.equal(model.student.conv1.weight, model.explainer.patches.features.classifier.conv1.weight)


def test_each_attention():
    soft, hard = build(CONFIGS["soft"]), build(CONFIGS["hard"])
    assert isinstance(soft, Attention)
    assert (soft.kind, hard.kind, hard.temperature) == ("soft", "hard", 0.5)
    assert same(soft, hard)
    assert soft.patches(torch.rand(1, *SHAPE))[1].shape == (1, 8, 8)


@pytest.mark.parametrize(("name", "size"), [("resnet18-imagenet", 256), ("resnet18", 64), ("resnet8", 32)])
def test_a_grid_of_8_by_8_for_images_of_any_size(name, size):
    model = AttentionModel(name=name).build(num_classes=2, image_shape=(3, size, size), seed=0).eval()
    with torch.no_grad():
        assert model.patches(torch.rand(1, 3, size, size))[1].shape == (1, 8, 8)


def test_the_normalisation_is_behind_the_explainer():
    model, plain = build(CONFIGS["med-tex, normalised"]).eval(), build(CONFIGS["med-tex"]).eval()
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(model.map(x), plain.map(x))
    seen = Normalize(NORM["mean"], NORM["std"])(plain.simplified(x))
    torch.testing.assert_close(model(x), plain.student(seen))
    assert model.taps.maps[0] == "student.network.b1"


def test_the_normalisation_is_in_front_of_the_features():
    model, plain = build(CONFIGS["hard, normalised"]).eval(), build(CONFIGS["hard"]).eval()
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(model.map(x), plain.map(Normalize(NORM["mean"], NORM["std"])(x)))


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_every_weight_of_attention_is_trained(kind):
    model = build(AttentionModel(name="resnet8", kind=kind, **NORM))
    model(torch.rand(4, *SHAPE)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.fixture
def untyped() -> Iterator[None]:
    """No checks of annotations, as for a user: what a misuse raises then."""
    checks.update("jaxtyping_disable", True)
    yield
    checks.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("kind", "fields", "line"),
    [
        (ExplainedModel, {"explainer": "unett"}, "unknown explainer 'unett': did you mean 'unet'"),
        (ExplainedModel, {"share": 0.0}, "share of pixels must be in"),
        (ExplainedModel, {"temperature": 0.0}, "temperature must be positive"),
        (AttentionModel, {"kind": "softer"}, "unknown attention 'softer': did you mean 'soft'"),
        (AttentionModel, {"temperature": -1.0}, "temperature must be positive"),
    ],
)
def test_fields_out_of_range(kind, fields, line, untyped):
    with says(line):
        kind(**fields)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (ExplainedModel(name="four-block-tiny"), "unknown model 'four-block-tiny': did you mean 'four-blocks-tiny'"),
        (ExplainedModel(name="vulnerability-unet"), "unknown model 'vulnerability-unet'"),
        (ExplainedModel(explainer="patches", features="resnet9"), "unknown model 'resnet9'"),
        (ExplainedModel(explainer="patches"), "one position of an image of 32 x 32 pixels"),
        (AttentionModel(), "resnet18-imagenet makes one position .* such as resnet18"),
        (AttentionModel(name="vulnerability-unet"), "unknown model 'vulnerability-unet'"),
        (
            AttentionModel(name="resnet8", mean=(0.5, 0.5), std=(0.5, 0.5)),
            "mean needs one number for each of the 3 channels",
        ),
    ],
)
def test_networks_that_cannot_be_built(config, line):
    state = torch.get_rng_state()
    with says(line):
        build(config)
    assert torch.equal(state, torch.get_rng_state())
    with says("num_classes must be at least 1"):
        type(config)(name="resnet8").build(num_classes=0, image_shape=SHAPE, seed=0)
