"""AutoAttack beside pyautoattack, the authors' code as a package: outcomes, time and memory on trained models.

    python benchmarks/autoattack.py RUN [RUN...] [--norm linf|l2] [--radius R] [--num-examples 200]
        [--seeds 0 1 2] [--json FILE]

Each RUN is the folder of a finished ``aureole run``; its first test images are attacked by both in one process, one
after the other, on the same number of CPU threads, once for each seed. On one thread the time is that of this process,
which others on the machine do not lengthen. Peak memory is measured in a process of its own for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measure import describe, resident, spread, versions, write
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aureole import L2, AutoAttack, Ball, Linf, Streams
from aureole.training.fit import load_model

BALLS = {"linf": Linf, "l2": L2}
NORMS = {Linf: "Linf", L2: "L2"}
BATCH_SIZE = 250  # the default of both


class Case(NamedTuple):
    """A model, images that it is to withstand, and the ball."""

    model: nn.Module
    x: Tensor
    y: Tensor
    ball: Ball


def load(folder: Path, norm: str, radius: float | None, num_examples: int) -> Case:
    """Return the trained model of a run with its first test images; the radius is the run's own where none is given."""
    model, config = load_model(folder)
    images = config.data.test(num_examples)
    x = images.batch(torch.arange(num_examples)).float() / 255
    ball = BALLS[norm](config.evaluation.ball.radius if radius is None else radius)
    return Case(model.eval(), x, images.labels[:num_examples], ball)


def ours(case: Case, seed: int) -> Tensor:
    """Return our adversarial images."""
    attack = AutoAttack(ball=case.ball, max_batch=BATCH_SIZE)
    return attack(case.model, case.x, case.y, generator=Streams.of(seed, torch.arange(len(case.x))))


def theirs(case: Case, seed: int) -> Tensor:
    """Return the adversarial images of the reference."""
    from pyautoattack import AutoAttack as Reference

    norm = NORMS[type(case.ball)]
    attack = Reference(case.model, norm=norm, eps=case.ball.radius, version="standard", device="cpu", seed=seed)
    return attack.run_standard_evaluation(case.x, case.y, batch_size=BATCH_SIZE)[0]


RUNNERS = {"aureole": ours, "pyautoattack": theirs}


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Attack the images of one run with both."""
    case = load(folder, given.norm, given.radius, given.num_examples)
    with torch.no_grad():
        correct = case.model(case.x).argmax(-1) == case.y
    runs = [attack(case, seed, correct, given) for seed in given.seeds]
    mean = {name: statistics.mean(run["robust_accuracy"][name] for run in runs) for name in RUNNERS}
    return {
        "run": folder.name,
        "ball": f"{NORMS[type(case.ball)]} {case.ball.radius:g}",
        "num_examples": len(case.x),
        "natural_accuracy": float(correct.float().mean()),
        "robust_accuracy": mean,
        "times_faster": spread([run["times_faster"] for run in runs]),
        "seeds": runs,
        "peak_memory_bytes": {name: peak(folder, given, name) for name in RUNNERS},
    }


def attack(case: Case, seed: int, correct: Tensor, given: argparse.Namespace) -> dict[str, Any]:
    """Attack the images with both, under one seed."""
    robust, seconds = {}, {}
    clock = time.process_time if given.threads == 1 else time.perf_counter
    for name, run in RUNNERS.items():
        begin = clock()
        x_adv = run(case, seed)
        seconds[name] = clock() - begin
        with torch.no_grad():
            robust[name] = correct & (case.model(x_adv).argmax(-1) == case.y)
        outside = float((case.ball.distance(x_adv, case.x) - case.ball.radius).max())
        assert outside <= 1e-6, f"{name} leaves the ball by {outside}"
    return {
        "seed": seed,
        "robust_accuracy": {name: float(stood.float().mean()) for name, stood in robust.items()},
        "outcomes_that_differ": int((robust["aureole"] != robust["pyautoattack"]).sum()),
        "seconds": seconds,
        "times_faster": seconds["pyautoattack"] / seconds["aureole"],
    }


def peak(folder: Path, given: argparse.Namespace, name: str) -> int:
    """Return the peak memory that one of the two adds, in a process of its own (Linux)."""
    request = json.dumps([str(folder), given.norm, given.radius, given.num_examples, name, given.threads])
    command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", request]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_of(request: str) -> int:
    """Run one attack in this process, and return the peak of its memory."""
    folder, norm, radius, num_examples, name, threads = json.loads(request)
    torch.set_num_threads(threads)
    case = load(Path(folder), norm, radius, num_examples)
    small = case._replace(x=case.x[:2], y=case.y[:2])
    RUNNERS[name](small, 0)  # loads code
    before = resident(peak=False)
    RUNNERS[name](case, 0)
    return resident(peak=True) - before


def show(results: list[dict[str, Any]]) -> None:
    """Print a line for each model."""
    table = Table(
        "run", "ball", "natural", "robust: aureole", "pyautoattack", "differ, of each seed", "times faster", "MiB"
    )
    for r in results:
        robust = (f"{r['robust_accuracy'][name]:.4f}" for name in RUNNERS)
        size = " / ".join(f"{r['peak_memory_bytes'][name] / 2**20:.0f}" for name in RUNNERS)
        differ = ", ".join(str(run["outcomes_that_differ"]) for run in r["seeds"])
        faster = f"{r['times_faster']['median']:.2f}"
        table.add_row(r["run"], r["ball"], f"{r['natural_accuracy']:.3f}", *robust, differ, faster, size)
    Console(width=140).print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="AutoAttack here beside pyautoattack: outcomes, time and memory.")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--norm", choices=sorted(BALLS), default="linf")
    parser.add_argument("--radius", type=float, help="by default that of the run")
    parser.add_argument("--num-examples", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.memory_of:
        print(memory_of(given.memory_of))
        return
    torch.set_num_threads(given.threads)
    results = [measure(folder, given) for folder in given.runs]
    show(results)
    write(given.json, device=describe("cpu"), versions=versions("pyautoattack"), results=results)


if __name__ == "__main__":
    main()
