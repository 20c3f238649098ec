"""PVAR as a training objective: the network is the map, the victim stays as it is (thesis Algorithm 3.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.attacks import Attack
from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.core.model import frozen, predict
from aureole.core.random import streams_for
from aureole.core.selection import Concrete, Selection, num_pixels
from aureole.refine.refiner import (
    Among,
    Refiner,
    changed_share,
    check_among,
    refined,
    soft_cross_entropy,
    source_fooled,
)


class Source(nn.Module, ABC):
    """A victim, and where the images of the attack on it come from.

    Args:
        victim: maps images to logits; its parameters ask for no gradient from here on.
    """

    def __init__(self, victim: nn.Module) -> None:
        super().__init__()
        self.victim = victim.requires_grad_(False)

    @abstractmethod
    def attacked(self, batch: Batch, *, training: bool) -> Float[Tensor, "batch *event"]:
        """Return the attack's images of a batch of the training set, or of another one."""


class LiveSource(Source):
    """Attack every batch anew.

    Args:
        victim: maps images to logits.
        attack: any dense attack.

    Example:
        >>> source = LiveSource(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), FGSM(ball=Linf(0.1)))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> source.attacked(batch, training=True).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(self, victim: nn.Module, attack: Attack) -> None:
        super().__init__(victim)
        self.attack = attack

    def attacked(self, batch: Batch, *, training: bool) -> Float[Tensor, "batch *event"]:
        """Return the attack's images of a batch."""
        return self.attack(self.victim, batch.x, batch.y, generator=streams_for(batch.x, batch.streams))


class StoredSource(Source):
    """Images that were attacked once: the victim does not change, so a costly attack need not run in every epoch.

    Args:
        victim: maps images to logits.
        train: the attack's images of the training set, in its order.
        validation: of the validation set.

    Example:
        >>> x_source = torch.rand(5, 1, 2, 2)
        >>> source = StoredSource(nn.Linear(4, 3), x_source, x_source)
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), index=torch.tensor([4, 1]))
        >>> torch.equal(source.attacked(batch, training=True), x_source[[4, 1]])
        True
    """

    def __init__(self, victim: nn.Module, train: Tensor, validation: Tensor) -> None:
        super().__init__(victim)
        self.register_buffer("train_images", train, persistent=False)
        self.register_buffer("validation_images", validation, persistent=False)

    def attacked(self, batch: Batch, *, training: bool) -> Float[Tensor, "batch *event"]:
        """Return the stored images of a batch that knows its places in the data set."""
        if batch.index is None:
            raise InputError("stored images of an attack are found by batch.index; got a batch without one")
        images = self.train_images if training else self.validation_images
        assert isinstance(images, Tensor)
        return images[batch.index]


@dataclass(frozen=True, kw_only=True)
class PVAR(Method):
    """Learn the vulnerability map of a victim from an attack on it.

    Use it in any loop with a :class:`Source` as ``modules``::

        terms = PVAR(share=0.3).loss(network, Batch(x, y), LiveSource(victim, PGD(ball=Linf(0.03))))

    Attributes:
        share: greatest share of the pixels that may change, beta in (0, 1].
        selection: how pixels are chosen in training, differentiable to the map.
        conditioned: show the network the perturbation as well.
        among: choose among ``"all"`` pixels, or among those that the attack ``"changed"``.
        targeted: the labels of the batches are classes to reach, by a targeted attack.

    Example:
        >>> victim = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
        >>> batch = Batch(torch.rand(2, 3, 4, 4), torch.tensor([0, 2]))
        >>> list(PVAR().loss(nn.Conv2d(3, 1, 1), batch, LiveSource(victim, FGSM(ball=Linf(0.1)))))
        ['refined']

    Source: thesis Equations 3.1 to 3.8, Algorithm 3.1.
    """

    title: ClassVar[str] = "PVAR"

    share: float = 0.3
    selection: Selection = Concrete()
    conditioned: bool = False
    among: Among = "all"
    targeted: bool = False

    def __post_init__(self) -> None:
        num_pixels(self.share, 1, 1)
        check_among(self.among)

    def refiner(self, network: nn.Module) -> Refiner:
        """Return the refiner that a trained network makes."""
        return Refiner(network, share=self.share, conditioned=self.conditioned, among=self.among)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the soft cross-entropy between the victim's predictions on the attack's and on the refined images."""
        source = _source(modules)
        x_source = source.attacked(batch, training=True)
        if batch.step == 0 and torch.equal(x_source, batch.x):
            raise InputError("the attack changes none of the images of the batch: there is nothing to refine")
        target, fooled = source_fooled(source.victim, x_source, batch.y, targeted=self.targeted)
        theta = self.refiner(model).scores(batch.x, x_source)
        z = self.selection(theta, num_pixels(self.share, *theta.shape[1:]), streams_for(batch.x, batch.streams))
        with frozen(source.victim):
            logits = predict(source.victim, refined(batch.x, x_source, z))
        each = soft_cross_entropy(logits, target) * fooled
        return Terms(refined=each.sum() / fooled.sum().clamp_min(1))

    @torch.no_grad()
    def judge(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> dict[str, Tensor]:
        """Return whether each refined image is still classified correctly, and the share of its pixels that changed."""
        source = _source(modules)
        x_source = source.attacked(batch, training=False)
        x_adv = self.refiner(model)(batch.x, x_source)
        _, fooled = source_fooled(source.victim, x_adv, batch.y, targeted=self.targeted)
        return {"adversarial_accuracy": (~fooled).float(), "changed": changed_share(batch.x, x_adv)}

    def own_optimizer(self, modules: nn.Module) -> None:
        """Return None: the victim is not trained."""


def _source(modules: nn.Module | None) -> Source:
    if not isinstance(modules, Source):
        raise InputError("PVAR needs a victim and an attack: pass a LiveSource or a StoredSource as `modules`")
    return modules
