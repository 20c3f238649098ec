"""Square beside pyautoattack, the authors' code as a package: the same share of points falls, over several seeds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.square import Square, halvings, moves_of
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.random import Streams

reference = pytest.importorskip("pyautoattack.square", reason="pyautoattack is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

BALLS = {"Linf": Linf(0.12), "L2": L2(0.8), "L1": L1(4.0)}
every_norm = pytest.mark.parametrize("norm", BALLS)
SEEDS = 4


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A classifier of digits in a frame of one pixel (10 x 10, which five tiles fill), and images it has not seen."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
    x = nn.functional.pad(x, (1, 1, 1, 1))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model += nn.Sequential(nn.Linear(200, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        chosen = torch.randperm(1500)[:256]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False), x[1500:1640], y[1500:1640]


def theirs(model: nn.Module, norm: str, seed: int, *, num_queries: int = 300) -> reference.SquareAttack:
    options = {"resc_schedule": False, "n_queries": num_queries, "device": "cpu"}
    return reference.SquareAttack(model, norm=norm, eps=BALLS[norm].radius, seed=seed, **options)


@every_norm
def test_as_many_points_fall(trained: tuple[nn.Module, Tensor, Tensor], norm: str) -> None:
    """Three standard errors of the difference of the means, which the spread over the seeds gives."""
    model, x, y = trained

    attack, keys = (
        Square(ball=BALLS[norm], num_queries=300),
        [Streams.of(s, torch.arange(len(x))).keys for s in range(SEEDS)],
    )
    ours = attack(model, x.repeat(SEEDS, 1, 1, 1), y.repeat(SEEDS), generator=Streams(torch.cat(keys)))
    expected = torch.cat([theirs(model, norm, seed).perturb(x, y) for seed in range(SEEDS)])
    stands = torch.stack([model(images).argmax(-1) == y.repeat(SEEDS) for images in (ours, expected)])
    found, wanted = stands.view(2, SEEDS, -1).float().mean(-1)
    error = math.sqrt(float(found.var() + wanted.var()) / SEEDS)
    assert 0.15 < float(wanted.mean()) < 0.5
    assert abs(float(found.mean() - wanted.mean())) < 3 * max(error, 0.003)


@pytest.mark.parametrize("norm", ["L2", "L1"])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 9])
def test_the_same_bumps(norm: str, side: int) -> None:
    attack = theirs(nn.Identity(), norm, 0)
    ball: Ball = BALLS[norm]
    upright, flat = moves_of(ball)(ball, torch.zeros(1, 1, 10, 10), [0.1]).bump(side, side)
    torch.manual_seed(0)
    found = [attack.eta(side) for _ in range(20)]
    for bump in found:
        assert min(float((bump - ours).abs().max()) for ours in (upright, flat)) < 1e-6
    assert side < 2 or len({tuple(bump.flatten().tolist()) for bump in found}) == 2


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("num_queries", [300, 5000])
def test_the_same_schedule(rescaled: bool, num_queries: int) -> None:
    attack = theirs(nn.Identity(), "Linf", 0, num_queries=num_queries)
    attack.rescale_schedule = rescaled
    expected = [attack.p_selection(query) for query in range(num_queries)]
    assert [0.8 / 2**count for count in halvings(num_queries, rescaled=rescaled)[:num_queries]] == expected
