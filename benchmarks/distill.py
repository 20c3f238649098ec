"""What a step of distillation costs: every method beside the student alone, and TALD with its cheaper forms beside BSS.

    python benchmarks/distill.py [--quick] [--json FILE] [--device cuda] [--pair resnet20 resnet8] [--batch-size 64]

A step is loss, backward and SGD on random images of 32x32, in the same batch for all. The last layers are fitted to the
labels, so that both networks classify the images and BSS has all of them to walk from; how many steps that takes hangs
on the networks, so that it is measured too where no image crosses and all ten are taken. All that is compared is run
in one process, in turn and in changing order; a ratio is the median over the repetitions of the ratio within one
repetition. Where particles are reused, the time is the mean over a search and its reuses. Memory is measured in a
process of its own for each case on a CPU (Linux). After their stage AB and FSP look at the labels alone.
"""

from __future__ import annotations

import argparse
import copy
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
from search import Row, rows_of, seconds
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.attacks.bss import BSSAttack
from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.random import Streams
from aureole.distill import (
    AB,
    AT,
    BSS,
    CC,
    CRD,
    FSP,
    FT,
    HSAKD,
    KD,
    NST,
    PKT,
    RKD,
    SP,
    SSKD,
    TALD,
    VID,
    Distillation,
    FitNet,
    Supporting,
)
from aureole.models import ModelConfig
from aureole.recipes.tald_study import FORMS as CHEAPER

PLAIN, BSS_STEP, ALL_STEPS = "student alone", "KD + BSS", "KD + BSS, all 10 steps"
_METHODS = (KD, FitNet, AT, SP, CC, VID, RKD, PKT, AB, FT, NST, CRD, SSKD, HSAKD, FSP, BSS)
TRAINED: Mapping[str, Distillation] = {method.title: method() for method in _METHODS}
STAGES = {f"{name}, stage before": m for name, m in TRAINED.items() if m.warm_up}


def _tald(num_particles: int = 4, **fields: Any) -> Distillation:
    plain = TALD()
    return KD(tald=replace(plain, search=replace(plain.search, num_particles=num_particles), **fields))


FORMS: Mapping[str, Distillation] = {
    "KD": KD(),
    BSS_STEP: BSS.with_kd(),
    ALL_STEPS: replace(BSS.with_kd(), supporting=Supporting(attack=BSSAttack(step_size=1e-9))),
    "KD + TALD, N = 1": _tald(1),
    "KD + TALD, N = 2": _tald(2),
    "KD + TALD, N = 4": _tald(),
    **{f"N = 4, {name}": _tald(**fields) for name, fields in CHEAPER.items()},
}
CASES: Mapping[str, Distillation] = {**TRAINED, **STAGES, **FORMS}
QUICK = ("KD", "CRD", BSS_STEP, "KD + TALD, N = 4", "N = 4, fraction 0.25")


@dataclass(frozen=True, kw_only=True)
class Load:
    """Networks, images and how often.

    Attributes:
        teacher: its name.
        student: its name.
        batch_size: images of a step.
        device: that runs it.
        repetitions: of each measurement.
        num_examples: of the training set, for CRD's memory.
    """

    teacher: str = "resnet20"
    student: str = "resnet8"
    batch_size: int = 64
    device: str = "cpu"
    repetitions: int = 15
    num_examples: int = 50_000

    @property
    def words(self) -> str:
        """What is run, in words."""
        return f"{self.teacher} to {self.student}, batch {self.batch_size}"

    def batch(self) -> Batch:
        """Return random images and labels, at the places 0, 1, ..."""
        generator, places = torch.Generator().manual_seed(0), torch.arange(self.batch_size, device=self.device)
        x = torch.rand(self.batch_size, 3, 32, 32, generator=generator).to(self.device)
        y = torch.randint(0, 10, (self.batch_size,), generator=generator).to(self.device)
        return Batch(x, y, index=places, epoch=0, streams=Streams.of(0, places))

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Return the teacher and the student, which classify the batch correctly."""
        batch = self.batch()
        names = (self.teacher, self.student)
        built = [ModelConfig(name=n).build(num_classes=10, image_shape=(3, 32, 32), seed=0) for n in names]
        teacher, student = (network.to(self.device) for network in built)
        fit_last_layer(teacher.eval(), batch.x, batch.y)
        fit_last_layer(student.train(), batch.x, batch.y)
        return teacher, student


@torch.no_grad()
def fit_last_layer(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Set the last linear layer so that the model predicts the labels, with logits of the size of trained ones."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    found: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    model(x)
    handle.remove()
    features = found[0].double()
    mean = features.mean(0)
    spread_out = features - mean
    gram = spread_out @ spread_out.mT
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(x), dtype=gram.dtype, device=x.device)
    wanted = 10 * F.one_hot(y, last.out_features).double()
    weight = torch.linalg.solve(gram + ridge, wanted).mT @ spread_out
    last.weight.copy_(weight)
    last.bias.copy_(-weight @ mean)


@dataclass(frozen=True)
class Case:
    """A step of training, and how many of them make a whole."""

    call: Callable[[], None]
    steps: int = 1


def build(load: Load, name: str, networks: tuple[nn.Module, nn.Module]) -> Case:
    """Return the step of a case; the networks are left as they are.

    Raises:
        InputError: the method does not fit the pair.
    """
    batch, student = load.batch(), copy.deepcopy(networks[1])
    if name == PLAIN:
        return Case(_step(student, [], lambda: F.cross_entropy(student(batch.x), batch.y)))
    method = replace(CASES[name], warm_up=int(name in STAGES))
    num_examples = load.batch_size if method.tald.reuse else max(load.num_examples, load.batch_size)
    pair = method.pair(student, copy.deepcopy(networks[0]), batch.x, num_examples=num_examples)
    pair = pair.to(load.device).train()
    own = list(method.own_parameters(pair))
    return Case(_step(student, own, lambda: method.loss(student, batch, pair).total), method.tald.reuse + 1)


def _step(student: nn.Module, own: list[nn.Parameter], loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.SGD([*student.parameters(), *own], 1e-9)

    def call() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return call


def fitting(load: Load, names: Iterable[str]) -> dict[str, Case]:
    """Return the cases by name; what does not fit the pair is left out, and said."""
    networks, cases = load.networks(), {}
    for name in names:
        try:
            cases[name] = build(load, name, networks)
        except InputError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return cases


def timed(cases: Mapping[str, Case], load: Load) -> dict[str, list[float]]:
    """Time a step of each case in turn after one round to warm up, in changing order."""
    names, times = list(cases), {name: [] for name in cases}
    for repetition in range(-1, load.repetitions):
        shift = repetition // 2 % len(names)
        for name in (names[shift:] + names[:shift])[:: -1 if repetition % 2 else 1]:
            whole = [seconds(cases[name].call, load.device) for _ in range(cases[name].steps)]
            if repetition >= 0:
                times[name].append(sum(whole) / len(whole))
    return times


def steps_of_bss(load: Load) -> dict[str, float]:
    """Return how many images BSS walks from, and how many of its ten steps an image takes on average."""
    (teacher, student), batch, rows = load.networks(), load.batch(), list[int]()
    method = BSS.with_kd()
    pair = method.pair(student, teacher, batch.x)
    handle = teacher.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    method.loss(student, batch, pair)
    handle.remove()
    looks = rows[2:-1]  # before them the prediction of KD and that of the classes, after them that at the samples
    images = looks[0] if looks else 0
    return {"images": images, "steps": sum(looks[1:]) / max(images, 1)}


def memory_bytes(load: Load, name: str) -> int:
    """Return the peak memory of one step, above what networks, images and memories take."""
    case = build(load, name, load.networks())
    if load.device == "cuda":
        case.call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(case.steps):
            case.call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    small = replace(load, batch_size=2)
    build(small, name, small.networks()).call()  # loads the code
    before = resident(peak=False)
    case.call()
    return resident(peak=True) - before


def memory(load: Load, names: Iterable[str]) -> list[Row]:
    """Measure the peak memory of each case, in a process of its own on a CPU."""
    values = {}
    if load.device == "cpu" and not Path("/proc/self/clear_refs").exists():
        return []
    for name in names:
        if load.device == "cuda":
            values[name] = memory_bytes(load, name) / 2**20
            continue
        request = json.dumps([asdict(load), name, torch.get_num_threads()])
        command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", request]
        values[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 2**20
    part = f"peak memory of a step / {PLAIN}: {load.words}"
    return [Row(part, name, "MiB", [value], PLAIN, [value / values[PLAIN]]) for name, value in values.items()]


def measure(load: Load, names: tuple[str, ...], *, with_memory: bool) -> list[Row]:
    """Run everything: all steps beside the student's, and the forms of TALD beside the steps of KD and BSS."""
    cases = fitting(load, (PLAIN, *names))
    times = timed(cases, load)
    rows = rows_of(f"step / {PLAIN}: {load.words}", times, PLAIN)
    forms = {name: times[name] for name in FORMS if name in times}
    for base in ("KD", BSS_STEP, ALL_STEPS):
        if base in forms:
            rows += rows_of(f"step / {base}: {load.words}", forms, base)
    return rows + (memory(load, cases) if with_memory else [])


def summary(row: Row) -> dict[str, Any]:
    """Return the spread of a row's values and ratios, beside what they are of."""
    names = {"part": row.part, "case": row.case, "repetitions": len(row.values), "unit": row.unit}
    return names | {"value": spread(row.values), "compared_with": row.compared_with, "ratio": spread(row.ratios)}


def show(rows: list[dict[str, Any]], note: str = "") -> None:
    """Print a table for each part."""
    console = Console(width=100, highlight=False)
    for part in dict.fromkeys(row["part"] for row in rows):
        table = Table("case")
        for heading in ("median", "ratio", "least", "greatest"):
            table.add_column(heading, justify="right")
        for row in rows:
            if row["part"] == part:
                value, ratio = row["value"]["median"], row["ratio"]
                text = f"{value:.1f} MiB" if row["unit"] == "MiB" else f"{1000 * value:.2f} ms"
                table.add_row(row["case"], text, *(f"{ratio[name]:.3f}" for name in ("median", "least", "greatest")))
        console.print(f"[italic]{part}[/italic]", table, sep="\n")
    console.print(note)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of a step of distillation.")
    parser.add_argument("--quick", action="store_true", help="a few cases, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pair", nargs=2, metavar=("TEACHER", "STUDENT"), default=("resnet20", "resnet8"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help="a few cases, by their names")
    parser.add_argument("--no-memory", action="store_true", help="time alone")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print and write."""
    given = _arguments()
    warnings.simplefilter("ignore")
    if given.memory_of:
        fields, name, threads = json.loads(given.memory_of)
        torch.set_num_threads(threads)
        print(memory_bytes(Load(**fields), name))
        return
    torch.set_num_threads(given.threads)
    teacher, student = given.pair
    load = Load(
        teacher=teacher,
        student=student,
        batch_size=given.batch_size,
        device=given.device,
        repetitions=given.repetitions,
    )
    names = tuple(given.only or CASES)
    if given.quick:
        load, names = replace(load, batch_size=min(load.batch_size, 8), repetitions=3), QUICK
    walk = steps_of_bss(load)
    rows = [summary(row) for row in measure(load, names, with_memory=not given.no_memory)]
    show(rows, f"BSS walks from {walk['images']} of {load.batch_size} images, by {walk['steps']:.2f} steps an image")
    write(
        given.json,
        settings=asdict(load) | {"threads": given.threads, "bss": walk},
        versions=versions(),
        device=describe(load.device),
        measurements=rows,
    )


if __name__ == "__main__":
    main()
