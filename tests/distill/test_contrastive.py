"""CRD: the loss from loops, the draws by their statistics and their sets, the memory by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.random import Streams
from aureole.core.taps import Features
from aureole.distill import contrastive
from aureole.distill.contrastive import CRD, Contrast, CRDLoss, noise_contrastive

N, LABELS = 12, torch.tensor([0, 1, 2] * 4)
INDEX = torch.tensor([7, 3, 10])
SMALL = Contrast(size=3, num_negatives=5)


def pooled(x: Tensor) -> Features:
    return Features(x.new_zeros(len(x), 3), (), x)


def batch(index: Tensor = INDEX, seed: int = 0, y: Tensor | None = None) -> Batch:
    y = LABELS[index] if y is None else y
    return Batch(torch.zeros(len(index), 1, 1, 1), y, index=index, streams=Streams.of(seed, index))


def vectors(count: int = 3) -> tuple[Features, Features]:
    generator = torch.Generator().manual_seed(5)
    s, t = (torch.randn(count, size, generator=generator, dtype=torch.float64) for size in (4, 6))
    return pooled(s.requires_grad_()), pooled(t.requires_grad_())


def make(contrast: Contrast = SMALL, labels: Tensor | None = LABELS) -> CRDLoss:
    torch.manual_seed(1)
    return CRDLoss(4, 6, N, contrast, labels).double()


def chosen(loss: CRDLoss, given: Batch) -> Tensor:
    """Return what the loss draws for a batch."""
    assert given.index is not None
    assert given.streams is not None
    labels = loss.labels.index_copy(0, given.index, given.y)
    return contrastive._choose(labels, given.index, loss.contrast, given.streams)


@torch.no_grad()
def unit(v: Tensor) -> Tensor:
    return v / math.sqrt(sum(float(value) ** 2 for value in v))


@torch.no_grad()
def by_hand(loss: CRDLoss, student: Features, teacher: Features, drawn: Tensor, z: list[float] | None = None) -> float:
    """Return the loss as the sheet writes it, one image and one drawn example after the other."""
    total = 0.0
    sides = (student, loss.embed_student, loss.memory_teacher), (teacher, loss.embed_teacher, loss.memory_student)
    for side, (features, embed, memory) in enumerate(sides):
        outs = []
        for x, row in zip(features.pooled, drawn, strict=True):
            v = unit(embed.weight @ x + embed.bias)
            outs.append([math.exp(float(v @ memory[j]) / 0.07) for j in row])
        k = len(outs[0]) - 1
        scale = sum(map(sum, outs)) / (len(outs) * (k + 1)) * N if z is None else z[side]
        noise = k / N
        for row in outs:
            p = [out / scale for out in row]
            total -= math.log(p[0] / (p[0] + noise + 1e-7)) / len(outs)
            total -= sum(math.log(noise / (q + noise + 1e-7)) for q in p[1:]) / len(outs)
    return total


def test_value() -> None:
    loss, (student, teacher) = make(), vectors()
    wanted = by_hand(loss, student, teacher, chosen(loss, batch()))
    assert loss(student, teacher, batch()).item() == pytest.approx(wanted, rel=1e-9)


def test_the_normalizers_of_the_first_batch_stay() -> None:
    loss, (student, teacher) = make(), vectors()
    loss(student, teacher, batch())
    z = loss.normalizers.tolist()
    assert all(value > 0 for value in z)
    other = batch(torch.tensor([0, 1, 5]), seed=3)
    wanted = by_hand(loss, student, teacher, chosen(loss, other), z)
    assert loss(student, teacher, other).item() == pytest.approx(wanted, rel=1e-9)
    assert loss.normalizers.tolist() == z


def test_gradient() -> None:
    loss, (student, teacher) = make(), vectors()
    loss(student, teacher, batch())  # sets Z, which has no gradient
    loss.eval()
    loss(student, teacher, batch()).backward()
    assert student.pooled.grad is not None
    assert teacher.pooled.grad is None
    drawn, z = chosen(loss, batch()), loss.normalizers.tolist()
    leaves = [student.pooled, *loss.parameters()]
    for leaf in leaves:
        assert leaf.grad is not None
        flat, gradient = leaf.data.view(-1), leaf.grad.view(-1)
        for place in range(0, len(flat), 4):
            centre, sides = float(flat[place]), []
            for step in (1e-5, -1e-5):
                flat[place] = centre + step
                sides.append(by_hand(loss, student, teacher, drawn, z))
            flat[place] = centre
            assert float(gradient[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-6)


def test_memory_moves_on_after_the_loss_in_train_mode() -> None:
    loss, (student, teacher) = make(), vectors()
    before = copy.deepcopy(loss)
    value = loss(student, teacher, batch())
    value.backward()  # the gradient needs the memory as it was
    for name, features in (("student", student), ("teacher", teacher)):
        old, new = (getattr(module, f"memory_{name}") for module in (before, loss))
        embed = getattr(loss, f"embed_{name}")
        for place, x in zip(INDEX, features.pooled, strict=True):
            wanted = unit(0.5 * old[place] + 0.5 * unit(embed(x)))
            assert torch.allclose(new[place], wanted.detach())
        rest = [place for place in range(N) if place not in INDEX]
        assert torch.equal(new[rest], old[rest])


def test_nothing_moves_in_evaluation_mode() -> None:
    loss, (student, teacher) = make(labels=None).eval(), vectors()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss(student, teacher, batch())
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_of_an_image_that_comes_twice_the_last_counts() -> None:
    loss, (student, teacher) = make(), vectors()
    old = loss.memory_student.clone()
    loss(student, teacher, batch(torch.tensor([7, 3, 7])))
    assert torch.allclose(
        loss.memory_student[7], unit(0.5 * old[7] + 0.5 * unit(loss.embed_student(student.pooled[2])))
    )


def test_equal_streams_give_equal_draws_in_any_batch() -> None:
    loss = make()
    together = chosen(loss, batch())
    assert torch.equal(together, chosen(loss, batch()))
    assert not torch.equal(together, chosen(loss, batch(seed=1)))
    assert torch.equal(together[1:2], chosen(loss, batch(INDEX[1:2])))


def test_draws_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    together = chosen(make(), batch())
    monkeypatch.setattr(contrastive, "_MAX_KEYS", N)
    assert torch.equal(together, chosen(make(), batch()))


@pytest.mark.parametrize("replacement", [False, True])
def test_negatives_are_of_other_classes_and_equally_likely(replacement: bool) -> None:
    index = torch.full((4000,), 7)
    given = Batch(torch.zeros(4000, 1), LABELS[index], index=index, streams=Streams.of(0, torch.arange(4000)))
    drawn = chosen(make(Contrast(num_negatives=5, replacement=replacement)), given)
    assert bool((drawn[:, 0] == 7).all())
    counts = drawn[:, 1:].flatten().bincount(minlength=N)
    assert counts[LABELS[7] == LABELS].sum() == 0
    share = counts[LABELS[7] != LABELS] / counts.sum()
    assert torch.allclose(share, torch.full((8,), 1 / 8), atol=0.01)
    once = all(len(set(row)) == 5 for row in drawn[:, 1:].tolist())
    assert once is not replacement


def test_all_negatives_are_drawn_where_there_are_just_enough() -> None:
    drawn = chosen(make(Contrast(num_negatives=8)), batch())
    assert sorted(drawn[0, 1:].tolist()) == [place for place in range(N) if LABELS[place] != LABELS[7]]


def test_too_few_of_other_classes_are_drawn_with_replacement() -> None:
    """The first class leaves 4 others, too few; the second leaves 9, enough."""
    labels = torch.tensor([0] * 8 + [1] * 3 + [2])
    loss = make(Contrast(num_negatives=6), labels)
    index = torch.tensor([2, 9])
    first, second = chosen(loss, batch(index, y=labels[index]))[:, 1:].tolist()
    assert len(first) == 6
    assert set(first) <= {8, 9, 10, 11}
    assert len(set(second)) == 6
    assert not set(second) & {8, 9, 10}
    assert chosen(make(Contrast(num_negatives=50)), batch()).shape == (3, 51)

    given = Batch(
        torch.zeros(500, 1), LABELS[[7] * 500], index=torch.tensor([7] * 500), streams=Streams.of(0, torch.arange(500))
    )
    drawn = chosen(make(Contrast(num_negatives=5, positives="relax")), given)[:, 0]
    assert set(drawn.tolist()) == {1, 4, 7, 10}
    assert float((drawn.bincount()[[1, 4, 7, 10]] / 500 - 0.25).abs().max()) < 0.07


def test_labels_are_learned_as_they_come() -> None:
    loss, (student, teacher) = make(labels=None), vectors()
    loss(student, teacher, batch())
    assert loss.labels.tolist() == [-1, -1, -1, 0, -1, -1, -1, 1, -1, -1, 1, -1]
    many = Contrast(size=3, num_negatives=10)
    loss.contrast = many
    drawn = chosen(loss, batch())
    assert set(drawn[0, 1:].tolist()) == set(range(N)) - {7, 10}  # 1 and 4 are of the class too; nobody has said so
    loss.learn_labels(torch.arange(N), LABELS)
    assert torch.equal(loss.labels, make().labels)


def test_state_is_saved_and_restored() -> None:
    loss, (student, teacher) = make(labels=None), vectors()
    loss(student, teacher, batch())
    torch.manual_seed(9)
    other = CRDLoss(4, 6, N, SMALL).double()
    other.load_state_dict(loss.state_dict())
    assert other(student, teacher, batch(seed=4)).item() == loss(student, teacher, batch(seed=4)).item()
    assert torch.equal(other.memory_student, loss.memory_student)


def test_the_memory_starts_uniform_and_of_about_unit_length() -> None:
    memory = CRDLoss(4, 6, 2000).memory_teacher
    assert memory.shape == (2000, 128)
    bound = 1 / math.sqrt(128 / 3)
    assert bound * 0.999 < float(memory.max()) <= bound
    assert float(memory.norm(dim=1).mean()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("count", [1, 3])
def test_half_precision_and_one_image(count: int) -> None:
    loss = make().float()
    student, teacher = (pooled(f.pooled.detach()[:count].bfloat16()) for f in vectors())
    full = make().eval()(pooled(student.pooled.double()), pooled(teacher.pooled.double()), batch(INDEX[:count]))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher, batch(INDEX[:count]))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(full.item(), rel=1e-4)


def test_noise_contrastive_for_extreme_scores() -> None:
    log_p = torch.tensor([[-200.0, -300.0], [40.0, -200.0]], requires_grad=True)
    value = noise_contrastive(log_p, num_examples=10)
    value.backward()
    assert value.item() == pytest.approx((200 + math.log(0.1)) / 2, rel=1e-5)
    assert log_p.grad is not None
    assert bool(log_p.grad.isfinite().all())


def test_the_method_in_a_loop() -> None:
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, n), nn.Linear(n, 3)) for n in (2, 5))
    method, index = CRD.with_kd(), torch.arange(4)
    x = torch.rand(4, 1, 2, 2)
    pair = method.pair(student, teacher, x, num_examples=N)
    optimizer = torch.optim.SGD([*student.parameters(), *method.own_parameters(pair)], lr=0.01)
    values = []
    for _ in range(20):
        terms = method.loss(student, Batch(x, LABELS[:4], index=index, streams=Streams.of(0, index)), pair)
        optimizer.zero_grad()
        terms["features"].backward()
        optimizer.step()
        values.append(terms["features"].item())
    assert values[-1] < values[0] - 1
    assert (method.label_weight, method.kd_weight, method.weight, CRD().kd_weight) == (1, 1, 0.8, 0)
    assert (Contrast().size, Contrast().num_negatives, Contrast().momentum) == (128, 16384, 0.5)


def test_an_unknown_kind_of_positives() -> None:
    settings = Contrast()
    object.__setattr__(settings, "positives", "relaxed")
    with pytest.raises(InputError, match="did you mean 'relax'"):
        settings.__post_init__()


def one(**change: object) -> Callable[[], object]:
    given = {"x": torch.zeros(3, 1), "y": LABELS[INDEX], "index": INDEX, **change}
    return lambda: make()(*vectors(), Batch(**given))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (one(index=None), r"pass Batch\(x, y, index=...\)"),
        (lambda: make()(*vectors()), r"pass Batch\(x, y, index=...\)"),
        (one(index=torch.tensor([1, 2, 12])), "from 0 to 11; they range from 1 to 12"),
        (one(index=torch.tensor([1, -1, 2])), "from 0 to 11; they range from -1 to 2"),
        (one(y=LABELS[INDEX] + 1), "another label than before"),
        (
            lambda: make(labels=torch.zeros(N, dtype=torch.int64))(*vectors(), batch(y=torch.zeros(3).long())),
            "other classes",
        ),
        (lambda: make(labels=LABELS[:5]), r"shape \(12,\); got \(5,\)"),
        (lambda: CRDLoss(4, 6, 1), "at least 2; got 1"),
        (
            lambda: CRDLoss(4, 6, N - 2, SMALL).load_state_dict(make().state_dict()),
            "12 examples and the training set 10",
        ),
        (lambda: CRD().criterion(*vectors(), None), "num_examples=len"),
        (lambda: Contrast(num_negatives=0), "at least 1; got 128 and 0"),
        (lambda: Contrast(temperature=0.0), "temperature must be positive"),
        (lambda: Contrast(momentum=1.0), r"momentum in \[0, 1\)"),
    ],
)
def test_misuse(call: Callable[[], object], line: str) -> None:
    with pytest.raises(InputError, match=line):
        call()
