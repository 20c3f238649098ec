"""APGD beside pyautoattack, the authors' code as a package: the same outcome on every image, from the same starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.apgd import APGD, TargetedAPGD, checkpoints
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.objectives import DLR, targeted_dlr
from aureole.core.random import Streams

reference = pytest.importorskip("pyautoattack.autopgd_base", reason="pyautoattack is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

NORMS = {Linf: "Linf", L2: "L2", L1: "L1"}
RADII = {"undefended": {Linf: 0.06, L2: 0.35, L1: 1.2}, "robust": {Linf: 0.13, L2: 0.7, L1: 2.0}}


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


@pytest.fixture(scope="module", params=["undefended", "robust"])
def trained(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Tensor, Tensor]:
    """A classifier of handwritten digits, and 200 images that it was not trained on."""
    from aureole.attacks import PGD

    x, y = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(768, 48), nn.ReLU())
    model.append(nn.Linear(48, 10))
    optimizer, attack = torch.optim.Adam(model.parameters(), lr=2e-3), PGD(ball=Linf(0.12), num_steps=4, step_size=0.05)
    with torch.enable_grad():
        for _ in range(12):
            for rows in torch.randperm(1500).split(64):
                seen = attack(model, x[rows], y[rows]) if request.param == "robust" else x[rows]
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(seen), y[rows]).backward()
                optimizer.step()
    return request.param, model.eval(), x[1500:1700], y[1500:1700]


def start(ball: Ball, x: Tensor, chosen: Tensor, phase: int) -> Tensor:
    """Return the start that our attack draws for some of the images in one of their runs."""
    streams = Streams.of(0, torch.arange(len(x))).select(chosen)
    return ball.sample_boundary(x[chosen], Streams(streams.fork(phase).keys).fork(0))


def standing(model: nn.Module, ball: Ball, x: Tensor, y: Tensor, loss: str, phases: int) -> Tensor:
    """Return which images the reference leaves standing, in runs that begin where ours do."""
    kind = reference.APGDAttack_targeted if loss == "dlr-targeted" else reference.APGDAttack
    attack = kind(model, norm=NORMS[type(ball)], eps=ball.radius, device="cpu", n_iter=100)
    attack.loss = loss
    attack.init_hyperparam(x)
    clean = model(x).detach()
    left = clean.argmax(-1) == y
    for phase in range(phases):
        chosen = left.nonzero().flatten()
        if len(chosen) == 0:
            break
        attack.y_target = clean[chosen].sort(dim=1)[1][:, -2 - phase]
        stood = attack.attack_single_run(x[chosen], y[chosen], x_init=start(ball, x, chosen, phase))[1]
        left[chosen[~stood.bool()]] = False
    return left


@pytest.mark.parametrize("norm", [Linf, L2], ids=["Linf", "L2"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr-targeted"])
def test_each_image_has_the_outcome_of_the_reference(trained: Any, norm: Any, loss: str) -> None:
    name, model, x, y = trained
    ball = norm(RADII[name][norm])
    phases = 9 if loss == "dlr-targeted" else 1
    expected = standing(model, ball, x, y, loss, phases)
    ours = {"ce": APGD(ball=ball), "dlr": APGD(ball=ball, objective=DLR()), "dlr-targeted": TargetedAPGD(ball=ball)}[
        loss
    ]
    x_adv = ours(model, x, y, generator=Streams.of(0, torch.arange(len(x))))
    stood = model(x_adv).argmax(-1) == y
    assert 0.1 < expected.float().mean() < 0.9  # the radius is one that tells attacks apart
    assert torch.equal(stood, expected)
    assert ball.distance(x_adv, x).max() <= ball.radius + 1e-6


def test_sparse_runs_have_the_outcomes_of_the_reference(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, model, x, y = trained
    ball, streams = L1(RADII[name][L1]), Streams.of(0, torch.arange(len(x)))
    noise = Streams(streams.fork(0).keys).fork(0).normal(tuple(x.shape))[model(x).argmax(-1) == y]
    monkeypatch.setattr(reference.torch, "randn_like", lambda _: noise)
    attack = reference.APGDAttack(model, norm="L1", eps=ball.radius, device="cpu", use_largereps=True, seed=0)
    expected = model(attack.perturb(x, y)).argmax(-1) == y
    stood = model(APGD(ball=ball, large_radius_first=True)(model, x, y, generator=streams)).argmax(-1) == y
    assert 0.1 < expected.float().mean() < 0.9
    assert (stood != expected).float().mean() <= 0.01  # theirs counts the rounding of its projection as changed pixels


def test_losses_equal_the_reference() -> None:
    logits, y = torch.randn(50, 7, dtype=torch.float64), torch.randint(0, 7, (50,))
    target = (y + 1 + torch.randint(0, 6, (50,))) % 7
    attack = reference.APGDAttack_targeted(nn.Identity(), eps=1.0, device="cpu")
    attack.y_target = target
    torch.testing.assert_close(targeted_dlr(logits, y, target), attack.dlr_loss_targeted(logits, y), rtol=0, atol=1e-9)
    torch.testing.assert_close(DLR()(logits, None, y), attack.dlr_loss(logits, y), rtol=0, atol=1e-9)


def test_the_published_checkpoints() -> None:
    assert [i + 1 for i, gap in enumerate(checkpoints(100)) if gap] == [22, 41, 57, 70, 80, 87, 93, 99]
