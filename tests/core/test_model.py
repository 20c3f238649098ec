"""The frozen model: no trace afterwards, whatever its modes, also after an exception; and which outputs are logits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.core.model import frozen, logits_of, predict

both_modes = pytest.mark.parametrize("mode", ["eval", "batch_statistics"])


@both_modes
@pytest.mark.parametrize("fails", [False, True])
def test_a_frozen_model_is_left_as_it_was(stateful: nn.Module, trace: Any, mode: Any, fails: bool) -> None:
    x = 5 * torch.rand(7, 1, 8, 8)
    before = trace(stateful)
    try:
        with frozen(stateful, mode) as model:
            assert model is stateful
            assert not any(p.requires_grad for p in model.parameters())
            model(x)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    before.check()


@both_modes
def test_input_gradients_are_all_that_is_computed(stateful: nn.Module, trace: Any, mode: Any) -> None:
    x = torch.rand(7, 1, 8, 8, requires_grad=True)
    before = trace(stateful)
    with frozen(stateful, mode):
        stateful(x).sum().backward()
    assert x.grad is not None
    before.check()


def test_eval_mode_is_evaluation_mode(stateful: nn.Module) -> None:
    x = torch.rand(5, 1, 8, 8)
    with frozen(stateful):
        inside = stateful(x)
        assert not any(module.training for module in stateful.modules())
    torch.testing.assert_close(inside, stateful.eval()(x))


def test_batch_statistics_are_used_where_a_layer_is_in_training_mode() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2, affine=False), nn.BatchNorm2d(2, affine=False))
    model[1].eval()
    model[1].running_var.fill_(4.0)
    x = 3 + 2 * torch.randn(16, 2, 4, 4)
    with frozen(model, "batch_statistics"):
        out = model(x)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std((0, 2, 3)), torch.full((2,), 0.5), rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_a_normalisation_in_evaluation_mode_keeps_its_running_statistics(kind: type[nn.Module]) -> None:
    model = kind(2, track_running_stats=True).eval()
    x = torch.randn(6, 2, 4, 4)
    expected = model(x)
    with frozen(model, "batch_statistics"):
        torch.testing.assert_close(model(x), expected)


@both_modes
@pytest.mark.parametrize("training", [True, False])
def test_a_graph_built_before_stays_valid(stateful: nn.Module, mode: Any, training: bool) -> None:
    """TRADES runs the clean batch, then searches, then goes backward through both."""
    stateful.train(training)
    x = torch.rand(6, 1, 8, 8)
    clean = stateful(x)
    with frozen(stateful, mode), torch.no_grad():
        stateful(x)
    stateful.zero_grad()
    clean.sum().backward()
    assert stateful[0].weight.grad is not None


def test_frozen_nests() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    with frozen(model, "batch_statistics"):
        with frozen(model):
            assert not model[0].training
        assert model[0].training
        assert not model[1].weight.requires_grad
        assert not model[0].track_running_stats
    assert model[1].weight.requires_grad
    assert model[0].track_running_stats


def test_logits_of_a_tensor_or_of_an_object_with_logits() -> None:
    logits = torch.randn(4, 3)
    assert logits_of(logits, 4) is logits
    assert logits_of(SimpleNamespace(logits=logits, loss=None), 4) is logits
    assert logits_of(logits.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_becomes_float32(dtype: torch.dtype) -> None:
    model = nn.Linear(3, 2).to(dtype)
    assert predict(model, torch.rand(4, 3, dtype=dtype)).dtype == torch.float32


LOGITS = torch.zeros(4, 3)
NOT_LOGITS = [
    ((LOGITS, LOGITS), "a tuple of 2"),
    ([LOGITS], "a list of 1"),
    ({"logits": LOGITS}, "type dict"),
    (None, "type NoneType"),
    (SimpleNamespace(logits=None), "type SimpleNamespace"),
    (torch.zeros(4), r"\(4,\)"),
    (torch.zeros(4, 1), r"\(4, 1\)"),
    (torch.zeros(4, 3, 2, 2), r"\(4, 3, 2, 2\)"),
    (torch.zeros(5, 3), r"expected logits of shape \(4, classes >= 2\); got \(5, 3\)"),
]


@pytest.mark.parametrize(("output", "message"), NOT_LOGITS, ids=[message for _, message in NOT_LOGITS])
def test_anything_else_is_refused_in_one_line(output: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        logits_of(output, 4)
    assert "\n" not in str(caught.value)
