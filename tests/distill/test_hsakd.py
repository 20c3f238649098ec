"""HSAKD: its auxiliary classifiers, its losses image by image, what the warm-up trains, and misuse."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features, Taps, extract, find_taps
from aureole.distill.base import Pair
from aureole.distill.hsakd import HSAKD, AuxiliaryLoss, auxiliary_classifiers
from aureole.models import MODELS, ResNet, WideResNet
from aureole.models.mobilenet import MobileNetV2
from aureole.models.shufflenet import ShuffleNetV2
from aureole.models.vgg import VGG

CLASSES = 3
STAGES = Taps(maps=("stem", "stages.0", "stages.1"), pooled="fc:input")


class Net(nn.Module):
    """A stem and two stages; ``between`` puts something between the stages that no module holds."""

    def __init__(self, width: int, between: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(2)
        )
        self.fc = nn.Linear(width, CLASSES)
        self.between, self.taps = between, STAGES

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.stem(x))
        x = self.stages[1](2 * x + 1 if self.between else x)
        return self.fc(x.mean((2, 3)))


def images(count: int = 3) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 1, 8, 8, dtype=torch.float64), torch.arange(count) % CLASSES


def nets() -> tuple[Net, Net]:
    return Net(2).double(), Net(3).double()


def kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    p, q = (row.div(temperature).exp() for row in (teacher.detach(), student))
    p, q = p / p.sum(), q / q.sum()
    return temperature**2 * sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))


def turned(x: Tensor) -> list[tuple[Tensor, int, int]]:
    """Return image, number and turns."""
    return [(image.rot90(turns, (1, 2)), i, turns) for i, image in enumerate(x) for turns in range(4)]


def joint(model: Net, heads: nn.ModuleList, image: Tensor) -> list[Tensor]:
    one = model.stages[0](model.stem(image[None]))
    maps = (one, model.stages[1](one))
    found = []
    for (body, _, _, linear), x in zip(heads, maps, strict=True):
        found.append(linear.weight @ body(x)[0].mean((1, 2)) + linear.bias)
    return found


def same(found: Tensor, wanted: Tensor, parameters: list[nn.Parameter]) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    pairs = (torch.autograd.grad(v, parameters, retain_graph=True, materialize_grads=True) for v in (found, wanted))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_all_terms_and_gradients_image_by_image():
    (x, y), (student, teacher), method = images(), nets(), HSAKD(weight=0.5)
    pair = method.pair(student, teacher, x)
    student.eval(), pair.eval()
    terms = method.loss(student, Batch(x, y, epoch=100), pair)
    logits = [student(image[None])[0] for image in x]
    labelled = sum(z.exp().sum().log() - z[c] for z, c in zip(logits, y.tolist(), strict=True)) / len(x)
    distilled, features = torch.zeros((), dtype=x.dtype), torch.zeros((), dtype=x.dtype)
    for image, _, _ in turned(x):
        distilled = distilled + kl(teacher(image[None])[0], student(image[None])[0], 3.0) / (4 * len(x))
        t = joint(teacher, pair.criterion.teacher_heads, image)
        for mine, theirs in zip(joint(student, pair.criterion.student_heads, image), t, strict=True):
            assert len(mine) == 4 * CLASSES
            features = features + kl(theirs, mine, 3.0) / (4 * len(x))
    parameters = [*student.parameters(), *pair.criterion.student_heads.parameters()]
    assert list(terms) == ["labelled", "distilled", "features"]
    for name, wanted in {"labelled": labelled, "distilled": distilled, "features": 0.5 * features}.items():
        same(terms[name], wanted, parameters)
    terms.total.backward()
    assert all(p.grad is not None for p in parameters)
    assert all(p.grad is None for p in [*teacher.parameters(), *pair.criterion.teacher_heads.parameters()])


def test_the_warm_up_image_by_image():
    (x, y), (student, teacher), method = images(), nets(), HSAKD()
    pair = method.pair(student, teacher, x).eval()
    terms, heads = method.loss(student, Batch(x, y, epoch=99), pair), pair.criterion.teacher_heads
    wanted = torch.zeros((), dtype=x.dtype)
    for image, i, turns in turned(x):
        for z in joint(teacher, heads, image):
            wanted = wanted + (z.exp().sum().log() - z[4 * int(y[i]) + turns]) / (4 * len(x))
    same(terms["heads"], wanted, list(heads.parameters()))


def moved(epoch: int) -> tuple[set[str], list[float], Pair]:
    """Return what four steps of SGD with momentum and weight decay change, and the losses."""
    (x, y), (student, teacher), method = images(), nets(), HSAKD()
    pair = method.pair(student, teacher, x)
    both = nn.ModuleDict({"student": student, "pair": pair}).train()
    before = {name: value.clone() for name, value in both.state_dict().items()}
    parameters = [*student.parameters(), *method.own_parameters(pair)]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1)
    losses = []
    for _ in range(4):
        both.train()
        total = method.loss(student, Batch(x, y, epoch=epoch), pair).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    changed = {name for name, value in both.state_dict().items() if not torch.equal(value, before[name])}
    return changed, losses, pair


def test_the_warm_up_trains_the_teachers_classifiers_alone():
    changed, losses, pair = moved(epoch=0)
    heads = pair.criterion.teacher_heads
    assert {f"pair.criterion.teacher_heads.{n}" for n in heads.state_dict()} == changed
    assert losses[-1] < losses[0]


def test_distillation_trains_the_student_and_its_classifiers():
    changed, losses, pair = moved(epoch=100)
    heads = {f"pair.criterion.student_heads.{n}" for n in pair.criterion.student_heads.state_dict()}
    # a bias in front of batch norm has no gradient, but decays
    assert changed == heads | {f"student.{n}" for n in nets()[0].state_dict()}
    assert losses[-1] < losses[0]


def test_state_is_saved_and_restored():
    (x, y), (student, teacher), method = images(), nets(), HSAKD()
    pair, other = method.pair(student, teacher, x), method.pair(student, teacher, x)
    method.loss(student, Batch(x, y, epoch=0), pair)  # running statistics of the heads
    batch = Batch(x, y, epoch=100)
    pair.eval(), other.eval(), student.eval()
    value = method.loss(student, batch, pair).total
    assert not torch.equal(method.loss(student, batch, other).total, value)
    other.load_state_dict(copy.deepcopy(pair.state_dict()))
    assert torch.equal(method.loss(student, batch, other).total, value)
    assert not any("heads" in name for name in student.state_dict())


def test_a_copy_of_the_teacher_has_nothing_to_learn():
    (x, y), teacher, method = images(), nets()[1].eval(), HSAKD(label_weight=0.0)
    student = copy.deepcopy(teacher)
    pair = method.pair(student, teacher, x).eval()
    pair.criterion.student_heads.load_state_dict(pair.criterion.teacher_heads.state_dict())
    terms = method.loss(student, Batch(x, y, epoch=100), pair)
    torch.testing.assert_close(terms.total, torch.zeros_like(terms.total), rtol=0, atol=1e-12)


def resnet() -> tuple[nn.Module, Taps]:
    return ResNet.cifar(8), Taps(maps=("stages:input", "stages.0", "stages.1", "stages.2"), pooled="fc:input")


def wide() -> tuple[nn.Module, Taps]:
    return WideResNet(10, 1), Taps(maps=("conv1", "stages.0", "stages.1", "stages.2"), pooled="fc:input")


OURS = [
    resnet(),
    wide(),
    (VGG(8), None),
    (MobileNetV2(stem_stride=1), None),
    (ShuffleNetV2(), None),
    (nn.Sequential(nn.Identity(), VGG(8)), None),
]


@pytest.mark.parametrize(("model", "taps"), OURS, ids=lambda m: type(m).__name__)
def test_every_network_gets_a_classifier_for_each_map(model: nn.Module, taps: Taps | None, trace: type):
    x = torch.zeros(2, 3, 32, 32)  # as a run has it: an example without content
    taps, before = find_taps(model, x, taps), trace(model)
    state = torch.get_rng_state()
    heads = auxiliary_classifiers(model, x, taps)
    assert not torch.equal(torch.get_rng_state(), state)  # the new weights are drawn
    torch.set_rng_state(state)
    before.check()
    assert len(heads) == len(taps.maps) - 1
    own = {p.data_ptr() for p in model.parameters()}
    assert all(p.requires_grad and p.data_ptr() not in own for p in heads.parameters())
    with torch.no_grad():
        maps = extract(model.eval(), torch.rand(2, 3, 32, 32), taps).maps[1:]
    for head, x in zip(heads, maps, strict=True):
        assert head[0](x).shape == maps[-1].shape
        assert head(x).shape == (2, 40)
        assert bool((head[0](x) >= 0).all())  # the mean is over activations


def test_classifiers_are_fresh_copies_of_the_stages_behind_a_map():
    model, taps = resnet()
    heads = auxiliary_classifiers(model, torch.rand(1, 3, 8, 8), taps)

    def shapes(*modules: nn.Module) -> list[torch.Size]:
        return [p.shape for module in modules for p in module.parameters()]

    end = [torch.Size([40, 64]), torch.Size([40])]
    assert shapes(heads[0]) == shapes(model.stages[1], model.stages[2]) + end
    assert shapes(heads[1]) == shapes(model.stages[2]) + end
    assert shapes(heads[2]) == 4 * shapes(nn.Conv2d(64, 64, 3, bias=False), nn.BatchNorm2d(64)) + end
    weights = [p for head in heads for p in head.parameters() if p.ndim == 4]
    theirs = [p for p in model.parameters() if p.ndim == 4]
    assert not any(a.shape == b.shape and torch.equal(a, b) for a in weights for b in theirs)


@pytest.mark.parametrize(("name", "share"), [("resnet50", 2), ("shufflenet-v2", 2), ("resnet20", 2), ("vgg13", 3)])
def test_the_last_classifier_is_about_as_large_as_the_last_stage(name: str, share: int):
    model = MODELS[name](10, (3, 32, 32)).eval()
    x = torch.zeros(2, 3, 32, 32)
    taps = find_taps(model, x)
    *_, before, last = auxiliary_classifiers(model, x, taps)
    stage, body = (sum(p.numel() for p in head[0].parameters()) for head in (before, last))
    assert 1 / share < body / stage < share


def test_running_statistics_are_fresh_too():
    _, teacher = nets()
    teacher.train()(torch.rand(8, 1, 8, 8).double())
    heads = auxiliary_classifiers(teacher.eval(), images()[0], STAGES)
    assert bool(teacher.stages[1][1].running_mean.any())
    norms = [module for module in heads.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 5  # one in the second stage's copy, two in each residual block
    assert not any(bool(norm.running_mean.any()) for norm in norms)
    assert all(module.training for module in heads.modules())


def test_modules_that_do_not_follow_one_another_are_refused():
    x = torch.rand(2, 1, 8, 8)
    line = r"^HSAKD copies the modules between tapped maps; .*'stages.1' does not give its own map \(.*name stages that"
    with pytest.raises(InputError, match=line):
        HSAKD().pair(Net(2), Net(2, between=True), x)
    with pytest.raises(
        InputError, match=r"'stages.0.0' does not give its own map \(it gives the shape .*: name stages"
    ):
        auxiliary_classifiers(Net(2), x, Taps(maps=("stem", "stages.1", "stages.0.0"), pooled="fc:input"))
    with pytest.raises(InputError, match="'fc:input' does not give its own map"):
        auxiliary_classifiers(Net(2), x, Taps(maps=("stem", "stages.0", "fc:input"), pooled="fc:input"))
    with pytest.raises(InputError, match=r"at least two maps, the stem's first; got 1: name layers"):
        auxiliary_classifiers(Net(2), x, Taps(maps=("stem",), pooled="fc:input"))


def test_misuse_of_the_loss_in_one_line():
    heads = nn.ModuleList([nn.Sequential(nn.Flatten(), nn.Linear(8, 12))])
    features = Features(torch.rand(4, 3), tuple(torch.rand(4, 2, 2, 2) for _ in range(3)), torch.rand(4, 2))
    batch = Batch(torch.rand(1, 1, 2, 2), torch.tensor([0]))
    with pytest.raises(InputError, match=r"^expected 2 maps, the stem's first.*; got 3: take the taps"):
        AuxiliaryLoss(heads, heads)(features, features)
    with pytest.raises(InputError, match=r"^expected features of 4 rotations of 1 images; got 3 rows: run"):
        AuxiliaryLoss(heads, heads).warm_up(features, features._replace(logits=torch.rand(3, 3)), batch)
    with pytest.raises(InputError, match=r"^student and teacher need equally many heads; got 1 and 0$"):
        AuxiliaryLoss(heads, nn.ModuleList())


def test_a_batch_of_one_and_half_precision():
    student, teacher = Net(2).bfloat16(), Net(3).bfloat16()
    x, y, method = torch.rand(1, 1, 8, 8).bfloat16(), torch.tensor([1]), HSAKD()
    pair = method.pair(student, teacher, x)
    assert {p.dtype for p in pair.criterion.parameters()} == {torch.float32}
    for epoch in (0, 100):
        total = method.loss(student, Batch(x, y, epoch=epoch), pair).total
        total.backward()
        assert total.dtype == torch.float32
        assert math.isfinite(total.item())


def test_published_weights():
    method = HSAKD()
    assert (method.label_weight, method.kd_weight, method.weight) == (1, 1, 1)
    assert (method.temperature, method.warm_up) == (3, 100)
