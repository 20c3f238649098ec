"""A model under an attack, point by point, over a whole data set: what happened to each image, and how far it moved."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aureole.core.checks import check_images, check_labels
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.journal import Decided, Journal
from aureole.core.method import Batch
from aureole.core.model import frozen, predict
from aureole.core.random import Streams, streams_for
from aureole.metrics.robustness import AttackLike, change, natural_success, trusted


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of each point under one attack, on the CPU.

    Attributes:
        index: number of the point in its data set.
        labels: its class.
        natural: the clean image is classified correctly.
        robust: the clean and the adversarial image are.
        l0: share of the pixels that changed in an image that fooled the model; 0 where none did.
        l2: Euclidean norm of that change.
        linf: its largest absolute value.
    """

    index: Int64[Tensor, " points"]
    labels: Int[Tensor, " points"]
    natural: Bool[Tensor, " points"]
    robust: Bool[Tensor, " points"]
    l0: Float[Tensor, " points"]
    l2: Float[Tensor, " points"]
    linf: Float[Tensor, " points"]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def num_examples(self) -> int:
        """Number of points."""
        return len(self.index)

    @property
    def num_correct(self) -> int:
        """Number of points that stood."""
        return int(self.robust.sum())

    @property
    def fooled(self) -> Bool[Tensor, " points"]:
        """Which points the attack turned from right to wrong."""
        return self.natural & ~self.robust

    def mean(self, measure: str) -> float | None:
        """Return the mean of ``"l0"``, ``"l2"`` or ``"linf"`` over the fooled points; None where there is none."""
        values = getattr(self, measure)[self.fooled]
        return float(values.double().mean()) if len(values) else None


def worst_case(outcomes: Sequence[Outcomes]) -> Bool[Tensor, " points"]:
    """Say which points no attack fooled, nor were wrong without one.

    Args:
        outcomes: of several attacks on the same points, at least one.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batches = [Batch(torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1]))]
        >>> weak, strong = (evaluate(model, batches, FGSM(ball=Linf(radius))) for radius in (0.01, 0.5))
        >>> bool((worst_case([weak, strong]) <= weak.robust).all())
        True
    """
    return torch.stack([o.robust for o in outcomes]).all(0)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    attack: AttackLike | None,
    *,
    name: str = "attack",
    journal: Journal | None = None,
    num_examples: int = 0,
) -> Outcomes:
    """Judge a model under an attack, image by image.

    Only images that the model classifies correctly are attacked. What the attack returns is projected into its ball
    again, and judged by a clean forward pass. An attack with a method ``run(model, x, y, *, index, streams, journal)``
    gets all images at once, any other one batch after the other.

    Args:
        model: maps images to logits; judged in evaluation mode, and left as it was.
        batches: images with labels; their streams make the result independent of the batch size.
        attack: the attack; None for the natural accuracy.
        name: what the journal calls an attack that goes batch by batch.
        journal: knows points that were decided before, which are not attacked again, and hears of the others.
        num_examples: how many images there are, for the journal's progress; 0 where that is not known.

    Returns:
        One outcome a point, in the order of the batches.

    Raises:
        InputError: there are no images, images or labels are unusable, or the attack returned another shape or NaN.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batches = [Batch(torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1]))]
        >>> outcomes = evaluate(model, batches, FGSM(ball=Linf(0.1)))
        >>> outcomes.num_examples, outcomes.num_correct <= int(outcomes.natural.sum())
        (5, True)
    """
    if model.training and any(isinstance(m, _BatchNorm) for m in model.modules()):
        warnings.warn(
            "the model was in training mode; it is evaluated in evaluation mode", UntrustedResult, stacklevel=2
        )
    journal = journal or Journal()
    with frozen(model):
        if attack is not None and hasattr(attack, "run"):
            parts = _at_once(model, batches, attack, journal)
        else:
            parts = _batch_by_batch(model, batches, attack, name, journal, num_examples)
    if not parts:
        raise InputError("there are no images to evaluate on")
    return Outcomes(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Outcomes)})


def _batch_by_batch(
    model: nn.Module, batches: Iterable[Batch], attack: AttackLike | None, name: str, journal: Journal, total: int
) -> list[Outcomes]:
    known = Known(journal.recall(name) if attack is not None else None)
    journal.begin(name, max(total - len(known), 0))
    parts: list[Outcomes] = []
    done, attacked = 0, 0
    for batch in batches:
        index = _numbers(batch, done)
        natural = _checked(model, batch, attack)
        x_adv, decided, fooled = known.among(index, batch.x)
        todo = natural & ~decided
        if attack is not None and bool(todo.any()):
            streams = streams_for(batch.x, batch.streams).select(todo)
            found = attack(model, batch.x[todo], batch.y[todo], generator=streams)
            found = trusted(found, batch.x[todo], attack.ball)
            hit = predict(model, found).argmax(-1) != batch.y[todo]
            x_adv[todo], fooled[todo] = found, hit
            journal.note(name, Decided(index[todo].cpu(), hit.cpu(), found[hit].cpu()))
        parts.append(_outcomes(batch, index, natural, natural & fooled, x_adv))
        done, attacked = done + len(batch), attacked + int((~decided).sum())
        journal.progress(name, float(attacked))
    return parts


def _at_once(model: nn.Module, batches: Iterable[Batch], attack: Any, journal: Journal) -> list[Outcomes]:
    held: list[tuple[Batch, Tensor, Tensor]] = []
    points: list[tuple[Tensor, ...]] = []
    done = 0
    for batch in batches:
        index, natural = _numbers(batch, done), _checked(model, batch, attack)
        keys = streams_for(batch.x, batch.streams).keys
        held.append((batch, index, natural))
        points.append((batch.x[natural], batch.y[natural], index[natural], keys[natural]))
        done += len(batch)
    if not any(len(x) for x, *_ in points):
        return [_outcomes(batch, index, natural, torch.zeros_like(natural), batch.x) for batch, index, natural in held]
    x, y, index, keys = (torch.cat(column) for column in zip(*points, strict=True))
    x_adv = trusted(attack.run(model, x, y, index=index, streams=Streams(keys), journal=journal), x, attack.ball)
    parts: list[Outcomes] = []
    for (batch, index, natural), found in zip(held, x_adv.split([len(p[0]) for p in points]), strict=True):
        fooled, full = torch.zeros_like(natural), batch.x.clone()
        if len(found):
            fooled[natural] = predict(model, found).argmax(-1) != batch.y[natural]
            full[natural] = found
        parts.append(_outcomes(batch, index, natural, fooled, full))
    return parts


def _numbers(batch: Batch, done: int) -> Int64[Tensor, " batch"]:
    if batch.index is not None:
        return batch.index.long()
    return torch.arange(done, done + len(batch), device=batch.x.device)


def _checked(model: nn.Module, batch: Batch, attack: AttackLike | None) -> Bool[Tensor, " batch"]:
    """Check a batch, and say which images are classified correctly."""
    if attack is not None:
        check_images(batch.x, attack.ball)
    check_labels(batch.y, batch.x)
    return natural_success(model, batch.x, batch.y)


def _outcomes(batch: Batch, index: Tensor, natural: Tensor, fooled: Tensor, x_adv: Tensor) -> Outcomes:
    moved = change(x_adv, batch.x)
    l0, l2, linf = (torch.where(fooled, value, 0).float().cpu() for value in (moved.l0, moved.l2, moved.linf))
    return Outcomes(index.cpu(), batch.y.cpu(), natural.cpu(), (natural & ~fooled).cpu(), l0, l2, linf)


class Known:
    """Points that are decided, to be looked up by their numbers.

    Args:
        decided: what a journal recalls; None for nothing.
    """

    def __init__(self, decided: Decided | None) -> None:
        self.decided = decided
        numbers = [] if decided is None else decided.index.tolist()
        self.places = {number: place for place, number in enumerate(numbers)}

    def __len__(self) -> int:
        return len(self.places)

    def among(
        self, index: Int64[Tensor, " batch"], x: Float[Tensor, "batch *event"]
    ) -> tuple[Float[Tensor, "batch *event"], Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Return the images with the known adversarial ones in place, which points are decided, and which fooled."""
        x_adv, decided = x.clone(), torch.zeros(len(x), dtype=torch.bool)
        fooled = decided.clone()
        if self.decided is not None:
            place = torch.tensor([self.places.get(number, -1) for number in index.tolist()])
            decided = place >= 0
            fooled[decided] = self.decided.fooled.cpu()[place[decided]]
            rank = self.decided.fooled.cpu().cumsum(0) - 1  # of each fooled point among the fooled
            x_adv[fooled.to(x.device)] = self.decided.x_adv[rank[place[fooled]]].to(x)
        return x_adv, decided.to(x.device), fooled.to(x.device)
