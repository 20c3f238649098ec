"""Soft Dice against sums written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.objectives import KL
from aureole.segment import VAT, SoftDice
from aureole.segment.dice import dice_distance, dice_loss


def _probabilities(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).softmax(1)


def _by_class(p: Tensor, q: Tensor, smooth: float) -> Tensor:
    """1/K sum_k of Eq. 6.3 for all values of one class in one bag."""
    terms = []
    for k in range(p.shape[1]):
        a, b = p[:, k].flatten().tolist(), q[:, k].flatten().tolist()
        above = 2 * sum(x * y for x, y in zip(a, b, strict=True)) + smooth
        terms.append(1 - above / (sum(x * x for x in a) + sum(y * y for y in b) + smooth))
    return torch.tensor(sum(terms) / len(terms), dtype=torch.float64)


@pytest.mark.parametrize("smooth", [1e-10, 1.0])
def test_each_class_by_hand(smooth: float) -> None:
    p, q = _probabilities(0, 3, 4, 5, 2), _probabilities(1, 3, 4, 5, 2)
    for row in range(3):
        expected = _by_class(p[row : row + 1], q[row : row + 1], smooth)
        torch.testing.assert_close(dice_distance(p, q, smooth=smooth)[row], expected, rtol=1e-12, atol=0)
    whole = dice_distance(p, q, scope="batch", smooth=smooth)
    torch.testing.assert_close(whole, _by_class(p, q, smooth).expand(3), rtol=1e-12, atol=0)
    assert not torch.allclose(whole, dice_distance(p, q, smooth=smooth))


def test_all_classes_together() -> None:
    p, q = _probabilities(0, 2, 2, 3, 3, 3), _probabilities(1, 2, 2, 3, 3, 3)
    found = dice_distance(p, q, form="joint", smooth=1e-8)
    for row in range(2):
        expected = 1 - (2 * (p[row] * q[row]).sum() + 1e-8) / (2 * 27 + 1e-8)  # probabilities sum to 1 everywhere
        torch.testing.assert_close(found[row], expected)


def test_the_loss_of_labels() -> None:
    logits, y = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randint(0, 2, (2, 4, 4))
    p, hot = logits.softmax(1), torch.nn.functional.one_hot(y, 3).movedim(-1, 1).double()
    torch.testing.assert_close(dice_loss(logits, y), _by_class(p, hot, 1e-10))
    torch.testing.assert_close(dice_loss(logits, y, background=False), _by_class(p[:, 1:], hot[:, 1:], 1e-10))


def test_the_loss_of_labels_of_the_atrium() -> None:
    """The code of SS-Net: 1 - (2 sum p t + 1e-8) / (sum p + sum t + 1e-8) of class 1 over the whole batch."""
    logits, y = torch.randn(2, 2, 3, 3, 3, dtype=torch.float64), torch.randint(0, 2, (2, 3, 3, 3))
    p, t = logits.softmax(1)[:, 1], (y == 1).double()
    expected = 1 - (2 * (p * t).sum() + 1e-8) / (p.sum() + t.sum() + 1e-8)
    found = dice_loss(logits, y, background=False, form="joint", smooth=1e-8)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, dice_loss(logits, y, background=False, smooth=1e-8))


def test_an_objective_reads_positions() -> None:
    logits, clean = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    expected = dice_distance(logits.softmax(1), clean.softmax(1))
    torch.testing.assert_close(SoftDice()(logits, clean), expected)


def test_misuse() -> None:
    with pytest.raises(InputError, match="smooth must be at least 0"):
        SoftDice(smooth=-1.0)
    with pytest.raises(InputError, match="unknown form 'jiont': did you mean 'joint'"):
        VAT(form="jiont")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="needs clean logits"):
        SoftDice()(torch.zeros(1, 2, 3))
    with pytest.raises(InputError, match=r"VAT compares segmentations by SoftDice\(\); got KL"):
        VAT(search=replace(VAT().search, objective=KL()))
