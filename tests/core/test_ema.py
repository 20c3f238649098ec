"""Moving averages of models by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from aureole.core.ema import EMA
from aureole.core.errors import InputError


def _model(value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).double()
    with torch.no_grad():
        for tensor in (*model.parameters(), model[1].running_mean, model[1].running_var):
            tensor.fill_(value)
    model[1].num_batches_tracked.fill_(int(value))
    return model


def _state(ema: EMA) -> tuple[float, float, int]:
    return ema.model[0].weight.item(), ema.model[1].running_mean.item(), int(ema.model[1].num_batches_tracked)


def test_a_fixed_decay() -> None:
    ema = EMA(_model(1.0), 0.9, warm_up=False)
    ema.update(_model(2.0))
    ema.update(_model(5.0))
    # 0.9 (0.9 * 1 + 0.1 * 2) + 0.1 * 5; buffers are those of the last model
    assert _state(ema) == (pytest.approx(1.49, rel=1e-12), 5.0, 5)


def test_averaged_buffers() -> None:
    ema = EMA(_model(1.0), 0.9, warm_up=False, buffers="average")
    ema.update(_model(2.0))
    ema.update(_model(5.0))
    assert _state(ema) == (pytest.approx(1.49, rel=1e-12), pytest.approx(1.49, rel=1e-12), 5)


def test_a_warm_up_is_the_plain_mean_until_the_decay_is_reached() -> None:
    ema = EMA(_model(100.0), 0.6)
    for value in (1.0, 3.0, 8.0):  # keep 0, then 1/2, then min(0.6, 2/3) = 0.6
        ema.update(_model(value))
    assert ema.model[0].weight.item() == pytest.approx(0.6 * 2 + 0.4 * 8, rel=1e-6)
    assert int(ema.steps) == 3


def test_the_average_is_a_copy_without_gradient(trace: Any) -> None:
    model = _model(1.0)
    before = trace(model)
    ema = EMA(model)
    ema.update(model)
    before.check()
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in ema.parameters())
    with torch.no_grad():
        model[0].weight.fill_(9.0)
    assert ema.model[0].weight.item() == 1.0
    assert not ema.eval()(torch.ones(2, 1, dtype=torch.float64)).requires_grad


def test_a_checkpoint_carries_the_average_and_its_count() -> None:
    ema = EMA(_model(1.0), 0.9)
    for value in (2.0, 7.0):
        ema.update(_model(value))
    again = EMA(_model(0.0), 0.9)
    again.load_state_dict(copy.deepcopy(ema.state_dict()))
    for average in (ema, again):
        average.update(_model(4.0))
    assert _state(again) == _state(ema)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match=r"in \[0, 1\)"):
        EMA(_model(1.0), decay)
