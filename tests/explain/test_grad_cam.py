"""Grad-CAM: its formula by hand, the layer that is taken, and layers that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.explain import ExplainedStudent, ExplainerUNet
from aureole.explain.grad_cam import GradCAM
from aureole.models import FourBlocks


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def tiny(inplace: bool = False) -> nn.Sequential:
    """Two strided convolutions, and logits from the mean of the last map."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 2, stride=2),
        nn.ReLU(inplace),
        nn.Conv2d(3, 4, 2, stride=2),
        nn.ReLU(inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).double()


def images(count: int = 3, height: int = 12, width: int = 8) -> Tensor:
    return torch.rand(count, 2, height, width, dtype=torch.float64)


def by_hand(model: nn.Sequential, layer: int, x: Tensor, y: Tensor) -> Tensor:
    """relu(sum_c w_c A_c) in the size of A, by autograd from A to the logit."""
    features = model[: layer + 1](x).detach().requires_grad_()
    score = model[layer + 1 :](features.clone())[torch.arange(len(x)), y].sum()
    (gradient,) = torch.autograd.grad(score, features)
    return (gradient.mean((2, 3), keepdim=True) * features.detach()).sum(1).relu()


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("layer", "side"), [(0, 2), (1, 2), (2, 4), (3, 4)])
def test_the_formula_by_hand(layer, side, inplace):
    model, x, y = tiny(inplace), images(), torch.tensor([0, 2, 1])
    wanted = by_hand(model, layer, x, y)
    assert wanted.max() > 0
    patches = wanted.repeat_interleave(side, 1).repeat_interleave(side, 2)
    torch.testing.assert_close(GradCAM(layer=str(layer))(model, x, y), patches)


def test_of_a_mean_and_a_linear_layer_the_weights_are_those_of_the_layer():
    model, x, y = tiny(), images(), torch.tensor([1, 1, 0])
    features, weight = model[:4](x), model.get_parameter("6.weight")
    wanted = (weight[y][:, :, None, None] * features).sum(1).relu() / (3 * 2)
    found = GradCAM()(model, x, y)[:, ::4, ::4]
    torch.testing.assert_close(found, wanted)


def test_smooth_enlargement():
    model, x, y = tiny(), images(height=8), torch.tensor([0, 2, 1])
    small = by_hand(model, 3, x, y)
    wanted = nn.functional.interpolate(small[:, None], size=(8, 8), mode="bilinear")[:, 0]
    torch.testing.assert_close(GradCAM(enlargement="bilinear")(model, x, y), wanted)
    assert not torch.allclose(GradCAM()(model, x, y), wanted)


def test_the_input_of_a_layer_is_the_output_of_the_one_before():
    model, x = tiny(), images()
    torch.testing.assert_close(GradCAM(layer="4:input")(model, x), GradCAM(layer="3")(model, x))


def test_the_layer_that_is_found():
    model, x = tiny(), images()
    torch.testing.assert_close(GradCAM()(model, x), GradCAM(layer="3")(model, x))  # after it one position is left
    blocks, x = FourBlocks((3, 4, 5, 6)), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(GradCAM()(blocks, x), GradCAM(layer="b4")(blocks, x))
    held = nn.Sequential(nn.Identity(), blocks)
    torch.testing.assert_close(GradCAM()(held, x), GradCAM(layer="b4")(blocks, x))
    explained = ExplainedStudent(ExplainerUNet(3), blocks)
    torch.testing.assert_close(GradCAM()(explained, x), GradCAM(layer="student.b4")(explained, x))


class Branches(nn.Module):
    """A map on which the logits do not depend, beside a map that they are cut off from."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.aside, self.fc = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.used(x)
        self.aside(x)
        return self.fc(out.mean((2, 3)))


class Hiding(nn.Module):
    """A model without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model(x)


def test_layers_that_do_not_fit(trace):
    model, x = tiny(), images()
    with says("unknown layer 'features'"):
        GradCAM(layer="features")(model, x)
    with says(r"expected a map \(batch, channels, height, width\) from layer '5'; got \(1, 4\)"):
        GradCAM(layer="5")(model, x)
    with says("Sequential gives a map of several positions"):
        GradCAM()(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).double(), x)
    branches = Branches().double()
    kept = trace(branches)
    with says("the logits do not depend on layer 'aside'"):
        GradCAM(layer="aside")(branches, x)
    kept.check()
    assert not any(module._forward_hooks for module in branches.modules())
    assert GradCAM(layer="used")(branches, x).shape == (3, 12, 8)
    with says("do not depend on layer 'model.3', or hide their gradient"):
        GradCAM()(Hiding(), x)


def test_an_enlargement_that_does_not_exist():
    wrong = object.__new__(GradCAM)  # past the tests' check of types
    for name, value in {"max_batch": 1, "layer": None, "enlargement": "cubic"}.items():
        object.__setattr__(wrong, name, value)
    with says("unknown enlargement 'cubic': "):
        wrong.__post_init__()
