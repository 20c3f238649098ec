"""What an explanation costs: MED-TEX's map, the student beside its teacher, and maps of any classifier beside both.

    python benchmarks/explain.py [--quick] [--json FILE] [--threads 2]

The networks are those of the thesis: the teacher FourBlocks(), the student FourBlocks((2, 4, 8, 16)) behind the
explainer ExplainerUNet(3); their weights are random, which changes no time. A time is that of one image. All that is
compared runs in one process, in turn and in changing order; a ratio is the median over the repetitions of the ratio
within one repetition. On one thread it is the time of this process, on several wall time, which others on the machine
lengthen: look at the least too, and at the load average beside it. Memory is what one call adds at its peak, in a
process of its own for each case (Linux). The times of the first table are of a process as it starts, all others of
one that keeps the memory that it frees (``keep_memory``). RISE is timed with few masks, and scaled to its number.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measure import describe, resident, spread, versions, write
from rich.console import Console
from rich.table import Table
from search import Row, rows_of, seconds
from torch import Tensor, nn

from aureole.core.folding import folded, keep_memory
from aureole.core.model import predict
from aureole.explain import ExplainedStudent, ExplainerUNet, own_map
from aureole.explain.attributions import Attributing, IntegratedGradients
from aureole.explain.grad_cam import GradCAM
from aureole.explain.perturbed import RISE, Occlusion
from aureole.models import FourBlocks

TRAINED, FAST = "map, as trained", "map, folded"
TEACHER = "teacher"
BOUND = 0.030  # seconds of one map on two cores


@dataclass(frozen=True, kw_only=True)
class Load:
    """The image, and how often.

    Attributes:
        size: height and width of the image.
        repetitions: of each measurement.
        slow_repetitions: of the attributions that take many passes.
        num_masks: of RISE that are really run.
    """

    size: int = 256
    repetitions: int = 30
    slow_repetitions: int = 3
    num_masks: int = 64

    def image(self) -> Tensor:
        """Return a random image."""
        return torch.rand(1, 3, self.size, self.size, generator=torch.Generator().manual_seed(0))

    def attributions(self) -> dict[str, Attributing]:
        """Return the maps of any classifier, as users get them but for RISE's masks."""
        return {
            "Grad-CAM": GradCAM(),
            "integrated gradients, 32 steps": IntegratedGradients(),
            "occlusion, 15 x 15 windows": Occlusion(),
            f"RISE, {RISE().num_masks} masks": RISE(num_masks=self.num_masks),
        }


def networks() -> dict[str, nn.Module]:
    """Return teacher and student in evaluation mode, and what of the student is compared."""
    torch.manual_seed(0)
    teacher, student = FourBlocks(), ExplainedStudent(ExplainerUNet(3), FourBlocks((2, 4, 8, 16)))
    student.train()(torch.rand(4, 3, 64, 64))  # statistics that are not 0 and 1
    return {
        TEACHER: teacher.eval(),
        "student alone": student.eval().student,
        "explained student": student,
        "explained student, folded": folded(student),
    }


def timed(calls: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Time each call in turn after one round to warm up, in changing order."""
    names, times = list(calls), {name: [] for name in calls}
    for repetition in range(-1, repetitions):
        shift = repetition // 2 % len(names)
        for name in (names[shift:] + names[:shift])[:: -1 if repetition % 2 else 1]:
            taken = seconds(calls[name], "cpu")
            if repetition >= 0:
                times[name].append(taken)
    return times


def maps(load: Load, note: str = "") -> list[Row]:
    """Measure the map as it is trained, channels-last, and folded."""
    plain, x = networks()["explained student"], load.image()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    models = {TRAINED: plain, "map, channels-last": last, FAST: folded(plain)}
    calls = {name: lambda model=model: own_map(model, x) for name, model in models.items()}
    return rows_of(f"one map{note} / {TRAINED}", timed(calls, load.repetitions), TRAINED)


def difference(load: Load) -> float:
    """Return the largest difference between a map as trained and folded."""
    model = networks()["explained student"]
    return float((own_map(folded(model), load.image()) - own_map(model, load.image())).abs().max())


def predictions(load: Load) -> list[Row]:
    """Measure a prediction by teacher and student."""
    x = load.image()

    def call(model: nn.Module) -> Callable[[], object]:
        return torch.inference_mode()(lambda: predict(model, x))

    calls = {name: call(model) for name, model in networks().items()}
    return rows_of(f"one prediction / {TEACHER}", timed(calls, load.repetitions), TEACHER)


def attributions(load: Load) -> list[Row]:
    """Measure the maps of the teacher by any attribution beside the student's own, folded."""
    models, x, target = networks(), load.image(), torch.tensor([1])
    calls: dict[str, Callable[[], object]] = {FAST: lambda: own_map(models["explained student, folded"], x)}
    for name, attribution in load.attributions().items():
        calls[name] = lambda attribution=attribution: attribution(models[TEACHER], x, target)
    times = timed(calls, load.slow_repetitions)
    scale = RISE().num_masks / load.num_masks
    times = {name: [scale * t for t in ts] if "RISE" in name else ts for name, ts in times.items()}
    return rows_of(f"a map of the teacher / {FAST}", times, FAST)


def sizes() -> list[Row]:
    """Return the parameters and the stored bytes of each network."""
    rows = []
    for unit, count in (("parameters", parameters), ("bytes stored", stored)):
        values = {name: float(count(model)) for name, model in networks().items()}
        part = f"{unit} / {TEACHER}"
        rows += [Row(part, name, unit, [v], TEACHER, [v / values[TEACHER]]) for name, v in values.items()]
    return rows


def parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def stored(model: nn.Module) -> int:
    """Return the bytes that ``torch.save`` takes for the weights."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


def memory_case(load: Load, name: str) -> Callable[[], object]:
    """Return what is run once in a process of its own."""
    models, x, target = networks(), load.image(), torch.tensor([1])
    if name in models:
        return torch.inference_mode()(lambda: predict(models[name], x))
    if name in (TRAINED, FAST):
        model = models["explained student" if name == TRAINED else "explained student, folded"]
        return lambda: own_map(model, x)
    return lambda: load.attributions()[name](models[TEACHER], x, target)


def memory_bytes(load: Load, name: str) -> int:
    """Return the peak memory of one call in this process, above what networks and image take."""
    memory_case(replace(load, size=32, num_masks=1), name)()  # loads the code
    call = memory_case(load, name)
    before = resident(peak=False)
    call()
    return max(0, resident(peak=True) - before)


def memory(load: Load) -> list[Row]:
    """Measure the peak memory of each case, in a process of its own."""
    if not Path("/proc/self/clear_refs").exists():
        return []
    values = {}
    for name in (*networks(), TRAINED, FAST, *load.attributions()):
        request = json.dumps([asdict(load), name, torch.get_num_threads()])
        command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", request]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        values[name] = float(done.stdout) / 2**20
    part = f"peak memory of one call / {TEACHER}"
    return [Row(part, name, "MiB", [value], TEACHER, [value / values[TEACHER]]) for name, value in values.items()]


def measure(load: Load, *, with_memory: bool) -> list[Row]:
    """Run everything."""
    rows = maps(load, ", memory given back")
    keep_memory()
    rows += maps(load) + predictions(load) + attributions(load) + sizes()
    return rows + (memory(load) if with_memory else [])


def summary(row: Row) -> dict[str, Any]:
    """Return the spread of a row's values and ratios, beside what they are of."""
    names = {"part": row.part, "case": row.case, "repetitions": len(row.values), "unit": row.unit}
    return names | {"value": spread(row.values), "compared_with": row.compared_with, "ratio": spread(row.ratios)}


def _text(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1000 * value:.2f} ms"
    return f"{value:.1f} MiB" if unit == "MiB" else f"{value:,.0f}"


def show(rows: list[dict[str, Any]], note: str = "") -> None:
    """Print a table for each part."""
    console = Console(width=100, highlight=False)
    for part in dict.fromkeys(row["part"] for row in rows):
        table = Table("case")
        for heading in ("least", "median", "ratio", "least ratio", "greatest"):
            table.add_column(heading, justify="right")
        for row in rows:
            if row["part"] == part:
                values = (_text(row["value"][name], row["unit"]) for name in ("least", "median"))
                ratios = (f"{row['ratio'][name]:.3f}" for name in ("median", "least", "greatest"))
                table.add_row(row["case"], *values, *ratios)
        console.print(f"[italic]{part}[/italic]", table, sep="\n")
    console.print(note)


def _note(rows: list[dict[str, Any]], apart: float, load_average: float) -> str:
    fast = next(row["value"] for row in rows if row["part"].startswith("one map /") and row["case"] == FAST)
    clock = "time of this process" if torch.get_num_threads() == 1 else "wall time"
    return (
        f"A folded map takes {1000 * fast['median']:.1f} ms, at least {1000 * fast['least']:.1f} ms"
        f" ({clock}, {describe('cpu')}, load average {load_average:.1f}); the bound is {1000 * BOUND:.0f} ms on 2"
        f" cores. It differs from the map as trained by at most {apart:.1e}."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time, size and memory of explanations.")
    parser.add_argument("--quick", action="store_true", help="few repetitions, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--size", type=int, default=256, help="height and width of the image")
    parser.add_argument("--repetitions", type=int, default=30, help="of maps and predictions")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--no-memory", action="store_true", help="time and size alone")
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
    load = Load(size=given.size, repetitions=given.repetitions)
    if given.quick:
        load = replace(load, repetitions=min(load.repetitions, 5), slow_repetitions=1, num_masks=16)
    before = os.getloadavg()[0]
    rows = [summary(row) for row in measure(load, with_memory=not given.no_memory)]
    apart = difference(load)
    show(rows, _note(rows, apart, before))
    write(
        given.json,
        settings=asdict(load) | {"threads": given.threads, "bound_seconds": BOUND, "load_average": before},
        versions=versions("captum"),
        device=describe("cpu"),
        difference=apart,
        measurements=rows,
    )


if __name__ == "__main__":
    main()
