"""What a step of segmentation from few labels costs, and what a scan costs to label.

    python benchmarks/segment.py [--quick] [--json FILE] [--threads N]

A step is loss, backward and SGD on random images with random labels, 4 labelled and 4 not in 2-D, 1 and 1 in 3-D, with
the networks of the published sizes. Every method is run beside the supervised step, and the regularised ones beside
SS-Net's. Labelling a scan is compared with the published loop, which runs one window after the other; both give the
same mask, which is checked. All that is compared is run in one process, in turn and in changing order; a ratio is the
median over the repetitions of the ratio within one repetition. Memory is measured in a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from measure import describe, resident, versions, write
from search import Row, rows_of
from torch import Tensor, nn

from aureole.core.method import Unlabelled
from aureole.core.random import Streams
from aureole.data.scans import ScanBatch
from aureole.models.segmentation import SegmenterConfig
from aureole.segment import (
    DTC,
    SVGD,
    SVGDF,
    UAMT,
    URPC,
    VAT,
    CrossALD,
    EntropyMinimisation,
    MCNet,
    MeanTeacher,
    RandomMixup,
    SASSNet,
    Segmentation,
    SSNet,
    Supervised,
    SVGDFContrast,
    VATMixup,
)
from aureole.segment.inference import sliding_window
from semisup import show, summary, timed

METHODS: Mapping[str, tuple[Segmentation, str]] = {
    "supervised": (Supervised(), "{}"),
    "Mean Teacher": (MeanTeacher(), "{}"),
    "entropy": (EntropyMinimisation(), "{}"),
    "UA-MT": (UAMT(), "{}"),
    "SASSNet": (SASSNet(), "{}-sdf"),
    "DTC": (DTC(), "{}-sdf"),
    "URPC": (URPC(), "urpc"),
    "MC-Net": (MCNet(), "mcnet"),
    "RanMixup": (RandomMixup(), "{}"),
    "VAT": (VAT(), "{}"),
    "VAT + Mixup": (VATMixup(), "{}"),
    "SVGD": (SVGD(), "{}"),
    "SVGDF": (SVGDF(), "{}"),
    "SVGDF + l_cs": (SVGDFContrast(), "{}"),
    "SS-Net": (SSNet(), "{}"),
    "Cross-ALD": (CrossALD(), "{}"),
}
IN_MEMORY = ("supervised", "SS-Net", "Cross-ALD", "Cross-ALD, checkpoint")


@dataclass(frozen=True)
class Load:
    """A network with the images of a step.

    Attributes:
        network: ``"unet"`` or ``"vnet"``.
        patch: sizes of an image.
        labelled: images with a label, and as many without.
        num_classes: with the background.
        repetitions: of a measurement.
    """

    network: str
    patch: tuple[int, ...]
    labelled: int
    num_classes: int
    repetitions: int = 6

    def build(self, name: str) -> nn.Module:
        """Return the network of a method in training mode."""
        config = SegmenterConfig(name=name.format(self.network))
        return config.build(num_classes=self.num_classes, image_shape=(1, *self.patch), seed=0).train()

    def batch(self) -> ScanBatch:
        """Return random images."""
        generator, places = torch.Generator().manual_seed(0), torch.arange(self.labelled)
        x, other = (torch.rand((self.labelled, 1, *self.patch), generator=generator) for _ in range(2))
        y = torch.randint(0, self.num_classes, (self.labelled, *self.patch), generator=generator)
        unlabelled = Unlabelled((other,), places, Streams.of(1, places))
        return ScanBatch(x, y, epoch=100, step=1, streams=Streams.of(0, places), unlabelled=unlabelled)

    @property
    def words(self) -> str:
        """What is run, in words."""
        return f"{self.network}, {self.labelled} + {self.labelled} images of {'x'.join(map(str, self.patch))}"


def step(load: Load, name: str) -> Callable[[], None]:
    """Return a function that trains a network by one step of a method."""
    method, network = METHODS[name.removesuffix(", checkpoint")]
    if name.endswith("checkpoint") and isinstance(method, VAT):
        method = replace(method, checkpoint=True)
    model, batch = load.build(network), load.batch()
    modules = method.own(model, batch.x)
    optimizers = [torch.optim.SGD([*model.parameters(), *method.own_parameters(modules)], 1e-6)]
    own = None if modules is None else method.own_optimizer(modules)
    optimizers += [] if own is None else [own]

    def call() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        method.loss(model, batch, modules).total.backward()
        for optimizer in optimizers:
            optimizer.step()
        method.after_step(model, batch, modules)

    return call


def steps(load: Load) -> Iterable[Row]:
    """Measure a step of every method beside the supervised one, and of Cross-ALD beside SS-Net's."""
    times = timed({name: step(load, name) for name in METHODS}, load.repetitions)
    yield from rows_of(f"step / supervised step: {load.words}", times, "supervised")
    beside = {name: times[name] for name in ("SS-Net", "VAT", "SVGDF", "Cross-ALD")}
    yield from rows_of(f"step / SS-Net's step: {load.words}", beside, "SS-Net")


def memory(load: Load) -> Iterable[Row]:
    """Measure the peak memory of a step, above what model and images take."""
    if not Path("/proc/self/clear_refs").exists():
        return
    values = {}
    for name in IN_MEMORY:
        request = json.dumps([asdict(load), name, torch.get_num_threads()])
        command = [sys.executable, str(Path(__file__).resolve()), "--memory-of", request]
        values[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 2**20
    for name, value in values.items():
        ratio = value / values["supervised"]
        yield Row(f"peak memory of a step: {load.words}", name, "MiB", [value], "supervised", [ratio])


def memory_bytes(load: Load, name: str) -> int:
    """Return the peak memory of one step in this process."""
    call = step(load, name)
    before = resident(peak=False)
    call()
    return resident(peak=True) - before


@torch.no_grad()
def one_by_one(model: nn.Module, volume: Tensor, patch: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Return the class of each voxel as the published loop finds it: one window after the other, in their order."""
    starts = [
        sorted({min(k, length - size) for k in range(0, length - size + step, step)})
        for length, size, step in zip(volume.shape, patch, stride, strict=True)
    ]
    score, count = torch.zeros(2, *volume.shape), torch.zeros(volume.shape)
    for corner in itertools.product(*starts):
        window = tuple(slice(start, start + size) for start, size in zip(corner, patch, strict=True))
        score[:, *window] += model(volume[window][None, None]).softmax(1)[0]
        count[window] += 1
    return (score[1] / count > 0.5).long()


def labelling(volume_size: tuple[int, ...], patch: tuple[int, int, int], stride: tuple[int, int, int]) -> Iterable[Row]:
    """Measure labelling a scan of random voxels beside the published loop; bfloat16 says how many voxels differ."""
    model = SegmenterConfig(name="vnet").build(num_classes=2, image_shape=(1, *patch), seed=0).eval()
    volume = torch.randn(volume_size, generator=torch.Generator().manual_seed(0))
    masks: dict[str, Tensor] = {}

    def found(name: str, run: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: masks.update({name: run()})

    half = "several windows, bfloat16"
    calls = {
        "one by one": found("one by one", lambda: one_by_one(model, volume, patch, stride)),
        "several windows": found("several windows", lambda: sliding_window(model, volume, patch, stride)),
        half: found(half, lambda: sliding_window(model, volume, patch, stride, autocast=torch.bfloat16)),
    }
    times = timed(calls, 3)
    differ = {name: int((mask != masks["one by one"]).sum()) for name, mask in masks.items()}
    if differ["several windows"]:
        raise AssertionError(f"{differ['several windows']} voxels differ from the published loop's")
    named = {name: times[name] for name in ("one by one", "several windows")}
    named[f"{half} ({differ[half]} of {volume.numel()} voxels differ)"] = times[half]
    sizes = [" x ".join(map(str, size)) for size in (volume_size, patch, stride)]
    yield from rows_of(f"label a scan of {sizes[0]} by windows of {sizes[1]}, stride {sizes[2]}", named, "one by one")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="Time and memory of segmentation from few labelled scans.")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the measurements go")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.memory_of:
        load, name, threads = json.loads(given.memory_of)
        torch.set_num_threads(threads)
        print(memory_bytes(Load(**load), name))
        return
    torch.set_num_threads(given.threads)
    loads = [Load("unet", (96, 96), 4, 4, repetitions=6), Load("vnet", (48, 48, 32), 1, 2, repetitions=3)]
    scan = ((95, 71, 88), (48, 48, 48), (18, 18, 4))
    if given.quick:
        loads, scan = [Load("unet", (64, 64), 2, 4, repetitions=4)], ((40, 32, 24), (32, 32, 16), (8, 8, 8))
    rows = [summary(row) for load in loads for row in (*steps(load), *memory(load))]
    rows += [summary(row) for row in labelling(*scan)]
    show(rows)
    write(
        given.json,
        settings={"loads": [asdict(load) for load in loads], "threads": given.threads},
        versions=versions("monai"),
        device=describe("cpu"),
        measurements=rows,
    )


if __name__ == "__main__":
    main()
