"""Spread and strength of particles from restarts, Stein with two widths, and Langevin.

    python examples/particles_compared.py [--quick]

All samplers take the same steps from the same starts on the same model. Read the two sides of the table together:
spread is worth having only where the particles still fool the model.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import aureole as au
from aureole.particles import Steepest

BASE = au.ParticleSearch(au.Linf(0.15), num_particles=4, num_steps=40, step_size=0.015)
SAMPLERS = {
    "restarts": replace(BASE, kernel=None),
    "Stein, width of the thesis": replace(BASE, kernel=au.RBF("thesis")),
    "Stein, median, T = 1": replace(BASE, temperature=1.0),
    "Stein, the default": BASE,
    "Langevin": replace(BASE, kernel=None, step=au.Langevin(noise=1.0, rule=Steepest())),
}


def trained(x: Tensor, y: Tensor, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
    return model.eval()


def main(quick: bool = False) -> dict[str, dict[str, float]]:
    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
    model = trained(x[:1400], y[:1400], epochs=5 if quick else 20)
    with torch.no_grad():
        right = model(x[1400:]).argmax(-1) == y[1400:]
    x, y = x[1400:][right][: 32 if quick else 200], y[1400:][right][: 32 if quick else 200]
    print(f"{'sampler':28} {'spread':>8} {'cosine':>8} {'loss':>8} {'accuracy':>9} {'kernel':>8}")
    results = {}
    for name, search in SAMPLERS.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the kernel is too narrow")  # that is what the table shows
            particles = search(model, x, y, generator=torch.Generator().manual_seed(0))
        measured = particles.diversity(model, y)
        results[name] = row = {
            "spread": float(measured.squared_distance.mean()),
            "cosine": float(measured.cosine.mean()),
            "loss": float(measured.objective.mean()),
            "accuracy": float((measured.predictions == y).all(0).float().mean()),
            "kernel": float("nan") if particles.kernel is None else float(particles.kernel.mean()),
        }
        print(f"{name:28} " + " ".join(f"{value:{8 + (key == 'accuracy')}.3f}" for key, value in row.items()))
    print("spread: mean pairwise squared distance; accuracy: share of images that every particle leaves correct")
    return results


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
