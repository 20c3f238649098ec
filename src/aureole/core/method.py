"""How a training objective plugs into any loop: a batch goes in, named and weighted losses come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core.model import predict
from aureole.core.random import Streams


@dataclass(frozen=True)
class Unlabelled:
    """Images without labels, in one or several augmented views.

    Attributes:
        views: the same images, each view augmented at random in its own way, each of shape (batch, *event), in [0, 1].
        index: place of each example in its data set, int64, shape (batch,); None where nobody keeps count.
        streams: one random stream an example; None draws from the library's own generator.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> len(Unlabelled((torch.rand(5, 1, 2, 2), torch.rand(5, 1, 2, 2))))
        5
    """

    views: tuple[Float[Tensor, "batch *event"], ...]
    index: Int[Tensor, " batch"] | None = None
    streams: Streams | None = None

    def __len__(self) -> int:
        return len(self.views[0])


@dataclass(frozen=True)
class Batch:
    """Images with their labels, and where their random numbers come from.

    Attributes:
        x: images in [0, 1], shape (batch, *event).
        y: labels, shape (batch,); int32 is made int64.
        index: place of each example in its data set, int64, shape (batch,); None where nobody keeps count.
        epoch: epoch that the batch belongs to, from 0, a fraction where a loop counts steps; None where nobody keeps
            count. Methods whose weights change with the epochs ask for it.
        step: place of the batch in its epoch, from 0.
        streams: one random stream an example; None draws from the library's own generator.
        unlabelled: images without labels beside, for methods that learn from them.

    Example:
        >>> len(Batch(torch.rand(5, 1, 2, 2), torch.zeros(5, dtype=torch.int64)))
        5
    """

    x: Float[Tensor, "batch *event"]
    y: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"] | None = None
    epoch: float | int | None = None
    step: int = 0
    streams: Streams | None = None
    unlabelled: Unlabelled | None = None

    def __post_init__(self) -> None:
        if isinstance(self.y, Tensor) and self.y.dtype == torch.int32:
            object.__setattr__(self, "y", self.y.long())  # the losses of torch refuse int32

    def __len__(self) -> int:
        return len(self.x)


class Terms(dict[str, Tensor]):
    """Named, weighted, scalar losses. What is logged is what is summed.

    Example:
        >>> terms = Terms(clean=torch.tensor(0.5), robust=torch.tensor(1.5))
        >>> terms.total
        tensor(2.)
    """

    @property
    def total(self) -> Float[Tensor, ""]:
        """The sum of all terms: the loss to minimise."""
        return torch.stack(list(self.values())).sum()


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A training objective: a frozen set of hyper-parameters and one verb, :meth:`loss`.

    Use it in any loop::

        terms = method.loss(model, Batch(x, y))
        terms.total.backward()

    Attributes:
        title: what the field calls the method.
        views: of the unlabelled images, such as ``"weak"`` and ``"strong"``, where it learns from any.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> terms = PGDTraining().loss(model, Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2])))
        >>> sorted(terms)
        ['clean', 'robust']
    """

    title: ClassVar[str]
    views: ClassVar[tuple[str, ...]] = ()

    @property
    def num_particles(self) -> int | None:
        """Adversarial images for each image of a batch; None where the method has no such number."""
        return None

    @property
    def warm_up_epochs(self) -> int:
        """Epochs that a stage of its own takes before the run's, at a constant learning rate."""
        return 0

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the weighted losses of one batch.

        Args:
            model: maps images of shape (batch, *event) to logits (batch, classes).
            batch: images in the bounds of the method's ball, with labels.
            modules: what :meth:`own` returned, for a method that trains parts of its own.

        Returns:
            Scalar terms, with their gradients to the model's parameters.
        """

    def judge(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> dict[str, Tensor]:
        """Return measures of a validation batch by name, one value an example; the history holds their means."""
        return {"accuracy": (predict(model, batch.x).argmax(-1) == batch.y).float()}

    def after_step(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> None:  # noqa: B027
        """Hear that the optimisers have taken their step on a batch: the place to move a teacher or a memory on."""

    def trained(self, model: nn.Module, modules: nn.Module | None = None) -> nn.Module:
        """Return what training is for: the network to store, to judge and to use; a teacher's, where that is better."""
        return model

    def own(self, model: nn.Module, x: Float[Tensor, "batch *event"]) -> nn.Module | None:
        """Return the parts that this method trains beside the model, or None. ``x`` is an example batch."""
        return None

    def own_parameters(self, modules: nn.Module | None) -> Iterable[nn.Parameter]:
        """Return what is trained with the model, by the same optimiser."""
        return ()

    def own_optimizer(self, modules: nn.Module) -> torch.optim.Optimizer | None:
        """Return the optimiser of the parts that :meth:`own` returned; None where they are only used."""
        raise NotImplementedError(f"{type(self).__name__} owns no modules")
