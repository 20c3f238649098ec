"""Features of named layers, and the last hidden layer of any classifier: right values, and no trace in the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.features import FeatureTap, activations, hidden_layer, last_hidden
from aureole.models.lenet import LeNet5
from aureole.models.resnet import ResNet
from aureole.models.wide_resnet import WideResNet


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Elsewhere(nn.Module):
    """As models from elsewhere are: functional pooling, in-place ReLU, gates made of linear layers, an object back."""

    def __init__(self, *, convolution: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.gate = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 5)
        self.classifier = nn.Conv2d(8, 5, 1) if convolution else nn.Linear(8, 5)

    def forward(self, x: Tensor) -> SimpleNamespace:
        maps = self.features(x)
        maps = F.relu(maps, inplace=True)
        if isinstance(self.classifier, nn.Conv2d):
            logits = self.classifier(maps).mean((2, 3))
            self.gate(maps.mean((2, 3)))
        else:
            logits = self.classifier(maps.mean((2, 3)))
            self.gate(maps.mean((2, 3)))
        return SimpleNamespace(logits=logits)


class Bare(nn.Module):
    """A classifier whose last layer is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.weight = nn.Parameter(torch.rand(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3)) @ self.weight


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.pair = nn.Linear(4, 4), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.pair((x, x))
        return self.shared(torch.tanh(self.shared(x)))


def test_features_are_what_the_layers_give() -> None:
    model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(5, 4)
    tapped = FeatureTap(model, ["1", "0", "2:input", ""])(x)
    first = x @ model[0].weight.T + model[0].bias
    for feature, wanted in zip(tapped.features, [first.relu(), first, first.relu(), model(x)], strict=True):
        torch.testing.assert_close(feature, wanted)
    assert torch.equal(tapped.output, model(x))


def test_features_are_differentiable() -> None:
    model, x = LeNet5(), torch.rand(2, 1, 28, 28, requires_grad=True)
    FeatureTap(model, ["fc1"])(x).features[0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert model.fc1.weight.grad is not None
    assert model.fc2.weight.grad is None


def test_a_later_layer_in_place_does_not_change_a_feature() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    before, same = FeatureTap(model, ["0", "1:input"])(torch.randn(64, 4)).features
    assert before.min() < 0
    assert torch.equal(before, same)


def test_a_layer_that_runs_twice_gives_its_last_output() -> None:
    model, x = Twice(), torch.randn(3, 4)
    tapped = FeatureTap(model, ["shared", "shared:input"])(x)
    assert torch.equal(tapped.features[0], tapped.output)
    torch.testing.assert_close(tapped.features[1], torch.tanh(model.shared(x)))


def test_no_hook_stays_also_after_an_exception() -> None:
    model = LeNet5()
    tap = FeatureTap(model, ["fc1", "fc2:input"])
    tap(torch.rand(2, 1, 28, 28))
    assert hooks_of(model) == 0
    for call in (tap, lambda x: hidden_layer(model, x)):
        with pytest.raises(RuntimeError):
            call(torch.rand(2, 3, 28, 28))
        assert hooks_of(model) == 0


def test_names_that_do_not_fit_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="unknown layer 'fc4': did you mean 'fc"):
        FeatureTap(LeNet5(), ["fc4"])
    with pytest.raises(InputError, match="unknown layer 'qqqq': choose one of conv1, conv2"):
        FeatureTap(LeNet5(), ["qqqq:input"])
    with pytest.raises(InputError, match="write"):
        FeatureTap(LeNet5(), "fc1")
    with pytest.raises(InputError, match="layer 'unused' to run"):
        FeatureTap(Elsewhere(), ["unused"])(torch.rand(2, 3, 8, 8))
    with pytest.raises(InputError, match="a tensor from layer 'pair'; got tuple"):
        FeatureTap(Twice(), ["pair"])(torch.rand(2, 4))


def test_shapes_come_from_a_dry_run_without_trace(stateful: nn.Module, trace: Any) -> None:
    x, before = torch.rand(3, 1, 8, 8), trace(stateful)
    assert FeatureTap(stateful, ["0", "6:input"]).shapes(x) == ((3, 4, 6, 6), (3, 144))
    before.check()


def test_the_last_hidden_layer_of_our_models() -> None:
    x = torch.rand(3, 3, 32, 32)
    resnet, wide, lenet = ResNet.cifar(8).eval(), WideResNet(10, 1).eval(), LeNet5().eval()
    torch.testing.assert_close(last_hidden(resnet, x) @ resnet.fc.weight.T + resnet.fc.bias, resnet(x))
    torch.testing.assert_close(last_hidden(wide, x) @ wide.fc.weight.T + wide.fc.bias, wide(x))
    grey = x[:, :1, :28, :28]
    torch.testing.assert_close(last_hidden(lenet, grey), nn.Sequential(*(lenet[i] for i in range(11)))(grey))
    torch.testing.assert_close(
        last_hidden(lenet, grey, "pool2"), nn.Sequential(*(lenet[i] for i in range(6)))(grey).mean((2, 3))
    )


@pytest.mark.parametrize("convolution", [False, True])
def test_the_last_hidden_layer_of_a_model_from_elsewhere(convolution: bool) -> None:
    """The gate runs last and is linear, but it does not give the logits."""
    model, x = Elsewhere(convolution=convolution).eval(), torch.rand(7, 3, 8, 8)
    assert hidden_layer(model, x) == "classifier:input"
    found = activations(model, x, batch_size=3)
    torch.testing.assert_close(found.hidden, model.features(x).relu().mean((2, 3)))
    torch.testing.assert_close(found.logits, model(x).logits)


def test_tokens_are_averaged() -> None:
    tokens = nn.Sequential(nn.Unflatten(1, (5, 4)), nn.LayerNorm(4), nn.Linear(4, 3), nn.Flatten(), nn.Linear(15, 3))
    x = torch.rand(2, 20)
    torch.testing.assert_close(last_hidden(tokens, x, "1"), tokens[:2](x).mean(1))
    torch.testing.assert_close(last_hidden(tokens, x, "2:input"), tokens[:2](x).mean(1))


def test_a_hidden_layer_that_cannot_be_found_says_how_to_name_it() -> None:
    model, x = Bare(), torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match=r"layer=.*--detector.hidden-layer NAME.*'body.1', 'body.0'") as caught:
        last_hidden(model, x)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(last_hidden(model, x, "body"), model.body(x).mean((2, 3)).detach())


def test_a_layer_without_one_row_an_image_is_refused() -> None:
    model = nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Flatten(0, 1), nn.Linear(2, 2), nn.Unflatten(0, (-1, 2)))
    model.append(nn.Flatten()).append(nn.Linear(4, 3))
    with pytest.raises(InputError, match="features of 3 images from layer '2'"):
        last_hidden(model, torch.rand(3, 4), "2")


def test_the_model_is_left_as_it_was(stateful: nn.Module, trace: Any) -> None:
    x, before = torch.rand(9, 1, 8, 8), trace(stateful)
    hidden = last_hidden(stateful, x, batch_size=4)
    before.check()
    assert hooks_of(stateful) == 0
    assert not hidden.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(last_hidden(stateful, x), hidden)
    torch.testing.assert_close(last_hidden(stateful.eval(), x, batch_size=1), hidden)
