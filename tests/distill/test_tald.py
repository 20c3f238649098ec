"""TALD: the loss by hand, its particles by a plain search, the student's statistics, and each cheaper form."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.attacks import PGD
from aureole.attacks.bss import sample_targets
from aureole.core.balls import L2
from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.objectives import KL, CrossEntropy, Margin, Targeted
from aureole.core.random import Streams
from aureole.distill.base import Distillation
from aureole.distill.boundary import fooling_rate
from aureole.distill.kd import KD
from aureole.distill.tald import TALD
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import InBall
from aureole.particles.steps import UnitL2

from .conftest import BALL, PLAIN, Count, batch, network

RESTARTS = TALD(search=replace(PLAIN.search, kernel=None))


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropies (particles, batch), image by image."""
    rows = [-model(x_i)[range(len(y)), y] + model(x_i).exp().sum(-1).log() for x_i in x]
    return torch.stack(rows)


def by_hand(student: nn.Module, teacher: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    difference = losses(student, x_adv, y) - losses(teacher, x_adv, y).detach()
    return (difference * difference).sum() / difference.numel()


def test_the_loss_and_its_gradient_by_hand() -> None:
    student, teacher, data = network(2), network(1), batch()
    x_adv = PLAIN.particles(teacher, data)
    assert x_adv.shape == (4, 8, 1, 2, 2)
    assert BALL.contains(x_adv, data.x).all()
    assert (x_adv[0] - x_adv[1]).flatten(1).norm(dim=1).min() > 0.01
    value, expected = PLAIN(student, teacher, data), by_hand(student, teacher, x_adv, data.y)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    assert expected > 0.01
    parameters = list(student.parameters())
    mine, theirs = (torch.autograd.grad(loss, parameters) for loss in (value, expected))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert PLAIN(teacher, teacher, data) == 0


def test_particles_are_those_of_a_search_on_the_teacher_and_climb_its_divergence() -> None:
    teacher, data = network(1), batch()
    assert data.streams is not None
    found = PLAIN.search(teacher, data.x, generator=data.streams.fork(7))
    torch.testing.assert_close(PLAIN.particles(teacher, data), found.x_adv, rtol=0, atol=0)
    clean = teacher(data.x).repeat(4, 1)

    def height(tald: TALD) -> Tensor:
        return KL("adversarial||clean")(teacher(tald.particles(teacher, data).flatten(0, 1)), clean).mean()

    start = replace(PLAIN, search=replace(PLAIN.search, num_steps=0, kernel=None, balance=None))
    assert height(PLAIN) > 1.2 * height(start)


def test_one_particle_is_one_step_of_pgd() -> None:
    student, teacher, data = network(2), network(1), batch()
    search = ParticleSearch(BALL, 1, 1, 0.1, CrossEntropy(), kernel=None, step=UnitL2(), start=InBall())
    tald = TALD(search=search)
    assert data.streams is not None
    x_adv = PGD(ball=BALL, num_steps=1, step_size=0.1)(teacher, data.x, data.y, generator=data.streams.fork(7))
    torch.testing.assert_close(
        tald(student, teacher, data), by_hand(student, teacher, x_adv[None], data.y), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        replace(tald, shared_gradient=True)(student, teacher, data), tald(student, teacher, data), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("tald", [PLAIN, replace(PLAIN, targeted=True), replace(PLAIN, shared_gradient=True)], ids=str)
def test_an_image_does_not_see_its_batch(tald: TALD) -> None:
    student, teacher = network(2), network(1)
    whole, rows = tald(student, teacher, batch()), [torch.tensor([3]), torch.tensor([7, 0, 1, 2, 6, 5, 4])]
    parts = [len(r) / 8 * tald(student, teacher, batch(r)) for r in rows]
    torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_teacher_is_left_as_it_was(trace: Any, stateful: nn.Module, shared: bool, dtype: Any) -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    data = Batch(torch.rand(3, 1, 8, 8), torch.arange(3), streams=Streams.of(0, torch.arange(3)))
    before = trace(stateful.eval())
    tald = TALD(shared_gradient=shared, teacher_dtype=dtype, with_images=True, targeted=shared)
    value = tald(student, stateful, data)
    before.check()
    assert (value.dtype, value.requires_grad) == (torch.float32, True)


@pytest.mark.parametrize(("mode", "moves"), [("train", 1), ("batch_statistics", 0), ("eval", 0)])
def test_the_modes_of_the_student(mode: Any, moves: int) -> None:
    student, teacher, data = network(2, norm=True), network(1), batch()
    with torch.no_grad():
        student[2].running_mean.fill_(0.7)
        student[2].running_var.fill_(3.0)
    twin, x_adv = copy.deepcopy(student).train(mode != "eval"), PLAIN.particles(teacher, data)
    value = replace(PLAIN, student_mode=mode)(student, teacher, data)
    logits = twin(x_adv.flatten(0, 1))
    own = nn.functional.cross_entropy(logits, data.y.repeat(4), reduction="none").view(4, 8)
    expected = (own - losses(teacher, x_adv, data.y)).square().mean()
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    assert int(student[2].num_batches_tracked) == moves
    assert all(m.training for m in student.modules())
    assert student[2].track_running_stats
    if mode == "eval":
        with pytest.raises(RuntimeError, match="shape"):
            replace(PLAIN, student_mode=mode)(nn.Sequential(student, nn.Linear(9, 3).double()), teacher, data)
        assert student.training


def test_targeted_particles_are_nearer_to_the_class_that_is_drawn() -> None:
    teacher, data = network(1), batch()
    assert data.streams is not None
    streams = data.streams.fork(7)
    targets = sample_targets(teacher(data.x), streams)
    assert (targets != teacher(data.x).argmax(-1)).all()
    tald = replace(RESTARTS, targeted=True)
    search = replace(tald.search, objective=Targeted(CrossEntropy()))
    found = search(teacher, data.x, targets, generator=streams)
    torch.testing.assert_close(tald.particles(teacher, data), found.x_adv, rtol=0, atol=0)
    start = replace(search, num_steps=0)(teacher, data.x, targets, generator=data.streams.fork(7))
    assert losses(teacher, found.x_adv, targets).mean() < losses(teacher, start.x_adv, targets).mean() - 0.01


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"fraction": 0.5}, 4),
        ({"fraction": 0.3}, 3),
        ({"fraction": 0.01}, 1),
        ({"max_images": 2}, 2),
        ({"fraction": 0.5, "max_images": 6}, 4),
        ({"max_images": 10}, 8),
    ],
)
def test_a_fraction_attacks_so_many(fields: dict[str, Any], count: int) -> None:
    student, teacher, data = network(2), network(1), batch()
    seen, given = Count(teacher), Count(student)
    value = replace(PLAIN, **fields)(student, teacher, data)
    assert seen.rows == [count, 4 * count, 4 * count]  # the clean prediction, the gradient, the loss
    assert given.rows == [4 * count]
    expected = PLAIN(student, teacher, batch(torch.arange(count)))
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def test_images_beside_their_particles() -> None:
    student, teacher, data = network(2), network(1), batch()
    tald = replace(PLAIN, with_images=True, max_images=3)
    x_adv = tald.particles(teacher, batch(torch.arange(3)))
    one, other = by_hand(student, teacher, x_adv, data.y[:3]), by_hand(student, teacher, data.x[None], data.y)
    torch.testing.assert_close(tald(student, teacher, data), (12 * one + 8 * other) / 20, rtol=0, atol=1e-12)


def test_a_shared_gradient_is_the_full_one_for_a_linear_teacher() -> None:
    teacher, data = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double(), batch(torch.tensor([0, 1, 3, 4]))
    for objective in (Margin(), CrossEntropy()):  # along the one normal, wherever the particle is
        full = TALD(search=replace(RESTARTS.search, objective=objective, num_steps=3))
        shared = replace(full, shared_gradient=True)
        torch.testing.assert_close(shared.particles(teacher, data), full.particles(teacher, data), rtol=0, atol=1e-12)
    rough = network(1)
    seen = Count(rough)
    x_adv = replace(RESTARTS, shared_gradient=True).particles(rough, data)
    assert seen.rows == [4, 4, 16]
    full = RESTARTS.particles(rough, data)
    torch.testing.assert_close(x_adv[0], full[0], rtol=0, atol=1e-12)
    assert not torch.allclose(x_adv[1:], full[1:], atol=1e-3)


def test_a_teacher_in_bfloat16_is_near_and_leaves_the_student_alone() -> None:
    student, teacher, data = network(2).float(), network(1).float(), batch()
    data = replace(data, x=data.x.float())
    types: list[torch.dtype] = []
    for model in (teacher, student):
        model[4].register_forward_hook(lambda *given: types.append(given[2].dtype))
    cheap, full = replace(RESTARTS, teacher_dtype="bfloat16"), RESTARTS
    value = cheap(student, teacher, data)
    assert types == 3 * [torch.bfloat16] + [torch.float32]
    torch.testing.assert_close(value, full(student, teacher, data), rtol=0.1, atol=0.02)


def test_the_thesis_to_the_letter_says_that_nothing_repels() -> None:
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(64, 4)) for _ in range(2))
    data = Batch(torch.rand(3, 1, 8, 8), torch.arange(3), streams=Streams.of(0, torch.arange(3)))
    tald = TALD.thesis()
    with pytest.warns(UserWarning, match="nothing repels"):
        value = tald(student, teacher, data)
    restarts = replace(tald, search=replace(tald.search, kernel=None))
    torch.testing.assert_close(value, restarts(student, teacher, data), rtol=1e-4, atol=1e-6)
    search = tald.search
    assert (search.num_particles, search.num_steps, search.step_size, search.ball.radius) == (4, 1, 0.1, 0.3)
    assert search.start.scale == pytest.approx(3.0)
    half = TALD.thesis(0.5, (-1.0, 1.0), noise_factor=5.0, step_size=0.2).search
    assert (half.ball, half.step_size, half.start.scale) == (L2(0.15, (-1.0, 1.0)), 0.1, 0.75)
    assert half.kernel.bandwidth == 5e-4


def test_the_authors_look_at_ten_images_at_the_edge_of_the_ball() -> None:
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(64, 4)) for _ in range(2))
    x = 0.4 + 0.2 * torch.rand(12, 1, 8, 8)
    data = Batch(x, torch.arange(12) % 4, streams=Streams.of(0, torch.arange(12)))
    tald, given = TALD.authors(), Count(student)
    tald(student, teacher, data)
    assert given.rows == [4 * 10 + 12]
    distance = tald.search.ball.distance(tald.particles(teacher, data), x)
    torch.testing.assert_close(distance, torch.full_like(distance, 0.3))


def test_the_particles_that_fool_are_counted() -> None:
    teacher, data = network(1), batch()
    tald = TALD(search=replace(RESTARTS.search, ball=L2(3.0, bounds=None), step_size=3.0, start=InBall()))
    x_adv = tald.particles(teacher, data)
    expected = (teacher(x_adv.flatten(0, 1)).argmax(-1).view(4, 8) != teacher(data.x).argmax(-1)).float().mean(0)
    assert torch.equal(fooling_rate(teacher, x_adv, data.x), expected)
    assert 0 < expected.mean() <= 1


# its own passes of another precision or mode are not replaced
@pytest.mark.parametrize(("fields", "saved"), [({}, 8), ({"fraction": 0.5}, 4), ({"teacher_dtype": "bfloat16"}, 0)])
@pytest.mark.parametrize("form", [{}, {"targeted": True}, {"shared_gradient": True}], ids=str)
def test_logits_at_hand_save_a_pass_and_change_nothing(fields: Any, saved: int, form: Any) -> None:
    student, teacher, data = network(2), network(1), batch()
    tald, logits = replace(PLAIN, **fields, **form), teacher(data.x)
    counted = Count(teacher)
    expected, rows = tald(student, teacher, data), sum(counted.rows)
    value = tald(student, teacher, data, teacher_logits=logits)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert 2 * rows - sum(counted.rows) == saved


def test_a_method_hands_over_the_logits_that_it_has() -> None:
    student, teacher, data = network(2), network(1), batch()
    for method in (KD(), KD(kd_weight=0.0, weight=0.0)):
        pair = replace(method, tald=replace(PLAIN, weight=0.5)).pair(student, teacher, data.x)
        counted = Count(pair.teacher)
        terms = replace(method, tald=replace(PLAIN, weight=0.5)).loss(student, data, pair)
        assert counted.rows == [8, 32, 32]  # the images, the step and the particles' losses
        torch.testing.assert_close(terms["boundary"], 0.5 * PLAIN(student, teacher, data), rtol=1e-12, atol=0)


def test_any_method_takes_it_and_its_pair_holds_the_memory() -> None:
    student, teacher, data = network(2), network(1), batch(index=torch.arange(8))
    method = KD(tald=replace(PLAIN, weight=0.5, reuse=1))
    pair = method.pair(student, teacher, data.x, num_examples=8)
    terms = method.loss(student, data, pair)
    assert list(terms) == ["labelled", "distilled", "boundary"]
    torch.testing.assert_close(terms["boundary"], 0.5 * PLAIN(student, teacher, data), rtol=0.02, atol=0)
    assert {"memory.x_adv", "memory.losses", "memory.left"} <= set(pair.state_dict())
    assert not list(method.own_parameters(pair))
    assert (method.num_particles, KD().num_particles) == (4, None)
    off = KD()
    assert off.pair(student, teacher, data.x).memory is None
    assert list(off.loss(student, data, off.pair(student, teacher, data.x))) == ["labelled", "distilled"]
    assert isinstance(hash(method), int)
    with pytest.raises(InputError, match="pass num_examples"):
        method.pair(student, teacher, data.x)


def test_it_stays_out_of_a_stage_before_distillation(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, data = network(2), network(1), replace(batch(), epoch=0)
    method = KD(tald=replace(PLAIN, weight=0.5), warm_up=1)
    pair = method.pair(student, teacher, data.x)

    class Stage(nn.Module):
        def warm_up(self, *_: Any) -> Any:
            return "the stage's own terms"

    pair.criterion = Stage()
    config.update("jaxtyping_disable", True)
    try:
        assert Distillation.loss(method, student, data, pair) == "the stage's own terms"
    finally:
        config.update("jaxtyping_disable", False)


@pytest.fixture
def unchecked() -> Iterator[None]:
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": -1.0}, "weight of TALD must be at least 0"),
        ({"weight": math.nan}, "weight of TALD must be at least 0"),
        ({"fraction": 0.0}, "fraction must be above 0"),
        ({"fraction": 1.5}, "fraction must be above 0"),
        ({"reuse": -1}, "reuse must be at least 0"),
        ({"max_images": 0}, "max_images at least 1"),
        ({"student_mode": "trian"}, "unknown student_mode 'trian': did you mean 'train'"),
        ({"teacher_dtype": "half"}, "teacher_dtype must be 'bfloat16' or None"),
        ({"search": 4}, "search must be a ParticleSearch"),
    ],
)
def test_misuse(unchecked: None, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TALD(**fields)
