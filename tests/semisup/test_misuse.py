"""What comes in wrongly is told in one line, and what cannot be trusted is warned of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.core.errors import InputError, UntrustedResult
from aureole.core.method import Batch, Unlabelled
from aureole.core.objectives import CrossEntropy
from aureole.particles import ParticleSearch
from aureole.semisup import (
    ALDVAT,
    ICT,
    VAT,
    ALDMixup,
    EntropyMinimisation,
    FixMatch,
    MeanTeacher,
    MixMatch,
    PiModel,
    PseudoLabel,
    SteinProbe,
    Supervised,
    TemporalEnsembling,
    VATEntropy,
    VATMixup,
)
from aureole.semisup.base import warn_constant

METHODS = [
    VAT(),
    ALDVAT(),
    VATMixup(),
    EntropyMinimisation(),
    PiModel(),
    TemporalEnsembling(),
    MeanTeacher(),
    PseudoLabel(),
    ICT(),
    MixMatch(),
    FixMatch(),
]
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.title)


@pytest.fixture(autouse=True)
def untyped() -> Iterator[None]:
    """No checks of annotations, as for a user: what a misuse raises then."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def _refused(method: Any, model: nn.Module, batch: Batch, match: str) -> None:
    parts = method.own(model, torch.rand(2, 1, 4, 4, dtype=torch.float64))
    with pytest.raises(InputError, match=match) as caught:
        method.loss(model, batch, parts)
    assert "\n" not in str(caught.value)


@every
def test_wrong_batches(method: Any, net: nn.Module, batch: Callable[..., Batch]) -> None:
    good = batch(len(method.views))
    assert good.unlabelled is not None
    views, index = good.unlabelled.views, good.unlabelled.index

    def of(*changed: Tensor) -> Batch:
        return replace(good, unlabelled=Unlabelled(changed, index=index))

    _refused(method, net, replace(good, unlabelled=None), "the batch has none")
    _refused(method, net, of(*views, views[0]), "views")
    _refused(method, net, of(*(view[..., :3] for view in views)), "shape of the labelled ones")
    _refused(method, net, of(*(view.float() for view in views)), "type and device")
    _refused(method, net, of(*((view * 255).to(torch.uint8) for view in views)), "floating-point")
    _refused(method, net, of(*(view[:0] for view in views)), "images must be")
    _refused(method, net, of(*(view[:2] for view in views)), "one index an unlabelled image")
    if len(views) > 1:
        _refused(method, net, of(views[0], views[1][:2]), "same images")
    _refused(method, net, replace(good, y=good.y[:2]), "one label an image")
    _refused(method, net, replace(good, y=good.y + 7), "labels must be from 0 to 2")


@pytest.mark.parametrize("method", [Supervised(), *METHODS], ids=lambda m: m.title)
def test_labels_are_looked_at_in_every_step_and_may_be_short(
    method: Any, net: nn.Module, batch: Callable[..., Batch]
) -> None:
    good = batch(len(getattr(method, "views", ("weak",))), step=3)
    _refused(method, net, replace(good, y=good.y + 7), "labels must be from 0 to 2")
    parts = method.own(net, torch.rand(2, 1, 4, 4, dtype=torch.float64))
    short = replace(good, y=good.y.int())
    assert short.y.dtype == torch.int64
    assert bool(method.loss(net, short, parts).total.isfinite())


@pytest.mark.parametrize("method", [PiModel(), TemporalEnsembling(), MeanTeacher(), PseudoLabel(), ICT(), MixMatch()])
def test_a_term_that_grows_with_the_epochs_is_not_dropped_where_nobody_counts_them(
    method: Any, net: nn.Module, batch: Callable[..., Batch]
) -> None:
    _refused(method, net, replace(batch(len(method.views)), epoch=None), r"pass Batch\(\.\.\., epoch=epoch\)")


@pytest.mark.parametrize(("epoch", "count", "told"), [(5, 20, True), (4, 20, False), (5, 15, False), (None, 20, False)])
def test_a_model_of_one_class_is_told_after_some_epochs(epoch: int | None, count: int, told: bool) -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0]]) + 0.1 * torch.arange(count)[:, None] * torch.tensor([[1.0, 1.0, 0.0]])
    batch = Batch(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), epoch=epoch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_constant(logits, batch)
        warn_constant(logits.roll(1, 0) + torch.eye(count, 3) * 9, batch)  # of two classes
    assert ["one class for all 20" in str(warning.message) for warning in caught] == ([True] if told else [])


@every
def test_a_collapsed_model_is_told(method: Any, net: nn.Module, batch: Callable[..., Batch]) -> None:
    with torch.no_grad():
        net[4].weight.zero_()
    parts = method.own(net, torch.rand(2, 1, 4, 4, dtype=torch.float64))
    with pytest.warns(UntrustedResult, match="predicts the same for all"):
        terms = method.loss(net, batch(len(method.views)), parts)
    assert bool(terms.total.isfinite())
    method.loss(net, batch(len(method.views), step=3), parts)  # looked at once an epoch


WRONG = [
    (VAT, {"weight": -1.0}, "weight must be at least 0"),
    (FixMatch, {"weight": float("nan")}, "weight must be at least 0"),
    (ALDVAT, {"labelled_weight": -0.5}, "labelled_weight"),
    (VATEntropy, {"entropy_weight": -0.5}, "entropy_weight"),
    (VAT, {"batch_norm": "both"}, "batch_norm"),
    (VAT, {"ramp": 3.0}, "Ramp"),
    (VAT, {"ema_decay": 1.0}, "decay"),
    (Supervised, {"ema_buffers": "sum"}, "ema_buffers"),
    (VATMixup, {"alpha": 0.0}, "alpha"),
    (ALDMixup, {"alpha": -1.0}, "alpha"),
    (ICT, {"alpha": -1.0}, "alpha"),
    (MixMatch, {"temperature": 0.0}, "temperature"),
    (MixMatch, {"alpha": float("inf")}, "alpha"),
    (FixMatch, {"threshold": 1.2}, "threshold"),
    (PseudoLabel, {"threshold": -0.1}, "threshold"),
    (PiModel, {"objective": CrossEntropy()}, "compares two predictions"),
    (MeanTeacher, {"ema_decay": None}, "needs its teacher"),
    (VAT, {"search": ParticleSearch(VAT().search.ball)}, "compares two predictions"),
    (SteinProbe, {"distance": 0.0}, "positive distance"),
    (SteinProbe, {"num_iterations": 0}, "at least 1 iteration"),
]


@pytest.mark.parametrize(("kind", "fields", "match"), WRONG)
def test_wrong_numbers(kind: type, fields: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        kind(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [MeanTeacher(), ICT(), TemporalEnsembling()], ids=lambda m: m.title)
def test_missing_parts(method: Any, net: nn.Module, batch: Callable[..., Batch]) -> None:
    for parts in (None, nn.ModuleDict()):
        with pytest.raises(InputError, match="pass what own"):
            method.loss(net, batch(len(method.views)), parts)
        with pytest.raises(InputError, match="pass what own"):
            method.after_step(net, batch(len(method.views)), parts)
