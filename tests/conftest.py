"""What many tests share: a small model that was really trained, and models with every kind of state."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

torch.set_num_threads(1)  # sums on several threads may round otherwise, and the suite runs in several processes


@dataclass
class Victim:
    """A trained classifier of small pictures, with pictures that it did not see."""

    model: nn.Module
    x: Tensor
    y: Tensor

    def accuracy(self, x: Tensor) -> float:
        with torch.no_grad():
            return float((self.model(x).argmax(-1) == self.y).float().mean())


def small_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(96, 16),
        nn.Tanh(),
        nn.Linear(16, 4),
    )


def pictures(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Four blurry patterns under noise: easy to learn, and easy to attack."""
    y = torch.arange(count) % 4
    line = torch.linspace(-1, 1, 8)
    patterns = torch.stack([line.expand(8, 8), -line.expand(8, 8), line.expand(8, 8).mT, -line.expand(8, 8).mT])
    noise = 0.12 * torch.randn(count, 1, 8, 8, generator=generator)
    return (0.5 + 0.1 * patterns[y][:, None] + noise).clamp(0, 1), y


@pytest.fixture(scope="session")
def victim() -> Victim:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(2)
        x, y = pictures(256, generator)
        model = small_net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(80):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.eval().zero_grad()
    return Victim(model, *pictures(32, generator))


@pytest.fixture
def stateful() -> nn.Module:
    """A model in mixed modes, with a frozen parameter, gradients at hand, batch statistics and dropout."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Flatten()
    ).append(nn.Linear(4 * 36, 4))
    model(torch.rand(9, 1, 8, 8)).sum().backward()
    model[0].bias.requires_grad_(False)
    model[3].eval()
    return model


class Trace:
    """Everything of a model, and of the global random state, that a search may not touch."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modes = [module.training for module in model.modules()]
        self.tracking = [getattr(module, "track_running_stats", None) for module in model.modules()]
        self.wanted = [p.requires_grad for p in model.parameters()]
        self.grads = [p.grad for p in model.parameters()]
        self.grad_values = [None if g is None else g.clone() for g in self.grads]
        self.values = {name: value.clone() for name, value in model.state_dict().items()}
        self.state, self.grad_mode = torch.get_rng_state(), torch.is_grad_enabled()

    def check(self) -> None:
        model = self.model
        assert [module.training for module in model.modules()] == self.modes
        assert [getattr(module, "track_running_stats", None) for module in model.modules()] == self.tracking
        assert [p.requires_grad for p in model.parameters()] == self.wanted
        for p, grad, value in zip(model.parameters(), self.grads, self.grad_values, strict=True):
            assert p.grad is grad
            assert grad is None or torch.equal(grad, value)
        assert all(torch.equal(value, self.values[name]) for name, value in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), self.state)
        assert torch.is_grad_enabled() == self.grad_mode


@pytest.fixture
def trace() -> type[Trace]:
    return Trace
