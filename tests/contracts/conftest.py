"""What the tests of all distillation methods share: the table, two small networks, and a method between them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.attacks.bss import BSSAttack
from aureole.core.method import Batch, Terms
from aureole.core.random import Streams
from aureole.core.taps import Taps
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
    Contrast,
    Distillation,
    FitNet,
    Pair,
    Supporting,
)

CLASSES, EXAMPLES = 3, 24  # of the training set
_TALD = TALD(weight=0.5)
_LAYERS = ("stem", "layer1", "layer2")


@dataclass(frozen=True)
class Row:
    """A method, its terms before and in distillation, and what is peculiar to it.

    Attributes:
        method: with a stage of one epoch, where it has one.
        terms: of distillation.
        stage: terms of the stage before.
        passes: of the student in train mode, in the stage and in distillation.
        least: images in a batch.
        same_widths: student and teacher must have the same channels.
        zero: the loss between features is 0 for a student that is the teacher.
        negative: a term that may be negative.
    """

    method: Distillation
    terms: tuple[str, ...]
    stage: tuple[str, ...] = ()
    passes: tuple[int, int] = (1, 1)
    least: int = 1
    same_widths: bool = False
    zero: bool = False
    negative: str = ""

    def with_tald(self, tald: TALD) -> Row:
        passes = self.passes[0], self.passes[1] + 1
        method = replace(self.method, tald=tald)
        terms = [*self.terms, "boundary"]
        return replace(self, method=method, terms=tuple(sorted(terms, key=_ORDER.index)), passes=passes)


_ORDER = ("labelled", "distilled", "rotated", "features", "boundary", "supporting")
_HINT = ("labelled", "features")
_CONTRAST = Contrast(size=4, num_negatives=5)
_SUPPORTING = Supporting(attack=BSSAttack(num_steps=2, step_size=0.5))
ALONE = {
    "kd": Row(KD(), ("labelled", "distilled")),
    "fitnet": Row(FitNet(), _HINT),
    "at": Row(AT(), _HINT, zero=True),
    "sp": Row(SP(), _HINT, zero=True),
    "cc": Row(CC(size=5), _HINT, least=2),
    "vid": Row(VID(), _HINT, negative="features"),
    "rkd": Row(RKD(), _HINT, zero=True, least=2),
    "pkt": Row(PKT(), _HINT, zero=True),
    "ab": Row(AB(warm_up=1), ("labelled",), ("features",)),
    "ft": Row(FT(warm_up=1), _HINT, ("reconstruction",), passes=(0, 1)),
    "fsp": Row(FSP(warm_up=1, weight=1.0), _HINT, ("features",), same_widths=True, zero=True),
    "nst": Row(NST(), _HINT, zero=True),
    "crd": Row(CRD(contrast=_CONTRAST), _HINT),
    "sskd": Row(SSKD(warm_up=1), ("labelled", "distilled", "rotated", "features"), ("contrast",), passes=(0, 1)),
    "hsakd": Row(HSAKD(warm_up=1), ("labelled", "distilled", "features"), ("heads",), passes=(0, 1)),
    "bss": Row(BSS(supporting=_SUPPORTING), ("labelled", "distilled", "supporting"), passes=(1, 2)),
}
ROWS = {
    **ALONE,
    **{f"{name} tald": row.with_tald(_TALD) for name, row in ALONE.items()},
    "kd tald reuse": ALONE["kd"].with_tald(replace(_TALD, reuse=1)),
}
FEW = {**ALONE, "kd tald": ROWS["kd tald"], "kd tald reuse": ROWS["kd tald reuse"]}


class Network(nn.Module):
    """Three stages and a linear layer; the stages are tapped."""

    taps = Taps(maps=_LAYERS, pooled="fc:input", before_relu=("layer1.1", "layer2.1"))

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...] = (1, 1, 2), classes: int = CLASSES) -> None:
        super().__init__()
        sizes = zip((1, *widths), widths, strides, strict=False)
        self.stem, self.layer1, self.layer2 = (self._stage(*size) for size in sizes)
        self.fc = nn.Linear(widths[-1], classes)
        self.fc.weight.data.mul_(5)  # predictions that a small step changes, in half precision too

    def _stage(self, before: int, after: int, stride: int) -> nn.Sequential:
        conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


def _seeded(seed: int) -> Any:
    torch.default_generator.manual_seed(seed)


@dataclass
class Scene:
    """A method between two networks, about to train."""

    row: Row
    student: Network
    teacher: Network
    pair: Pair
    optimizer: torch.optim.Optimizer

    def loss(self, batch: Batch) -> Terms:
        return self.row.method.loss(self.student, batch, self.pair)

    def step(self, batch: Batch) -> Terms:
        terms = self.loss(batch)
        self.optimizer.zero_grad()
        terms.total.backward()
        self.optimizer.step()
        return terms

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is to learn, by name."""
        parts = {} if self.pair.criterion is None else dict(self.pair.criterion.named_parameters())
        return {f"student.{n}": p for n, p in self.student.named_parameters()} | parts

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        parts = {"student": self.student, "pair": self.pair, "optimizer": self.optimizer}
        return {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}

    def restore(self, state: dict[str, dict[str, Any]]) -> None:
        self.student.load_state_dict(state["student"])
        self.pair.load_state_dict(state["pair"])
        self.optimizer.load_state_dict(state["optimizer"])


def make_scene(
    row: Row,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    teacher: Network | None = None,
    student: Network | None = None,
    example: Tensor | None = None,
    num_examples: int = EXAMPLES,
) -> Scene:
    """Pair two networks: of equal widths, where the method wants it, of different ones elsewhere."""
    with torch.random.fork_rng(devices=[]):
        _seeded(seed)
        wide = (4, 6, 8) if row.same_widths else (5, 7, 9)
        student = Network((4, 6, 8)).to(dtype) if student is None else student
        _seeded(99)
        teacher = Network(wide).to(dtype) if teacher is None else teacher
        for module in teacher.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.state_dict()["running_mean"], -0.2, 0.2)
        _seeded(seed + 1)
        x = make_batch(dtype=dtype).x[:2] if example is None else example
        pair = row.method.pair(student, teacher, x, num_examples=num_examples)
    optimizer = torch.optim.SGD([*student.parameters(), *row.method.own_parameters(pair)], lr=0.01, momentum=0.9)
    return Scene(row, student, teacher, pair, optimizer)


def make_batch(size: int = 6, dtype: torch.dtype = torch.float32, number: int = 0, epoch: int = 1) -> Batch:
    """Return a batch of distillation, the epoch behind the stage; the labels belong to the places."""
    generator = torch.Generator().manual_seed(number)
    x = torch.rand(size, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    index = torch.randperm(EXAMPLES, generator=generator)[:size]
    return Batch(x, index % CLASSES, index=index, epoch=epoch, streams=Streams.of(number, index))


TABLES = {"alone": ALONE, "few": FEW, "every": ROWS}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rows(which): one test for each row of the table of distillation methods")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("rows")
    if marker is not None:
        rows = TABLES[marker.args[0]]
        metafunc.parametrize("row", rows.values(), ids=rows.keys())


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The table, and what makes networks, batches, and a method between two networks."""
    return SimpleNamespace(
        alone=ALONE, rows=ROWS, Network=Network, scene=make_scene, batch=make_batch, classes=CLASSES, examples=EXAMPLES
    )


@pytest.fixture
def untyped() -> Iterator[None]:
    """No checks of annotations, as for a user: what a misuse raises then."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
