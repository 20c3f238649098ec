"""RKD, PKT and NST: values from loops in numpy, gradients from differences of those values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.taps import Features
from aureole.distill.base import FeatureLoss
from aureole.distill.nst import NST, NSTLoss
from aureole.distill.pkt import PKT, PKTLoss
from aureole.distill.relational import RKD, RKDLoss

Reference = Callable[[list[np.ndarray], list[np.ndarray]], float]


def features(
    batch: int = 4, pooled: int = 3, channels: tuple[int, ...] = (2, 5, 3), sizes: tuple = (6, 4, 2)
) -> Features:
    generator = torch.Generator().manual_seed(pooled)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    maps = tuple(draw(batch, c, size, size) for c, size in zip(channels, sizes, strict=True))
    return Features(draw(batch, 3), maps, draw(batch, pooled))


STUDENT, TEACHER = features(), features(pooled=5, channels=(2, 4, 6), sizes=(6, 2, 2))


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else 0.0


def rkd(s: list[np.ndarray], t: list[np.ndarray]) -> float:
    s, t = s[-1], t[-1]
    n = range(len(s))
    gap = {id(f): {(i, j): math.dist(f[i], f[j]) for i in n for j in n} for f in (s, t)}
    mean = {key: sum(d.values()) / (len(s) ** 2 - len(s)) for key, d in gap.items()}
    total = 0.0
    for i in n:
        for j in n:
            total += 25 / len(s) ** 2 * huber(gap[id(s)][i, j] / mean[id(s)] - gap[id(t)][i, j] / mean[id(t)])
            for k in n:
                angles = [cosine(f[j] - f[i], f[k] - f[i]) for f in (s, t)]
                total += 50 / len(s) ** 3 * huber(angles[0] - angles[1])
    return total


def pkt(s: list[np.ndarray], t: list[np.ndarray]) -> float:
    s, t = s[-1], t[-1]
    total = 0.0
    for i in range(len(s)):
        rows = []
        for f in (s, t):
            short = [row / (math.sqrt(float(row @ row)) + 1e-7) for row in f]
            row = [(float(short[i] @ other) + 1) / 2 for other in short]
            rows.append([value / sum(row) for value in row])
        total += sum(q * math.log((q + 1e-7) / (p + 1e-7)) for p, q in zip(*rows, strict=True))
    return total / len(s) ** 2


def nst(s: list[np.ndarray], t: list[np.ndarray]) -> float:
    """The middle maps are 4 x 4 and 2 x 2: the first is averaged over squares of four."""
    total = 0.0
    for mine, theirs in zip(s[1:-1], t[1:-1], strict=True):
        while mine.shape[-1] > theirs.shape[-1]:
            mine = (mine[..., ::2, ::2] + mine[..., 1::2, ::2] + mine[..., ::2, 1::2] + mine[..., 1::2, 1::2]) / 4
        for a, b in zip(mine, theirs, strict=True):
            kernel = lambda x, y: np.mean([cosine(p.ravel(), q.ravel()) ** 2 for p in x for q in y])  # noqa: E731
            total += float(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)) / len(mine)
    return total


def as_leaves(x: Features) -> tuple[Features, list[Tensor]]:
    leaves = [value.clone().requires_grad_() for value in (*x.maps, x.pooled)]
    return Features(x.logits, tuple(leaves[:-1]), leaves[-1]), leaves


def arrays(x: Features) -> list[np.ndarray]:
    return [value.detach().numpy().copy() for value in (*x.maps, x.pooled)]


def check_gradient(loss: FeatureLoss, reference: Reference, student: Features, teacher: Features) -> None:
    """Compare value and gradient with the reference and its central differences."""
    student, leaves = as_leaves(student)
    teacher, constants = as_leaves(teacher)
    value = loss(student, teacher)
    value.backward()
    s, t = arrays(student), arrays(teacher)
    assert value.item() == pytest.approx(reference(s, t), rel=1e-9)
    assert value.item() > 1e-4
    assert all(constant.grad is None for constant in constants)
    for leaf, array in zip(leaves, s, strict=True):
        found = np.zeros_like(array) if leaf.grad is None else leaf.grad.numpy()
        for place in list(np.ndindex(array.shape))[::7]:
            centre = array[place]
            sides = []
            for step in (1e-5, -1e-5):
                array[place] = centre + step
                sides.append(reference(s, t))
            array[place] = centre
            assert found[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-6)


LOSSES = [(RKDLoss(), rkd), (PKTLoss(), pkt), (NSTLoss(), nst), (NSTLoss(max_entries=1), nst)]


@pytest.mark.parametrize(("loss", "reference"), LOSSES, ids=["rkd", "pkt", "nst", "nst in parts"])
def test_value_and_gradient(loss: FeatureLoss, reference: Reference) -> None:
    check_gradient(loss, reference, STUDENT, TEACHER)


@pytest.mark.parametrize("max_entries", [2**25, 40])
def test_nst_pairs_of_channels(max_entries: int) -> None:
    """More pixels than channels: products over pixels."""
    sizes = {"channels": (2, 3), "sizes": (4, 4)}
    check_gradient(NSTLoss(max_entries), nst, features(**sizes), features(pooled=5, channels=(2, 2), sizes=(4, 4)))


@pytest.mark.parametrize("loss", [RKDLoss(), PKTLoss(), NSTLoss()])
def test_zero_for_equal_features(loss: FeatureLoss) -> None:
    student, leaves = as_leaves(STUDENT)
    loss(student, STUDENT).backward()
    assert loss(student, STUDENT).item() == pytest.approx(0, abs=1e-12)
    assert all(leaf.grad is None or float(leaf.grad.abs().max()) < 1e-7 for leaf in leaves)


@pytest.mark.parametrize("loss", [RKDLoss(), PKTLoss(), NSTLoss()])
def test_zero_and_equal_vectors_have_finite_gradients(loss: FeatureLoss) -> None:
    student, leaves = as_leaves(STUDENT)
    with torch.no_grad():
        student.pooled[:2] = 0
        student.maps[1][:, 0] = 0
    loss(student, TEACHER).backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in leaves if leaf.grad is not None)
    assert all(float(leaf.grad.abs().max()) < 1e3 for leaf in leaves if leaf.grad is not None)


@pytest.mark.parametrize(("loss", "tolerance"), [(RKDLoss(), 1e-5), (PKTLoss(), 1e-5), (NSTLoss(), 1e-5)])
def test_half_precision_is_computed_in_float32(loss: FeatureLoss, tolerance: float) -> None:
    half = lambda x, kind: Features(*(  # noqa: E731
        value.bfloat16().to(kind) if isinstance(value, Tensor) else tuple(v.bfloat16().to(kind) for v in value)
        for value in x[:3]
    ))  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(half(STUDENT, torch.bfloat16), half(TEACHER, torch.bfloat16))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(
        float(loss(half(STUDENT, torch.float64), half(TEACHER, torch.float64))), rel=1e-4
    )


@pytest.mark.parametrize("weights", [(25.0, 0.0), (0.0, 50.0)])
def test_rkd_weights_add_up(weights: tuple[float, float]) -> None:
    rest = RKDLoss(25.0 - weights[0], 50.0 - weights[1])
    total = RKDLoss(*weights)(STUDENT, TEACHER) + rest(STUDENT, TEACHER)
    assert total.item() == pytest.approx(RKDLoss()(STUDENT, TEACHER).item())


def test_rkd_ignores_scale_and_place() -> None:
    moved = STUDENT._replace(pooled=3 * STUDENT.pooled + 1)
    assert RKDLoss()(moved, STUDENT).item() == pytest.approx(0, abs=1e-12)


def test_one_image() -> None:
    one = features(batch=1)
    assert PKTLoss()(one, features(batch=1, pooled=5)).item() == pytest.approx(0, abs=1e-12)
    assert NSTLoss()(one, features(batch=1, pooled=5)).item() > 0
    with pytest.raises(InputError, match="at least two; got 1"):
        RKDLoss()(one, one)


def test_nst_builds_no_matrix_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 7 x 7 maps of many channels, neither (C, C) nor (B, C, C) appears: products are over pixels."""
    sizes: list[int] = []
    product = torch.Tensor.__matmul__

    def watched(a: Tensor, b: Tensor) -> Tensor:
        out = product(a, b)
        sizes.append(out.numel())
        return out

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    wide = features(batch=6, channels=(2, 300), sizes=(7, 7))
    NSTLoss(2 * 49**2)(wide, features(batch=6, pooled=5, channels=(2, 200), sizes=(7, 7)))
    assert set(sizes) == {2 * 49**2}


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: RKDLoss(distance_weight=-1.0), "distance_weight must be at least 0"),
        (lambda: RKD(angle_weight=math.inf), "angle_weight must be at least 0 and finite"),
        (lambda: NSTLoss(0), "max_entries must be at least 1"),
        (
            lambda: NST().criterion(features(channels=(2,), sizes=(4,)), features(channels=(2,), sizes=(4,)), None),
            "maps",
        ),
    ],
)
def test_misuse(make: Callable[[], object], line: str) -> None:
    with pytest.raises(InputError, match=line):
        make()


def test_published_weights() -> None:
    assert [(m.label_weight, m.kd_weight, m.weight) for m in (RKD(), PKT(), NST())] == [
        (1, 0, 1),
        (1, 0, 3e4),
        (1, 0, 50),
    ]
    assert (RKD().distance_weight, RKD().angle_weight) == (25, 50)
