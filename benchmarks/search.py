"""What a particle search costs over its floor, beside a peer, in memory, and at other precisions.

    python benchmarks/search.py [--quick] [--json FILE] [--device cuda]

The floor of a search is num_particles x num_steps x (forward + backward to the input): the same batched model calls on
frozen parameters, with no search around them. All that is compared is run in one process, one after the other, in turn
and in changing order; a ratio is the median over the repetitions of the ratio within one repetition. Memory is measured
in a process of its own for each case on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from measure import describe, resident, spread, versions, write
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aureole import PGD, RBF, Linf, ParticleSearch
from aureole.models import ModelConfig

BALL = Linf(8 / 255)
SHAPES = {"lenet5": (1, 28, 28), "resnet18": (3, 32, 32)}
KERNELS = {"none": None, "rbf": RBF()}


@dataclass(frozen=True)
class Load:
    """A model with the number of images and of steps that it is measured at."""

    model: str
    batch_size: int
    num_steps: int

    def build(self, device: str) -> tuple[nn.Module, Tensor, Tensor]:
        """Return the model in evaluation mode, images and labels."""
        model = ModelConfig(name=self.model).build(num_classes=10, image_shape=SHAPES[self.model], seed=0)
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self.batch_size, *SHAPES[self.model], generator=generator)
        y = torch.randint(0, 10, (self.batch_size,), generator=generator)
        return model.to(device).eval(), x.to(device), y.to(device)

    def search(self, num_particles: int, kernel: str) -> ParticleSearch:
        """Return the search that is measured."""
        return ParticleSearch(BALL, num_particles=num_particles, num_steps=self.num_steps, kernel=KERNELS[kernel])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured: the models, the particles, and how often."""

    device: str
    repetitions: int
    loads: tuple[Load, ...]
    particles: tuple[int, ...]
    curve: tuple[int, ...]
    precisions: tuple[str, ...]

    @classmethod
    def of(cls, device: str, *, quick: bool, repetitions: int | None) -> Plan:
        """Return the plan that fits a device and the time at hand."""
        cuda = device == "cuda"
        small, large = Load("lenet5", 128, 10), Load("resnet18", 128 if cuda else 32, 10 if cuda else 2)
        precisions = ("float32", "bfloat16", "channels-last", "both", "compiled")
        plan = cls(
            device=device,
            repetitions=20 if cuda else 5,
            loads=(small, large),
            particles=(1, 4),
            curve=(1, 2, 4, 8),
            precisions=precisions,
        )
        if quick:
            loads = plan.loads if cuda else (Load("lenet5", 128, 3), Load("resnet18", 4, 2))
            kept = precisions if cuda else precisions[:3]
            plan = replace(plan, repetitions=10 if cuda else 3, loads=loads, precisions=kept)
        return plan if repetitions is None else replace(plan, repetitions=repetitions)


@dataclass
class Row:
    """One measurement: seconds (or bytes) of each repetition, and the ratio to what it is compared with."""

    part: str
    case: str
    unit: str
    values: list[float]
    compared_with: str = ""
    ratios: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the median and the spread of the ratio beside the raw values."""
        return asdict(self) | {"median": statistics.median(self.values), "ratio": spread(self.ratios)}


def floor(model: nn.Module, x: Tensor, num_particles: int, num_steps: int) -> Tensor:
    """Call the model as a search would, and do nothing else."""
    rows = x.repeat(num_particles, 1, 1, 1)
    gradient = rows
    for _ in range(num_steps):
        rows = rows.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model(rows).sum(), rows)
    return gradient


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    yield
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def floor_call(model: nn.Module, x: Tensor, num_particles: int, num_steps: int) -> Callable[[], object]:
    """Return a function that runs the floor on frozen parameters."""

    def call() -> object:
        with frozen_parameters(model):
            return floor(model, x, num_particles, num_steps)

    return call


def seconds(call: Callable[[], object], device: str) -> float:
    """Return the time of one call: with an accelerator, whose work is included, wall time.

    On one CPU thread it is the time of this process, which others on the machine do not lengthen.
    """
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device == "cuda":
        torch.cuda.synchronize()
    begin = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


def interleaved(calls: Mapping[str, Callable[[], object]], plan: Plan) -> dict[str, list[float]]:
    """Time calls in turn, beginning with another one in each repetition, after one round to warm up."""
    names = list(calls)
    for name in names:
        calls[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(plan.repetitions):
        shift = repetition % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(seconds(calls[name], plan.device))
    return times


def rows_of(part: str, times: dict[str, list[float]], base: str, scale: float = 1.0) -> list[Row]:
    """Return a row for each series, compared with ``base`` repetition by repetition."""
    return [
        Row(part, name, "s", values, base, [scale * v / b for v, b in zip(values, times[base], strict=True)])
        for name, values in times.items()
    ]


def over_floor(plan: Plan, load: Load) -> list[Row]:
    """Measure the search over its floor, with and without a kernel."""
    model, x, y = load.build(plan.device)
    rows = []
    for n in plan.particles:
        calls = {"floor": floor_call(model, x, n, load.num_steps)}
        for kernel in KERNELS:
            search = load.search(n, kernel)
            calls[f"kernel {kernel}"] = lambda search=search: search(model, x, y)
        part = f"search / floor: {load.model}, batch {load.batch_size}, {load.num_steps} steps, {n} particle(s)"
        rows += rows_of(part, interleaved(calls, plan), "floor")
    return rows


def beside_foolbox(plan: Plan, load: Load) -> list[Row]:
    """Measure our PGD beside foolbox's, whose user may or may not have frozen the parameters."""
    try:
        import foolbox
    except ImportError:
        return []
    model, x, y = load.build(plan.device)
    ours = PGD(ball=BALL, num_steps=load.num_steps, step_size=2 / 255)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=2 / 255, steps=load.num_steps)

    def run_frozen() -> object:
        with frozen_parameters(model):
            return attack.run(peer, x, y, epsilon=BALL.radius)

    calls: dict[str, Callable[[], object]] = {
        "aureole": lambda: ours(model, x, y),
        "foolbox": lambda: attack.run(peer, x, y, epsilon=BALL.radius),
        "foolbox, frozen": run_frozen,
    }
    part = f"PGD: {load.model}, batch {load.batch_size}, {load.num_steps} steps"
    return rows_of(part, interleaved(calls, plan), "aureole")


def per_particle(plan: Plan, load: Load) -> list[Row]:
    """Measure the time of one particle as particles are added."""
    model, x, y = load.build(plan.device)
    searches = {n: load.search(n, "rbf") for n in plan.curve}
    calls = {f"{n} particle(s)": lambda s=search: s(model, x, y) for n, search in searches.items()}
    times = interleaved(calls, plan)
    times = {f"{n} particle(s)": [t / n for t in times[f"{n} particle(s)"]] for n in plan.curve}
    part = f"time a particle: {load.model}, batch {load.batch_size}, {load.num_steps} steps"
    return rows_of(part, times, f"{plan.curve[0]} particle(s)")


def at_precisions(plan: Plan, load: Load) -> list[Row]:
    """Measure bfloat16, channels-last and compilation against float32 in eager mode; results may differ slightly."""
    _, x, y = load.build(plan.device)
    search, calls, rows = load.search(4 if plan.device == "cuda" else 1, "rbf"), {}, []
    part = (
        f"precision: {load.model}, batch {load.batch_size}, {load.num_steps} steps, {search.num_particles} particle(s)"
    )
    for name in plan.precisions:
        model = load.build(plan.device)[0]
        if name in ("channels-last", "both", "compiled"):
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if name == "compiled":
            model.compile()
        call = _autocast_call(search, model, x, y, plan.device, enabled=name in ("bfloat16", "both", "compiled"))
        try:
            call()
        except Exception as error:  # no compiler, or no such type on this device: a result too
            rows.append(Row(part, f"{name}: {type(error).__name__}", "s", [0.0], "not measured"))
            continue
        calls[{"both": "bfloat16, channels-last", "compiled": "bfloat16, channels-last, compiled"}.get(name, name)] = (
            call
        )
    return rows_of(part, interleaved(calls, plan), "float32") + rows


def _autocast_call(
    search: ParticleSearch, model: nn.Module, x: Tensor, y: Tensor, device: str, *, enabled: bool
) -> Callable[[], object]:
    def call() -> object:
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            return search(model, x, y)

    return call


def memory_bytes(load: Load, case: str, num_particles: int, device: str) -> int:
    """Return the peak memory of one run in this process, above what model and images take."""
    model, x, y = load.build(device)
    call = floor_call(model, x, num_particles, load.num_steps)
    if case != "floor":
        search = load.search(num_particles, case)
        call = lambda: search(model, x, y)  # noqa: E731
    if device == "cuda":
        call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    load.search(2, "rbf")(model, x[:1], y[:1])  # loads the code
    before = resident(peak=False)
    call()
    return resident(peak=True) - before


def memory(plan: Plan, load: Load) -> list[Row]:
    """Measure the peak memory of the floor and of the search, each in a process of its own on a CPU (Linux only)."""
    n, values = max(plan.particles), {}
    if plan.device == "cpu" and not Path("/proc/self/clear_refs").exists():
        return []
    for case in ("floor", *KERNELS):
        if plan.device == "cuda":
            values[case] = float(memory_bytes(load, case, n, plan.device))
            continue
        request = json.dumps([asdict(load), case, n, torch.get_num_threads()])
        command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", request]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        values[case] = float(done.stdout)
    part = f"peak memory: {load.model}, batch {load.batch_size}, {n} particles"
    names = {case: case if case == "floor" else f"kernel {case}" for case in values}
    return [
        Row(part, names[case], "MiB", [value / 2**20], "floor", [value / values["floor"]])
        for case, value in values.items()
    ]


def measure(plan: Plan) -> list[Row]:
    """Run the whole plan."""
    small, large = plan.loads
    rows = [row for load in plan.loads for row in over_floor(plan, load)]
    several = plan.loads if plan.device == "cuda" else (small,)
    for part in (beside_foolbox, per_particle, memory):
        rows += [row for load in several for row in part(plan, load)]
    return rows + at_precisions(plan, large)


def show(rows: list[Row], device: str) -> None:
    """Print a table for each part."""
    console = Console(highlight=False)
    console.print(f"[bold]Particle search on {device}[/bold]\n")
    for part in dict.fromkeys(row.part for row in rows):
        table = Table("case", "median", "ratio", "least to greatest", "to", title=part, title_justify="left")
        for row in rows:
            if row.part != part:
                continue
            median, ratio = statistics.median(row.values), spread(row.ratios)
            text = f"{median:.1f} MiB" if row.unit == "MiB" else f"{1000 * median:.2f} ms"
            between = f"{ratio['least']:.3f} to {ratio['greatest']:.3f}" if ratio else ""
            table.add_row(row.case, text, f"{ratio['median']:.3f}" if ratio else "", between, row.compared_with)
        console.print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time and memory of the particle search beside its floor and a peer.")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the raw measurements go")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repetitions", type=int, help="of each measurement, in place of the plan's")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        load, case, n, threads = json.loads(given.memory_of)
        torch.set_num_threads(threads)
        print(memory_bytes(Load(**load), case, n, "cpu"))
        return
    torch.set_num_threads(given.threads)
    plan = Plan.of(given.device, quick=given.quick, repetitions=given.repetitions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = measure(plan)
    show(rows, describe(given.device))
    write(
        given.json,
        settings=asdict(plan) | {"threads": torch.get_num_threads(), "quick": given.quick},
        versions=versions("foolbox"),
        device=describe(given.device),
        measurements=[row.summary() for row in rows],
    )


if __name__ == "__main__":
    main()
