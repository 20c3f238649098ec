"""On a CUDA device: the same results as on the CPU for the same streams, inside the ball, without stalling the device.

The comparisons are in double precision, where rounding flips no sign of a gradient; the random numbers are float32 on
both devices, and the normal ones differ in their last bits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks import BIM, FGSM, MIM, PGD, RFGSM, Attack
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.method import Batch, Method, Terms
from aureole.core.objectives import DLR, KL, CrossEntropy, Margin, Objective, SquaredDifference
from aureole.core.random import Streams
from aureole.particles import RBF, FeatureRBF, Kernel, Langevin, Normal, ParticleSearch, Probe, Steepest, StepRule
from aureole.robust import ADTEXP, ADTEXPAM, ALDPGD, ALDTRADES, TRADES, Madry, Natural, PGDTraining

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE, BATCH, CLASSES = "cuda", 8, 5
BALLS = (Linf(0.1), L2(0.8), L1(2.0), Linf(0.1, bounds=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))))
KERNELS = (None, RBF(), RBF(0.5), RBF(scope="batch"), FeatureRBF(nn.Flatten()))
OBJECTIVES = (CrossEntropy(), KL(), SquaredDifference(), Margin(), DLR())
SEARCH = ParticleSearch(Linf(0.1), num_particles=3, num_steps=4, step_size=0.04)
DIVERGENCE = replace(SEARCH, objective=KL(), start=Normal(1e-3))
METHODS = (
    Natural(),
    Madry(search=SEARCH),
    PGDTraining(search=SEARCH),
    TRADES(search=DIVERGENCE),
    ALDPGD(search=SEARCH),
    ALDPGD(search=SEARCH, estimator="covariance"),
    ALDTRADES(search=DIVERGENCE),
    ADTEXP(ball=Linf(0.1), num_steps=3, num_samples=2),
    ADTEXPAM(ball=Linf(0.1), width=8),
)
ATTACKS = tuple(
    kind(ball=ball, num_restarts=restarts)
    for kind in (FGSM, RFGSM, BIM, MIM, PGD)
    for ball, restarts in ((Linf(0.1), 1), (L2(0.8), 2))
)


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """No TF32, and deterministic convolutions."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before


def network(device: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return the same network on any device: convolution, batch normalisation, a smooth activation."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 64, CLASSES)
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return model.to(device, dtype)


def images(device: str, dtype: torch.dtype = torch.float64) -> Batch:
    """Return the same batch on any device, with fresh streams."""
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(BATCH, 3, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    streams = Streams.of(7, torch.arange(BATCH, device=device))
    return Batch(x.to(device, dtype), y.to(device), streams=streams)


def agree(first: Tensor, second: Tensor, tolerance: float = 1e-5) -> None:
    """Check that two results agree, up to one value in a thousand."""
    assert first.shape == second.shape
    near = (first.cpu() - second.cpu()).abs() <= tolerance
    assert float(near.double().mean()) >= 0.999


def loss(method: Method, device: str, **dtype: torch.dtype) -> tuple[Terms, list[Tensor]]:
    """Return the terms of a method on a device, and the gradients of all parameters."""
    model, batch = network(device, **dtype), images(device, **dtype)
    parts = method.own(copy.deepcopy(model).cpu(), batch.x.cpu())
    if parts is not None:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in parts.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        parts = parts.to(device)
    terms = method.loss(model, batch, parts)
    terms.total.backward()
    parameters = [*model.parameters(), *(parts.parameters() if parts is not None else [])]
    assert all(p.grad is not None for p in parameters)
    return terms, [p.grad for p in parameters if p.grad is not None]


def test_streams_are_the_same_numbers() -> None:
    ours, theirs = (images(device).streams for device in (DEVICE, "cpu"))
    assert ours is not None
    assert theirs is not None
    first, second = ours.uniform((2, BATCH, 100), 1), theirs.uniform((2, BATCH, 100), 1)
    assert first.device.type == DEVICE
    assert torch.equal(first.cpu(), second)
    agree(ours.normal((BATCH, 1000)), theirs.normal((BATCH, 1000)))


@pytest.mark.parametrize("ball", BALLS, ids=repr)
def test_balls_project_and_draw_as_on_the_cpu(ball: Ball) -> None:
    results = []
    for device in (DEVICE, "cpu"):
        batch = images(device)
        assert batch.streams is not None
        drawn = ball.sample(batch.x, batch.streams, 4)
        assert bool(ball.contains(drawn, batch.x).all())
        results.append((drawn, ball.project(3 * drawn - batch.x, batch.x), ball.steepest(drawn - 0.5, 3)))
    for ours, theirs in zip(*results, strict=True):
        agree(ours, theirs)


@pytest.mark.parametrize("ball", BALLS, ids=repr)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: "None" if kernel is None else repr(kernel)[:20])
def test_a_search_finds_what_it_finds_on_the_cpu(ball: Ball, kernel: Kernel | None) -> None:
    search = replace(SEARCH, ball=ball, kernel=kernel, step_size=0.4 * ball.radius)
    found = []
    for device in (DEVICE, "cpu"):
        batch = images(device)
        particles = search(network(device), batch.x, batch.y, generator=batch.streams)
        assert particles.x_adv.device.type == device
        assert bool(ball.contains(particles.x_adv, batch.x).all())
        found.append(particles)
    agree(found[0].x_adv, found[1].x_adv)
    agree(found[0].objective, found[1].objective)
    agree(found[0].squared_distance, found[1].squared_distance)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize(
    "changes",
    [{"keep": "best"}, {"start": Probe(1.0)}, {"step": Langevin(0.1, Steepest())}, {"balance": 0.5}, {"max_batch": 5}],
    ids=lambda changes: next(iter(changes)),
)
def test_every_option_works_as_on_the_cpu(objective: Objective, changes: dict[str, object]) -> None:
    search = replace(SEARCH, objective=objective, **changes)  # pyright: ignore[reportArgumentType]
    ours, theirs = (
        search(network(device), images(device).x, images(device).y, generator=images(device).streams).x_adv
        for device in (DEVICE, "cpu")
    )
    agree(ours, theirs)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{type(a).__name__}-{type(a.ball).__name__}")
def test_an_attack_finds_what_it_finds_on_the_cpu(attack: Attack) -> None:
    found = []
    for device in (DEVICE, "cpu"):
        batch = images(device)
        found.append(attack(network(device).eval(), batch.x, batch.y, generator=batch.streams))
        assert bool(attack.ball.contains(found[-1], batch.x).all())
    agree(*found)
    assert float((found[0] - images(DEVICE).x).abs().max()) > 0.01


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_method_has_the_loss_and_the_gradients_that_it_has_on_the_cpu(method: Method) -> None:
    (terms, gradients), (expected, expected_gradients) = loss(method, DEVICE), loss(method, "cpu")
    assert list(terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].cpu(), value, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4 * scale + 1e-9)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_method_leaves_the_random_state_of_the_device_alone(method: Method) -> None:
    model, batch = network(DEVICE), images(DEVICE)
    parts = method.own(model, batch.x)
    states = torch.get_rng_state(), torch.cuda.get_rng_state()
    method.loss(model, batch, parts)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(torch.cuda.get_rng_state(), states[1])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_bfloat16_autocast_keeps_losses_and_gradients_in_float32(method: Method) -> None:
    with torch.autocast(DEVICE, torch.bfloat16):
        terms, gradients = loss(method, DEVICE, dtype=torch.float32)
    assert all(value.dtype == torch.float32 and bool(value.isfinite()) for value in terms.values())
    assert all(g.dtype == torch.float32 and bool(g.isfinite().all()) for g in gradients)
    assert all(float(g.abs().max()) > 0 for g in gradients)


@pytest.mark.parametrize("ball", BALLS, ids=repr)
def test_bfloat16_autocast_keeps_the_particles_in_the_ball(ball: Ball) -> None:
    batch = images(DEVICE, torch.float32)
    with torch.autocast(DEVICE, torch.bfloat16):
        particles = replace(SEARCH, ball=ball)(network(DEVICE, torch.float32), batch.x, batch.y)
    assert particles.x_adv.dtype == torch.float32
    assert particles.objective.dtype == torch.float32
    assert bool(ball.contains(particles.x_adv, batch.x).all())


@dataclass(frozen=True)
class Watched(StepRule):
    """A step rule that lets no host synchronisation pass between its first and its last call."""

    rule: StepRule
    num_steps: int
    calls: list[int] = field(default_factory=list)

    def __call__(
        self, direction: Tensor, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        self.calls.append(1)
        torch.cuda.set_sync_debug_mode("error" if len(self.calls) < self.num_steps else "default")
        return self.rule(direction, step_size, ball, streams, state)


@pytest.fixture
def _default_sync_mode() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("_default_sync_mode")
@pytest.mark.parametrize("kernel", [None, RBF(), RBF(0.5)], ids=["None", "median", "fixed"])
@pytest.mark.parametrize("ball", [Linf(0.1), L1(2.0)], ids=repr)
def test_the_steps_never_wait_for_the_device(kernel: Kernel | None, ball: Ball) -> None:
    search, batch = replace(SEARCH, kernel=kernel, ball=ball), images(DEVICE, torch.float32)
    model = network(DEVICE, torch.float32)
    search(model, batch.x, batch.y)  # loads the kernels, and chooses algorithms
    watched = Watched(Steepest(), num_steps=4)
    replace(search, step=watched)(model, batch.x, batch.y)
    assert len(watched.calls) == 4


@pytest.mark.usefixtures("_default_sync_mode")
def test_a_step_that_waits_is_noticed() -> None:
    class Waits(StepRule):
        def __call__(
            self, direction: Tensor, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
        ) -> tuple[Tensor, Tensor | None]:
            return direction.sign() * direction.abs().amax().clamp(max=step_size).item(), state

    batch = images(DEVICE, torch.float32)
    search = replace(SEARCH, step=Watched(Waits(), num_steps=4))
    with pytest.raises(RuntimeError, match="synchroniz"):
        search(network(DEVICE, torch.float32), batch.x, batch.y)


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_channels_last_and_a_compiled_model_give_the_same_particles() -> None:
    batch = images(DEVICE)
    plain = SEARCH(network(DEVICE).eval(), batch.x, batch.y, generator=images(DEVICE).streams).x_adv
    changes: tuple[Callable[[nn.Module], object], ...] = (
        lambda model: model.to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        lambda model: model.compile(),
    )
    for change in changes:
        model = network(DEVICE).eval()
        change(model)
        agree(SEARCH(model, batch.x, batch.y, generator=images(DEVICE).streams).x_adv, plain)
