"""FAB beside pyautoattack, the authors' code as a package: the same distance in every run, the same outcomes.

Both run in double precision. The walk is chaotic: in single precision the rounding of two correct programs grows until
one distance in a hundred differs by more than a thousandth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks import fab
from aureole.attacks.fab_projections import PlaneProjection
from aureole.core.balls import L1, L2, Ball, Linf

reference = pytest.importorskip("pyautoattack.fab_pt", reason="pyautoattack is not installed")
projections = pytest.importorskip("pyautoattack.fab_projections", reason="pyautoattack is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

BALLS = {"Linf": Linf(0.1), "L2": L2(0.55), "L1": L1(1.6)}
NUM = 40


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier of handwritten digits, and images that it was not trained on, all classified correctly.

    The images have 56 pixels: with a power of two, the search for the threshold in the reference's L1 projection ends
    one step too early.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float64)[:, None, :, 1:] / 16, torch.tensor(data.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(448, 32), nn.ReLU())
    model = model.append(nn.Linear(32, 10)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.enable_grad():
        for _ in range(6):
            for rows in torch.randperm(1500).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    x, y = x[1500:], y[1500:]
    correct = model(x).argmax(-1) == y
    return model.eval(), x[correct][:NUM], y[correct][:NUM]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the reference, which casts to single precision, work in double."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def theirs(model: nn.Module, norm: str, **more: Any) -> Any:
    return reference.FABAttack_PT(model, norm=norm, n_restarts=1, eps=BALLS[norm].radius, device="cpu", **more)


def distances(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, **more: Any) -> Tensor:
    """Return the least distance that each of our runs found, (runs, points): with a radius that no run reaches."""
    found: dict[tuple[int, int], float] = {}

    class Kept(fab.BoundaryWalk):
        def tell(self, rows: fab.BoundaryRows, answer: Any) -> Any:
            far = torch.where(answer.logits.argmax(-1) != rows.y, ball.distance(rows.x_adv, rows.x), torch.inf)
            for phase, point, distance in zip(rows.phase.tolist(), rows.point.tolist(), far.tolist(), strict=True):
                found[phase, point] = min(distance, found.get((phase, point), torch.inf))
            return super().tell(rows, answer)

    class Attack(fab.FAB):
        def procedure(self, num_classes: int) -> fab.BoundaryWalk:
            return Kept(self, num_classes)

    Attack(ball=type(ball)(1e-6), **more)(model, x, y)
    return torch.tensor([found[key] for key in sorted(found)]).view(-1, len(x))


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("norm", BALLS)
def test_each_run_finds_the_distance_of_the_reference(digits: Any, double: None, norm: str, targeted: bool) -> None:
    model, x, y = digits
    attack, ball, expected = theirs(model, norm, n_iter=40, targeted=targeted), BALLS[norm], []
    for target in (2, 3) if targeted else (2,):
        attack.target_class = target
        x_adv = attack.attack_single_run(x, y, is_targeted=targeted)
        distance = ball.distance(x_adv, x)
        expected.append(torch.where(model(x_adv).argmax(-1) == y, torch.inf, distance))
    found = distances(model, x, y, ball, num_steps=40, num_targets=2, targeted=targeted)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=0)
    assert found.isfinite().double().mean() > 0.9


@pytest.mark.parametrize("norm", BALLS)
def test_each_image_has_the_outcome_of_the_reference(digits: Any, double: None, norm: str) -> None:
    model, x, y = digits
    x_adv = theirs(model, norm, n_iter=50, targeted=True, n_target_classes=9).perturb(x, y)
    expected = (model(x_adv).argmax(-1) == y) | (BALLS[norm].distance(x_adv, x) > BALLS[norm].radius)
    ours = fab.FAB(ball=BALLS[norm], num_steps=50)(model, x, y)
    assert torch.equal(model(ours).argmax(-1) == y, expected)
    assert 0.25 < expected.double().mean() < 0.75
    assert BALLS[norm].distance(ours, x).max() <= BALLS[norm].radius + 1e-6


@pytest.mark.parametrize("norm", BALLS)
def test_projections_equal_the_reference(norm: str) -> None:
    theirs = {"Linf": projections.projection_linf, "L2": projections.projection_l2, "L1": projections.projection_l1}
    points = (torch.rand(2, 200, 60) * 1.4 - 0.2).clamp(0, 1)
    normal = torch.randn(200, 60)
    gap = (normal * (points - torch.rand(200, 60))).sum(-1)
    offset = (normal * points).sum(-1) - gap
    expected = [theirs[norm](p, normal, b) for p, b in zip(points, offset, strict=True)]
    found = PlaneProjection(BALLS[norm])(points, normal, gap)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-4)
