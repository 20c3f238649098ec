"""Objectives: values by hand, invariances, gradients through both sides, one value an example."""

from __future__ import annotations

import math

import pytest
import torch

from aureole.core.errors import InputError
from aureole.core.objectives import DLR, KL, CrossEntropy, Margin, Objective, SquaredDifference, Targeted

LOGITS = torch.tensor([[1.0, 3.0, -2.0, 0.5], [0.0, 0.0, 1.0, -1.0]], dtype=torch.float64)
CLEAN = torch.tensor([[2.0, 1.0, 0.0, 0.0], [0.3, 0.2, 0.1, -0.4]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def kl(p_row: list[float], q_row: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(softmax(p_row), softmax(q_row), strict=True))


def squared(a_row: list[float], b_row: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(softmax(a_row), softmax(b_row), strict=True)) / len(a_row)


def pairs(function: object) -> list[float]:
    return [function(a, b) for a, b in zip(LOGITS.tolist(), CLEAN.tolist(), strict=True)]


BY_HAND = [
    (CrossEntropy(), [-math.log(softmax(LOGITS[0].tolist())[0]), -math.log(softmax(LOGITS[1].tolist())[2])]),
    (KL(), pairs(lambda adversarial, clean: kl(clean, adversarial))),
    (KL("adversarial||clean"), pairs(kl)),
    (SquaredDifference(), pairs(squared)),
    (Margin(), [3.0 - 1.0, 0.0 - 1.0]),
    (DLR(), [(3.0 - 1.0) / (3.0 - 0.5), (0.0 - 1.0) / (1.0 - 0.0)]),
    (Targeted(Margin()), [-2.0, 1.0]),
    (Targeted(KL()), pairs(lambda adversarial, clean: -kl(clean, adversarial))),
]
every_objective = pytest.mark.parametrize("objective", [objective for objective, _ in BY_HAND], ids=str)


@pytest.mark.parametrize(("objective", "expected"), BY_HAND, ids=str)
def test_values_by_hand(objective: Objective, expected: list[float]) -> None:
    values = objective(LOGITS, CLEAN, LABELS)
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_the_directions_of_kl_differ() -> None:
    assert (KL()(LOGITS, CLEAN) - KL("adversarial||clean")(LOGITS, CLEAN)).abs().min() > 0.01


def test_kl_has_the_direction_of_trades() -> None:
    """The official code: F.kl_div(log q of the adversarial, p of the clean)."""
    theirs = torch.nn.functional.kl_div(LOGITS.log_softmax(-1), CLEAN.softmax(-1), reduction="none").sum(-1)
    torch.testing.assert_close(KL()(LOGITS, CLEAN), theirs)


@every_objective
def test_one_value_an_example_and_none_depends_on_another(objective: Objective) -> None:
    logits, clean, labels = torch.randn(9, 5), torch.randn(9, 5), torch.randint(5, (9,))
    values = objective(logits, clean, labels)
    assert values.shape == (9,)
    alone = torch.cat([objective(logits[i : i + 1], clean[i : i + 1], labels[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(values, alone)


@every_objective
def test_gradients_are_those_of_the_formula(objective: Objective) -> None:
    logits, clean = (torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))  # no ties
    assert torch.autograd.gradcheck(lambda a, b: objective(a, b, LABELS), (logits, clean))


@pytest.mark.parametrize("objective", [KL(), KL("adversarial||clean"), SquaredDifference()], ids=str)
def test_gradients_flow_through_both_sides(objective: Objective) -> None:
    logits, clean = (t.clone().requires_grad_() for t in (LOGITS, CLEAN))
    objective(logits, clean).sum().backward()
    assert logits.grad.abs().amax(-1).min() > 1e-3
    assert clean.grad.abs().amax(-1).min() > 1e-3


@every_objective
def test_labels_of_either_integer_type(objective: Objective) -> None:
    assert torch.equal(objective(LOGITS, CLEAN, LABELS.int()), objective(LOGITS, CLEAN, LABELS))


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (50.0, 0.0), (1.0, 30.0), (7.0, -3.0)])
def test_dlr_ignores_scale_and_shift(scale: float, shift: float) -> None:
    logits, labels = torch.randn(20, 6, dtype=torch.float64), torch.randint(6, (20,))
    torch.testing.assert_close(DLR()(scale * logits + shift, labels=labels), DLR()(logits, labels=labels))


def test_margin_is_positive_exactly_when_the_label_is_missed() -> None:
    logits, labels = torch.randn(200, 3), torch.randint(3, (200,))
    assert torch.equal(Margin()(logits, labels=labels) > 0, logits.argmax(-1) != labels)
    assert torch.equal(DLR()(logits, labels=labels) > 0, logits.argmax(-1) != labels)


def test_dlr_is_finite_where_the_best_logits_tie() -> None:
    assert DLR()(torch.ones(1, 4), labels=torch.tensor([1])).isfinite().all()


def test_dlr_needs_three_classes() -> None:
    with pytest.raises(InputError, match=r"at least 3 classes; the model has 2 \(use Margin\)"):
        DLR()(torch.zeros(1, 2), labels=torch.tensor([0]))
    assert Margin()(torch.tensor([[1.0, 4.0]]), labels=torch.tensor([1])).tolist() == [-3]


@every_objective
def test_what_an_objective_needs_is_asked_for(objective: Objective) -> None:
    assert objective.needs_clean != objective.needs_labels
    with pytest.raises(InputError, match="needs clean logits" if objective.needs_clean else "needs labels"):
        objective(LOGITS)


def test_large_logits_do_not_overflow() -> None:
    logits, clean = torch.tensor([[1e4, 0.0, -1e4]]), torch.tensor([[0.0, 1e4, -1e4]])
    for objective in (CrossEntropy(), KL(), KL("adversarial||clean"), SquaredDifference(), Margin(), DLR()):
        assert objective(logits, clean, torch.tensor([2])).isfinite().all()
