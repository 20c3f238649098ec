"""Rotations of images, pixel by pixel, and labels of class and rotation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch, Terms
from aureole.core.taps import Features, Taps
from aureole.distill.base import Distillation
from aureole.distill.hsakd import HSAKD
from aureole.distill.kd import KD
from aureole.distill.rotations import joint_labels, rotated
from aureole.distill.sskd import SSKD
from aureole.distill.tald import TALD


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 3, 1, 1), nn.ReLU()) for _ in range(3)))
        self.fc = nn.Linear(1, classes)
        self.taps = Taps(maps=("stages.0", "stages.1", "stages.2"), pooled="fc:input")

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stages(x).mean((2, 3)))


def turned(image: Tensor) -> Tensor:
    """One channel, a quarter turn anticlockwise: the last column becomes the first row."""
    size = len(image)
    out = torch.empty_like(image)
    for row in range(size):
        for column in range(size):
            out[size - 1 - column, row] = image[row, column]
    return out


def test_rotations_pixel_by_pixel():
    x = torch.rand(3, 2, 5, 5)
    found = rotated(x)
    assert found.shape == (4, 3, 2, 5, 5)
    for image in range(3):
        for channel in range(2):
            expected = x[image, channel]
            for turns in range(4):
                assert torch.equal(found[turns, image, channel], expected)
                expected = turned(expected)
            assert torch.equal(expected, x[image, channel])


def test_joint_labels_count_rotations_of_a_class():
    y = torch.tensor([0, 4, 1])
    labels = joint_labels(y)
    assert labels.dtype == y.dtype
    assert [[int(labels[r, i]) for i in range(3)] for r in range(4)] == [
        [4 * c + r for c in (0, 4, 1)] for r in range(4)
    ]


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (2, 4, 4), (2, 16)])
def test_other_images_are_refused_in_one_line(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"^rotations need square images.*got \(2, .*crop or pad them$"):
        rotated(torch.rand(shape))


@pytest.mark.parametrize("method", [SSKD(), HSAKD()], ids=lambda m: m.title)
def test_misuse_of_a_method_in_one_line(method: Distillation):
    student, teacher, x, y = Net(), Net(), torch.rand(2, 1, 8, 8), torch.tensor([0, 2])
    with pytest.raises(InputError, match="rotations need square images"):
        method.pair(student, teacher, torch.rand(2, 1, 8, 6))
    pair = method.pair(student, teacher, x)
    with pytest.raises(InputError, match="rotations need square images"):
        method.loss(student, Batch(torch.rand(2, 1, 8, 6), y), pair)
    with pytest.raises(InputError, match=f"^{method.title} needs a teacher"):
        method.loss(student, Batch(x, y))
    with pytest.raises(InputError, match=f"^{method.title} needs its own heads"):
        method.loss(student, Batch(x, y), KD().pair(student, teacher, x))
    with pytest.raises(InputError, match="labels must be an int64 tensor"):
        method.loss(student, Batch(x, torch.tensor([0, 2], dtype=torch.int16)), pair)
    with pytest.raises(InputError, match="must know the same classes; got 3 and 5"):
        method.pair(student, Net(5), x)
    pair.teacher.train()
    with pytest.raises(InputError, match="teacher is in train mode"):
        method.loss(student, Batch(x, y), pair)
    assert not any(p.grad is not None for p in [*student.parameters(), *pair.parameters()])


@pytest.mark.parametrize("method", [SSKD(), HSAKD()], ids=lambda m: m.title)
def test_the_student_does_not_run_in_the_warm_up(method: Distillation):
    student, x, y = Net(), torch.rand(2, 1, 8, 8), torch.tensor([0, 2])
    pair = method.pair(student, Net(), x)
    runs: list[int] = []
    student.register_forward_pre_hook(lambda module, args: runs.append(len(args[0])))
    method.loss(student, Batch(x, y, epoch=method.warm_up - 1), pair)
    assert runs == []
    method.loss(student, Batch(x, y, epoch=method.warm_up), pair)
    assert runs == [8]
    assert method.warm_up_epochs == method.warm_up > 0


@pytest.mark.parametrize("method", [SSKD, HSAKD], ids=lambda m: m.title)
def test_adversarial_terms_are_of_upright_images_and_come_after_the_warm_up(method: type[Distillation]):
    seen: list[Features] = []

    class Seeing(method):
        def _adversarial_terms(self, model, student, teacher, batch, pair):
            seen.extend((student, teacher))
            return Terms(boundary=torch.tensor(2.0))

    student, teacher, x, y = Net(), Net(), torch.rand(2, 1, 8, 8), torch.tensor([0, 2])
    plain, seeing = method(), Seeing()
    pair = plain.pair(student, teacher, x)
    assert "boundary" not in seeing.loss(student, Batch(x, y, epoch=0), pair)
    assert not seen
    batch = Batch(x, y, epoch=plain.warm_up)
    terms, without = seeing.loss(student, batch, pair), plain.loss(student, batch, pair)
    assert [name for name in terms if name not in without] == ["boundary"]
    torch.testing.assert_close(seen[0].logits, student(x))
    torch.testing.assert_close(seen[1].logits, teacher(x))
    assert {len(part) for features in seen for part in (*features.maps, features.pooled)} == {2}


@pytest.mark.parametrize("method", [SSKD, HSAKD], ids=lambda m: m.title)
def test_tald_beside_rotations(method: type[Distillation]):
    student, x, y = Net(), torch.rand(2, 1, 8, 8), torch.tensor([0, 2])
    tald = method(tald=TALD())
    pair = tald.pair(student, Net(), x, num_examples=2)
    terms = tald.loss(student, Batch(x, y, index=torch.arange(2), epoch=tald.warm_up), pair)
    assert terms["boundary"].item() > 0
