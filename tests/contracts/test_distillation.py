"""One table over all distillation methods, each alone and with TALD: what every one keeps to."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

import aureole.distill
from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.distill import BSS, Distillation


def test_the_table_has_every_method(kit: Any) -> None:
    exported = {getattr(aureole.distill, name) for name in aureole.distill.__all__}
    methods = {thing for thing in exported if isinstance(thing, type) and issubclass(thing, Distillation)}
    assert methods - {Distillation} == {type(row.method) for row in kit.alone.values()}
    assert len({type(row.method).title for row in kit.alone.values()}) == len(kit.alone) == 16


@pytest.mark.rows("few")
def test_a_method_is_a_named_frozen_value(kit: Any, row: Any) -> None:
    assert row.method == replace(row.method)
    assert hash(row.method) == hash(replace(row.method))
    assert row.method.num_particles == (4 if "boundary" in row.terms else None)
    assert row.method.warm_up_epochs == (1 if row.stage else 0)
    with pytest.raises(AttributeError):
        row.method.weight = 2.0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.rows("every")
@pytest.mark.parametrize(("size", "dtype"), [(1, torch.float32), (6, torch.float64)], ids=str)
def test_terms_are_finite_scalars_in_the_type_of_the_images(kit: Any, row: Any, size: int, dtype: torch.dtype) -> None:
    scene = kit.scene(row, dtype)
    assert all(p.dtype == dtype for p in scene.parameters.values())
    for epoch, names in ((0, row.stage or row.terms), (1, row.terms)):
        batch = kit.batch(size, dtype, epoch=epoch)
        if size < row.least:
            with pytest.raises(InputError, match="at least two; got 1") as caught:
                scene.loss(batch)
            assert "\n" not in str(caught.value)
            continue
        terms = scene.loss(batch)
        assert tuple(terms) == names
        for name, value in terms.items():
            assert (value.shape, value.dtype) == ((), dtype)
            assert bool(value.isfinite())
            assert value >= 0 or name == row.negative
        assert bool((terms.total != 0) | (size == 1))


@pytest.mark.rows("alone")
def test_half_precision_gives_the_same_terms_in_full_precision(kit: Any, row: Any) -> None:
    full, half = kit.scene(row), kit.scene(row)
    for epoch in (0, 1):
        batch = kit.batch(epoch=epoch)
        wanted = full.loss(batch)
        with torch.autocast("cpu", torch.bfloat16):
            terms = half.loss(batch)
        terms.total.backward()
        assert all(value.dtype == torch.float32 for value in terms.values())
        for parameter in half.parameters.values():
            assert parameter.grad is None or bool(parameter.grad.isfinite().all())
        for name, value in terms.items():
            exact = {"labelled": 0.02, "reconstruction": 0.03, "contrast": 0.03, "heads": 0.03}
            torch.testing.assert_close(value, wanted[name], rtol=exact.get(name, 0.25), atol=0.02)


@pytest.mark.rows("alone")
def test_autocast_does_not_touch_a_loss_of_full_precision(kit: Any, row: Any) -> None:
    """Products and logarithms of a loss without heads are taken in the precision of what it is given."""
    scene = kit.scene(row)
    criterion, batch = scene.pair.criterion, kit.batch()
    if criterion is None or list(criterion.parameters()):
        pytest.skip("it has heads, which run in half precision, or nothing between features")
    student, teacher = scene.pair.student_features(scene.student, batch.x), scene.pair.teacher_features(batch.x)
    wanted = criterion(student, teacher, batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(criterion(student, teacher, batch), wanted)


def test_autocast_does_not_touch_the_similarities_of_sskd(kit: Any) -> None:
    scene, batch = kit.scene(kit.alone["sskd"]), kit.batch(12)  # as if four turns of three images
    loss, features = scene.pair.criterion, scene.pair.teacher_features(batch.x)
    loss.teacher_head.register_forward_hook(lambda head, vectors, _: vectors[0])  # a head that changes nothing
    wanted = loss.warm_up(features, features, batch).total
    assert wanted > 0
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss.warm_up(features, features, batch).total, wanted)


@pytest.mark.rows("alone")
def test_a_network_in_bfloat16_is_compared_at_full_precision(kit: Any, row: Any) -> None:
    scene = kit.scene(row, torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in row.method.own_parameters(scene.pair))
    for epoch in (0, 1):
        terms = scene.loss(kit.batch(dtype=torch.bfloat16, epoch=epoch))
        terms.total.backward()
        assert all(value.dtype == torch.float32 and bool(value.isfinite()) for value in terms.values())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in scene.parameters.values())


@pytest.mark.rows("alone")
def test_maps_of_other_sizes_are_matched_or_refused(kit: Any, row: Any) -> None:
    """The teacher is wider, and its maps are twice as large, half as large, and as large as the student's."""
    for strides in ((2, 1, 2), (1, 1, 1), (1, 1, 2)):
        wide = kit.Network((5, 7, 9), strides)
        if row.same_widths:
            with pytest.raises(InputError, match=r"same channels .* got \[4, 6, 8\] and \[5, 7, 9\]") as caught:
                kit.scene(row, teacher=wide)
            assert "\n" not in str(caught.value)
            continue
        scene = kit.scene(row, teacher=wide)
        assert tuple(scene.loss(kit.batch(epoch=0))) == (row.stage or row.terms)
        assert bool(scene.loss(kit.batch()).total.isfinite())


@pytest.mark.parametrize("name", ["fitnet", "ab"])
def test_sizes_that_cannot_be_matched_are_refused_by_their_shapes(kit: Any, name: str) -> None:
    with pytest.raises(InputError, match=r"\(2, 8, 2, 2\) to the teacher's \(2, 9, 8, 8\)") as caught:
        kit.scene(kit.alone[name], student=kit.Network((4, 6, 8), (1, 1, 4)), teacher=kit.Network((5, 7, 9), (1, 1, 1)))
    assert "\n" not in str(caught.value)


@pytest.mark.rows("every")
def test_the_teacher_is_left_alone(kit: Any, row: Any, trace: Any) -> None:
    scene = kit.scene(row)
    before = trace(scene.teacher)
    scene.pair.train()
    for epoch in (0, 1):
        scene.step(kit.batch(epoch=epoch))
        before.check()
    assert not any(module.training for module in scene.teacher.modules())
    assert all(not p.requires_grad and p.grad is None for p in scene.teacher.parameters())
    mine = {id(p) for group in scene.optimizer.param_groups for p in group["params"]}
    assert mine.isdisjoint(map(id, scene.teacher.parameters()))


@pytest.mark.rows("alone")
def test_no_gradient_reaches_the_teacher_even_where_it_asks_for_one(kit: Any, row: Any) -> None:
    scene = kit.scene(row)
    scene.teacher.requires_grad_(True)
    for epoch in (0, 1):
        scene.loss(kit.batch(epoch=epoch)).total.backward()
    assert all(p.grad is None for p in scene.teacher.parameters())


@pytest.mark.rows("few")
def test_every_learnable_part_learns(kit: Any, row: Any) -> None:
    """Over both stages each parameter gets a gradient and moves. A bias before batch norm has no effect."""
    scene = kit.scene(row)
    before = {name: p.detach().clone() for name, p in scene.parameters.items()}
    touched: set[str] = set()
    for number, epoch in enumerate((0, 1)):
        scene.step(kit.batch(number=number, epoch=epoch))
        for name, parameter in scene.parameters.items():
            if parameter.grad is not None and float(parameter.grad.abs().max()) > 1e-7:
                touched.add(name)
    cancelled = ("regressor.conv.bias", "connectors.", "translator.")
    exempt = {
        n for n in before if n.startswith(cancelled) and n.endswith((".conv.bias", ".0.bias", ".3.bias", ".6.bias"))
    }
    assert touched | exempt == set(before)
    moved = {name for name, p in scene.parameters.items() if not torch.equal(p, before[name])}
    assert moved >= touched


@pytest.mark.rows("every")
def test_the_student_runs_no_more_than_it_must(kit: Any, row: Any) -> None:
    """Counted in its batch norm, whose running statistics move in a pass in train mode; and it keeps its modes."""
    scene, counted = kit.scene(replace(row, same_widths=True), student=kit.Network((4, 6, 8))), 0
    scene.student.layer1[2].eval()
    modes = [module.training for module in scene.student.modules()]
    scene.student.load_state_dict(scene.teacher.state_dict())
    scene.student.get_buffer("stem.1.num_batches_tracked").zero_()
    for epoch in (0, 1):
        batch = replace(
            kit.batch(epoch=epoch), y=scene.teacher(kit.batch().x).argmax(-1)
        )  # BSS has images to begin with
        scene.loss(batch)
        counted += row.passes[1 if epoch or not row.stage else 0]
        assert int(scene.student.get_buffer("stem.1.num_batches_tracked")) == counted
    assert [module.training for module in scene.student.modules()] == modes
    assert all(p.grad is None for p in scene.student.parameters())


@pytest.mark.rows("few")
def test_a_restored_state_gives_the_same_losses(kit: Any, row: Any) -> None:
    """The state is taken in the first stage; the next losses follow the memory, the optimiser and batch norm."""
    one, other = kit.scene(row), kit.scene(row, seed=7)
    one.step(kit.batch(epoch=0))
    other.restore(one.state)
    for number, epoch in enumerate((0, 1, 1)):
        batch = kit.batch(number=number, epoch=epoch)
        again = replace(batch, streams=Streams.of(number, batch.index))
        assert torch.equal(one.step(batch).total, other.step(again).total)
    fresh = kit.scene(row, seed=7).loss(kit.batch(number=5)).total
    assert not torch.equal(one.loss(kit.batch(number=5)).total, fresh)


@pytest.mark.rows("alone")
def test_nothing_is_left_to_learn_from_oneself(kit: Any, row: Any) -> None:
    """Of the divergence of predictions, and where that holds of the loss between features."""
    name = "features" if row.zero else "distilled"
    if name not in row.terms or isinstance(row.method, BSS):
        pytest.skip("it asks for more than the teacher gives: its loss keeps an entropy, or it learns heads")
    twins, batch = replace(row, same_widths=True), kit.batch(dtype=torch.float64)
    teacher = kit.Network((4, 6, 8)).double()
    scene = kit.scene(twins, torch.float64, teacher=teacher, student=copy.deepcopy(teacher).eval())
    assert scene.loss(batch)[name] > 1e-9  # other running statistics
    scene.student.load_state_dict(teacher.state_dict())
    assert abs(scene.loss(batch)[name]) < 1e-9


@pytest.mark.rows("few")
def test_the_global_random_state_is_neither_read_nor_changed(kit: Any, row: Any) -> None:
    totals = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            scene = kit.scene(row)
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            totals.append([scene.loss(kit.batch(epoch=epoch)).total for epoch in (0, 1)])
            assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, other) for one, other in zip(*totals, strict=True))


@pytest.mark.rows("alone")
def test_the_batch_is_left_alone(kit: Any, row: Any) -> None:
    scene, batch = kit.scene(row), kit.batch()
    x, y, index = batch.x.clone(), batch.y.clone(), batch.index.clone()
    scene.loss(batch)
    assert (batch.x.requires_grad, batch.x.equal(x), batch.y.equal(y), batch.index.equal(index)) == (
        False,
        *[True] * 3,
    )
