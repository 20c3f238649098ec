"""Foolbox's Brendel and Bethge attacks (the authors' code): from the same starts, as near in as many steps.

Without numba their solver runs as plain Python, so the images are tiny. Their trust radius counts the values of the
whole batch; their learning rate is divided by the number of images to make the steps as long as ours.
"""

from __future__ import annotations

import types
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.brendel_bethge import BrendelBethge
from aureole.core.balls import L2, Linf
from aureole.core.random import Streams

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    from foolbox.attacks import brendel_bethge as theirs


class _Linf(theirs.LinfinityBrendelBethgeAttack):
    def instantiate_optimizer(self) -> Any:
        return theirs.LinfOptimizer()


class _L2(theirs.L2BrendelBethgeAttack):
    def instantiate_optimizer(self) -> Any:
        return theirs.L2Optimizer()


CASES = {"Linf": (Linf(0.1), _Linf, 40, 16), "L2": (L2(0.5), _L2, 60, 24)}


@dataclass(frozen=True, kw_only=True)
class FromGiven(BrendelBethge):
    """The attack from starts that are given."""

    start: Any = None

    def _starts(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        return self.start.clone(), torch.ones_like(y, dtype=torch.bool)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A trained classifier of the digits 0 to 4 at 4 x 4 pixels, images that it knows, and noise that it misses."""
    from sklearn.datasets import load_digits

    pixels, target = load_digits(n_class=5, return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    x, y = nn.functional.avg_pool2d(images, 2), torch.tensor(target, dtype=torch.int64)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 5))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[:700]), y[:700]).backward()
            optimizer.step()
    model.eval().requires_grad_(False)
    noise = torch.rand(201, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    known = model(x[700:]).argmax(-1) == y[700:]
    missed = model(noise).argmax(-1) != y[700:]
    right = known & missed
    return model, x[700:][right], y[700:][right], noise[right]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_as_near_as_foolbox(digits: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ball, kind, steps, count = CASES[name]
    model = digits[0]
    x, y, start = (part[:count] for part in digits[1:])
    rate = 0.02
    monkeypatch.setattr(theirs, "NUMBA_IMPORT_ERROR", None)
    monkeypatch.setattr(theirs, "numba", types.SimpleNamespace(__version__="0.50"), raising=False)
    reference = kind(steps=steps, lr=rate / count, lr_num_decay=10)
    network = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    expected = reference.run(network, x, foolbox.criteria.Misclassification(y), starting_points=start)
    attack = FromGiven(ball=ball, num_steps=steps, learning_rate=rate, num_decays=10, start=start)
    found = attack.minimize(model, x, y)
    assert (model(found).argmax(-1) != y).all()
    ours, reached, before = (ball.distance(images, x) for images in (found, expected, start))
    assert ours.median() <= 1.005 * reached.median()
    assert (ours <= 1.01 * reached).float().mean() >= 0.9
    assert ours.median() < 0.8 * before.median()
