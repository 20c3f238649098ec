"""What a step of learning from few labels costs: VAT and ALD over their passes, the others beside the supervised step.

    python benchmarks/semisup.py [--quick] [--json FILE]

A step is loss, backward and SGD on random images, 64 with and 64 without a label unless said otherwise. The floor is
the same step in plain PyTorch with nothing between the passes: a clean forward pass of the images that are searched,
num_particles x (forward + backward to the input) on frozen parameters, and the training passes (labelled images, clean
unlabelled ones without gradient, all particles; backward; SGD). The budget has num_particles clean passes instead of
one. All that is compared is run in one process, in turn and in changing order; a ratio is the median over the
repetitions of the ratio within one repetition. Memory is measured in a process of its own for each case (Linux).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measure import describe, resident, spread, versions, write
from rich.console import Console
from rich.table import Table
from search import Row, frozen_parameters, rows_of, seconds
from torch import Tensor, nn

from aureole.core.method import Batch, Method, Unlabelled
from aureole.core.random import Streams
from aureole.models import ModelConfig
from aureole.semisup import ALDVAT, VAT, FixMatch, MeanTeacher, MixMatch, PiModel, Supervised

SHAPES = {"lenet5": (1, 28, 28), "resnet8": (3, 32, 32)}
CHUNK = 64  # images in one pass of a bounded search
SEARCHING: Mapping[str, VAT] = {"VAT": VAT(), "ALD": ALDVAT()}
BASELINES: Mapping[str, Method] = {
    "supervised": Supervised(),
    "Pi-model": PiModel(),
    "Mean Teacher": MeanTeacher(),
    "FixMatch": FixMatch(),
    "MixMatch": MixMatch(),
    "VAT": SEARCHING["VAT"],
    "ALD, 4 particles": SEARCHING["ALD"],
}


@dataclass(frozen=True)
class Load:
    """A model with the images of a step.

    Attributes:
        model: its name.
        labelled: images with a label.
        unlabelled: images without.
        repetitions: of a measurement with one particle; with more, as many fewer.
    """

    model: str
    labelled: int = 64
    unlabelled: int = 64
    repetitions: int = 160

    def network(self) -> nn.Module:
        """Return the model in training mode."""
        return ModelConfig(name=self.model).build(num_classes=10, image_shape=SHAPES[self.model], seed=0).train()

    def batch(self, views: int = 1) -> Batch:
        """Return random images, in so many views."""
        generator, shape = torch.Generator().manual_seed(0), SHAPES[self.model]
        x, *x_u = (
            torch.rand(count, *shape, generator=generator) for count in (self.labelled, *[self.unlabelled] * views)
        )
        places = torch.arange(self.unlabelled)
        return Batch(
            x=x,
            y=torch.randint(0, 10, (self.labelled,), generator=generator),
            epoch=100,
            step=1,
            streams=Streams.of(0, torch.arange(self.labelled)),
            unlabelled=Unlabelled(tuple(x_u), places, Streams.of(1, places)),
        )

    @property
    def words(self) -> str:
        """What is run, in words."""
        return f"{self.model}, {self.labelled} + {self.unlabelled} images"


def step(load: Load, method: Method) -> Callable[[], None]:
    """Return a function that trains a model by one step of a method."""
    model, batch = load.network(), load.batch(len(getattr(method, "views", ("plain",))))
    modules, optimizer = method.own(model, batch.x), torch.optim.SGD(model.parameters(), 1e-6)

    def call() -> None:
        optimizer.zero_grad()
        method.loss(model, batch, modules).total.backward()
        optimizer.step()
        method.after_step(model, batch, modules)

    return call


def floor(load: Load, method: VAT, clean_passes: int = 1) -> Callable[[], None]:
    """Return a function that runs the passes of a step, and nothing else."""
    model, batch, n = load.network(), load.batch(), method.num_particles
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    assert batch.unlabelled is not None
    (x_u,) = batch.unlabelled.views
    centres = torch.cat([x_u, batch.x]) if method.labelled_weight else x_u
    rows, clean = (centres.repeat(count, 1, 1, 1) for count in (n, clean_passes))

    def call() -> None:
        optimizer.zero_grad()
        with frozen_parameters(model):
            _no_gradient(model, clean)
            torch.autograd.grad(model(rows.requires_grad_()).sum(), rows)
        labelled = model(batch.x)
        _no_gradient(model, x_u)
        (labelled.sum() + model(rows.detach()).sum()).backward()
        optimizer.step()

    return call


@torch.no_grad()
def _no_gradient(model: nn.Module, x: Tensor) -> None:
    model(x)


def timed(calls: Mapping[str, Callable[[], None]], repetitions: int) -> dict[str, list[float]]:
    """Time calls in turn after one round to warm up: each repetition begins with another one, every second in reverse.

    So none always comes after the same one, which leaves it a cache and a heap in the same state.
    """
    names = list(calls)
    for name in names:
        calls[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions):
        shift = repetition // 2 % len(names)
        for name in (names[shift:] + names[:shift])[:: -1 if repetition % 2 else 1]:
            times[name].append(seconds(calls[name], "cpu"))
    return times


def with_particles(method: VAT, num_particles: int) -> VAT:
    """Return the method with so many particles."""
    return replace(method, search=replace(method.search, num_particles=num_particles))


def over_floor(load: Load, num_particles: int) -> Iterable[Row]:
    """Measure a step of VAT and of ALD over its floor and over the budget."""
    for name, method in SEARCHING.items():
        chosen = with_particles(method, num_particles)
        calls = {"floor": floor(load, chosen), "budget": floor(load, chosen, num_particles), name: step(load, chosen)}
        times = timed(calls, load.repetitions // num_particles)
        part = f"step / floor: {name}, {load.words}, {num_particles} particle(s)"
        yield from rows_of(part, times, "floor")
        yield rows_of(part, times, "budget")[-1]


def beside_supervised(load: Load) -> Iterable[Row]:
    """Measure a step of every method beside that on the labelled images alone; making views is no part of it."""
    calls = {name: step(load, method) for name, method in BASELINES.items()}
    return rows_of(f"step / supervised step: {load.words}", timed(calls, load.repetitions // 4), "supervised")


def search_alone(load: Load, method: VAT) -> Callable[[], None]:
    """Return a function that searches as a step does."""
    model, batch = load.network(), load.batch()
    assert batch.unlabelled is not None
    centres = torch.cat([*batch.unlabelled.views, batch.x])
    return lambda: (method.search(model, centres), None)[1]


def case(load: Load, name: str) -> Callable[[], None]:
    """Return what memory is measured of: the search or the step, bounded or not, or its floor."""
    method = with_particles(SEARCHING["ALD"], 8)
    bounded = CHUNK if name.endswith("max_batch") else None
    method = replace(method, search=replace(method.search, mode="eval", max_batch=bounded))
    if name == "floor":
        return floor(load, method)
    return search_alone(load, method) if name.startswith("search") else step(load, method)


def memory_bytes(load: Load, name: str) -> int:
    """Return the peak memory of one call in this process, above what model and images take."""
    call = case(load, name)
    case(replace(load, labelled=2, unlabelled=2), name)()  # loads the code
    before = resident(peak=False)
    call()
    return resident(peak=True) - before


def memory(load: Load) -> Iterable[Row]:
    """Measure the peak memory of search and step with and without ``max_batch``."""
    if not Path("/proc/self/clear_refs").exists():
        return
    names, values = ("floor", "search", "search, max_batch", "step", "step, max_batch"), {}
    for name in names:
        request = json.dumps([asdict(load), name, torch.get_num_threads()])
        command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", request]
        values[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 2**20
    part = f"peak memory: ALD, {load.words}, 8 particles, max_batch {CHUNK}"
    for name, value in values.items():
        yield Row(part, name, "MiB", [value], "floor", [value / values["floor"]])


def measure(loads: tuple[Load, Load], particles: tuple[int, ...]) -> Iterable[Row]:
    """Run everything."""
    small, large = loads
    for num_particles in particles:
        yield from over_floor(small, num_particles)
    yield from over_floor(large, 4)
    yield from beside_supervised(small)
    yield from memory(small)
    yield from memory(large)


def summary(row: Row) -> dict[str, Any]:
    """Return the spread of a row's values and ratios, for the values themselves are many."""
    return {
        "part": row.part,
        "case": row.case,
        "repetitions": len(row.values),
        "unit": row.unit,
        "value": spread(row.values),
        "compared_with": row.compared_with,
        "ratio": spread(row.ratios),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table for each part."""
    console = Console(width=120, highlight=False)
    for part in dict.fromkeys(row["part"] for row in rows):
        table = Table("case", "median", "ratio", "least to greatest", "to", title=part, title_justify="left")
        for row in rows:
            if row["part"] == part:
                median, ratio = row["value"]["median"], row["ratio"]
                value = f"{median:.1f} MiB" if row["unit"] == "MiB" else f"{1000 * median:.2f} ms"
                reach = f"{ratio['least']:.3f} to {ratio['greatest']:.3f}"
                table.add_row(row["case"], value, f"{ratio['median']:.3f}", reach, row["compared_with"])
        console.print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time and memory of a step of learning from few labels.")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.memory_of:
        load, name, threads = json.loads(given.memory_of)
        torch.set_num_threads(threads)
        print(memory_bytes(Load(**load), name))
        return
    torch.set_num_threads(given.threads)
    loads, particles = (Load("lenet5"), Load("resnet8", repetitions=32)), (1, 2, 4, 8)
    if given.quick:
        loads, particles = (Load("lenet5", repetitions=28), Load("resnet8", 8, 8, repetitions=12)), (1, 4)
    rows = [summary(row) for row in measure(loads, particles)]
    show(rows)
    write(
        given.json,
        settings={"loads": [asdict(load) for load in loads], "particles": particles, "threads": given.threads},
        versions=versions(),
        device=describe("cpu"),
        measurements=rows,
    )


if __name__ == "__main__":
    main()
