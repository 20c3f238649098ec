"""FitNet, AT, SP, CC, VID and FT as methods: what a step moves, published weights, misuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features, Taps
from aureole.distill.attention_transfer import AT, AttentionLoss
from aureole.distill.base import Distillation
from aureole.distill.correlation import CC
from aureole.distill.factor_transfer import FT, FactorLoss
from aureole.distill.fitnet import FitNet, HintLoss
from aureole.distill.similarity import SP, SimilarityLoss
from aureole.distill.vid import VID, VIDLoss


def features(channels: int, maps: int = 3) -> Features:
    return Features(
        torch.rand(3, 3), tuple(torch.rand(3, channels, 4, 4) for _ in range(maps)), torch.rand(3, channels)
    )


class Net(nn.Module):
    """Three stages of different widths; ``half`` makes the last two maps smaller."""

    def __init__(self, width: int, half: bool = False) -> None:
        super().__init__()
        steps = (1, 2, 1) if half else (1, 1, 1)
        widths = (1, width, width, 2 * width)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(widths[k], widths[k + 1], 3, steps[k], 1), nn.BatchNorm2d(widths[k + 1]), nn.ReLU()
                )
                for k in range(3)
            )
        )
        self.fc = nn.Linear(2 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stages(x).mean((2, 3)))


METHODS = [FitNet(), AT(), AT(variant="paper", weight=1.0), AT.imagenet(), SP(), CC(), VID(), FT(), FT.imagenet()]
TAPS = Taps(maps=("stages.0", "stages.1", "stages.2"), pooled="fc:input")


def steps(method: Distillation, student: nn.Module, modules: nn.Module, epoch: int) -> Iterator[float]:
    x, y = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
    parameters = [*student.parameters(), *method.own_parameters(modules)]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)
    for _ in range(4):
        terms = method.loss(student, Batch(x, y, epoch=epoch), modules)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        yield terms.total.item()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.title}-{m.weight}")
@pytest.mark.parametrize("half", [False, True])
def test_a_step_moves_student_and_parts(method: Distillation, half: bool):
    student, teacher = Net(2, half), Net(4)
    pair = method.pair(student, teacher, torch.rand(2, 1, 4, 4), student_taps=TAPS, teacher_taps=TAPS)
    start = {k: p.clone() for k, p in [*student.named_parameters(), *pair.named_parameters()]}
    values = list(steps(method, student, pair, epoch=method.warm_up))
    assert all(map(math.isfinite, values))
    moved = {k for k, p in [*student.named_parameters(), *pair.named_parameters()] if not torch.equal(p, start[k])}
    fixed = {k for k in start if k.startswith(("teacher.", "criterion.paraphraser", "criterion.decoder"))}
    assert moved == set(start) - fixed


def test_first_stage_of_ft_moves_the_paraphraser_alone():
    student, method = Net(2), FT()
    pair = method.pair(student, Net(4), torch.rand(2, 1, 4, 4), student_taps=TAPS, teacher_taps=TAPS)
    start = {k: p.clone() for k, p in [*student.named_parameters(), *pair.named_parameters()]}
    values = list(steps(method, student, pair, epoch=method.warm_up - 1))
    assert values[-1] < values[0]
    moved = {k for k, p in [*student.named_parameters(), *pair.named_parameters()] if not torch.equal(p, start[k])}
    assert moved == {k for k in start if k.startswith(("criterion.paraphraser", "criterion.decoder"))}


def test_a_pair_in_double_precision_stays_there():
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    for method in METHODS:
        student = Net(2).double()
        pair = method.pair(student, Net(4).double(), x, student_taps=TAPS, teacher_taps=TAPS)
        terms = method.loss(student, Batch(x, torch.tensor([0, 2]), epoch=method.warm_up), pair)
        assert terms["features"].dtype == torch.float64


def test_published_weights():
    weights = {
        type(m): (m.label_weight, m.kd_weight, m.weight, m.warm_up) for m in (FitNet(), AT(), SP(), CC(), VID(), FT())
    }
    assert weights == {
        FitNet: (1.0, 0.0, 100.0, 0),
        AT: (1.0, 0.0, 1000.0, 0),
        SP: (1.0, 0.0, 3000.0, 0),
        CC: (1.0, 0.0, 0.02, 0),
        VID: (1.0, 0.0, 1.0, 0),
        FT: (1.0, 0.0, 200.0, 30),
    }
    assert CC().size == 128
    assert not any(
        isinstance(m, nn.BatchNorm2d) for m in FT.imagenet().criterion(features(2), features(4), None).modules()
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FT(rate=0.0), "rate must be positive and finite; got 0.0"),
        (lambda: FactorLoss(2, 4, rate=0.1), "a rate of 0.1 leaves none of the teacher's 4 channels"),
        (lambda: VID(initial_variance=0.0), "initial_variance must be more than 1e-05 and finite; got 0.0"),
        (lambda: CC(size=0), "size must be at least 1; got 0"),
        (lambda: FitNet(layer=3).criterion(features(2), features(4), None), "got 3, and there are 3 maps"),
        (lambda: FitNet(layer=-1).criterion(features(2), features(4), None), "got -1, and there are 3 maps"),
        (
            lambda: AT(num_maps=4).criterion(features(2), features(4), None),
            "expected 4 maps, at least one; the networks give 3",
        ),
        (lambda: VIDLoss([(3, 4)])(features(2), features(4)), "built for 1 maps behind the stem's; got 2"),
        (lambda: SimilarityLoss()(features(2, 0), features(4, 0)), "SP compares the last map of both networks"),
        (lambda: FactorLoss(2, 4)(features(2, 0), features(4, 0)), "FT compares the last map of both networks"),
        (
            lambda: HintLoss((3, 2, 3, 3), (3, 4, 4, 4)),
            r"no regressor from the student's map \(3, 2, 3, 3\) to the teacher's \(3, 4, 4, 4\)",
        ),
    ],
)
def test_misuse_is_one_line(build: Callable[[], object], message: str):
    with pytest.raises(InputError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.fixture
def untyped() -> Iterator[None]:
    """No checks of annotations, as for a user: what a misuse raises then."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("build", [AT, FT, lambda variant: FactorLoss(2, 4, variant), AttentionLoss])
def test_unknown_variant(build: Callable[..., object], untyped: None):
    with pytest.raises(InputError, match="unknown variant 'papr': did you mean 'paper'"):
        build(variant="papr")
