"""MagSim and AngSim: by hand, at zero length, at extreme sizes, under a mask, and over batches."""

from __future__ import annotations

import math

import pytest
import torch
from jaxtyping import config

from aureole.core.errors import InputError
from aureole.metrics.boundary import (
    angle_similarities,
    angle_similarity,
    magnitude_similarities,
    magnitude_similarity,
)
from aureole.metrics.boundary_metric import BoundarySimilarity

FIRST = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
SECOND = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [5.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
MAGNITUDES, ANGLES = [1.0, 0.5, 0.4, 0.0, 0.0], [0.96, -1.0, 0.0, 0.0, 0.0]


def test_by_hand_and_at_zero_length() -> None:
    assert magnitude_similarities(FIRST, SECOND).tolist() == pytest.approx(MAGNITUDES, abs=1e-12)
    assert angle_similarities(FIRST, SECOND).tolist() == pytest.approx(ANGLES, abs=1e-12)


def test_against_loops_on_images() -> None:
    first, second = torch.randn(2, 7, 3, 4, 5, dtype=torch.float64)
    lengths = [
        (math.sqrt(float((a * a).sum())), math.sqrt(float((b * b).sum()))) for a, b in zip(first, second, strict=True)
    ]
    magnitude = sum(min(pair) / max(pair) for pair in lengths) / 7
    angle = sum(float((a * b).sum()) / (m * n) for a, b, (m, n) in zip(first, second, lengths, strict=True)) / 7
    assert float(magnitude_similarity(first, second)) == pytest.approx(magnitude, abs=1e-12)
    assert float(angle_similarity(first, second)) == pytest.approx(angle, abs=1e-12)
    for metric in (magnitude_similarity, angle_similarity):
        assert float(metric(first, first)) == pytest.approx(1.0, abs=1e-12)
        assert torch.equal(metric(first, second), metric(second, first))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_length_underflows_or_overflows(scale: float) -> None:
    first = torch.tensor([[3.0, 4.0]]) * scale
    assert magnitude_similarities(first, 0.5 * first).item() == pytest.approx(0.5)
    assert angle_similarities(first, 0.5 * first).item() == pytest.approx(1.0)
    assert angle_similarities(first, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(0.8)


def test_half_types_are_measured_in_single_precision() -> None:
    first, second = torch.full((1, 4096), 8.0).bfloat16(), torch.full((1, 4096), 2.0).bfloat16()
    assert magnitude_similarities(first, second).dtype == torch.float32
    assert magnitude_similarities(first, second).item() == pytest.approx(0.25)


def test_a_mask_leaves_images_out() -> None:
    mask = torch.tensor([True, False, True, False, False])
    assert float(magnitude_similarity(FIRST, SECOND, mask)) == pytest.approx(0.7)
    assert float(angle_similarity(FIRST, SECOND, mask)) == pytest.approx(0.48)
    assert angle_similarity(FIRST, SECOND, ~mask & mask).isnan()


def test_the_metric_is_the_mean_over_batches_of_any_size() -> None:
    metric, mask = BoundarySimilarity(), torch.tensor([True, True, False])
    metric.update(FIRST[:3], SECOND[:3], mask)
    metric.update(FIRST[3:], SECOND[3:])
    values = metric.compute()
    assert float(values["magnitude"]) == pytest.approx((1.0 + 0.5 + 0.0 + 0.0) / 4)
    assert float(values["angle"]) == pytest.approx((0.96 - 1.0) / 4)
    metric.reset()
    metric.update(FIRST[:1], SECOND[:1])
    assert float(metric.compute()["angle"]) == pytest.approx(0.96)


def test_shapes_must_agree() -> None:
    config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match="two changes of each image"):
            magnitude_similarity(torch.zeros(2, 1, 4), torch.zeros(2, 4))
    finally:
        config.update("jaxtyping_disable", False)
