"""One table over all distillation methods: what cannot be is said in one line."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from aureole.core.errors import InputError
from aureole.core.taps import Taps
from aureole.distill import SSKD, Contrast, Supporting


def _refused(message: str, make: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.rows("alone")
def test_a_teacher_in_train_mode_is_refused(kit: Any, row: Any) -> None:
    scene = kit.scene(row)
    for module in (scene.teacher, scene.teacher.layer1[1]):
        module.train()
        for epoch in (0, 1):
            _refused("teacher is in train mode", lambda epoch=epoch: scene.loss(kit.batch(epoch=epoch)))
        scene.teacher.eval()
        scene.loss(kit.batch())


@pytest.mark.rows("alone")
def test_networks_that_do_not_belong_together_are_refused(kit: Any, row: Any) -> None:
    widths = (4, 6, 8)
    _refused("same classes; got 3 and 4", lambda: kit.scene(row, teacher=kit.Network(widths, classes=4)))
    one = kit.Network(widths)
    _refused("same module", lambda: kit.scene(row, student=one, teacher=one))
    if row.method.needs_maps:
        fewer = kit.Network(widths)
        fewer.taps = Taps(maps=("stem", "layer1"))
        _refused("equally many maps.* got 3 and 2", lambda: kit.scene(row, teacher=fewer))
        none = kit.Network(widths)
        none.taps = Taps()
        _refused("name layers with Taps", lambda: kit.scene(row, student=none, teacher=copy.deepcopy(none)))


@pytest.mark.rows("alone")
def test_a_wrong_layer_offers_the_nearest(kit: Any, row: Any) -> None:
    scene, taps = kit.scene(row), Taps(maps=("stem", "layer1", "layr2"))
    x = kit.batch().x
    for name in ("student_taps", "teacher_taps"):
        _refused(
            r"'layr2': did you mean 'layer2'",
            lambda name=name: row.method.pair(
                scene.student, scene.teacher, x, num_examples=kit.examples, **{name: taps}
            ),
        )


@pytest.mark.rows("alone")
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(kit: Any, row: Any, value: float) -> None:
    _refused("temperature must be positive", lambda: replace(row.method, temperature=value))


@pytest.mark.parametrize("make", [lambda t: Contrast(temperature=t), lambda t: Supporting(temperature=t)])
def test_other_temperatures_too(kit: Any, make: Any) -> None:
    _refused("temperature must be positive", lambda: make(0.0))
    _refused("temperature must be positive", lambda: SSKD(similarity_temperature=0.0))


@pytest.mark.rows("alone")
def test_a_stage_that_does_not_exist_and_a_missing_teacher_are_said(kit: Any, row: Any) -> None:
    scene = kit.scene(row)
    _refused("needs a teacher: pass what", lambda: row.method.loss(scene.student, kit.batch(), None))
    if not row.stage:
        method = replace(row.method, warm_up=1)
        _refused("no stage before distillation", lambda: method.loss(scene.student, kit.batch(epoch=0), scene.pair))


@pytest.mark.rows("alone")
def test_labels_that_do_not_fit_are_refused(kit: Any, row: Any, untyped: None) -> None:
    scene, batch = kit.scene(row), kit.batch()
    _refused("one label an image", lambda: scene.loss(replace(batch, y=batch.y[:3])))


@pytest.mark.parametrize("name", ["crd", "crd tald"])
def test_crd_wants_to_know_which_images_it_sees(kit: Any, name: str) -> None:
    row, batch = kit.rows[name], kit.batch()
    scene = kit.scene(row)
    _refused(r"pass Batch\(x, y, index=", lambda: scene.loss(replace(batch, index=None)))
    _refused("from 0 to 23; they range from", lambda: scene.loss(replace(batch, index=batch.index + kit.examples)))
    _refused(r"pass pair\(\.\.\., num_examples=", lambda: row.method.pair(scene.student, scene.teacher, batch.x))
    shrunk = kit.scene(row, num_examples=kit.examples - 1)
    _refused("24 examples and the training set 23", lambda: shrunk.pair.load_state_dict(scene.pair.state_dict()))
    scene.loss(batch)
    _refused("another label than before", lambda: scene.loss(replace(batch, y=(batch.y + 1) % kit.classes)))


def test_particles_that_are_kept_want_the_place_of_an_image(kit: Any) -> None:
    scene, batch = kit.scene(kit.rows["kd tald reuse"]), kit.batch()
    _refused(r"Batch\(index=", lambda: scene.loss(replace(batch, index=None)))
    _refused("the memory of TALD has 24 images", lambda: scene.loss(replace(batch, index=batch.index + kit.examples)))
