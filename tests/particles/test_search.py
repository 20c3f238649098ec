"""The search: identities with PGD and restarts, independence of the batch, and what the particles converge to."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.objectives import KL, CrossEntropy, Objective
from aureole.core.random import Streams
from aureole.particles.kernels import RBF, FeatureRBF, Kernel
from aureole.particles.search import Particles, ParticleSearch
from aureole.particles.starts import Normal, Start, Uniform
from aureole.particles.steps import Langevin, StepRule

BALLS = [Linf(0.1), L2(0.6), L1(2.0)]
every_ball = pytest.mark.parametrize("ball", BALLS, ids=str)


@dataclass(frozen=True)
class From(Start):
    """Begin at given points."""

    points: Tensor

    def __call__(self, x: Tensor, ball: Ball, streams: Streams, num_particles: int, direction: Any) -> Tensor:
        return self.points[:num_particles].clone()


@dataclass(frozen=True)
class Gradient(StepRule):
    """Plain gradient ascent."""

    def __call__(self, direction: Tensor, step_size: float, ball: Ball, streams: Streams, state: Any) -> tuple:
        return step_size * direction, state


@dataclass(frozen=True)
class Gaussian(Objective):
    """Log density of a normal distribution; the "model" is the identity."""

    mean: tuple[float, ...] = (2.0, -1.0)
    deviation: float = 0.5

    def __call__(self, logits: Tensor, clean_logits: Any = None, labels: Any = None) -> Tensor:
        return -(logits - torch.tensor(self.mean)).square().sum(-1) / (2 * self.deviation**2)


def streams(indices: Tensor) -> Streams:
    return Streams.of(0, indices)


def hand_written_pgd(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, search: ParticleSearch) -> Tensor:
    """Ten lines that anybody would write, image after image of the first particle."""
    x_adv = start.clone()
    for _ in range(search.num_steps):
        x_adv = x_adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y, reduction="sum"), x_adv)
        if isinstance(search.ball, Linf):
            x_adv = x_adv.detach() + search.step_size * gradient.sign()
            low, high = (x - search.ball.radius).clamp(0, 1), (x + search.ball.radius).clamp(0, 1)
            x_adv = x_adv.clamp(low, high)
        else:
            x_adv = search.ball.project(x_adv.detach() + search.step_size * search.ball.steepest(gradient, 3), x)
    return x_adv


@every_ball
@pytest.mark.parametrize("kernel", [RBF(), None], ids=str)
def test_one_particle_is_pgd_bit_for_bit(victim: Any, ball: Ball, kernel: Kernel | None) -> None:
    search = ParticleSearch(ball, num_particles=1, num_steps=7, step_size=ball.radius / 4, kernel=kernel)
    start = ball.sample(victim.x, streams(torch.arange(32)))[0]
    expected = hand_written_pgd(victim.model, victim.x, victim.y, start, search)
    found = search(victim.model, victim.x, victim.y, generator=streams(torch.arange(32))).x_adv
    assert torch.equal(found[0], expected)
    assert not torch.equal(expected, start)


@every_ball
def test_a_kernel_without_width_is_restarts_and_says_so_once(victim: Any, ball: Ball) -> None:
    found = {}
    for name, kernel in {"thesis": RBF("thesis"), "narrow": RBF(1e-7), "none": None}.items():
        search = ParticleSearch(ball, num_particles=4, num_steps=4, step_size=ball.radius / 4, kernel=kernel)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found[name] = search(victim.model, victim.x, victim.y, generator=streams(torch.arange(32))).x_adv
        assert len(caught) == (kernel is not None)
        assert all("too narrow" in str(w.message) for w in caught)
    assert torch.equal(found["thesis"], found["none"])
    assert torch.equal(found["narrow"], found["none"])


@every_ball
def test_restarts_are_separate_runs_of_pgd(victim: Any, ball: Ball) -> None:
    points = ball.sample(victim.x, streams(torch.arange(32)), 3)
    search = ParticleSearch(ball, 3, 5, ball.radius / 4, kernel=None, start=From(points))
    found = search(victim.model, victim.x, victim.y)
    assert found.kernel is None
    for particle, point in zip(found.x_adv, points, strict=True):
        expected = hand_written_pgd(victim.model, victim.x, victim.y, point, search)
        torch.testing.assert_close(particle, expected, rtol=0, atol=1e-6)


@every_ball
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_max_batch_changes_nothing(victim: Any, ball: Ball, size: int) -> None:
    model = copy.deepcopy(victim.model).double()  # in single precision one rounding may send a particle elsewhere
    for objective in (CrossEntropy(), KL()):
        runs = [
            ParticleSearch(
                ball, 3, 4, ball.radius / 4, objective=objective, max_batch=m, start=Normal(0.02), keep="best"
            )
            for m in (None, size)
        ]
        whole, split = (r(model, victim.x.double(), generator=streams(torch.arange(32))) for r in runs)
        torch.testing.assert_close(split.x_adv, whole.x_adv, rtol=0, atol=2e-6)
        torch.testing.assert_close(split.objective, whole.objective, rtol=1e-5, atol=1e-5)


def test_max_batch_is_the_most_that_the_model_sees(victim: Any) -> None:
    sizes = []
    hook = victim.model.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    ParticleSearch(Linf(0.1), 3, 2, objective=KL(), max_batch=20, keep="best")(victim.model, victim.x)
    hook.remove()
    assert max(sizes) == 20
    assert sum(sizes) == 32 + 3 * 3 * 32


@every_ball
def test_the_result_of_an_example_does_not_depend_on_its_batch(victim: Any, ball: Ball) -> None:
    search = ParticleSearch(ball, 3, 4, ball.radius / 4, step=Langevin(0.1, rule=Gradient()))
    order = torch.randperm(32)
    whole = search(victim.model, victim.x, victim.y, generator=streams(torch.arange(32))).x_adv
    parts = [
        search(victim.model, victim.x[i], victim.y[i], generator=streams(i)).x_adv
        for i in (order[:1], order[1:14], order[14:])
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole[:, order], rtol=0, atol=1e-5)


@every_ball
def test_the_best_iterate_is_kept(victim: Any, ball: Ball) -> None:
    seen = []
    hook = victim.model.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    search = ParticleSearch(ball, 3, 6, 0.9 * ball.radius, keep="best")  # a step far too large
    found = search(victim.model, victim.x, victim.y, generator=streams(torch.arange(32)))
    hook.remove()
    assert len(seen) == 7
    values = torch.stack([F.cross_entropy(out, victim.y.repeat(3), reduction="none") for _, out in seen]).detach()
    best, at = values.max(0)
    assert at.unique().numel() > 1
    torch.testing.assert_close(found.objective, best.view(3, 32))
    iterates = torch.stack([x for x, _ in seen]).detach()[at, torch.arange(96)]
    assert torch.equal(found.x_adv.flatten(0, 1), iterates)


def test_the_objective_is_that_of_the_last_gradient_or_of_the_start(victim: Any) -> None:
    for steps, evaluated in ((0, 0), (3, 2)):
        runs = [ParticleSearch(Linf(0.1), 2, n) for n in (steps, evaluated)]
        last, before = (r(victim.model, victim.x, victim.y, generator=streams(torch.arange(32))) for r in runs)
        expected = F.cross_entropy(victim.model(before.x_adv.flatten(0, 1)), victim.y.repeat(2), reduction="none")
        torch.testing.assert_close(last.objective.flatten(), expected.detach())


@dataclass(frozen=True)
class Attracting(Kernel):
    """The mistake that the tests of spread must notice: the repulsion with the wrong sign."""

    of: Kernel = RBF()

    def __call__(self, score: Tensor, x_adv: Tensor, x: Tensor) -> Any:
        found = self.of(score, x_adv, x)
        return found._replace(repulsion=-found.repulsion)


def spread(victim: Any, **fields: Any) -> float:
    search = ParticleSearch(Linf(0.1), 4, 10, 0.02, start=Uniform(0.01), **fields)
    found = search(victim.model, victim.x, victim.y, generator=streams(torch.arange(32)))
    return float(found.squared_distance.mean())


def test_repulsion_spreads_the_particles_and_attraction_does_not(victim: Any) -> None:
    restarts = spread(victim, kernel=None)
    assert spread(victim, kernel=RBF()) > 1.5 * restarts
    assert spread(victim, kernel=FeatureRBF(nn.Identity())) > 1.5 * restarts
    assert spread(victim, kernel=Attracting()) < 0.9 * restarts


def test_a_low_temperature_comes_close_to_restarts(victim: Any) -> None:
    def run(**fields: Any) -> Tensor:
        search = ParticleSearch(Linf(0.1), 4, 5, 0.02, **fields)
        return search(victim.model, victim.x, victim.y, generator=streams(torch.arange(32))).x_adv

    restarts = run(kernel=None)
    cold, warm, hot = ((run(temperature=t, kernel=RBF(0.25)) != restarts).float().mean() for t in (1e-4, 1.0, 10.0))
    assert cold < 0.2 < 0.4 < warm < hot  # the kernel still averages the scores a little, so the two never quite agree


@dataclass(frozen=True)
class Spy(StepRule):
    """Keep the directions that come in."""

    seen: list

    def __call__(self, direction: Tensor, step_size: float, ball: Ball, streams: Streams, state: Any) -> tuple:
        self.seen.append(direction)
        return torch.zeros_like(direction), state


@pytest.mark.parametrize("balance", [None, 0.0, 1.0, 2.5])
def test_drive_and_repulsion_are_balanced_by_their_lengths(victim: Any, balance: float | None) -> None:
    seen, points = [], Linf(0.1).sample(victim.x, streams(torch.arange(32)), 3)
    search = ParticleSearch(Linf(0.1), 3, 1, 0.1, start=From(points), step=Spy(seen), balance=balance, temperature=0.25)
    search(victim.model, victim.x, victim.y)
    rows = points.flatten(0, 1).requires_grad_()
    loss = F.cross_entropy(victim.model(rows), victim.y.repeat(3), reduction="sum")
    score = torch.autograd.grad(loss, rows)[0].view_as(points)
    drive, repulsion, _ = RBF()(score, points, victim.x)
    if balance is None:
        expected = drive + 0.25 * repulsion
    else:
        unit_drive, unit_repulsion = (t / t.flatten(2).norm(dim=2)[:, :, None, None, None] for t in (drive, repulsion))
        expected = unit_drive + balance * unit_repulsion
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-6)


def gaussian_particles(**fields: Any) -> Particles:
    search = ParticleSearch(Linf(1e6, None), objective=Gaussian(), start=Normal(0.1), **fields)
    return search(nn.Identity(), torch.zeros(2, 2), generator=streams(torch.arange(2)))


def test_stein_particles_take_the_shape_of_a_normal_distribution() -> None:
    found = gaussian_particles(num_particles=40, num_steps=800, step_size=0.1, step=Gradient(), temperature=1.0)
    torch.testing.assert_close(found.x_adv.mean(0), torch.tensor([[2.0, -1.0]] * 2), rtol=0, atol=0.02)
    torch.testing.assert_close(found.x_adv.var(0), torch.full((2, 2), 0.25), rtol=0.2, atol=0)


def test_independent_particles_without_noise_collapse_to_the_mode() -> None:
    """So that the test above is one of the repulsion."""
    found = gaussian_particles(num_particles=40, num_steps=800, step_size=0.1, step=Gradient(), kernel=None)
    assert found.x_adv.var(0).max() < 1e-6


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_langevin_particles_take_the_shape_of_a_normal_distribution(temperature: float) -> None:
    found = gaussian_particles(
        num_particles=4000, num_steps=400, step_size=0.01, step=Langevin(math.sqrt(temperature)), kernel=None
    )
    torch.testing.assert_close(found.x_adv.mean(0), torch.tensor([[2.0, -1.0]] * 2), rtol=0, atol=0.05)
    expected = torch.full((2, 2), 0.25 * temperature)
    torch.testing.assert_close(found.x_adv.var(0), expected, rtol=0.1, atol=0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_the_mode_of_gradients_of_the_caller_does_not_matter(victim: Any, context: Any) -> None:
    def run(x: Tensor, y: Tensor) -> Tensor:
        search = ParticleSearch(L2(0.5), 3, 3, 0.2, objective=KL(), kernel=FeatureRBF(victim.model))
        return search(victim.model, x, y, generator=streams(torch.arange(32))).x_adv

    expected = run(victim.x, victim.y)
    with context():
        found = run(victim.x.clone(), victim.y.clone())
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not found.is_inference()
    assert torch.equal(run(victim.x.clone().requires_grad_(), victim.y), expected)


@pytest.mark.parametrize("mode", ["eval", "batch_statistics"])
@pytest.mark.parametrize("generator", [None, "own"])
def test_a_search_leaves_no_trace(stateful: nn.Module, trace: Any, mode: Any, generator: Any) -> None:
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    generator = generator and torch.Generator().manual_seed(1)
    before = trace(stateful)
    found = ParticleSearch(Linf(0.1), 2, 3, keep="best", mode=mode)(stateful, x, y, generator=generator)
    before.check()
    assert Linf(0.1).contains(found.x_adv, x).all()
    bad = torch.full((6,), 7)
    with pytest.raises(InputError, match="labels must be from 0 to 3"):
        ParticleSearch(Linf(0.1), 2, 3, mode=mode)(stateful, x, bad, generator=generator)
    before.check()


def test_the_modes_of_the_model_matter(stateful: nn.Module) -> None:
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    runs = [ParticleSearch(Linf(0.1), 2, 3, mode=mode) for mode in ("eval", "batch_statistics")]
    evaluated, batch = (run(stateful, x, y, generator=streams(torch.arange(6))).x_adv for run in runs)
    assert not torch.allclose(evaluated, batch)


def test_the_same_generator_seed_gives_the_same_particles(victim: Any) -> None:
    search = ParticleSearch(Linf(0.1), 2, 2)
    a, b, c = (
        search(victim.model, victim.x, victim.y, generator=torch.Generator().manual_seed(seed)).x_adv
        for seed in (3, 3, 4)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_without_labels_the_predictions_are_attacked(victim: Any) -> None:
    search = ParticleSearch(Linf(0.1), 2, 2)
    predictions = victim.model(victim.x).argmax(-1)
    ours, given = (
        search(victim.model, victim.x, y, generator=streams(torch.arange(32))).x_adv for y in (None, predictions)
    )
    assert torch.equal(ours, given)


@pytest.mark.parametrize("ball", [Linf(0.1, None), L2(0.3, None)], ids=str)
def test_double_precision_is_kept(victim: Any, ball: Ball) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    found = ParticleSearch(ball, 3, 2)(model, victim.x.double(), victim.y)
    assert found.x_adv.dtype == found.objective.dtype == torch.float64
    assert ball.contains(found.x_adv, victim.x.double()).all()


def test_doubtful_models_are_named_in_evaluation_mode_alone(victim: Any) -> None:
    softmax = nn.Sequential(victim.model, nn.Softmax(-1))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU())
    nn.init.constant_(flat[1].bias, -100.0)
    standing = 2 * int((victim.y == 0).sum())  # the flat model says 0 everywhere; two particles an image
    for model, message in ((softmax, "probabilities"), (flat, f"the gradient is zero for {standing} of 64 images")):
        model.eval()
        with pytest.warns(UntrustedResult, match=message) as caught:
            ParticleSearch(Linf(0.1), 2, 3)(model, victim.x, victim.y)
        assert len(caught) == 1
        model.train()
        ParticleSearch(Linf(0.1), 2, 3)(model, victim.x, victim.y)
    victim.model.eval()


class Rounded(nn.Module):
    """Its output does not depend differentiably on the images; in one variant, on its parameter alone."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.hidden = [torch.ones(4, requires_grad=True)] if hidden else [torch.ones(4)]

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().flatten(1)[:, :4] * self.hidden[0]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_model_without_gradient_is_refused(victim: Any, hidden: bool) -> None:
    with pytest.raises(InputError, match="does not depend differentiably"):
        ParticleSearch(Linf(0.1), 2, 3)(Rounded(hidden=hidden), victim.x, victim.y)


BAD_FIELDS = [
    {"num_particles": 0},
    {"num_steps": -1},
    {"step_size": 0.0},
    {"step_size": math.nan},
    {"step_size": math.inf},
    {"temperature": 0.0},
    {"temperature": math.nan},
    {"balance": -1.0},
    {"balance": math.nan},
    {"max_batch": 0},
    {"max_batch": 5, "mode": "batch_statistics"},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=str)
def test_fields_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(fields))):
        ParticleSearch(Linf(0.1), **fields)
