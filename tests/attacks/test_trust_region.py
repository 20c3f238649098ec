"""The step of Brendel and Bethge: against a general solver, in every regime, and each row for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from aureole.attacks.trust_region import BoundaryStep, L2BoundaryStep, LinfBoundaryStep

KINDS: list[type[BoundaryStep]] = [LinfBoundaryStep, L2BoundaryStep]
every_kind = pytest.mark.parametrize("kind", KINDS)


def problems(rows: int, size: int, seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Images in the unit box, many pixels on its faces, with steps and offsets from tiny to out of reach."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype)

    clean, current = ((1.4 * draw(rows, size) - 0.2).clamp(0, 1) for _ in range(2))
    normal = torch.randn(rows, size, generator=generator, dtype=dtype) * draw(rows, size).pow(4) * 100 ** draw(rows, 1)
    radius = 2 * draw(rows, 1).square() + 0.01
    reach = radius * normal.norm(dim=1, keepdim=True)
    offset = reach * torch.randn(rows, 1, generator=generator, dtype=dtype) * draw(rows, 1).square()
    return {
        "goal": clean - current,
        "normal": normal,
        "offset": offset,
        "low": -current,
        "high": 1 - current,
        "radius": radius,
    }


def distances(kind: type[BoundaryStep], delta: Tensor, goal: Tensor) -> Tensor:
    return (goal - delta).abs().amax(1) if kind is LinfBoundaryStep else (goal - delta).norm(dim=1)


def reference(kind: type[BoundaryStep], row: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return the least possible miss of the hyperplane and, at that miss, the least distance: by a general solver."""
    goal, normal, offset, radius = (row[name] for name in ("goal", "normal", "offset", "radius"))
    box, scale = list(zip(row["low"], row["high"], strict=True)), np.linalg.norm(normal)
    inside = {"type": "ineq", "fun": lambda d: (radius**2 - (d[: len(goal)] ** 2).sum()).item()}
    options = {"maxiter": 500, "ftol": 1e-12}
    sign = np.sign(offset).item()
    farthest = minimize(
        lambda d: -sign * (normal @ d) / scale,
        np.zeros_like(goal),
        jac=lambda _: -sign * normal / scale,
        bounds=box,
        constraints=[inside],
        options=options,
    ).x
    reach = abs(normal @ farthest)
    value = min(reach, abs(offset).item()) * sign
    plane = {"type": "eq", "fun": lambda d: (normal @ d[: len(goal)] - value) / scale}
    start = farthest * (abs(value) / reach if reach else 0.0)
    if kind is L2BoundaryStep:
        found = minimize(lambda d: ((goal - d) ** 2).sum(), start, bounds=box, constraints=[inside, plane])
        return abs(offset.item() - value), float(np.sqrt(found.fun))
    above = {"type": "ineq", "fun": lambda d: d[-1] - np.concatenate([goal - d[:-1], d[:-1] - goal])}
    start = np.append(start, np.abs(goal - start).max())
    found = minimize(
        lambda d: d[-1], start, bounds=[*box, (0, None)], constraints=[inside, plane, above], options=options
    )
    return abs(offset.item() - value), float(found.fun)


@every_kind
@pytest.mark.parametrize("size", [2, 3, 12])
def test_as_good_as_a_general_solver(kind: type[BoundaryStep], size: int) -> None:
    batch = problems(60, size, seed=size)
    delta = kind(**batch).solve()
    found = distances(kind, delta, batch["goal"])
    miss = (batch["offset"] - (batch["normal"] * delta).sum(1, keepdim=True)).abs()
    scale = batch["normal"].norm(dim=1)
    gaps, reached = [], 0
    for at in range(60):
        least_miss, least = reference(kind, {name: value[at].numpy() for name, value in batch.items()})
        assert float(miss[at]) <= least_miss + 2e-4 * float(scale[at] * batch["radius"][at])
        reached += least_miss < 1e-9
        if least_miss < 1e-9:
            gaps.append(float(found[at]) - least)
    assert 20 < reached < 60  # both regimes are there
    assert max(gaps) < 5e-4
    assert np.mean(np.abs(gaps)) < 1e-4


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constraints_hold_in_every_regime(kind: type[BoundaryStep], dtype: torch.dtype) -> None:
    batch = problems(400, 60, seed=1, dtype=dtype)
    batch["normal"][:5] = 0
    batch["goal"][5:10] = 0
    batch["offset"][10:15] = 0
    delta = kind(**batch).solve()
    assert delta.isfinite().all()
    slack = 2e-7
    assert (delta >= batch["low"] - slack).all()
    assert (delta <= batch["high"] + slack).all()
    assert (delta.norm(dim=1, keepdim=True) <= batch["radius"] * (1 + 2e-4) + slack).all()
    change = (batch["normal"] * delta).sum(1, keepdim=True)
    scale = batch["normal"].norm(dim=1, keepdim=True)
    assert ((change.abs() - batch["offset"].abs())[10:] <= (2e-4 * batch["radius"] * scale + 1e-5)[10:]).all()
    idle = delta.norm(dim=1)[10:] < 0.5 * batch["radius"][10:, 0]
    near = distances(kind, delta, batch["goal"])[10:] < 0.05
    assert not (idle & ~near).float().mean() > 0.35  # the trust region is used


@every_kind
def test_a_row_does_not_depend_on_the_others(kind: type[BoundaryStep]) -> None:
    batch = problems(64, 40, seed=2, dtype=torch.float32)
    together = kind(**batch).solve()
    order = torch.randperm(64)
    parts = [
        kind(**{name: value[part] for name, value in batch.items()}).solve()
        for part in (order[:1], order[1:20], order[20:])
    ]
    torch.testing.assert_close(torch.cat(parts), together[order], rtol=0, atol=1e-5)


@every_kind
@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_the_length_of_the_normal_does_not_matter(kind: type[BoundaryStep], scale: float) -> None:
    batch = problems(64, 20, seed=3, dtype=torch.float32)
    expected = kind(**batch).solve()
    batch |= {"normal": batch["normal"] * scale, "offset": batch["offset"] * scale}
    torch.testing.assert_close(kind(**batch).solve(), expected, rtol=0, atol=1e-3)


@every_kind
def test_an_unreachable_hyperplane_is_approached_as_far_as_the_trust_region_allows(kind: type[BoundaryStep]) -> None:
    normal, room = torch.tensor([[3.0, 4.0]]), torch.ones(1, 2)
    far, radius = torch.full((1, 1), 100.0), torch.full((1, 1), 0.5)
    delta = kind(-room, normal, far, -room, room, radius).solve()
    torch.testing.assert_close(delta, torch.tensor([[0.3, 0.4]]))
    delta = kind(-room, normal, far, -room, torch.tensor([[1.0, 0.3]]), radius).solve()
    torch.testing.assert_close(delta, torch.tensor([[0.4, 0.3]]))
    delta = kind(-room, normal, -far, -room, room, 10 * radius).solve()
    torch.testing.assert_close(delta, -room)


@every_kind
def test_within_reach_the_clean_image_is_projected_on_the_hyperplane(kind: type[BoundaryStep]) -> None:
    goal, normal, wide = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, 1.0]]), torch.full((1, 2), 9.0)
    delta = kind(goal, normal, torch.ones(1, 1), -wide, wide, torch.full((1, 1), 9.0)).solve()
    torch.testing.assert_close(delta, torch.tensor([[2.0, -1.0]]))  # 1 more in both: the same in either norm


@every_kind
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_shorten_takes_a_share_of_the_norm(kind: type[BoundaryStep], share: float) -> None:
    delta = torch.randn(6, 9)
    short = kind.shorten(delta, torch.full((6, 1), share))
    zero = torch.zeros_like(delta)
    torch.testing.assert_close(distances(kind, short, zero), share * distances(kind, delta, zero))
    assert (short * delta >= 0).all()
    assert (short.abs() <= delta.abs()).all()
