"""SSKD: its losses image by image, what the warm-up trains, and misuse."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Pair
from aureole.distill.sskd import SSKD, RotationLoss, trusted, trusted_kl

CLASSES = 4


def net(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, CLASSES)
    ).double()


def images(count: int = 5) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 1, 6, 6, dtype=torch.float64), torch.arange(count) % CLASSES


def spread(model: nn.Module) -> nn.Module:
    """Make predictions differ between images, so that ranks do."""
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    return model


def hidden(model: nn.Module, image: Tensor) -> Tensor:
    return model[:4](image[None])[0]


def head(model: nn.Module, vector: Tensor) -> Tensor:
    return model[2].weight @ (model[0].weight @ vector + model[0].bias).clamp_min(0) + model[2].bias


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    p, q = (row.div(temperature).exp() for row in (teacher.detach(), student))
    p, q = p / p.sum(), q / q.sum()
    return temperature**2 * sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))


def chosen(scores: list[Tensor], truth: list[int], keep: float) -> list[int]:
    ranks = [
        sorted(row.tolist(), reverse=True).index(float(row.detach()[t])) for row, t in zip(scores, truth, strict=True)
    ]
    wrong = sorted((i for i, rank in enumerate(ranks) if rank), key=lambda i: (ranks[i], i))
    return [i for i, rank in enumerate(ranks) if not rank] + wrong[: math.floor(keep * len(wrong))]


def similarities(model: nn.Module, g: nn.Module, x: Tensor) -> list[Tensor]:
    upright = [head(g, hidden(model, image)) for image in x]
    rows = []
    for image in x:
        for turns in (1, 2, 3):
            vector = head(g, hidden(model, image.rot90(turns, (1, 2))))
            rows.append(torch.stack([cosine(vector, other) for other in upright]))
    return rows


def reference(method: SSKD, student: nn.Module, pair: Pair, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    teacher, loss, count = pair.teacher, pair.criterion, len(x)
    s, t = ([model(image[None])[0] for image in x] for model in (student, teacher))
    labelled = sum(-(z[c] - z.exp().sum().log()) for z, c in zip(s, y.tolist(), strict=True)) / count
    distilled = sum(kl(b, a, method.temperature) for a, b in zip(s, t, strict=True)) / count
    turned = [image.rot90(turns, (1, 2)) for image in x for turns in (1, 2, 3)]
    s, t = ([model(image[None])[0] for image in turned] for model in (student, teacher))
    rows = chosen(t, [c for c in y.tolist() for _ in range(3)], method.rotated_keep)
    rotated = sum(kl(t[i], s[i], method.temperature) for i in rows) / len(rows)
    s, t = similarities(student, loss.student_head, x), similarities(teacher, loss.teacher_head, x)
    similar = chosen(t, [i for i in range(count) for _ in range(3)], method.similarity_keep)
    features = sum(kl(t[i], s[i], method.similarity_temperature) for i in similar) / len(similar)
    assert 0 < len(similar) < 3 * count
    return {
        "labelled": method.label_weight * labelled,
        "distilled": method.kd_weight * distilled,
        "rotated": method.rotated_weight * rotated,
        "features": method.weight * features,
    }


@pytest.mark.parametrize("method", [SSKD(), SSKD(rotated_keep=0.5, similarity_keep=0.3, weight=2.0)])
def test_all_terms_and_gradients_image_by_image(method: SSKD):
    (x, y), student = images(), spread(net(2))
    pair = method.pair(student, spread(net(3)), x)
    terms = method.loss(student, Batch(x, y, epoch=60), pair)
    expected = reference(method, student, pair, x, y)
    assert list(terms) == list(expected)
    parameters = [*student.parameters(), *pair.criterion.student_head.parameters()]
    for name, value in terms.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)
        found, wanted = (
            torch.autograd.grad(v, parameters, retain_graph=True, materialize_grads=True)
            for v in (value, expected[name])
        )
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    terms.total.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum()) for p in parameters)
    assert all(p.grad is None for p in [*pair.teacher.parameters(), *pair.criterion.teacher_head.parameters()])


def test_the_warm_up_image_by_image():
    (x, y), student, method = images(), net(2), SSKD()
    pair = method.pair(student, net(3), x)
    terms = method.loss(student, Batch(x, y, epoch=59), pair)
    rows = similarities(pair.teacher, pair.criterion.teacher_head, x)
    expected = sum(row.exp().sum().log() - row[place // 3] for place, row in enumerate(rows)) / len(rows)
    torch.testing.assert_close(terms["contrast"], expected, rtol=1e-9, atol=0)
    parameters = list(pair.criterion.teacher_head.parameters())
    found, wanted = torch.autograd.grad(terms.total, parameters), torch.autograd.grad(expected, parameters)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def moved(method: SSKD, epoch: int) -> tuple[set[str], list[float]]:
    """Return what four steps of SGD with momentum and weight decay change, and the losses."""
    (x, y), student = images(), nn.Sequential(nn.BatchNorm2d(1).double(), *net(2))
    pair = method.pair(student, nn.Sequential(nn.BatchNorm2d(1).double(), *net(3)), x)
    both = nn.ModuleDict({"student": student, "pair": pair}).train()
    before = {name: value.clone() for name, value in both.state_dict().items()}
    optimizer = torch.optim.SGD(
        [*student.parameters(), *method.own_parameters(pair)], lr=0.05, momentum=0.9, weight_decay=0.1
    )
    losses = []
    for _ in range(4):
        total = method.loss(student, Batch(x, y, epoch=epoch), pair).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    return {name for name, value in both.state_dict().items() if not torch.equal(value, before[name])}, losses


def test_the_warm_up_trains_the_teachers_head_alone():
    changed, losses = moved(SSKD(), epoch=0)
    assert changed == {f"pair.criterion.teacher_head.{n}.{p}" for n in (0, 2) for p in ("weight", "bias")}
    assert losses[-1] < losses[0]


def test_distillation_trains_the_student_and_its_head():
    changed, losses = moved(SSKD(), epoch=60)
    assert {name.rpartition(".")[0] for name in changed} == {
        "student.0",
        "student.1",
        "student.5",
        "pair.criterion.student_head.0",
        "pair.criterion.student_head.2",
    }
    assert losses[-1] < losses[0]


def test_all_rotations_share_one_pass():
    (x, y), student = images(), nn.Sequential(nn.BatchNorm2d(1).double(), *net(2))
    method = SSKD(warm_up=0)
    method.loss(student.train(), Batch(x, y), method.pair(student, net(3), x))
    assert int(student[0].num_batches_tracked) == 1


def test_state_is_saved_and_restored():
    (x, y), student, teacher, method = images(), net(2), net(3), SSKD()
    pair, other = method.pair(student, teacher, x), method.pair(student, teacher, x)
    batch = Batch(x, y, epoch=60)
    value = method.loss(student, batch, pair).total
    assert not torch.equal(method.loss(student, batch, other).total, value)
    other.load_state_dict(copy.deepcopy(pair.state_dict()))
    assert torch.equal(method.loss(student, batch, other).total, value)
    assert not any("head" in name for name in student.state_dict())


def test_a_copy_of_the_teacher_has_nothing_to_learn():
    (x, y), teacher, method = images(), net(3), SSKD(label_weight=0.0)
    student = copy.deepcopy(teacher)
    pair = method.pair(student, teacher, x)
    pair.criterion.student_head.load_state_dict(pair.criterion.teacher_head.state_dict())
    terms = method.loss(student, Batch(x, y, epoch=60), pair)
    torch.testing.assert_close(terms.total, torch.zeros_like(terms.total), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("keep", "count"), [(0.0, 2), (0.5, 4), (0.7, 5), (1.0, 7)])
def test_rows_that_are_trusted_by_hand(keep: float, count: int):
    scores = torch.tensor([3.0, 2.0, 1.0, 0.0]).expand(7, 4)
    truth = torch.tensor([3, 0, 1, 2, 1, 0, 3])
    by_rank = [1, 5, 2, 4, 3, 0, 6]  # ranks 0 0 1 1 2 3 3, the earlier row first
    assert trusted(scores, truth, keep).nonzero().flatten().tolist() == sorted(by_rank[:count])


def test_the_kept_share_is_rounded_down_exactly():
    scores, truth = torch.tensor([1.0, 0.0]).expand(1000, 2), torch.ones(1000, dtype=torch.int64)
    for percent in range(101):
        for rows in (1, 10, 300, 1000):
            assert int(trusted(scores[:rows], truth[:rows], percent / 100).sum()) == percent * rows // 100


def test_no_rotation_goes_first_among_equal_ranks():
    """Two images, whose six rows rank the same: half of them are the three rows of the first image."""
    loss = RotationLoss(2, 2, keep=0.5).double()
    seen: list[Tensor] = []
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], *[[0.0, 1.0], [1.0, 0.0]] * 3]).double()
    features = Features(torch.zeros(8, 2).double(), (), vectors)
    loss.teacher_head = loss.student_head = nn.Sequential(nn.Linear(2, 2).double())
    with torch.no_grad():
        loss.teacher_head[0].weight.copy_(torch.eye(2))
        loss.teacher_head[0].bias.zero_()
    student = features._replace(pooled=vectors.clone().requires_grad_())
    value = loss(student._replace(pooled=student.pooled + torch.linspace(0, 1, 16).view(8, 2)), features)
    value.backward()
    seen = student.pooled.grad.abs().sum(1)
    assert (seen > 0).tolist() == [True, True, True, False, True, False, True, False]


def test_nothing_trusted_is_nothing_lost():
    student = torch.rand(3, 2, requires_grad=True)
    value = trusted_kl(student, torch.rand(3, 2), torch.zeros(3, dtype=torch.bool), 4.0)
    value.backward()
    assert value.item() == 0
    assert not bool(student.grad.any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_of_one_and_dead_features(dtype: torch.dtype):
    student, teacher = (
        Features(torch.rand(4, 3), (), torch.zeros(4, n, dtype=dtype, requires_grad=True)) for n in (2, 5)
    )
    loss = RotationLoss(2, 5)
    for linear in (loss.student_head[2], loss.teacher_head[2]):
        nn.init.zeros_(linear.bias)
        nn.init.zeros_(linear.weight)
    total = (
        loss(student, teacher) + loss.warm_up(student, teacher, Batch(torch.rand(1, 1, 2, 2), torch.tensor([0]))).total
    )
    total.backward()
    assert total.dtype == torch.float32
    assert math.isfinite(total.item())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in loss.parameters())


def test_published_weights():
    method, imagenet = SSKD(), SSKD.imagenet()
    assert (method.label_weight, method.kd_weight, method.rotated_weight, method.weight) == (0.1, 0.9, 2.7, 10)
    assert (method.temperature, method.similarity_temperature, method.warm_up) == (4, 0.5, 60)
    assert (method.rotated_keep, method.similarity_keep) == (1, 0.75)
    assert (imagenet.label_weight, imagenet.warm_up, imagenet.weight) == (1, 30, 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rotated_weight": -1.0}, "rotated_weight must be at least 0 and finite; got -1.0"),
        ({"similarity_temperature": 0.0}, "similarity_temperature must be positive and finite; got 0.0"),
        ({"temperature": 0.0}, "temperature must be positive and finite; got 0.0"),
        ({"rotated_keep": 1.5}, r"rotated_keep must be in \[0, 1\]; got 1.5"),
        ({"similarity_keep": float("nan")}, r"similarity_keep must be in \[0, 1\]; got nan"),
    ],
)
def test_misuse_in_one_line(fields: dict[str, float], message: str):
    with pytest.raises(InputError, match=f"^{message}$"):
        SSKD(**fields)


def test_features_of_other_images_are_refused():
    features = Features(torch.rand(6, 3), (), torch.rand(6, 2))
    with pytest.raises(InputError, match="expected features of 4 rotations of each image; got 6 rows"):
        RotationLoss(2, 2)(features, features)
