"""Diversity: the figures by hand, and one forward pass that leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aureole.core.balls import Linf
from aureole.core.objectives import KL, CrossEntropy
from aureole.particles.diversity import (
    distinct_wrong_labels,
    diversity,
    pairwise_cosine,
    pairwise_squared_distance,
)
from aureole.particles.search import ParticleSearch

X = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
X_ADV = torch.tensor([[[2.0, 1.0], [0.0, 0.0]], [[1.0, 3.0], [1.0, 1.0]], [[0.0, 1.0], [2.0, 2.0]]])


def test_spread_by_hand() -> None:
    squared = torch.tensor([(5 + 4 + 5) / 3, (2 + 8 + 2) / 3])
    torch.testing.assert_close(pairwise_squared_distance(X_ADV), squared)
    torch.testing.assert_close(pairwise_cosine(X_ADV, X), torch.tensor([-1 / 3, 1 / 3]))


def test_one_particle_has_no_spread() -> None:
    assert pairwise_squared_distance(X_ADV[:1]).tolist() == [0, 0]
    assert pairwise_cosine(X_ADV[:1], X).tolist() == [0, 0]


def test_distinct_wrong_labels_by_hand() -> None:
    predictions = torch.tensor([[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 1], [0, 2, 1, 0]])
    assert distinct_wrong_labels(predictions, torch.tensor([0, 0, 1, 3])).tolist() == [0, 2, 2, 3]


@pytest.mark.parametrize("objective", [CrossEntropy(), KL()], ids=str)
def test_diversity_measures_the_particles(victim: Any, objective: Any) -> None:
    found = ParticleSearch(Linf(0.15), 3, 4, 0.05)(victim.model, victim.x, victim.y)
    measured = found.diversity(victim.model, victim.y, objective)
    for i in range(3):
        logits = victim.model(found.x_adv[i]).detach()
        expected = objective(logits, victim.model(victim.x).detach(), victim.y)
        torch.testing.assert_close(measured.objective[i], expected, rtol=0, atol=1e-5)
        assert torch.equal(measured.predictions[i], logits.argmax(-1))
    torch.testing.assert_close(measured.squared_distance, found.squared_distance)
    torch.testing.assert_close(measured.cosine, found.cosine)
    assert measured.distinct_wrong_labels.max() >= 1


def test_diversity_leaves_no_trace_and_is_measured_in_evaluation_mode(stateful: nn.Module, trace: Any) -> None:
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    x_adv = torch.rand(3, 6, 1, 8, 8)
    before = trace(stateful)
    measured = diversity(stateful, x_adv, x, y.int(), CrossEntropy())
    before.check()
    expected = stateful.eval()(x_adv.flatten(0, 1)).argmax(-1).view(3, 6)
    assert torch.equal(measured.predictions, expected)
    assert not measured.objective.requires_grad
