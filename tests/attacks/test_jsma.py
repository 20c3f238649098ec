"""JSMA: the exact best pair, the search step by step, its limits and its targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.sparse import JSMA, jsma
from aureole.attacks.sparse.jsma import best_pairs
from aureole.core.balls import Linf
from aureole.core.errors import InputError


def brute_force(gain: Tensor, drop: Tensor, free: Tensor) -> Tensor:
    """Score all pairs: shape (rows, features, features), 0 where a pair may not be chosen."""
    alpha, beta = gain[:, :, None] + gain[:, None], drop[:, :, None] + drop[:, None]
    apart = ~torch.eye(gain.shape[1], dtype=torch.bool)
    valid = (alpha > 0) & (beta > 0) & free[:, :, None] & free[:, None] & apart
    return torch.where(valid, alpha * beta, 0.0)


def points(kind: str, rows: int, features: int) -> tuple[Tensor, Tensor]:
    gain, drop = torch.randn(2, rows, features, dtype=torch.float64)
    if kind == "opposed":
        drop = 0.1 * drop - gain
    if kind == "tied":
        gain, drop = (2 * gain).round(), (2 * drop).round()
    if kind == "all on the front":
        drop = 1 - gain
    if kind == "tiny":
        gain, drop = 1e-150 * gain, 1e-150 * drop
    return gain, drop


@pytest.mark.parametrize("features", [2, 3, 5, 17, 40])
@pytest.mark.parametrize("kind", ["free", "opposed", "tied", "all on the front", "tiny"])
def test_the_pair_is_the_best_of_all(kind: str, features: int) -> None:
    gain, drop = points(kind, 300, features)
    free = torch.rand(300, features) > 0.3
    pairs, found = best_pairs(gain, drop, free)
    score = brute_force(*(t / t.abs().amax() for t in (gain, drop)), free).flatten(1)
    best = score.amax(1)
    assert torch.equal(found, best > 0)
    assert found.any()
    chosen = score.gather(1, (pairs[:, 0] * features + pairs[:, 1])[:, None])[:, 0]
    torch.testing.assert_close(chosen[found], best[found], rtol=1e-12, atol=0)


def test_pairs_are_scored_in_portions_with_the_same_result(monkeypatch: Any) -> None:
    gain, drop = points("all on the front", 4, 50)
    free = torch.rand(4, 50) > 0.2
    whole = best_pairs(gain, drop, free)
    monkeypatch.setattr(jsma, "_MAX_SCORES", 3 * 4 * 50)
    assert all(torch.equal(a, b) for a, b in zip(best_pairs(gain, drop, free), whole, strict=True))


@pytest.mark.parametrize("free", [[], [2]])
def test_without_two_free_features_there_is_no_pair(free: list[int]) -> None:
    mask = torch.zeros(1, 5, dtype=torch.bool)
    mask[:, free] = True
    assert not best_pairs(torch.ones(1, 5), torch.ones(1, 5), mask)[1]
    assert not best_pairs(-torch.ones(1, 5), torch.ones(1, 5), ~mask)[1]


def by_hand(model: nn.Module, x: Tensor, y: int, target: int, theta: float, max_pairs: int) -> Tensor | None:
    """Papernot et al. 2016, Algorithms 1 to 3, one image, all pairs; None where it fails."""
    image = x.clone()
    for count in range(max_pairs + 1):
        rows = torch.autograd.functional.jacobian(lambda z: model(z[None])[0], image).flatten(1)
        if int(model(image[None]).argmax()) != y:
            return image
        if count == max_pairs:
            return None
        gain, drop = theta * rows[target], theta * (rows[target] - rows.sum(0))
        flat = image.flatten()
        score = brute_force(gain[None], drop[None], (flat < 1 if theta > 0 else flat > 0)[None])[0]
        if score.max() <= 0:
            return None
        flat[list(divmod(int(score.argmax()), len(flat)))] += theta
        image = flat.clamp(0, 1).view_as(image)
    return None


@pytest.mark.parametrize("theta", [0.3, -0.3, 1.0])
def test_the_search_is_the_papers(victim: Any, theta: float) -> None:
    right = victim.model(victim.x).argmax(-1) == victim.y
    x, y = victim.x[right][:8], victim.y[right][:8]
    found = JSMA(theta=theta, gamma=0.2, num_targets=1)(victim.model, x, y)
    targets = victim.model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    expected = [by_hand(victim.model, *item, theta, 6) for item in zip(x, y.tolist(), targets.tolist(), strict=True)]
    assert sum(image is not None for image in expected) > 2
    for image, ours, clean in zip(expected, found, x, strict=True):
        torch.testing.assert_close(ours, clean if image is None else image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("theta", [0.5, -0.5])
@pytest.mark.parametrize("ball", [Linf(1.0), Linf(0.2), Linf(0.2, None)], ids=str)
def test_changes_keep_to_box_and_number(victim: Any, theta: float, ball: Linf) -> None:
    x_adv = JSMA(ball=ball, theta=theta, gamma=0.25)(victim.model, victim.x, victim.y)
    assert ball.contains(x_adv, victim.x).all()
    change = x_adv - victim.x
    assert (change * theta >= 0).all()
    count = (change != 0).flatten(1).sum(1)
    assert count.max() <= 16  # a quarter of 64 features
    fooled = victim.model(x_adv).argmax(-1) != victim.y
    assert ((count > 0) <= fooled).all()
    assert fooled.float().mean() > 0.2


def test_more_targets_fool_more_images(victim: Any) -> None:
    def fooled(num_targets: int | None, gamma: float = 0.15) -> Tensor:
        attack = JSMA(theta=0.3, gamma=gamma, num_targets=num_targets)
        return victim.model(attack(victim.model, victim.x, victim.y)).argmax(-1) != victim.y

    one, all_ = fooled(1), fooled(None)
    assert (all_ >= one).all()
    assert all_.sum() > one.sum()
    assert fooled(None, gamma=1.0).all()


def test_targeted_attacks_reach_their_targets(victim: Any) -> None:
    targets = (victim.y + 1) % 4
    x_adv = JSMA(gamma=1.0, targeted=True)(victim.model, victim.x, targets)
    hit = victim.model(x_adv).argmax(-1) == targets
    assert hit.float().mean() > 0.8
    assert torch.equal(x_adv[~hit], victim.x[~hit])
    reached = victim.model(victim.x).argmax(-1)
    assert torch.equal(JSMA(targeted=True)(victim.model, victim.x, reached), victim.x)
    with pytest.raises(InputError, match="targeted attack needs y"):
        JSMA(targeted=True)(victim.model, victim.x)


def test_images_that_are_done_drop_out(victim: Any) -> None:
    sizes: list[int] = []
    hook = victim.model.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    JSMA(theta=0.2, gamma=1.0, num_targets=1)(victim.model, victim.x, victim.y)
    hook.remove()
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 8 < sizes[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"theta": 0.0}, "theta must be a finite number other than 0"),
        ({"theta": float("nan")}, "theta must be a finite number other than 0"),
        ({"gamma": 0.0}, "gamma must be a positive finite number"),
        ({"gamma": 1.5}, "gamma is a share of the features"),
        ({"num_targets": 0}, "num_targets must be an integer of at least 1"),
    ],
)
def test_misuse(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        JSMA(**fields)
