"""Each misuse at the door gives one clear line."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from aureole.core import checks
from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError, UntrustedResult

GOOD = torch.rand(3, 3, 4, 4)
COLOUR = Linf(0.1, ((0.0, 0.0, 0.0), (1.0, 1.0, 0.5)))


def broken(value: float) -> torch.Tensor:
    x = GOOD.clone()
    x[1, 2, 3, 0] = value
    return x


BAD_IMAGES = [
    (GOOD.mul(255).byte(), Linf(0.1), "floating-point tensor; got torch.uint8"),
    (torch.rand(()), Linf(0.1), "batch"),
    (torch.rand(3), Linf(0.1), "batch"),
    (GOOD[:0], Linf(0.1), "not be empty"),
    (broken(torch.nan), Linf(0.1), "finite; 1 values"),
    (broken(torch.inf), L2(0.1, None), "finite; 1 values"),
    (broken(1.01), Linf(0.1), r"bounds \(0.0, 1.0\); they range from .* to 1.01: scale them"),
    (broken(-0.01), Linf(0.1), "from -0.01 to"),
    (GOOD, COLOUR, "bounds"),
    (GOOD[:, :1], COLOUR, "3 channels"),
    (GOOD[:, 0], COLOUR, "3 channels"),
]


@pytest.mark.parametrize(("x", "ball", "message"), BAD_IMAGES, ids=[message for *_, message in BAD_IMAGES])
def test_bad_images_are_refused_in_one_line(x: Any, ball: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checks.check_images(x, ball)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_good_images_pass(dtype: torch.dtype) -> None:
    checks.check_images(GOOD.to(dtype), Linf(0.1))
    checks.check_images((GOOD * torch.tensor([1, 1, 0.5])[:, None, None]).to(dtype), COLOUR)
    checks.check_images(1000 * GOOD.to(dtype), Linf(0.1, None))
    checks.check_images(GOOD.flatten(1).to(dtype), L2(0.1))


BAD_LABELS = [
    (torch.zeros(3), "int64 tensor of class numbers; got torch.float32"),
    (torch.zeros(3, dtype=torch.bool), "torch.bool"),
    (torch.zeros(2, dtype=torch.int64), r"shape \(3,\); got \(2,\)"),
    (torch.zeros(3, 1, dtype=torch.int64), r"\(3, 1\)"),
    (torch.zeros(3, dtype=torch.int64, device="meta"), "meta"),
]


@pytest.mark.parametrize(("y", "message"), BAD_LABELS, ids=[message for _, message in BAD_LABELS])
def test_bad_labels_are_refused_in_one_line(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checks.check_labels(y, GOOD)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("y", [[0, 1, 3], [-1, 0, 1]])
def test_labels_must_be_classes_of_the_model(y: list[int]) -> None:
    with pytest.raises(InputError, match="labels must be from 0 to 2"):
        checks.check_classes(torch.tensor(y), 3)
    checks.check_classes(torch.tensor([0, 1, 2]), 3)


def test_model_and_images_must_share_a_device() -> None:
    with pytest.raises(InputError, match="the model is on meta and the images on cpu"):
        checks.check_device(nn.Linear(2, 2, device="meta"), GOOD)
    checks.check_device(nn.Identity(), GOOD)


def test_probabilities_are_suspicious() -> None:
    logits = torch.randn(5, 4)
    with pytest.warns(UntrustedResult, match="probabilities"):
        checks.warn_softmax(logits.softmax(-1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks.warn_softmax(logits)
        checks.warn_softmax(logits.softmax(-1).log())
        checks.warn_softmax(logits.sigmoid())


def test_zero_gradients_are_suspicious() -> None:
    gradient, standing = torch.randn(6, 1, 4, 4), torch.tensor([True] * 5 + [False])
    gradient[5] = 0  # an image that is already fooled need not move
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks.warn_zero_gradient(gradient, standing)
    gradient[2] = 0
    with pytest.warns(UntrustedResult, match="zero for 1 of 6 images"):
        checks.warn_zero_gradient(gradient, standing)
