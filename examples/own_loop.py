"""Robust training in a loop of your own: two lines of ALD, on handwritten digits.

    python examples/own_loop.py [--quick]

Trains the same network twice, without and with the regulariser, and attacks both on the same test images. Nothing of
the library runs the loop: model, optimiser and batches are plain PyTorch.
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import aureole as au
from aureole.metrics import attack_success

BALL = au.Linf(0.15)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images and labels, test images and labels; pixels in [0, 1]."""
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1400], order[1400:]
    return x[train], y[train], x[test], y[test]


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def train(x: Tensor, y: Tensor, *, robust: bool, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    ald = au.ALD(au.ParticleSearch(BALL, num_particles=4, num_steps=5, step_size=0.05))  # line 1 of 2
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(64):
            images, labels = x[index], y[index]
            loss = F.cross_entropy(model(images), labels)
            if robust:
                loss = loss + ald(model, images, labels).mean()  # line 2 of 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def main(quick: bool = False) -> dict[str, dict[str, float]]:
    x, y, x_test, y_test = digits()
    if quick:
        x, y, x_test, y_test = x[:700], y[:700], x_test[:100], y_test[:100]
    attack = au.PGD(ball=BALL, num_steps=20, step_size=0.02, num_restarts=1 if quick else 5)
    results = {}
    for name, robust in (("natural", False), ("ALD", True)):
        model = train(x, y, robust=robust, epochs=4 if quick else 12)
        outcome = attack_success(model, attack, x_test, y_test, generator=torch.Generator().manual_seed(1))
        results[name] = {"natural": float(outcome.natural.float().mean()), "pgd": float(outcome.robust.float().mean())}
        print(f"{name:8} accuracy {results[name]['natural']:.3f}, under PGD {results[name]['pgd']:.3f}")
    return results


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
