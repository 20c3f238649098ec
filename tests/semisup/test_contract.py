"""One table over all methods that learn from few labels: what each of them keeps to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aureole.semisup
from aureole.core.config import from_values, to_values
from aureole.core.method import Batch, Method, Terms, Unlabelled
from aureole.core.random import Streams
from aureole.particles import Uniform
from aureole.semisup import (
    ALDVAT,
    ICT,
    VAT,
    ALDMixup,
    Averaged,
    EntropyMinimisation,
    FixMatch,
    MeanTeacher,
    MixMatch,
    PiModel,
    PseudoLabel,
    SemiSupervised,
    Supervised,
    TemporalEnsembling,
    VATEntropy,
    VATMixup,
)

BOTH = ("labelled", "unlabelled")
ALL = (*BOTH, "labelled_distance")


@dataclass(frozen=True)
class Row:
    """A method, the names of its terms, whether it draws at random, and the training passes that move statistics."""

    method: Averaged
    terms: tuple[str, ...] = BOTH
    draws: bool = False
    passes: int = 1

    @property
    def fewest(self) -> int:
        """A number of passes through the model that no loss does with."""
        searches = getattr(self.method, "search", None) is not None
        return 3 if searches else max(self.passes, 1)


_ALGORITHM = ALDVAT.algorithm(radius=0.1, num_particles=2)
_FEW = replace(ALDVAT().search, num_particles=3)
ROWS = {
    "supervised": Row(Supervised(), ("labelled",)),
    "supervised ema": Row(Supervised(ema_decay=0.9), ("labelled",)),
    "vat": Row(VAT(), draws=True),
    "vat together": Row(VAT(batch_norm="together", labelled_weight=1.0), ALL, draws=True),
    "vat thesis": Row(VAT.thesis(radius=0.5, num_particles=3), draws=True, passes=2),
    "vat mixup": Row(VATMixup(search=replace(VAT().search, num_particles=2)), draws=True),
    "vat entropy": Row(VATEntropy(), (*BOTH, "entropy"), draws=True),
    "ald": Row(ALDVAT(search=_FEW), ALL, draws=True, passes=2),
    "ald probe": Row(ALDVAT.probe(radius=0.5, num_particles=3), draws=True, passes=2),
    "ald algorithm": Row(_ALGORITHM, ALL, draws=True, passes=2),
    "ald mixup": Row(ALDMixup(search=_FEW), ALL, draws=True, passes=2),
    "entropy": Row(EntropyMinimisation()),
    "pi": Row(PiModel()),
    "temporal": Row(TemporalEnsembling()),
    "temporal fixed": Row(TemporalEnsembling(num_unlabelled=20, batch_norm="separate"), passes=2),
    "mean teacher": Row(MeanTeacher(ema_decay=0.9)),
    "pseudo-label": Row(PseudoLabel(), passes=2),
    "ict": Row(ICT(ema_decay=0.9), draws=True, passes=2),
    "mixmatch": Row(MixMatch(), draws=True),
    "fixmatch": Row(FixMatch(threshold=0.2)),
}
every_method = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
every_unlabelled = pytest.mark.parametrize(
    "row", [r for r in ROWS.values() if r.method.views], ids=[n for n, r in ROWS.items() if r.method.views]
)


def _network(dtype: torch.dtype = torch.float32, dropout: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
        return nn.Sequential(*layers, *([nn.Dropout(0.3)] if dropout else [])).to(dtype)


def _batch(row: Row, size: int = 8, dtype: torch.dtype = torch.float32, seed: int = 3, **fields: Any) -> Batch:
    generator = torch.Generator().manual_seed(2)
    x, *views = (
        torch.rand(size, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
        for _ in range(1 + len(row.method.views))
    )
    y, index = torch.randint(0, 3, (size,), generator=generator), torch.arange(size)
    unlabelled = None
    if views:
        unlabelled = Unlabelled(tuple(views), index=index + 3, streams=Streams.of(seed + 1, index))
    return Batch(x, y, epoch=1000, streams=Streams.of(seed, index), unlabelled=unlabelled, **fields)


def _prepared(row: Row, model: nn.Module, batch: Batch) -> nn.Module | None:
    """Return parts after one step: a teacher that differs from its student, a memory that holds something."""
    parts = row.method.own(model, batch.x)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.3)
    row.method.loss(other, batch, parts)
    row.method.after_step(other, batch, parts)
    return parts


def _loss(row: Row, *, epoch: int = 1000, **fields: Any) -> Terms:
    batch = _batch(row, **fields)
    model = _network(batch.x.dtype)
    return row.method.loss(model, replace(batch, epoch=epoch), _prepared(row, model, batch))


def _gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return [g for g in torch.autograd.grad(loss, list(model.parameters())) if g is not None]


def test_the_table_has_every_method() -> None:
    exported = {getattr(aureole.semisup, name) for name in aureole.semisup.__all__}
    methods = {thing for thing in exported if isinstance(thing, type) and issubclass(thing, Method)}
    assert methods - {Averaged, SemiSupervised} == {type(row.method) for row in ROWS.values()}


def test_titles_are_different() -> None:
    kinds = {type(row.method) for row in ROWS.values()}
    assert len({kind.title for kind in kinds}) == len(kinds)


@every_method
def test_a_method_is_a_frozen_value_that_can_be_written_down(row: Row) -> None:
    assert hash(row.method) == hash(replace(row.method))
    assert from_values(to_values(row.method)) == row.method
    assert set(row.method.views) <= {"plain", "weak", "strong"}


@every_method
@pytest.mark.parametrize(("size", "dtype"), [(1, torch.float64), (8, torch.float32)], ids=str)
def test_terms_are_finite_scalars_in_the_type_of_the_images(row: Row, size: int, dtype: torch.dtype) -> None:
    terms = _loss(row, size=size, dtype=dtype)
    assert tuple(terms) == row.terms
    for value in (*terms.values(), terms.total):
        assert value.shape == ()
        assert value.dtype == dtype
        assert bool(value.isfinite())


@every_method
def test_the_same_streams_give_the_same_loss(row: Row) -> None:
    first, again, other = (_loss(row, seed=seed).total for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) is not row.draws


@every_method
def test_a_loss_can_be_asked_for_twice(row: Row) -> None:
    batch, model = _batch(row), _network()
    parts = _prepared(row, model, batch)
    first, again = (row.method.loss(model, batch, parts).total for _ in range(2))
    torch.testing.assert_close(first, again)


@every_unlabelled
def test_the_unlabelled_images_matter(row: Row) -> None:
    """Fails where the unlabelled term is dropped, or no gradient of it reaches the weights."""
    batch, model = _batch(row), _network()
    parts = _prepared(row, model, batch)
    terms = row.method.loss(model, batch, parts)
    assert float(terms["unlabelled"].detach()) > 1e-4
    whole = _gradients(model, terms.total)
    without = _gradients(model, row.method.loss(model, batch, parts)["labelled"])
    size = max(float(g.abs().max()) for g in whole)
    assert max(float((a - b).abs().max()) for a, b in zip(whole, without, strict=True)) > 1e-3 * size
    assert batch.unlabelled is not None
    views = tuple(view.flip(-1) for view in batch.unlabelled.views)
    changed = row.method.loss(model, replace(batch, unlabelled=replace(batch.unlabelled, views=views)), parts)
    assert abs(float((changed["unlabelled"] - terms["unlabelled"]).detach())) > 1e-6


@every_unlabelled
def test_weight_and_ramp_scale_the_unlabelled_term(row: Row) -> None:
    method = row.method
    assert isinstance(method, SemiSupervised)
    start = _loss(row, epoch=0)["unlabelled"].item()
    end = _loss(row)["unlabelled"].item()
    assert start == pytest.approx(method.ramp(0) * end, rel=1e-5, abs=1e-12)
    heavier = _loss(Row(replace(method, weight=2 * method.weight)))["unlabelled"].item()
    assert heavier == pytest.approx(2 * end, rel=1e-5)


@every_method
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "autocast"])
def test_every_parameter_gets_a_gradient_and_no_part_does(row: Row, bfloat16: bool) -> None:
    batch, model = _batch(row), _network()
    parts = _prepared(row, model, batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        terms = row.method.loss(model, batch, parts)
    assert all(term.dtype == torch.float32 for term in terms.values())
    terms.total.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
        assert float(parameter.grad.abs().max()) > 0
    if parts is not None:
        assert row.method.own_optimizer(parts) is None
        assert all(p.grad is None and not p.requires_grad for p in parts.parameters())


@every_method
def test_modes_and_weights_are_left_alone_and_statistics_move_as_documented(row: Row) -> None:
    batch, model = _batch(row), _network()
    parts = _prepared(row, model, batch)
    model[4].bias.requires_grad_(False)
    state, images = copy.deepcopy(model.state_dict()), batch.x.clone()
    kept = copy.deepcopy(parts.state_dict()) if parts else {}
    global_state = torch.get_rng_state()
    row.method.loss(model, batch, parts)
    assert all(m.training for m in model.modules())
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["4.bias"]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, state[name]) for name, p in model.named_parameters())
    assert int(model[1].num_batches_tracked) == row.passes
    assert torch.equal(torch.get_rng_state(), global_state)
    assert torch.equal(batch.x, images)
    assert all(torch.equal(value, kept[name]) for name, value in (parts.state_dict() if parts else {}).items())


@every_method
def test_a_model_in_evaluation_mode_keeps_its_statistics(row: Row) -> None:
    batch, model = _batch(row), _network()
    parts = _prepared(row, model, batch)
    model.eval()
    before = copy.deepcopy(model.state_dict())
    assert bool(row.method.loss(model, batch, parts).total.isfinite())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_method
def test_a_failing_model_is_left_as_it_was(row: Row) -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.left = _network(), 10

        def forward(self, x: Tensor) -> Tensor:
            if self.left == 0:
                raise RuntimeError("broken on purpose")
            self.left -= 1
            return self.body(x)

    batch, model = _batch(row), Failing()
    parts = _prepared(row, model, batch)
    for left in range(row.fewest):
        model.left = left
        with pytest.raises(RuntimeError, match="broken on purpose"):
            row.method.loss(model, batch, parts)
        assert all(m.training and getattr(m, "track_running_stats", True) for m in model.modules())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())


@every_method
def test_parts_are_saved_and_restored(row: Row) -> None:
    batch, model = _batch(row), _network()
    parts = _prepared(row, model, batch)
    if parts is None:
        return
    again = row.method.own(_network(), batch.x)
    assert again is not None
    again.load_state_dict(copy.deepcopy(parts.state_dict()))
    first, second = row.method.loss(model, batch, parts).total, row.method.loss(model, batch, again).total
    assert torch.equal(first, second)
    for each in (parts, again):
        row.method.after_step(model, batch, each)
    assert all(torch.equal(a, b) for a, b in zip(parts.buffers(), again.buffers(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(parts.parameters(), again.parameters(), strict=True))


@every_method
def test_a_loop_trains_with_dropout(row: Row) -> None:
    batch, model = _batch(row), _network(dropout=True)
    weights = {name: 0.5 for name in ("weight", "labelled_weight") if getattr(row.method, name, 0)}
    method = replace(row.method, **weights)
    parts = method.own(model, batch.x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(6):
        terms = method.loss(model, replace(batch, step=step), parts)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        method.after_step(model, batch, parts)
        losses.append(float(nn.functional.cross_entropy(model.eval()(batch.x), batch.y).detach()))
        model.train()
    assert losses[-1] < losses[0]
    measures = method.judge(model.eval(), batch, parts)
    assert measures["accuracy"].shape == (8,)
    assert ("ema_accuracy" in measures) == (method.ema_decay is not None)


@pytest.mark.parametrize("policy", ["together", "separate", "clean", "labelled"])
def test_all_policies_agree_on_a_model_without_batch_normalisation(
    policy: Any, net: nn.Module, batch: Callable
) -> None:
    net[1] = nn.Identity()
    for method, views in ((VAT(), 1), (FixMatch(threshold=0.4, ema_decay=None), 2), (PiModel(), 2)):
        expected = replace(method, batch_norm="together").loss(net, batch(views))
        got = replace(method, batch_norm=policy).loss(net, batch(views))
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value)


def test_the_algorithm_begins_with_the_noise_of_the_thesis() -> None:
    assert ALDVAT.algorithm().search.start == Uniform(10.0)
    assert ALDVAT.algorithm().search.num_steps == 1
