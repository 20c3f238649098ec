"""A teacher's labels: the loss by hand, who learns from it, what the judge counts, and misuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.explain import MEDTEX, Attention, Taught, TeacherLabels
from aureole.models import FourBlocks


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def linear(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, classes))


def batch(count: int = 5) -> Batch:
    return Batch(torch.randn(count, 3, 8, 8), torch.arange(count) % 3)


def test_the_loss_is_minus_the_log_of_the_teachers_class():
    method, model, teacher, data = TeacherLabels(), linear(), linear(), batch()
    terms = method.loss(model, data, method.pair(model, teacher, data.x))
    labels, shares = teacher(data.x).argmax(1).tolist(), model(data.x).softmax(1)
    assert list(terms) == ["output"]
    wanted = torch.stack([-shares[i, k].log() for i, k in enumerate(labels)]).mean()
    torch.testing.assert_close(terms["output"], wanted)
    assert len(set(labels)) > 1


def test_the_labels_of_the_batch_are_not_looked_at():
    method, model, data = TeacherLabels(), linear(), batch()
    modules = method.pair(model, linear(), data.x)
    other = Batch(data.x, (data.y + 1) % 3)
    assert torch.equal(method.loss(model, data, modules).total, method.loss(model, other, modules).total)


def test_attention_learns_to_agree_and_the_teacher_stays():
    method, data = TeacherLabels(), batch(24)
    model, teacher = Attention(nn.Conv2d(3, 12, 4, stride=4), 3, width=12), linear()
    modules = method.pair(model, teacher, data.x)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = torch.optim.Adam([*model.parameters(), *method.own_parameters(modules)], lr=0.03)
    losses = []
    for _ in range(60):
        total = method.loss(model.train(), data, modules.train()).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not list(method.own_parameters(modules))
    assert method.own_optimizer(modules) is None


def test_the_judge_is_that_of_med_tex():
    model, teacher, data = FourBlocks((3, 4, 6, 8), 3), FourBlocks((4, 4, 6, 8), 3), batch(9)
    modules = TeacherLabels().pair(model, teacher, data.x)
    judged = TeacherLabels().judge(model, data, modules)
    mine, theirs = model(data.x).argmax(1), teacher(data.x).argmax(1)
    assert torch.equal(judged["accuracy"], (mine == data.y).float())
    assert torch.equal(judged["agreement"], (mine == theirs).float())
    other = MEDTEX().judge(model, data, MEDTEX().pair(model, teacher, data.x))
    assert all(torch.equal(judged[name], other[name]) for name in judged)


def test_a_pair_takes_what_every_pair_takes_and_leaves_the_network_alone(trace):
    model, data = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), linear()).train(), batch()
    teacher = linear().train()
    kept = trace(model)
    modules = TeacherLabels().pair(model, teacher, data.x, student_taps=None, teacher_taps=None)
    kept.check()
    assert isinstance(modules, Taught)
    assert not modules.teacher.training
    assert not any(p.requires_grad for p in modules.parameters())


def test_misuse():
    method, model, data = TeacherLabels(), linear(), batch()
    with says("Teacher's labels needs a teacher: pass what pair"):
        method.loss(model, data)
    with says("Teacher's labels needs a teacher"):
        method.judge(model, data, linear())
    with says("the same classes; got 3 and 4"):
        method.pair(model, linear(4), data.x)
    with says("share a module"):
        method.pair(model, model, data.x)
    modules = method.pair(model, linear(), data.x)
    modules.teacher.train()
    with says("teacher is in train mode"):
        method.loss(model, data, modules)
