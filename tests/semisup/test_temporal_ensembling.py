"""Temporal ensembling and its memory, by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError, UntrustedResult
from aureole.core.method import Batch, Unlabelled
from aureole.core.ramps import Constant
from aureole.semisup import PredictionMemory, TemporalEnsembling


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(1, keepdim=True)


@pytest.mark.parametrize("size", [None, 5])
def test_the_memory_by_hand(size: int | None) -> None:
    memory = PredictionMemory(2, 0.6, size)
    memory.update(torch.tensor([1, 4]), torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    memory.update(torch.tensor([4]), torch.tensor([[0.5, 0.5]]))
    targets, counts = memory.targets(torch.tensor([4, 0, 1]))
    assert counts.tolist() == [2, 0, 1]
    # 0.6 * 0.4 * 1 + 0.4 * 0.5 = 0.44 over 1 - 0.36, and 0.2 over the same
    torch.testing.assert_close(targets, torch.tensor([[0.6875, 0.3125], [0.0, 0.0], [0.25, 0.75]]))


def test_a_growing_memory_keeps_what_it_holds_and_is_restored() -> None:
    memory = PredictionMemory(2)
    memory.update(torch.tensor([0]), torch.tensor([[0.25, 0.75]]))
    memory.update(torch.tensor([9]), torch.tensor([[1.0, 0.0]]))
    assert len(memory.sums) >= 10
    again = PredictionMemory(2)
    again.load_state_dict(copy.deepcopy(memory.state_dict()))
    for each in (memory, again):
        torch.testing.assert_close(each.targets(torch.tensor([0, 9]))[0], torch.tensor([[0.25, 0.75], [1.0, 0.0]]))


def test_the_loss_by_hand(
    net: nn.Module, x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor], batch: Callable[..., Batch]
) -> None:
    method = TemporalEnsembling(weight=3.0, ramp=Constant(), num_unlabelled=6, batch_norm="separate")
    parts, model = method.own(net, x), copy.deepcopy(net)
    assert isinstance(parts, nn.ModuleDict)
    model(x)
    first = softmax(model(x_u[0])).detach()
    terms = method.loss(net, batch(), parts)
    assert float(terms["unlabelled"].detach()) == 0  # nothing is remembered yet
    method.after_step(net, batch(), parts)
    torch.testing.assert_close(parts["memory"].sums, 0.4 * first)
    # Half of the images come again, of a model that has changed.
    for each in (net, model):
        with torch.no_grad():
            each[4].weight.mul_(0.5)
    some = torch.tensor([5, 0, 2])
    again = replace(batch(), unlabelled=Unlabelled((x_u[0][some],), index=some))
    model(x)
    second = softmax(model(x_u[0][some]))
    terms = method.loss(net, again, parts)
    torch.testing.assert_close(terms["unlabelled"], 3.0 * (second - first[some]).square().sum() / 9)
    assert terms["unlabelled"].requires_grad
    method.after_step(net, again, parts)
    assert parts["memory"].counts.tolist() == [2, 1, 2, 1, 1, 2]
    targets, _ = parts["memory"].targets(some)
    expected = (0.6 * 0.4 * first[some] + 0.4 * second) / (1 - 0.36)
    torch.testing.assert_close(targets, expected.detach())
    assert not targets.requires_grad


@pytest.mark.parametrize(("index", "size"), [([0, 1, 2, 3, 4, 6], 6), ([0, 1, 2, 3, 4, -1], None)])
def test_an_index_out_of_range_is_refused(
    index: list[int], size: int | None, net: nn.Module, x: Tensor, batch: Callable[..., Batch]
) -> None:
    method = TemporalEnsembling(num_unlabelled=size)
    given = batch()
    assert given.unlabelled is not None
    wrong = replace(given, unlabelled=replace(given.unlabelled, index=torch.tensor(index)))
    with pytest.raises(InputError, match="an unlabelled index must be from 0") as caught:
        method.loss(net, wrong, method.own(net, x))
    assert "\n" not in str(caught.value)


def test_images_without_an_index_are_refused(net: nn.Module, x: Tensor, batch: Callable[..., Batch]) -> None:
    given = batch()
    assert given.unlabelled is not None
    method = TemporalEnsembling()
    with pytest.raises(InputError, match="pass Unlabelled"):
        method.loss(net, replace(given, unlabelled=replace(given.unlabelled, index=None)), method.own(net, x))


def test_a_step_without_a_loss_is_told(net: nn.Module, x: Tensor, batch: Callable[..., Batch]) -> None:
    method = TemporalEnsembling()
    with pytest.warns(UntrustedResult, match="nothing to remember"):
        method.after_step(net, batch(), method.own(net, x))


@pytest.mark.parametrize("fields", [{"momentum": 1.0}, {"momentum": -0.1}, {"num_unlabelled": 0}])
def test_numbers_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        TemporalEnsembling(**fields)
