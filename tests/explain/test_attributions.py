"""What all attributions share: maps of the right shape, one image at a time as in a batch, and an untouched model."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.explain import ExplainedStudent, ExplainerUNet, own_map
from aureole.explain.attributions import Attributing, IntegratedGradients, OwnMap, captum_attributions
from aureole.explain.grad_cam import GradCAM
from aureole.explain.perturbed import RISE, Occlusion
from aureole.models import FourBlocks

ANY: dict[str, Attributing] = {
    "grad-cam": GradCAM(),
    "grad-cam, bilinear": GradCAM(enlargement="bilinear"),
    "integrated gradients": IntegratedGradients(num_steps=4),
    "occlusion": Occlusion(window=3, stride=2),
    "rise": RISE(num_masks=6, cells=3),
}
NEEDS_CAPTUM = ["grad-cam", "integrated gradients"]


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def convolutional(channels: int = 1, inplace: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace),
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.ReLU(inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def linear(weight: Tensor) -> nn.Sequential:
    """A model with the logits <w_k, x>: ``weight`` has the shape (classes, *event)."""
    layer = nn.Linear(weight[0].numel(), len(weight), bias=False, dtype=weight.dtype)
    layer.weight.data = weight.flatten(1)
    return nn.Sequential(nn.Flatten(), layer)


def with_bound(attribution: Attributing, bound: int) -> Attributing:
    return replace(attribution, max_batch=bound)


@pytest.fixture(params=ANY)
def attribution(request: pytest.FixtureRequest) -> Attributing:
    return ANY[request.param]


def test_a_map_an_image_that_is_not_flat(attribution):
    for channels, size, count in ((1, (8, 8), 3), (3, (9, 12), 1), (2, (16, 7), 2)):
        model, x = FourBlocks((3, 4, 5, 6), 3, channels).eval(), torch.rand(count, channels, *size)
        if size == (16, 7):
            model = convolutional(channels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            maps = attribution(model, x)
        assert maps.shape == (count, *size)
        assert maps.isfinite().all()
        assert not maps.requires_grad
    assert attribution(convolutional().eval(), torch.rand(6, 1, 8, 8)).flatten(1).std(1).max() > 0


def test_the_model_is_left_alone(attribution, stateful, trace):
    for x in (torch.rand(3, 1, 8, 8), torch.rand(1, 1, 8, 8).requires_grad_()):
        kept, before = trace(stateful), x.detach().clone()
        attribution(stateful, x)
        kept.check()
        assert torch.equal(x.detach(), before)
        assert x.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in stateful.modules())


class Trap(nn.Module):
    """Fails in the pass with this number."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.left = passes

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise ZeroDivisionError("the trap")
        return x


@pytest.mark.parametrize("passes", [0, 2, 3, 5])
def test_the_model_is_left_alone_after_an_exception(attribution, passes, trace):
    model, x = nn.Sequential(convolutional(), Trap(passes)).train(), torch.rand(3, 1, 8, 8)
    kept = trace(model)
    with pytest.raises(ZeroDivisionError, match="the trap"):
        with_bound(attribution, 1)(model, x)
    kept.check()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_neither_the_batch_nor_its_bound_changes_a_map(attribution):
    model, x = convolutional(2).eval(), torch.rand(5, 2, 8, 8)
    whole = attribution(model, x)
    for bound in (1, 3):
        smaller = with_bound(attribution, bound)
        torch.testing.assert_close(smaller(model, x), whole, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(smaller(model, x[3:4]), whole[3:4], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bound", [1, 3, 7])
def test_no_pass_is_larger_than_the_bound(attribution, bound):
    model, rows = convolutional(), list[int]()
    model.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    with_bound(attribution, bound)(model, torch.rand(5, 1, 8, 8))
    assert max(rows) <= bound


def test_what_runs_in_place_or_channels_last_gives_the_same_map(attribution):
    x = torch.rand(2, 3, 8, 8)
    plain = convolutional(3).eval()
    inplace = convolutional(3, inplace=True).eval()
    inplace.load_state_dict(plain.state_dict())
    wanted = attribution(plain, x)
    torch.testing.assert_close(attribution(inplace, x), wanted, rtol=1e-4, atol=1e-6)
    last: Any = inplace.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x_last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(attribution(last, x_last), wanted, rtol=1e-4, atol=1e-6)


def test_a_model_may_overwrite_its_images(attribution):
    x = torch.randn(3, 1, 8, 8)
    plain, model = (nn.Sequential(nn.ReLU(inplace), convolutional()).eval() for inplace in (False, True))
    model.load_state_dict(plain.state_dict())
    before = x.clone()
    torch.testing.assert_close(attribution(model, x), attribution(plain, x))
    assert torch.equal(x, before)


def test_no_class_is_the_models_own(attribution):
    model, x = convolutional().eval(), torch.rand(6, 1, 8, 8)
    model.get_parameter("7.weight").data.mul_(10)
    own = model(x).argmax(1)
    assert torch.equal(attribution(model, x), attribution(model, x, own))
    others = attribution(model, x, (own + 1) % 3)
    assert not torch.allclose(attribution(model, x), others)


def test_inside_inference_mode(attribution):
    model, x = convolutional().eval(), torch.rand(2, 1, 8, 8)
    wanted = attribution(model, x)
    with torch.inference_mode():
        torch.testing.assert_close(attribution(model, x.clone()), wanted)


def test_half_precision_and_objects_with_logits(attribution):
    class Wrapped(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.model(x))

    model, x = convolutional().eval(), torch.rand(2, 1, 8, 8)
    own = model(x).argmax(1)
    wanted = attribution(model, x, own)
    torch.testing.assert_close(attribution(Wrapped(model), x, own), wanted)
    assert attribution(model.double(), x.double()).dtype == torch.float64
    assert attribution(model.bfloat16(), x.bfloat16(), own).dtype == torch.float32


# Integrated gradients


def test_the_attributions_of_a_linear_model_are_in_closed_form():
    weight, x = torch.randn(3, 2, 4, 5, dtype=torch.float64), torch.rand(4, 2, 4, 5, dtype=torch.float64)
    y, b = torch.tensor([0, 2, 1, 1]), 0.3
    values = weight[y] * (x - b)
    maps = IntegratedGradients(num_steps=5, baseline=b)(linear(weight), x, y)
    torch.testing.assert_close(maps, values.abs().sum(1), rtol=1e-6, atol=1e-9)
    signed = IntegratedGradients(num_steps=5, baseline=b, signed=True)(linear(weight), x, y)
    torch.testing.assert_close(signed, values.sum(1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("max_batch", [64, 5])
def test_the_attributions_are_complete(max_batch):
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(180, 3)).double()
    x, y = torch.rand(3, 2, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2])
    maps = IntegratedGradients(baseline=0.5, signed=True, max_batch=max_batch)(model, x, y)
    rows = torch.arange(3)
    rise = (model(x) - model(torch.full_like(x, 0.5)))[rows, y]
    torch.testing.assert_close(maps.flatten(1).sum(1), rise, rtol=1e-6, atol=1e-8)


# A network's own map


def test_the_own_map():
    model, x = ExplainedStudent(ExplainerUNet(3), FourBlocks((2, 3, 4, 5))).eval(), torch.rand(5, 3, 16, 16)
    wanted = own_map(model, x)
    for bound in (64, 2):
        torch.testing.assert_close(OwnMap(max_batch=bound)(model, x), wanted)
    assert torch.equal(OwnMap()(model, x), OwnMap()(model, x, torch.ones(5, dtype=torch.int64)))
    with says("expected a network that explains itself; got FourBlocks"):
        OwnMap()(FourBlocks(), x)


@dataclass(frozen=True, kw_only=True)
class Wrong(Attributing):
    """Gives this map, whatever the image."""

    scores: Tensor

    def _maps(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return self.scores.expand(len(x), *self.scores.shape)


def test_maps_that_are_of_another_size_or_not_finite():
    model, x = convolutional(), torch.rand(2, 1, 8, 8)
    with says(r"of its size, \(2, 8, 8\); the network gave \(2, 4, 8\)"):
        Wrong(scores=torch.zeros(4, 8))(model, x)
    with says("128 scores of the map are NaN or infinite"):
        Wrong(scores=torch.full((8, 8), torch.nan))(model, x)


def test_a_model_of_nan(attribution):
    model = convolutional().eval()
    model.get_parameter("0.weight").data.fill_(torch.nan)
    with says("scores of the map are NaN or infinite: check the model's weights"):
        attribution(model, torch.rand(2, 1, 8, 8))


# Misuse


def test_images_and_classes_that_do_not_fit(attribution):
    model, x = convolutional(), torch.rand(2, 1, 8, 8)
    for wrong in (torch.rand(2, 64), torch.rand(0, 1, 8, 8), torch.full((2, 1, 8, 8), torch.nan)):
        with says("images must be finite floating-point numbers"):
            attribution(model, wrong)
    with says("labels must be from 0 to 2"):
        attribution(model, x, torch.tensor([0, 3]))
    with says("logits of shape"):
        attribution(nn.Sequential(nn.Conv2d(1, 3, 3)), x)


@pytest.mark.parametrize("name", NEEDS_CAPTUM)
def test_without_captum(name, monkeypatch, trace):
    monkeypatch.setitem(sys.modules, "captum", None)
    model, x = convolutional().train(), torch.rand(1, 1, 8, 8)
    kept = trace(model)
    with says(r"needs captum, which is missing: pip install 'aureole\[explain\]'"):
        ANY[name](model, x)
    kept.check()


def test_only_the_warnings_of_captum_stay_unsaid():
    with captum_attributions(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: OwnMap(max_batch=0), "max_batch must be at least 1; got 0"),
        (lambda: IntegratedGradients(num_steps=0), "num_steps must be at least 1; got 0"),
        (lambda: IntegratedGradients(baseline=float("nan")), "baseline must be finite"),
        (lambda: GradCAM(max_batch=0), "max_batch must be at least 1"),
        (lambda: Occlusion(baseline=float("inf")), "baseline must be finite"),
    ],
)
def test_fields_out_of_range(build, line):
    with says(line):
        build()
