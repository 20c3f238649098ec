"""L2X: k patches exactly, the draws by hand, what a student sees, what the map ranks, and misuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.explain import MEDTEX, PatchExplainer, PatchStudent, own_map
from aureole.models import FourBlocks


def says(line: str):
    return pytest.raises(InputError, match=rf"\A[^\n]*{line}[^\n]*\Z")


def explainer(share: float = 0.25, temperature: float = 0.1) -> PatchExplainer:
    features = nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.BatchNorm2d(5), nn.Tanh())
    return PatchExplainer(features, 5, share=share, temperature=temperature)


def network(share: float = 0.25) -> PatchStudent:
    return PatchStudent(explainer(share), FourBlocks((3, 4, 6, 8), 2))


@pytest.mark.parametrize(("share", "count"), [(0.25, 4), (0.3, 5), (1.0, 16), (0.001, 1)])
def test_evaluation_selects_exactly_k_patches_of_the_highest_scores(share, count):
    model, x = explainer(share).eval(), torch.rand(3, 3, 16, 16)
    mask = model(x)
    assert mask.shape == (3, 1, 16, 16)
    patches = mask[:, 0, ::4, ::4]
    assert torch.equal(mask[:, 0], patches.repeat_interleave(4, 1).repeat_interleave(4, 2))
    scores = model.patches(x)[1].flatten(1)
    best = torch.zeros_like(scores).scatter(1, scores.argsort(1, descending=True)[:, :count], 1.0)
    assert torch.equal(patches.flatten(1), best)


def test_patches_of_an_image_that_they_do_not_divide():
    model, x = explainer(0.25).eval(), torch.rand(2, 3, 18, 15)
    mask = model(x)
    assert mask.shape == (2, 1, 18, 15)
    assert model.patches(x)[1].shape == (2, 4, 3)
    assert (model.selected(model.patches(x)[1]).sum((1, 2)) == 3).all()


def test_training_takes_the_largest_of_k_relaxed_draws():
    model, scores = explainer(temperature=0.5).train(), torch.randn(3, 4, 4, dtype=torch.float64).requires_grad_()
    direction = torch.randn_like(scores)
    torch.manual_seed(4)
    found = model.selected(scores)
    torch.manual_seed(4)
    gumbel = -torch.empty(3, 4, 16, dtype=torch.float64).exponential_().log()
    draws = [((scores.flatten(1) + gumbel[:, j]) / 0.5).softmax(1) for j in range(4)]
    wanted = torch.stack(draws).amax(0).view(3, 4, 4)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    grads = [torch.autograd.grad((z * direction).sum(), scores)[0] for z in (found, wanted)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-14)


def test_a_cold_draw_selects_at_most_k_patches():
    z = explainer(temperature=1e-4).train().selected(torch.zeros(200, 4, 4, dtype=torch.float64))
    assert ((z < 1e-6) | (z > 1 - 1e-6)).double().mean() > 0.99
    counts = (z > 0.5).sum((1, 2))
    assert counts.max() == 4
    expected = 16 * (1 - (1 - 1 / 16) ** 4)  # different patches among 4 draws of 16
    assert abs(counts.double().mean() - expected) < 0.15


def test_draws_depend_on_the_seed_and_evaluation_draws_nothing():
    model, x = explainer().train(), torch.rand(4, 3, 16, 16)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(model(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    state = torch.get_rng_state()
    model.eval()(x)
    assert torch.equal(state, torch.get_rng_state())


def test_the_student_sees_the_selected_patches_alone():
    model, x = network().eval(), torch.rand(2, 3, 16, 16)
    mask = model.explainer(x)
    torch.testing.assert_close(model(x), model.student(mask * x))
    assert torch.equal(model.simplified(x), mask * x)
    other = torch.where(mask > 0, x, torch.rand_like(x))
    assert torch.equal(model.student(mask * other), model(x))


def test_the_map_ranks_all_patches_and_begins_with_the_selected():
    model, x = network().eval(), torch.rand(2, 3, 16, 16)
    found = own_map(model.train(), x)
    patches = found[:, ::4, ::4].flatten(1)
    scores = model.eval().explainer.patches(x)[1]
    torch.testing.assert_close(patches, scores.flatten(1).softmax(1))
    assert all(row.unique().numel() == 16 for row in patches)
    selected = model.explainer(x)[:, 0] > 0
    assert all(found[i][selected[i]].min() > found[i][~selected[i]].max() for i in range(2))


def test_every_part_learns_from_the_output_loss():
    model, teacher, x = network(), FourBlocks((4, 6, 8, 10)), torch.rand(6, 3, 16, 16)
    method, data = MEDTEX(weight=0.0), Batch(x, torch.arange(6) % 2)
    modules = method.pair(model, teacher, x)
    method.loss(model.train(), data, modules).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    for part in (model.explainer.patches.score, model.explainer.patches.features, model.student):
        assert max(float(p.grad.abs().max()) for p in part.parameters() if p.grad is not None) > 0


def test_stored_weights_give_the_same_map():
    model, other, x = network(), network(), torch.rand(2, 3, 16, 16)
    model(x)  # moves the statistics
    assert not torch.allclose(own_map(model, x), own_map(other, x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(own_map(model, x), own_map(other, x))
    assert torch.equal(model.eval()(x), other.eval()(x))


def test_misuse():
    for share in (0.0, 1.5, -0.1):
        with says("share of pixels must be in"):
            explainer(share)
    for temperature in (0.0, math.nan):
        with says("temperature must be positive"):
            explainer(temperature=temperature)
    with says(r"expected features of shape \(2, 5, height, width\); got \(2, 48\)"):
        PatchExplainer(nn.Flatten(), 5)(torch.rand(2, 3, 4, 4))
