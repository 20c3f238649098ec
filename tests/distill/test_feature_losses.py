"""FitNet, AT, SP, CC, VID and FT: values from loops in numpy, gradients from differences of those values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.attention_transfer import AttentionLoss
from aureole.distill.base import FeatureLoss
from aureole.distill.correlation import CorrelationLoss
from aureole.distill.factor_transfer import FactorLoss
from aureole.distill.fitnet import HintLoss
from aureole.distill.similarity import SimilarityLoss
from aureole.distill.vid import Posterior, VIDLoss

Value = Callable[[FeatureLoss, list[np.ndarray], list[np.ndarray]], float]

STUDENT, TEACHER = ((2, 4), (3, 4), (2, 2)), ((3, 4), (4, 2), (4, 2))
BATCH = Batch(torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))


def features(channels_and_sizes: tuple[tuple[int, int], ...], pooled: int, batch: int = 3) -> Features:
    maps = tuple(torch.randn(batch, c, n, n, dtype=torch.float64) for c, n in channels_and_sizes)
    logits, vector = (torch.randn(batch, n, dtype=torch.float64) for n in (3, pooled))
    return Features(logits, maps, vector)


def cast(x: Features, dtype: torch.dtype) -> Features:
    return Features(x.logits.to(dtype), tuple(m.to(dtype) for m in x.maps), x.pooled.to(dtype))


def leaves(x: Features) -> list[Tensor]:
    return [m.requires_grad_() for m in (*x.maps, x.pooled)]


def arrays(x: Features) -> list[np.ndarray]:
    return [m.detach().numpy().copy() for m in (*x.maps, x.pooled)]


def halved(x: np.ndarray) -> np.ndarray:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def named(loss: FeatureLoss) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in loss.named_parameters()}


def batch_normed(x: np.ndarray) -> np.ndarray:
    return (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)


def at_one(row: np.ndarray) -> np.ndarray:
    return row / math.sqrt(float(row @ row))


def hint(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    """The maps 2 are both 2 x 2, so the regressor is a matrix on the channels."""
    p = named(loss)
    mapped = np.einsum("oc,bchw->bohw", p["regressor.conv.weight"][:, :, 0, 0], s[2])
    mapped = batch_normed(mapped + p["regressor.conv.bias"][:, None, None])
    return sum(float((max(m, 0) - w) ** 2) for m, w in zip(mapped.flat, t[2].flat, strict=True)) / t[2].size


def attentions(x: np.ndarray) -> list[np.ndarray]:
    return [at_one(np.sum([channel.ravel() ** 2 for channel in image], axis=0)) for image in x]


def attention_code(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    total = 0.0
    for mine, theirs in ((halved(s[1]), t[1]), (s[2], t[2])):
        pairs = zip(attentions(mine), attentions(theirs), strict=True)
        total += sum(float(((a - b) ** 2).sum()) / len(a) for a, b in pairs) / 3
    return total


def attention_paper(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    total = 0.0
    for mine, theirs in ((halved(s[1]), t[1]), (s[2], t[2])):
        pairs = zip(attentions(mine), attentions(theirs), strict=True)
        total += sum(math.dist(a, b) for a, b in pairs) / 3
    return total


def similarity(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    def rows(x: np.ndarray) -> np.ndarray:
        return np.stack([at_one(np.array([float((a * b).sum()) for b in x])) for a in x])

    return float(((rows(s[2]) - rows(t[2])) ** 2).sum()) / 9


def correlation(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    p = named(loss)
    mine = s[-1] @ p["student_embedding.weight"].T + p["student_embedding.bias"]
    theirs = t[-1] @ p["teacher_embedding.weight"].T + p["teacher_embedding.bias"]
    d = abs(mine - theirs)
    return sum(float(d[0, k] * d[1, k] + d[1, k] * d[2, k]) for k in range(d.shape[1])) / 2


def variational(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    p, total = named(loss), 0.0
    for k, (mine, theirs) in enumerate(((halved(s[1]), t[1]), (s[2], t[2]))):
        for layer in (0, 2, 4):
            mine = np.einsum("oc,bchw->bohw", p[f"posteriors.{k}.mean.{layer}.weight"][:, :, 0, 0], mine)
            mine = mine if layer == 4 else np.maximum(mine, 0)
        variance = np.log(1 + np.exp(p[f"posteriors.{k}.rho"])) + 1e-5
        terms = [(mine[:, c] - theirs[:, c]) ** 2 / v + math.log(v) for c, v in enumerate(variance)]
        total += 0.5 * float(np.mean(terms))
    return total


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A convolution 3 x 3 with padding 1, as a sum of nine shifted images."""
    wide, (h, w) = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), x.shape[2:]
    shifts = [(i, j) for i in range(3) for j in range(3)]
    parts = [np.einsum("oc,bchw->bohw", weight[:, :, i, j], wide[:, :, i : i + h, j : j + w]) for i, j in shifts]
    return np.sum(parts, axis=0) + bias[:, None, None]


def stacked(loss: FeatureLoss, name: str, x: np.ndarray, layers: tuple[int, ...]) -> np.ndarray:
    p = named(loss)
    for k in layers:
        weight, bias = p[f"{name}.{k}.weight"], p[f"{name}.{k}.bias"]
        if name == "decoder":  # a transposed convolution is one with the kernel turned about and the channels swapped
            weight = weight.swapaxes(0, 1)[:, :, ::-1, ::-1]
        x = convolved(x, weight, bias)
        x = batch_normed(x) if name == "translator" and layers == (0, 3, 6) else x
        x = np.where(x > 0, x, 0.1 * x)
    return x


def factors(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    normed = any(isinstance(module, nn.BatchNorm2d) for module in loss.modules())
    mine = stacked(loss, "translator", s[2], (0, 3, 6) if normed else (0, 2, 4))
    return mine, stacked(loss, "paraphraser", t[2], (0, 2, 4))


def factor_code(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    mine, theirs = factors(loss, s, t)
    pairs = zip(attentions(mine), attentions(theirs), strict=True)
    return sum(float(abs(a - b).mean()) for a, b in pairs) / 3


def factor_paper(loss: FeatureLoss, s: list[np.ndarray], t: list[np.ndarray]) -> float:
    pairs = zip(*factors(loss, s, t), strict=True)
    return sum(float(abs(at_one(a.ravel()) - at_one(b.ravel())).mean()) for a, b in pairs) / 3


LOSSES: dict[str, tuple[Callable[[], FeatureLoss], Value]] = {
    "fitnet": (lambda: HintLoss((3, 2, 2, 2), (3, 4, 2, 2)), hint),
    "at": (AttentionLoss, attention_code),
    "at-paper": (lambda: AttentionLoss("paper"), attention_paper),
    "sp": (SimilarityLoss, similarity),
    "cc": (lambda: CorrelationLoss(2, 5, size=6), correlation),
    "vid": (lambda: VIDLoss([(3, 4), (2, 4)]), variational),
    "ft": (lambda: FactorLoss(2, 4), factor_code),
    "ft-paper": (lambda: FactorLoss(2, 4, "paper", batch_norm=False), factor_paper),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def pair_of_features(batch: int = 3) -> tuple[Features, Features]:
    return features(STUDENT, 2, batch), features(TEACHER, 5, batch)


@each_loss
def test_value_and_gradient_are_those_of_the_loops(name: str):
    build, value = LOSSES[name]
    loss, (student, teacher) = build().double(), pair_of_features()
    mine, theirs = arrays(student), arrays(teacher)
    inputs = leaves(student)
    result = loss(student, teacher)
    assert result.item() == pytest.approx(value(loss, mine, theirs), abs=1e-6)
    assert abs(result.item()) > 1e-3
    gradients = torch.autograd.grad(result, inputs, allow_unused=True)
    assert any(g is not None and g.abs().max() > 1e-4 for g in gradients)
    for array, gradient in zip(mine, gradients, strict=True):
        found = np.zeros(array.shape) if gradient is None else gradient.numpy()
        for place in np.ndindex(*array.shape):
            kept, ends = array[place], []
            for step in (1e-5, -1e-5):
                array[place] = kept + step
                ends.append(value(loss, mine, theirs))
            array[place] = kept
            assert found[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


@pytest.mark.parametrize("loss", [AttentionLoss(), AttentionLoss("paper"), SimilarityLoss()])
def test_a_student_like_its_teacher_loses_nothing_and_is_left_alone(loss: FeatureLoss):
    student = features(STUDENT, 2)
    result = loss(student, Features(student.logits, tuple(m.clone() for m in student.maps), student.pooled))
    leaves(student)
    result = loss(student, student)
    result.backward()
    assert result.item() == 0
    assert all(m.grad is None or not m.grad.any() for m in student.maps)


def test_embeddings_that_agree_lose_nothing():
    loss, vector = CorrelationLoss(2, 2).double(), torch.randn(3, 2, dtype=torch.float64)
    loss.teacher_embedding.load_state_dict(loss.student_embedding.state_dict())
    assert loss(features((), 2)._replace(pooled=vector), features((), 2)._replace(pooled=vector)).item() == 0


@each_loss
def test_the_teacher_gets_no_gradient_and_every_part_does(name: str):
    loss, (student, teacher) = LOSSES[name][0]().double(), pair_of_features()
    watched = leaves(student), leaves(teacher)
    loss(student, teacher).backward()
    assert all(m.grad is None for m in watched[1])
    assert any(m.grad is not None for m in watched[0])
    learned = {k: p for k, p in loss.named_parameters() if not k.startswith(("paraphraser", "decoder"))}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned.values())
    idle = {f"translator.{k}.bias" for k in (0, 3, 6)} if name == "ft" else {"regressor.conv.bias"}  # before batch norm
    silent = {k for k, p in learned.items() if p.grad is not None and not p.grad.any()} - idle
    assert not silent
    assert all(p.grad is None for k, p in loss.named_parameters() if k not in learned)


@each_loss
def test_a_stored_loss_comes_back(name: str):
    build, pair = LOSSES[name][0], pair_of_features()
    loss, other = build().double(), build().double()
    with torch.no_grad():
        for p in loss.parameters():
            p.add_(0.1 * torch.randn_like(p))
    before = loss(*pair).item()
    if list(loss.parameters()):
        assert other(*pair).item() != before
    other.load_state_dict(loss.state_dict())
    assert other(*pair).item() == before


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision(name: str, dtype: torch.dtype):
    loss, pair = LOSSES[name][0]().double(), pair_of_features()
    exact = loss(*pair).item()
    low = loss.float()(*(cast(f, dtype) for f in pair))
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(exact, rel=0.1 if dtype == torch.bfloat16 else 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(*(cast(f, dtype) for f in pair))
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(exact, rel=0.1)


@each_loss
def test_a_loss_in_bfloat16(name: str):
    result = LOSSES[name][0]().bfloat16()(*(cast(f, torch.bfloat16) for f in pair_of_features()))
    assert result.dtype == torch.float32
    assert result.isfinite()


def test_similarity_is_not_rounded_under_autocast():
    pair = [cast(f, torch.float32) for f in pair_of_features()]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = SimilarityLoss()(*pair)
    assert torch.equal(mixed, SimilarityLoss()(*pair))


@each_loss
def test_zero_features_give_finite_values_and_gradients(name: str):
    loss, (student, teacher) = LOSSES[name][0]().double(), pair_of_features()
    student, teacher = (Features(f.logits, tuple(0 * m for m in f.maps), 0 * f.pooled) for f in (student, teacher))
    inputs = leaves(student)
    result = loss(student, teacher)
    result.backward()
    assert result.isfinite()
    assert all(m.grad is None or m.grad.abs().max() < 1e3 for m in inputs)


@each_loss
def test_batch_of_one(name: str):
    loss, pair = LOSSES[name][0]().double(), pair_of_features(1)
    if name == "cc":
        with pytest.raises(InputError, match="a batch needs at least two; got 1: drop"):
            loss(*pair)
        return
    assert loss(*pair).isfinite()


def test_variance_starts_at_five_learns_and_does_not_overflow():
    posterior = Posterior(2, 3, initial_variance=5.0).double()
    assert torch.allclose(posterior.variance, torch.full((3,), 5.0, dtype=torch.float64), atol=1e-6)
    student, teacher = torch.zeros(2, 2, 1, 1).double(), torch.tensor([1.0, 2.0, 3.0]).double().expand(2, 3)
    optimizer = torch.optim.Adam(posterior.parameters(), lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        posterior(student, teacher[:, :, None, None]).backward()
        optimizer.step()
    assert torch.allclose(posterior.variance, torch.tensor([1.0, 4.0, 9.0]).double(), rtol=0.02)
    with torch.no_grad():
        posterior.rho.fill_(1e4)
    assert posterior.variance.isfinite().all()
    assert Posterior(1, 1).bfloat16().variance.dtype == torch.float32
    assert Posterior(1, 1, initial_variance=1e4).variance.item() == pytest.approx(1e4)


def test_paraphraser_learns_first_and_is_left_alone_afterwards():
    loss, (student, teacher) = FactorLoss(2, 4).double(), pair_of_features()
    watched = [*leaves(student), *leaves(teacher)]
    terms = loss.warm_up(student, teacher, BATCH)
    theirs = arrays(teacher)[2]
    found = stacked(loss, "decoder", stacked(loss, "paraphraser", theirs, (0, 2, 4)), (0, 2, 4))
    assert list(terms) == ["reconstruction"]
    assert terms.total.item() == pytest.approx(float(((found - theirs) ** 2).mean()), abs=1e-9)
    terms.total.backward()
    assert all(m.grad is None for m in watched)
    stages = {k: p.grad is not None and bool(p.grad.any()) for k, p in loss.named_parameters()}
    assert stages == {k: k.startswith(("paraphraser", "decoder")) for k in stages}
