"""Attack any module that maps images to logits: three balls, restarts, targets.

    python examples/attack_any_model.py [--quick]

The attacked model is one that returns an object with ``.logits``, as the models of `transformers` do. It expects
normalised images; the normalisation is part of the module, so that attacks see pixels in [0, 1]. Nothing is
registered and nothing subclassed; the attacks leave the model as they found it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import aureole as au
from aureole.metrics import attack_success


@dataclass
class Output:
    """What the model returns."""

    logits: Tensor


class Classifier(nn.Module):
    """A network of somebody else's."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, x: Tensor) -> Output:
        return Output(logits=self.body((x - 0.3) / 0.4))


def trained(x: Tensor, y: Tensor, epochs: int) -> Classifier:
    torch.manual_seed(0)
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]).logits, y[index]).backward()
            optimizer.step()
    return model.eval()


def attacks(num_steps: int) -> dict[str, au.PGD]:
    """Return attacks by name. A step is a fifth of the radius, but for L1, where a step moves one pixel."""
    return {
        "Linf 0.1": au.PGD(ball=au.Linf(0.1), num_steps=num_steps, step_size=0.02),
        "Linf 0.1, 5 restarts": au.PGD(ball=au.Linf(0.1), num_steps=num_steps, step_size=0.02, num_restarts=5),
        "Linf 0.1, margin": au.PGD(ball=au.Linf(0.1), num_steps=num_steps, step_size=0.02, objective=au.Margin()),
        "L2 0.5": au.PGD(ball=au.L2(0.5), num_steps=num_steps, step_size=0.1),
        "L1 2": au.PGD(ball=au.L1(2.0), num_steps=num_steps, step_size=0.4),
    }


def main(quick: bool = False) -> dict[str, float]:
    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
    model = trained(x[:1400], y[:1400], epochs=5 if quick else 30)
    x, y = (x[1400:1500], y[1400:1500]) if quick else (x[1400:], y[1400:])
    results = {}
    print(f"{'attack':22} {'robust accuracy':>15} {'largest distance':>17}")
    for name, attack in attacks(num_steps=10 if quick else 40).items():
        outcome = attack_success(model, attack, x, y, generator=torch.Generator().manual_seed(0))
        results["natural"] = float(outcome.natural.float().mean())
        results[name] = float(outcome.robust.float().mean())
        print(f"{name:22} {results[name]:15.3f} {float(outcome.distance.max()):17.4f}")
    targets = (y + 1) % 10
    pull = au.PGD(ball=au.Linf(0.1), num_steps=40, step_size=0.02, targeted=True)
    x_adv = pull(model, x, targets, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        results["target reached"] = float((model(x_adv).logits.argmax(-1) == targets).float().mean())
    print(f"without an attack: {results['natural']:.3f}; pulled to the next class: {results['target reached']:.3f}")
    return results


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
