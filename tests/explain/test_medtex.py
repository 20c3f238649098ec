"""MED-TEX: its losses by hand, what a step moves and what it leaves alone, any image, and misuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError, UntrustedResult
from aureole.core.features import FeatureTap
from aureole.core.method import Batch
from aureole.core.taps import Taps
from aureole.explain import (
    MEDTEX,
    ExplainedStudent,
    ExplainerUNet,
    PassThrough,
    Taught,
    Transfer,
    VariationalHead,
    gaussian_nll,
    own_map,
)
from aureole.models import FourBlocks

LAYERS = ("b1", "b2", "b3", "b4")


def network(channels: int = 3, classes: int = 2) -> ExplainedStudent:
    return ExplainedStudent(ExplainerUNet(channels), FourBlocks((3, 4, 6, 8), classes, channels))


def teacher(channels: int = 3, classes: int = 2) -> FourBlocks:
    return FourBlocks((4, 6, 8, 10), classes, channels)


def batch(channels: int = 3, size: tuple[int, int] = (24, 20), classes: int = 2, count: int = 4) -> Batch:
    return Batch(torch.rand(count, channels, *size), torch.arange(count) % classes)


def by_hand(mean: Tensor, values: Tensor, variance: Tensor) -> Tensor:
    """-log of the product of the densities of every value, mean over the images."""
    density = torch.exp(-((values - mean) ** 2) / (2 * variance[:, None, None]))
    density = density / torch.sqrt(2 * math.pi * variance[:, None, None])
    return -density.log().flatten(1).sum(1).mean()


# The explainer


def block(a: int, b: int) -> int:
    return 9 * a * b + 9 * b * b + 4 * b


def test_the_explainer_has_the_layers_of_the_table():
    encoder = sum(block(a, b) for a, b in [(3, 32), (32, 16), (16, 8), (8, 4), (4, 2), (2, 2)])
    decoder = sum(block(a, b) for a, b in [(2, 2), (2 + 2, 4), (4 + 4, 8), (8 + 8, 16), (16 + 16, 32)])
    count = sum(p.numel() for p in ExplainerUNet(3).parameters())
    assert count == encoder + decoder + (32 + 1) + (2 * 3 + 3)
    assert f"{count:,}" in str(ExplainerUNet.__doc__)


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (64, 32)), (4, (33, 47)), (2, (5, 1))])
def test_scores_of_any_channels_and_size(channels, size):
    explainer, x = ExplainerUNet(channels), torch.rand(3, channels, *size)
    theta, (spatial, channel) = explainer(x), explainer.selection(x)
    assert spatial.shape == (3, *size)
    assert channel.shape == (3, channels)
    assert 0 < theta.min() <= theta.max() < 1
    torch.testing.assert_close(theta, torch.einsum("bhw,bc->bchw", spatial, channel))
    assert spatial.std() > 0


def test_a_pass_over_a_size_that_32_divides_is_that_of_the_table():
    explainer: Any = ExplainerUNet(1).eval()
    e, d, pool, up = explainer.encoder, explainer.decoder, nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
    x = torch.rand(2, 1, 64, 96)
    e0 = e[0](x)
    e1 = e[1](pool(e0))
    e2 = e[2](pool(e1))
    e3 = e[3](pool(e2))
    e4 = e[4](pool(e3))
    e5 = e[5](pool(e4))
    below = torch.cat([d[0](up(e5)), e4], 1)
    for block, partner in zip(d[1:4], (e3, e2, e1), strict=True):
        below = torch.cat([block(up(below)), partner], 1)
    spatial, channel = explainer.head(d[4](up(below)))[:, 0].sigmoid(), explainer.fc(e5.mean((2, 3))).sigmoid()
    torch.testing.assert_close(explainer.selection(x), (spatial, channel), rtol=1e-5, atol=1e-7)


def test_the_student_sees_the_simplified_image_alone():
    model, x = network().eval(), torch.rand(2, 3, 16, 16)
    theta = model.scores(x)
    torch.testing.assert_close(model.simplified(x), theta * x)
    torch.testing.assert_close(model(x), model.student(theta * x))
    torch.testing.assert_close(model.map(x), theta.mean(1))
    assert not torch.allclose(model(x), model.student(x))


def test_a_pass_through_leaves_the_student_alone():
    student, x = teacher(), torch.rand(2, 3, 16, 16)
    model = ExplainedStudent(PassThrough(), student)
    assert torch.equal(model(x), student(x))
    assert torch.equal(model.map(x), torch.ones(2, 16, 16))


def test_own_map_is_that_of_evaluation_mode_and_leaves_no_trace(trace):
    model, x = network().train(), torch.rand(3, 3, 16, 16)
    kept = trace(model)
    found = own_map(model, x)
    kept.check()
    assert torch.equal(found, model.eval().map(x))
    assert not found.requires_grad


# The variational loss


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_a_gaussian_log_likelihood_with_its_gradient(reduction):
    mean, values = (torch.randn(3, 4, 2, 5, dtype=torch.float64).requires_grad_() for _ in range(2))
    variance = torch.tensor([0.3, 1.0, 2.5, 0.01], dtype=torch.float64).requires_grad_()
    share = 1 if reduction == "sum" else 1 / 10
    found, wanted = gaussian_nll(mean, values, variance, reduction), share * by_hand(mean, values, variance)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=0)
    grads = [torch.autograd.grad(loss, (mean, values, variance)) for loss in (found, wanted)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-11)
    assert torch.autograd.gradcheck(lambda m, s: gaussian_nll(m, values, s, reduction), (mean, variance))


def test_a_head_is_two_convolutions_and_a_variance_a_channel():
    head = VariationalHead(2, 6, initial_variance=0.7).double()
    student, values = torch.rand(2, 2, 3, 3, dtype=torch.float64), torch.randn(2, 6, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        head.alpha.copy_(torch.linspace(-2, 2, 6))
    first: Any = head.get_submodule("mean.0")
    last: Any = head.get_submodule("mean.2")
    assert (first.out_channels, last.out_channels) == (3, 6)
    inside = torch.einsum("oc,bchw->bohw", first.weight[:, :, 0, 0], student) + first.bias[:, None, None]
    mean = torch.einsum("oc,bchw->bohw", last.weight[:, :, 0, 0], inside.clamp_min(0)) + last.bias[:, None, None]
    variance = (1 + head.alpha.exp()).log() + 1e-5
    torch.testing.assert_close(head(student, values), by_hand(mean, values, variance), rtol=1e-11, atol=0)


@pytest.mark.parametrize("variance", [5.0, 0.01, 100.0])
def test_the_first_variance_is_the_field(variance):
    torch.testing.assert_close(VariationalHead(1, 3, variance).variance, torch.full((3,), variance))


def test_identical_features_reach_the_bound_of_the_variance():
    features = torch.rand(4, 1, 3, 3).expand(4, 2, 3, 3)
    head = VariationalHead(2, 2)
    with torch.no_grad():
        for name, value in (("mean.0", [[[[0.5]], [[0.5]]]]), ("mean.2", [[[[1.0]]], [[[1.0]]]])):
            layer: Any = head.get_submodule(name)
            layer.weight.copy_(torch.tensor(value))
            layer.bias.zero_()
    bound = 2 * 0.5 * math.log(2 * math.pi * 1e-5)
    start = head(features, features, "mean").item()
    optimizer = torch.optim.Adam([head.alpha], lr=0.3, betas=(0.5, 0.5))
    for _ in range(200):
        optimizer.zero_grad()
        head(features, features, "mean").backward()
        optimizer.step()
    end = head(features, features, "mean").item()
    assert start > 3
    assert bound <= end + 1e-4
    assert end < bound + 1e-3


# The method


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_of_a_batch_by_hand(reduction):
    method, model, taught, data = (
        MEDTEX(weight=0.01, reduction=reduction),
        network().double(),
        teacher().double(),
        batch(),
    )
    x = data.x.double()
    modules: Any = method.pair(model, taught, x)
    terms = method.loss(model.eval(), Batch(x, data.y), modules)
    theirs = FeatureTap(taught, LAYERS)(x)
    ours = FeatureTap(model.student, LAYERS)(model.simplified(x))
    inside = torch.zeros((), dtype=torch.float64)
    for head, s, t in zip(modules.heads, ours.features, theirs.features, strict=True):
        share = 1 if reduction == "sum" else 1 / (t.shape[2] * t.shape[3])
        inside = inside + share * by_hand(head.mean(s), t, head.variance)
    torch.testing.assert_close(terms["transfer"], 0.01 * inside, rtol=1e-10, atol=0)
    output = -(theirs.output.softmax(1) * ours.output.softmax(1).log()).sum(1).mean()
    torch.testing.assert_close(terms["output"], output, rtol=1e-10, atol=0)
    assert list(terms) == ["output", "transfer"]


def test_med_ex_is_the_output_loss_alone():
    model, taught, data = network(), teacher(), batch()
    modules = MEDTEX(weight=0.0).pair(model, taught, data.x)
    full = MEDTEX().loss(model, data, MEDTEX().pair(model, taught, data.x))
    terms = MEDTEX(weight=0.0).loss(model, data, modules)
    assert list(terms) == ["output"]
    torch.testing.assert_close(terms["output"], full["output"])
    assert not list(MEDTEX(weight=0.0).own_parameters(modules))
    assert torch.equal(terms["output"], MEDTEX(weight=0.0).loss(model, Batch(data.x, 1 - data.y), modules)["output"])


def trained(method: MEDTEX, model: nn.Module, modules: nn.Module, data: Batch, steps: int = 30) -> list[float]:
    optimizer = torch.optim.Adam([*model.parameters(), *method.own_parameters(modules)], lr=0.01)
    values = []
    for _ in range(steps):
        total = method.loss(model.train(), data, modules.train()).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(total.item())
    return values


def test_every_part_learns_and_the_teacher_does_not():
    method, model, data = MEDTEX(reduction="mean"), network(), batch()
    taught = nn.Sequential(teacher(), nn.BatchNorm1d(2), nn.Dropout(0.5)).requires_grad_(False).eval()
    modules = method.pair(model, taught, data.x)
    parts = [*model.named_parameters(), *modules.named_parameters()]
    start, before = {name: p.clone() for name, p in parts}, {k: v.clone() for k, v in taught.state_dict().items()}
    values = trained(method, model, modules, data)
    assert values[-1] < values[0]
    still = {name for name, p in parts if torch.equal(p, start[name])}
    assert still == {name for name, _ in modules.named_parameters() if name.startswith("teacher.")}
    assert all(torch.equal(value, before[name]) for name, value in taught.state_dict().items())
    assert not any(module.training for module in taught.modules())
    assert all(p.grad is None and not p.requires_grad for p in taught.parameters())


def test_what_is_trained_beside_the_network_are_the_heads():
    model, data = network(), batch()
    modules: Any = MEDTEX().pair(model, teacher(), data.x)
    own = {id(p) for p in MEDTEX().own_parameters(modules)}
    assert own == {id(p) for p in modules.heads.parameters()}
    assert len(own) == 4 * 5


@pytest.mark.parametrize("term", ["output", "transfer"])
def test_each_loss_reaches_the_explainer(term):
    model, data = network(), batch()
    terms = MEDTEX().loss(model, data, MEDTEX().pair(model, teacher(), data.x))
    grads = torch.autograd.grad(terms[term], list(model.explainer.parameters()))
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in grads)


def test_a_dry_run_leaves_the_network_alone(trace):
    model, taught, data = network().train(), teacher(), batch()
    kept = trace(model)
    MEDTEX(weight=0.0).pair(model, taught, data.x)
    kept.check()
    values = {name: value.clone() for name, value in model.state_dict().items()}
    MEDTEX().pair(model, taught, data.x)  # draws the heads' first weights
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("channels", "size", "classes"), [(1, (28, 28), 10), (4, (33, 17), 3), (2, (8, 9), 2)], ids=str
)
def test_images_of_any_channels_and_size(channels, size, classes):
    model, data = network(channels, classes), batch(channels, size, classes)
    modules = MEDTEX().pair(model, teacher(channels, classes), data.x)
    total = MEDTEX().loss(model, data, modules).total
    total.backward()
    assert total.isfinite()
    assert model.map(data.x).shape == (4, *size)


def test_a_plain_student_learns_too():
    student, data = FourBlocks((3, 4, 6, 8)), batch()
    method, taught = MEDTEX(), teacher()
    alone, passed = (
        method.loss(model, data, modules)
        for model in (student, ExplainedStudent(PassThrough(), student))
        for modules in [seeded(lambda model=model: method.pair(model, taught, data.x))]
    )
    torch.testing.assert_close(dict(alone), dict(passed))


def seeded(build: Any) -> Any:
    torch.manual_seed(5)
    return build()


def foreign(width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2)
    )


@pytest.mark.parametrize(("mine", "theirs"), [(1, 2), (2, 1)], ids=["larger", "smaller"])
def test_maps_of_other_sizes_are_resized_with_a_warning(mine, theirs):
    method, data = MEDTEX(weight=1.0), batch(size=(8, 8))
    model, taught, maps = foreign(2, mine), foreign(4, theirs), Taps(maps=("1",))
    with pytest.warns(UntrustedResult, match="positions and its teacher's"):
        modules: Any = method.pair(model, taught, data.x, student_taps=maps, teacher_taps=maps)
    found = method.loss(model, data, modules)["transfer"]
    s, t = (net[:2](data.x) for net in (model, taught))
    larger = mine < theirs
    s = s.reshape(4, 2, 4, 2, 4, 2).mean((3, 5)) if larger else s.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(found, by_hand(modules.heads[0].mean(s), t, modules.heads[0].variance))


def test_the_judge_counts_labels_and_the_teacher():
    model, taught, data = network().eval(), teacher(), batch(count=6)
    judged = MEDTEX().judge(model, data, MEDTEX().pair(model, taught, data.x))
    mine, theirs = model(data.x).argmax(1), taught(data.x).argmax(1)
    assert torch.equal(judged["accuracy"], (mine == data.y).float())
    assert torch.equal(judged["agreement"], (mine == theirs).float())


def test_half_precision_features_are_compared_in_full():
    method, data = MEDTEX(weight=1.0), batch()
    model, taught = network(), teacher()
    modules = method.pair(model, taught, data.x)
    full = method.loss(model, data, modules).total
    with torch.autocast("cpu", torch.bfloat16):
        half = method.loss(model, data, modules).total
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.02, atol=0)


# Misuse


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def test_layers_that_do_not_exist_or_are_no_maps():
    model, data = network(), batch()
    with says("layers of the teacher: unknown layer 'b5': did you mean 'b"):
        MEDTEX().pair(model, teacher(), data.x, teacher_taps=Taps(maps=("b1", "b2", "b3", "b5")))
    with says("layers of the student: unknown layer 'encoder'"):
        MEDTEX().pair(model, teacher(), data.x, student_taps=Taps(maps=("encoder", "b2", "b3", "b4")))
    with says("from the teacher's layer 'flatten'; got "):
        MEDTEX().pair(model, teacher(), data.x, teacher_taps=Taps(maps=("b1", "b2", "b3", "flatten")))
    with says("equally many maps, at least one; got 4 and 0: name layers"):
        MEDTEX().pair(model, foreign(2), data.x)


def test_other_classes_and_shared_modules():
    model, data = network(), batch()
    with says("the same classes; got 2 and 3"):
        MEDTEX().pair(model, teacher(classes=3), data.x)
    with says("share a module"):
        MEDTEX().pair(model, model.student, data.x)
    assert all(p.requires_grad for p in model.parameters())


def test_modules_that_do_not_fit():
    model, data, method = network(), batch(), MEDTEX()
    for wrong in (None, Taught(teacher())):
        with says("MED-TEX needs a teacher"):
            method.loss(model, data, wrong)
    with says("built with weight=0"):
        method.loss(model, data, Transfer(teacher()))
    modules = method.pair(model, teacher(), data.x)
    modules.teacher.train()
    with says("teacher is in train mode"):
        method.loss(model, data, modules)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"weight": math.inf}, "weight must be at least 0 and finite"),
        ({"initial_variance": 0.0}, "initial_variance must be more than"),
    ],
)
def test_fields_out_of_range(wrong, line):
    with says(line):
        MEDTEX(**wrong)


def test_images_and_explainers_that_do_not_fit():
    with says("takes images \\(batch, 3, height, width\\); got \\(2, 1, 8, 8\\)"):
        ExplainerUNet(3)(torch.rand(2, 1, 8, 8))
    with says("one image, whose deepest map is one position"):
        ExplainerUNet(3)(torch.rand(1, 3, 32, 32))
    assert ExplainerUNet(3).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert ExplainerUNet(3)(torch.rand(1, 3, 33, 32)).shape == (1, 3, 33, 32)
    with says("at least two widths"):
        ExplainerUNet(3, (4,))
    with says("explainer must return a score of each value"):
        ExplainedStudent(nn.Flatten(), teacher())(torch.rand(2, 3, 8, 8))
    with says("expected a network that explains itself; got FourBlocks"):
        own_map(teacher(), torch.rand(2, 3, 8, 8))
