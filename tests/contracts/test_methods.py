"""One table over all methods: what every training objective keeps to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

import aureole.robust
from aureole.attacks import PGD
from aureole.core.balls import Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.core.objectives import KL
from aureole.core.random import Streams
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Normal
from aureole.robust import ADTEXP, ADTEXPAM, ALDPGD, ALDTRADES, TRADES, Madry, Natural, PGDTraining

BALL = Linf(0.1)
_ONE = ParticleSearch(BALL, num_particles=1, num_steps=4, step_size=0.05, kernel=None)
# At temperature 1 repulsion drowns the attack of so few steps, and training does not withstand.
_MANY = ParticleSearch(BALL, num_particles=3, num_steps=4, step_size=0.05, temperature=1 / 30)
_SPREAD = replace(_MANY, temperature=1.0)  # a variance needs particles that differ
_KL = {"objective": KL(), "start": Normal(1e-3)}


@dataclass(frozen=True)
class Row:
    """A method, the names of its terms, and how many passes in training mode a loss takes."""

    method: Method
    terms: tuple[str, ...]
    passes: int
    searches: bool = True


ROWS = {
    "natural": Row(Natural(), ("clean",), 1, searches=False),
    "madry": Row(Madry(search=_ONE), ("robust",), 1),
    "pgd": Row(PGDTraining(search=_ONE), ("clean", "robust"), 2),
    "trades": Row(TRADES(search=replace(_ONE, **_KL)), ("clean", "robust"), 2),
    "ald-pgd": Row(ALDPGD(search=_MANY), ("clean", "robust"), 2),
    "ald-pgd covariance": Row(ALDPGD(search=_SPREAD, estimator="covariance", weight=100.0), ("clean", "robust"), 2),
    "ald-trades": Row(ALDTRADES(search=replace(_MANY, **_KL)), ("clean", "robust"), 2),
    "adt-exp": Row(ADTEXP(ball=BALL, num_steps=3, num_samples=2), ("robust",), 1),
    "adt-expam": Row(ADTEXPAM(ball=BALL, width=8, learning_rate=0.1), ("robust", "entropy"), 1),
}
every_method = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
every_search = pytest.mark.parametrize(
    "row", [r for r in ROWS.values() if r.searches], ids=[n for n, r in ROWS.items() if r.searches]
)


def _network(dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
        return nn.Sequential(*layers).to(dtype)


def _own(method: Method, model: nn.Module, x: Tensor) -> nn.Module | None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        return method.own(model, x)


def _batch(size: int = 8, dtype: torch.dtype = torch.float32, seed: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(size, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(0, 3, (size,), generator=generator)
    return Batch(x, y, streams=Streams.of(seed, torch.arange(size)))


def _loss(row: Row, **batch: object) -> Terms:
    given = _batch(**batch)
    model = _network(given.x.dtype)
    return row.method.loss(model, given, _own(row.method, model, given.x))


def test_the_table_has_every_method() -> None:
    exported = {getattr(aureole.robust, name) for name in aureole.robust.__all__}
    methods = {thing for thing in exported if isinstance(thing, type) and issubclass(thing, Method)}
    assert methods == {type(row.method) for row in ROWS.values()}


@every_method
def test_a_method_is_a_named_frozen_value(row: Row) -> None:
    assert row.method == replace(row.method)
    assert hash(row.method) == hash(replace(row.method))
    assert row.method.title
    search = getattr(row.method, "search", None)
    assert row.method.num_particles == (search.num_particles if search else None)


def test_titles_are_different() -> None:
    titles = [type(row.method).title for name, row in ROWS.items() if name != "ald-pgd covariance"]
    assert len(set(titles)) == len(titles)


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1, 8])
def test_terms_are_finite_scalars_in_the_type_of_the_images(row: Row, size: int, dtype: torch.dtype) -> None:
    terms = _loss(row, size=size, dtype=dtype)
    assert tuple(terms) == row.terms
    for value in (*terms.values(), terms.total):
        assert value.shape == ()
        assert value.dtype == dtype
        assert bool(value.isfinite())
    assert terms.total.item() == pytest.approx(sum(v.item() for v in terms.values()), rel=1e-5)


@every_method
def test_the_same_streams_give_the_same_loss(row: Row) -> None:
    first, again, other = (_loss(row, seed=seed).total for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) is not row.searches


@every_method
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "autocast"])
def test_every_parameter_gets_a_gradient(row: Row, bfloat16: bool) -> None:
    model, batch = _network(), _batch()
    parts = _own(row.method, model, batch.x)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        terms = row.method.loss(model, batch, parts)
    parameters = [*model.parameters(), *(parts.parameters() if parts else [])]
    assert all(p.grad is None for p in parameters)
    terms.total.backward()
    assert all(t.dtype == torch.float32 for t in terms.values())
    for parameter in parameters:
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all())
    # A bias before batch normalisation has no effect: its gradient is rounding.
    assert all(float(p.grad.abs().max()) > 0 for p in parameters)


@every_method
def test_a_loss_leaves_no_trace(row: Row) -> None:
    model, batch = _network(), _batch()
    parts = _own(row.method, model, batch.x)
    model[1].eval()
    model[4].bias.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    modes = [m.training for m in model.modules()]
    state, images = copy.deepcopy(model.state_dict()), batch.x.clone()
    global_state = torch.get_rng_state()
    row.method.loss(model, batch, parts)
    assert [m.training for m in model.modules()] == modes
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["4.bias"]
    assert bool((model[0].weight.grad == 1).all())
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["0.weight"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), global_state)
    assert torch.equal(batch.x, images)
    assert not batch.x.requires_grad


@every_method
def test_batch_normalisation_sees_the_passes_of_the_loss_and_no_step_of_the_search(row: Row) -> None:
    model, batch = _network(), _batch()
    row.method.loss(model, batch, _own(row.method, model, batch.x))
    assert int(model[1].num_batches_tracked) == row.passes


@every_method
def test_a_failing_model_is_left_as_it_was(row: Row) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = _network()

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken on purpose")

    model, batch = Broken(), _batch()
    parts = _own(row.method, model, batch.x)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        row.method.loss(model, batch, parts)
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.fixture
def untyped() -> Iterator[None]:
    """No checks of annotations, as for a user: what a misuse raises then."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@every_search
def test_misuse_is_told_in_one_line(row: Row, untyped: None) -> None:
    model, batch = _network(), _batch()
    parts = _own(row.method, model, batch.x)
    for wrong in (replace(batch, x=batch.x * 255), replace(batch, y=batch.y[:3])):
        with pytest.raises(InputError) as caught:
            row.method.loss(model, wrong, parts)
        assert "\n" not in str(caught.value)


def _separable(size: int = 96) -> tuple[Tensor, Tensor]:
    """Images with one strong pixel that is right nine times in ten, and 15 weak ones that are always right.

    Inside the ball all weak pixels turn round, the strong one does not: a natural classifier leans on the weak ones
    and falls, a robust one leans on the strong one (Tsipras et al. 2019, section 2.1).
    """
    generator = torch.Generator().manual_seed(8)
    y = torch.arange(size) % 2
    sign = (2 * y - 1).float()[:, None]
    right = (torch.rand(size, 1, generator=generator) < 0.9).float() * 2 - 1
    weak = 0.5 + 0.05 * sign + 0.01 * torch.randn(size, 15, generator=generator)
    return torch.cat([0.5 + 0.3 * sign * right, weak], dim=1).view(size, 1, 4, 4), y


def _train(method: Method, steps: int) -> tuple[float, float, float, float]:
    """Return the clean loss before and after training, and natural and adversarial accuracy after."""
    x, y = _separable()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    parts = _own(method, model, x)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)]
    optimizers += [method.own_optimizer(parts)] if parts else []
    clean: Callable[[], float] = lambda: nn.functional.cross_entropy(model(x), y).item()  # noqa: E731
    before = clean()
    for step in range(steps):
        terms = method.loss(model, Batch(x, y, streams=Streams.of(step, torch.arange(len(x)))), parts)
        for optimizer in optimizers:
            optimizer.zero_grad()
        terms.total.backward()
        for optimizer in optimizers:
            optimizer.step()
    x_adv = PGD(ball=BALL, num_steps=10, step_size=0.03)(model, x, y, generator=Streams.of(0, torch.arange(len(x))))
    accuracy = [float((model(images).argmax(1) == y).float().mean()) for images in (x, x_adv)]
    return before, clean(), accuracy[0], accuracy[1]


def test_natural_training_fits_and_falls() -> None:
    before, after, natural, adversarial = _train(Natural(), 80)
    assert after < 0.5 * before
    assert natural > 0.95
    assert adversarial < 0.2


@every_search
def test_training_fits_and_withstands(row: Row) -> None:
    before, after, natural, adversarial = _train(row.method, 80)
    assert after < 0.8 * before
    assert natural > 0.85
    assert adversarial > 0.8
