"""AB and FSP: losses of a stage before training on the labels, from loops in numpy; and what the stage trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features, Taps
from aureole.distill.activation_boundary import AB, ABLoss
from aureole.distill.fsp import FSP, FSPLoss


def features(maps: list[tuple[int, int]], seed: int, batch: int = 3) -> Features:
    """Return the same maps, of so many channels and so large, as maps and as maps before their ReLU."""
    generator = torch.Generator().manual_seed(seed)
    drawn = tuple(torch.randn(batch, c, n, n, generator=generator, dtype=torch.float64) for c, n in maps)
    return Features(torch.zeros(batch, 2).double(), drawn, torch.zeros(batch, 2).double(), drawn)


def as_leaves(x: Features) -> tuple[Features, tuple[Tensor, ...]]:
    leaves = tuple(value.clone().requires_grad_() for value in x.maps)
    return x._replace(maps=leaves, before_relu=leaves), leaves


def check_gradient(
    loss: nn.Module, reference: Callable[[list, list], float], student: Features, teacher: Features
) -> None:
    """Compare value and gradient with the reference and its central differences."""
    student, leaves = as_leaves(student)
    teacher, constants = as_leaves(teacher)
    value = loss(student, teacher)
    value.backward()
    s, t = ([leaf.detach().numpy().copy() for leaf in group] for group in (leaves, constants))
    assert value.item() == pytest.approx(reference(s, t), rel=1e-9)
    assert all(constant.grad is None for constant in constants)
    for leaf, array in zip(leaves, s, strict=True):
        assert leaf.grad is not None
        for place in list(np.ndindex(array.shape))[::5]:
            centre, sides = array[place], []
            for step in (1e-5, -1e-5):
                array[place] = centre + step
                sides.append(reference(s, t))
            array[place] = centre
            assert leaf.grad.numpy()[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-6)


def boundaries(s: list[np.ndarray], t: list[np.ndarray], margin: float = 1.0) -> float:
    total = 0.0
    for k, (mine, theirs) in enumerate(zip(s, t, strict=True)):
        layer = 0.0
        for a, b in zip(mine.ravel(), theirs.ravel(), strict=True):
            if b <= 0 and a > -margin:
                layer += (a + margin) ** 2
            if b > 0 and a <= margin:
                layer += (a - margin) ** 2
        total += 2.0 ** (k - len(s) + 1) * layer * 3 / 1000 / len(mine)
    return float(total)


def flow(s: list[np.ndarray], t: list[np.ndarray]) -> float:
    """Neighbours are as large as each other, or the first is twice as large."""
    total = 0.0
    for k in range(len(s) - 1):
        squares = []
        for image in range(len(s[0])):
            matrices = []
            for f in (s, t):
                first, second = f[k][image], f[k + 1][image]
                if first.shape[-1] > second.shape[-1]:
                    first = (first[:, ::2, ::2] + first[:, 1::2, ::2] + first[:, ::2, 1::2] + first[:, 1::2, 1::2]) / 4
                matrices.append([[float(np.mean(a * b)) for b in second] for a in first])
            squares.append((np.array(matrices[0]) - np.array(matrices[1])) ** 2)
        total += float(np.mean(squares))
    return total


def test_ab_value_and_gradient() -> None:
    shapes = [(2, 3), (4, 2)]
    student, teacher = features(shapes, 1), features(shapes, 2)
    loss = ABLoss(*[[x.shape for x in f.before_relu] for f in (student, teacher)])
    assert not list(loss.parameters())
    check_gradient(loss, boundaries, student, teacher)


def test_ab_margin() -> None:
    student, teacher = features([(2, 3)], 1), features([(2, 3)], 2)
    arrays = [[x.numpy() for x in f.maps] for f in (student, teacher)]
    loss = ABLoss([(3, 2, 3, 3)], [(3, 2, 3, 3)], margin=0.25)
    assert loss(student, teacher).item() == pytest.approx(boundaries(*arrays, margin=0.25))


def test_ab_connects_different_shapes_and_its_connectors_learn() -> None:
    student, teacher = features([(2, 4), (4, 4)], 1), features([(3, 4), (5, 2)], 2)
    loss = ABLoss(*[[x.shape for x in f.before_relu] for f in (student, teacher)]).double()
    loss(student, teacher).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for n, p in loss.named_parameters() if "conv.bias" not in n)
    again = ABLoss(*[[x.shape for x in f.before_relu] for f in (student, teacher)]).double()
    again.load_state_dict(loss.state_dict())
    mapped = [c(s) for c, s in zip(loss.connectors.eval(), student.before_relu, strict=True)]
    assert bool((mapped[1] < 0).any())  # no ReLU in a connector
    found = again.eval()(student, teacher)
    assert found.item() == pytest.approx(
        boundaries([x.detach().numpy() for x in mapped], [x.numpy() for x in teacher.maps])
    )


def test_ab_is_zero_behind_the_margin() -> None:
    teacher = features([(2, 3)], 1)
    student = teacher._replace(before_relu=tuple(x.sign() * 1.01 for x in teacher.before_relu))
    assert ABLoss([(3, 2, 3, 3)], [(3, 2, 3, 3)])(student, teacher).item() == 0


@pytest.mark.parametrize("sizes", [(4, 4, 2), (3, 3, 3)])
def test_fsp_value_and_gradient(sizes: tuple[int, ...]) -> None:
    shapes = list(zip((2, 3, 2), sizes, strict=True))
    check_gradient(FSPLoss([2, 3, 2], [2, 3, 2]), flow, features(shapes, 1), features(shapes, 2))


def test_fsp_allows_different_sizes_and_is_zero_for_equal_maps() -> None:
    small, large = features([(2, 4), (3, 2)], 1), features([(2, 8), (3, 4)], 2)
    assert FSPLoss([2, 3], [2, 3])(small, large).item() > 0
    assert FSPLoss([2, 3], [2, 3])(small, small).item() == 0
    one = features([(2, 4), (3, 2)], 1, batch=1)
    assert FSPLoss([2, 3], [2, 3])(one, features([(2, 8), (3, 4)], 2, batch=1)).item() > 0


@pytest.mark.parametrize(
    "make", [lambda: ABLoss([(3, 2, 4, 4)] * 2, [(3, 2, 4, 4)] * 2), lambda: FSPLoss([2, 2], [2, 2])]
)
def test_half_precision_is_summed_in_float32(make: Callable[[], nn.Module]) -> None:
    halves = []
    for seed in (1, 2):
        maps = tuple(x.bfloat16() for x in features([(2, 4), (2, 4)], seed).maps)
        halves.append(Features(torch.zeros(3, 2), maps, torch.zeros(3, 2), maps))
    full = [
        Features(h.logits, tuple(x.double() for x in h.maps), h.pooled, tuple(x.double() for x in h.maps))
        for h in halves
    ]
    with torch.autocast("cpu", torch.bfloat16):
        found = make()(*halves)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(make()(*full)), rel=1e-5)


def network(width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    body = nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU()
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(4 * width, 3))


TAPS = Taps(maps=("1", "3"), before_relu=("2",))


@pytest.mark.parametrize(("method", "width"), [(AB(), 4), (FSP(), 2)])
def test_the_stage_trains_the_body_and_the_run_is_cross_entropy(method: AB | FSP, width: int) -> None:
    student, teacher = network(2, 1), network(width, 2)
    x, y = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    pair = method.pair(student, teacher, x, student_taps=TAPS, teacher_taps=TAPS)
    assert method.warm_up_epochs == 30
    stage = method.loss(student, Batch(x, y, epoch=29), pair)
    assert list(stage) == ["features"]
    stage.total.backward()
    assert student[-1].weight.grad is None
    assert all(bool(p.grad.any()) for name, p in student.named_parameters() if not name.startswith("5"))
    assert all(p.grad is not None for p in method.own_parameters(pair))
    with pytest.raises(InputError, match=r"begins with 30 epochs of another stage: pass Batch\(\.\.\., epoch=epoch\)"):
        method.loss(student, Batch(x, y), pair)
    run = method.loss(student, Batch(x, y, epoch=30), pair)
    assert list(run) == ["labelled"]
    assert run.total.item() == pytest.approx(nn.functional.cross_entropy(student(x), y).item())


def test_a_weight_keeps_the_loss_beside_the_labels() -> None:
    student, teacher = network(2, 1), network(2, 2)
    x, y = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    method = FSP(warm_up=0, weight=2.0)
    pair = method.pair(student, teacher, x, student_taps=TAPS, teacher_taps=TAPS)
    terms = method.loss(student, Batch(x, y), pair)
    alone = pair.criterion(pair.student_features(student, x), pair.teacher_features(x))
    assert terms["features"].item() == pytest.approx(2 * alone.item())


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: FSPLoss([2, 3], [2, 4]), r"same channels .* got \[2, 3\] and \[2, 4\]"),
        (lambda: FSPLoss([2], [2]), "two or more maps"),
        (lambda: ABLoss([], []), "one or more of each; got 0 and 0"),
        (lambda: ABLoss([(1, 2, 4, 4)] * 2, [(1, 2, 4, 4)]), "2 of each; got 2 and 1"),
        (lambda: ABLoss([(1, 2, 4, 4)], [(1, 3, 7, 7)]), r"\(1, 2, 4, 4\) to the teacher's \(1, 3, 7, 7\)"),
        (lambda: ABLoss([(3, 2, 3, 3)], [(3, 2, 3, 3)])(features([], 1), features([], 1)), "1 of each; got 0 and 0"),
        (lambda: AB(margin=0.0), "margin must be positive"),
    ],
)
def test_misuse(make: Callable[[], object], line: str) -> None:
    with pytest.raises(InputError, match=line):
        make()
