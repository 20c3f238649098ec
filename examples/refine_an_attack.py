"""Learn which pixels of a classifier's images are vulnerable, and cut an attack down to them (PVAR) in a plain loop.

    python examples/refine_an_attack.py [--quick]

The victim is any module that maps images to logits; the map is a U-Net of three levels. Beside the map stand, at the
same number of pixels, the largest perturbations, gradients times perturbations, and a random choice.
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import aureole as au
from aureole.refine import at_random, by_gradient, by_size, changed_share, refined, top_pixels

SHARE = 0.3


def trained_victim(x: Tensor, y: Tensor, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
    return model.eval()


def trained_map(victim: nn.Module, attack: au.PGD, x: Tensor, y: Tensor, epochs: int) -> nn.Module:
    network = au.UNet(1, 1, (16, 32, 64))
    method, source = au.PVAR(share=SHARE), au.LiveSource(victim, attack)
    optimizer = torch.optim.RAdam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            method.loss(network, au.Batch(x[index], y[index]), source).total.backward()
            optimizer.step()
    return network


def main(*, quick: bool) -> dict[str, tuple[float, float, float]]:
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(digits.target)
    x_test, y_test = x[1400:], y[1400:]
    victim = trained_victim(x[:1400], y[:1400], epochs=3 if quick else 30)
    attack = au.PGD(ball=au.Linf(0.3), num_steps=10, step_size=0.06)
    some = slice(0, 64 if quick else 1400)
    network = trained_map(victim, attack, x[some], y[some], epochs=1 if quick else 15)

    refiner = au.Refiner(network, share=SHARE)
    x_source = attack(victim, x_test, y_test)
    images = {"nothing changed": x_test, "the attack": x_source, "the map": refiner(x_test, x_source)}
    rankings = {
        "the largest": by_size(x_test, x_source),
        "by gradient": by_gradient(victim, x_test, x_source, y_test),
        "at random": at_random(x_test, au.Streams.of(0, torch.arange(len(x_test)))),
    }
    for name, ranking in rankings.items():
        images[name] = refined(x_test, x_source, top_pixels(ranking, refiner.count(x_test)))
    fewest = au.fewest_pixels(victim, x_test, x_source, refiner.map(x_test).detach(), y_test)
    images["the map, fewest"] = fewest.x_adv

    results: dict[str, tuple[float, float, float]] = {}
    print(f"{'pixels':>16}  accuracy  changed  l2")
    for name, x_adv in images.items():
        with torch.no_grad():
            accuracy = float((victim(x_adv).argmax(-1) == y_test).float().mean())
        length = float((x_adv - x_test).flatten(1).norm(dim=1).mean())
        results[name] = accuracy, float(changed_share(x_test, x_adv).mean()), length
        print(f"{name:>16}  {accuracy:8.3f}  {results[name][1]:7.3f}  {length:.2f}")
    return results


if __name__ == "__main__":
    main(quick="--quick" in sys.argv[1:])
