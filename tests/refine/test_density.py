"""The features of the detector against formulas, scikit-learn and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.neighbors import KernelDensity

from aureole.refine import density
from aureole.refine.density import log_density, median_bandwidth, nearest_bandwidth, non_maximal_entropy


@pytest.mark.parametrize("bandwidth", [0.26, 1.2, 30.0])
def test_the_density_is_that_of_scikit_learn(bandwidth: float) -> None:
    points, reference = torch.randn(40, 7) + 2, 3 * torch.randn(90, 7)
    # One leaf makes scikit-learn compare all points; its tree loses up to 100 nats far from them (seen in 1.9.1).
    fitted = KernelDensity(kernel="gaussian", bandwidth=bandwidth, leaf_size=90).fit(reference.double().numpy())
    wanted = torch.as_tensor(fitted.score_samples(points.double().numpy()))
    torch.testing.assert_close(log_density(points, reference, bandwidth), wanted, rtol=1e-9, atol=1e-9)


def test_the_density_is_exact_far_from_the_origin_and_where_it_underflows() -> None:
    reference = torch.tensor([[1e4, 0.0], [1e4, 1.0]])
    wanted = -0.5 * 100**2 / 0.01 - math.log(2) - math.log(2 * math.pi * 0.01)
    found = log_density(torch.tensor([[1e4, 101.0]]), reference, 0.1)
    torch.testing.assert_close(found, torch.tensor([wanted], dtype=torch.float64), rtol=1e-10, atol=0)


def test_the_density_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    points, reference = torch.randn(23, 5), torch.randn(11, 5)
    whole = log_density(points, reference, 0.5)
    sizes: list[int] = []
    monkeypatch.setattr(density, "_CHUNK", 45)
    plain = density._squared_distances
    monkeypatch.setattr(density, "_squared_distances", lambda p, r: sizes.append(len(p) * len(r)) or plain(p, r))
    torch.testing.assert_close(log_density(points, reference, 0.5), whole, rtol=1e-12, atol=1e-12)
    assert len(sizes) == 6
    assert max(sizes) <= 45


def test_the_entropy_is_that_of_the_other_classes() -> None:
    logits = 3 * torch.randn(50, 6, dtype=torch.float64)
    p = logits.softmax(1)
    for row, found in zip(p, non_maximal_entropy(logits), strict=True):
        q = torch.cat([row[: row.argmax()], row[row.argmax() + 1 :]])
        q = q / q.sum()
        torch.testing.assert_close(found, -(q * q.log()).sum())


def test_the_entropy_is_exact_where_the_probabilities_underflow() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 2000.0], [5.0, 5.0, 5.0, 5.0], [0.0, -2000.0, -3000.0, -2000.0]])
    q = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).softmax(0)
    wanted = torch.stack([-(q * q.log()).sum(), torch.tensor(3.0).double().log(), torch.tensor(2.0).double().log()])
    torch.testing.assert_close(non_maximal_entropy(logits), wanted)


def test_two_classes_leave_no_entropy() -> None:
    assert torch.equal(non_maximal_entropy(torch.randn(4, 2)), torch.zeros(4, dtype=torch.float64))


def test_the_rules_by_hand() -> None:
    square = torch.tensor([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [2.0, 1.0]])  # sides 1 and 2, diagonals 5 ** 0.5
    pair, single = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.zeros(1, 2)
    assert nearest_bandwidth([square, single]) == pytest.approx(math.sqrt(1 / 2))
    assert nearest_bandwidth([square, pair]) == pytest.approx(math.sqrt((4 * 1 + 2 * 25) / 6 / 2))
    assert median_bandwidth([square, single, pair]) == pytest.approx((2 + 5) / 2)
    assert math.isnan(nearest_bandwidth([single]))
    assert math.isnan(median_bandwidth([single]))


def test_the_nearest_rule_is_near_the_largest_leave_one_out_likelihood() -> None:
    points = torch.randn(150, 40)

    def likelihood(bandwidth: float) -> float:
        rest = [torch.cat([points[:i], points[i + 1 :]]) for i in range(0, 150, 3)]
        return sum(float(log_density(points[3 * i : 3 * i + 1], r, bandwidth)) for i, r in enumerate(rest)) / len(rest)

    rule, median = nearest_bandwidth([points]), median_bandwidth([points])
    best = max(likelihood(rule * factor) for factor in (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0))
    assert likelihood(rule) > best - 0.5
    assert likelihood(median) < best - 20
