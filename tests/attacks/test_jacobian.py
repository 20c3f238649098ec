"""Gradients of sums of logits: against autograd one logit at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.jacobian import Linearised
from aureole.core.errors import InputError


def test_gradients_are_those_of_autograd_image_by_image(victim: Any) -> None:
    x, plus, minus = victim.x[:3], torch.tensor([0, 2, 3]), torch.tensor([1, 1, 0])
    here = Linearised(victim.model, x)
    torch.testing.assert_close(here.logits, victim.model(x).detach())
    value, gradient = here.difference(plus, minus)
    for i in range(3):
        alone = x[i : i + 1].clone().requires_grad_()
        logits = victim.model(alone)[0]
        gap = logits[plus[i]] - logits[minus[i]]
        torch.testing.assert_close(value[i], gap.detach(), rtol=1e-4, atol=1e-5)
        (expected,) = torch.autograd.grad(gap, alone)
        torch.testing.assert_close(gradient[i], expected[0], rtol=1e-4, atol=1e-6)


def test_double_precision_stays() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    gradient = Linearised(model, torch.rand(2, 4, dtype=torch.float64)).difference(*torch.tensor([[0, 1], [2, 2]]))[1]
    torch.testing.assert_close(gradient, (model[1].weight[:2] - model[1].weight[2:]).detach())


def test_a_model_without_gradients_is_refused() -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)

    with pytest.raises(InputError, match="does not depend differentiably"):
        Linearised(Rounded(), torch.rand(2, 4))
