"""The sparse attacks on trained models: accuracy left, changed pixels, distance and time; JSMA's cost on a large image.

    python benchmarks/sparse.py [--run FOLDER...] [--num-examples 100] [--json FILE]

Each FOLDER is that of a finished ``aureole run``. The settings named "thesis" are those of section 3.4.2, with
the radius of the run's evaluation as the strength (0.3 on MNIST, 0.03 on CIFAR-10), to be read beside Table 3.1; the
others are the attacks at limits that leave them free. The last table is one image of 3 x 224 x 224 and a small network
of 1,000 classes: peak memory of the whole process, and time of a step of JSMA beside the model's part of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measure import describe, resident, versions, write
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aureole.attacks.jacobian import Linearised
from aureole.attacks.minimal import MinimalAttack
from aureole.attacks.sparse import JSMA, CornerSearch, SparseFool
from aureole.core.balls import Linf
from aureole.core.random import Streams
from aureole.training.fit import load_model


def settings(radius: float, channels: int) -> dict[str, MinimalAttack]:
    """Return the attacks by name."""
    return {
        "JSMA, theta 1": JSMA(gamma=0.5),
        "JSMA, thesis": JSMA(theta=radius, gamma=0.3),
        "JSMA, thesis, gamma 1": JSMA(theta=radius, gamma=1.0),
        "SparseFool, lambda 1": SparseFool(lambda_=1.0),
        "SparseFool, lambda 3": SparseFool(),
        "SparseFool, thesis": SparseFool(ball=Linf(radius), lambda_=2.0),
        "CornerSearch": CornerSearch(max_pixels=0.7),
        "CornerSearch, thesis, fewer sets": CornerSearch(
            max_pixels=0.7, kappa=1.5 if channels == 1 else 1.0, num_samples=200, increment=20
        ),
    }


def measure(attack: MinimalAttack, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Attack, and return what it did; the distances are those of the images that the attack fooled."""
    begin, cpu = time.perf_counter(), time.process_time()
    x_adv = attack(model, x, y, generator=Streams.of(0, torch.arange(len(x))))
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    with torch.no_grad():
        standing, natural = model(x_adv).argmax(-1) == y, model(x).argmax(-1) == y
    change = (x_adv - x)[natural & ~standing]
    pixels = (change != 0).any(1).flatten(1).float()
    return {
        "num_examples": len(x),
        "natural_accuracy": float(natural.float().mean()),
        "adversarial_accuracy": float(standing.float().mean()),
        "pixels_share": float(pixels.mean()),
        "pixels": float(pixels.sum(1).mean()),
        "features": float((change != 0).flatten(1).sum(1).float().mean()),
        "l2": float(change.flatten(1).norm(dim=1).mean()),
        "linf": float(change.flatten(1).abs().amax(1).mean()),
        "seconds_per_image": seconds / len(x),
        "cpu_seconds_per_image": cpu_seconds / len(x),
    }


def on_run(folder: Path, num_examples: int, num_corner: int) -> dict[str, Any]:
    """Measure all attacks on the first test images of a run."""
    model, config = load_model(folder)
    images = config.data.test(num_examples)
    x, y = images.batch(torch.arange(num_examples)).float() / 255, images.labels[:num_examples]
    radius, rows = config.evaluation.ball.radius, {}
    for name, attack in settings(radius, x.shape[1]).items():
        count = min(num_corner, num_examples) if isinstance(attack, CornerSearch) else num_examples
        rows[name] = measure(attack, model, x[:count], y[:count])
        print(f"{name}: {rows[name]['adversarial_accuracy']:.3f}", file=sys.stderr, flush=True)
    return {"model": config.model.name, "data": config.data.source.rsplit("/", 1)[-1], "radius": radius, "rows": rows}


def large_image() -> dict[str, float]:
    """Run JSMA on one large image in this process."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 7, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, 2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 1000)).eval()
    x = torch.rand(1, 3, 224, 224, generator=generator)
    target = model(x).detach().argsort(1)[:, 500]
    steps = 100
    attack = JSMA(theta=0.03, gamma=2 * steps / x.numel(), targeted=True)
    attack(model, x, target)
    begin = time.process_time()
    attack(model, x, target)
    step = (time.process_time() - begin) / steps
    begin = time.process_time()
    for _ in range(20):
        here = Linearised(model, x)
        here.gradient(torch.ones_like(here.logits)), here.gradient(torch.ones_like(here.logits))
    return {"seconds_per_step": step, "model_alone": (time.process_time() - begin) / 20, "bytes": resident(peak=True)}


def show(results: list[dict[str, Any]], large: dict[str, float]) -> None:
    """Print a table for each run, and the large image's."""
    console = Console(highlight=False)
    for result in results:
        title = f"{result['data']}, {result['model']}, strength {result['radius']:g}"
        table = Table("attack", "images", "accuracy", "pixels", "L2", "CPU s an image", title=title)
        for name, row in result["rows"].items():
            pixels = f"{100 * row['pixels_share']:.1f} % ({row['pixels']:.1f})"
            numbers = f"{row['l2']:.2f}", f"{row['cpu_seconds_per_image']:.3f}"
            accuracy = f"{row['natural_accuracy']:.3f} -> {row['adversarial_accuracy']:.3f}"
            table.add_row(name, f"{row['num_examples']:g}", accuracy, pixels, *numbers)
        console.print(table)
    step, model = (1000 * large[name] for name in ("seconds_per_step", "model_alone"))
    memory = large["bytes"] / 2**20
    console.print(f"JSMA, 3 x 224 x 224: {memory:.0f} MiB for the process; {step:.1f} ms a step, the model {model:.1f}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Sparse attacks on trained models, and JSMA's cost on a large image.")
    parser.add_argument("--run", type=Path, nargs="*", default=[], metavar="FOLDER", help="finished runs")
    parser.add_argument("--num-examples", type=int, default=100, help="the first test images")
    parser.add_argument("--num-corner", type=int, default=50, help="of them, for CornerSearch, which takes longest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.large:
        print(json.dumps(large_image()))
        return
    command = [sys.executable, str(Path(__file__).resolve()), "--large"]  # its memory is a process's own
    large = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    results = [on_run(folder, given.num_examples, given.num_corner) for folder in given.run]
    show(results, large)
    write(given.json, device=describe("cpu"), versions=versions(), runs=results, jsma_large=large)


if __name__ == "__main__":
    main()
