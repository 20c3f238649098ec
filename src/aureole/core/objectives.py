"""Objectives: what an adversarial image is to maximise, or a method to minimise. One value an example, never reduced.

Each is a pure function of the adversarial logits and of what it needs besides: the clean logits or the labels.
Gradients flow through both; a caller that wants a constant target detaches it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError, unknown_name

Values = Float[Tensor, " rows"]
Direction = Literal["clean||adversarial", "adversarial||clean"]


@dataclass(frozen=True)
class Objective(ABC):
    """A function (adversarial logits, clean logits, labels) -> one value an example.

    Attributes:
        needs_clean: reads the clean logits.
        needs_labels: reads the labels.
        positions: reads logits of each position, (rows, classes, *positions), as in segmentation.

    Example:
        >>> KL().needs_clean, KL().needs_labels
        (True, False)
    """

    needs_clean: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    positions: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self,
        logits: Float[Tensor, "rows classes"],
        clean_logits: Float[Tensor, "rows classes"] | None = None,
        labels: Int[Tensor, " rows"] | None = None,
    ) -> Values:
        """Return one value an example.

        Args:
            logits: model output on the adversarial images.
            clean_logits: model output on the clean images, row by row; where :attr:`needs_clean` is set.
            labels: classes from 0; where :attr:`needs_labels` is set.
        """


def _given(value: Tensor | None, name: str, objective: Objective) -> Tensor:
    if value is None:
        raise InputError(f"{type(objective).__name__} needs {name}; none were given")
    return value if value.is_floating_point() else value.long()


def _gather(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(-1, labels[:, None]).squeeze(-1)


def _best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest logit among the classes other than the label."""
    return logits.scatter(-1, labels[:, None], -torch.inf).amax(-1)


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Cross-entropy of the label: -log softmax(logits)[label] (thesis Eq. 5.2).

    Example:
        >>> CrossEntropy()(torch.zeros(1, 4), labels=torch.tensor([2])).exp()
        tensor([4.])
    """

    needs_labels: ClassVar[bool] = True

    def __call__(self, logits: Tensor, clean_logits: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        return F.cross_entropy(logits, _given(labels, "labels", self), reduction="none")


@dataclass(frozen=True)
class KL(Objective):
    """Kullback-Leibler divergence between the clean and the adversarial prediction (thesis Eq. 5.3).

    ``"clean||adversarial"`` is sum p log(p / q) with p the clean and q the adversarial softmax, as TRADES and VAT
    compute it; the thesis writes the arguments the other way round, which is ``"adversarial||clean"``.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0, 0.5]])
        >>> KL()(logits, logits).abs() < 1e-6
        tensor([True])
    """

    direction: Direction = "clean||adversarial"
    needs_clean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction):
            raise unknown_name("direction", str(self.direction), get_args(Direction))

    def __call__(self, logits: Tensor, clean_logits: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        log_q, log_p = logits.log_softmax(-1), _given(clean_logits, "clean logits", self).log_softmax(-1)
        if self.direction == "adversarial||clean":
            log_p, log_q = log_q, log_p
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


@dataclass(frozen=True)
class SquaredDifference(Objective):
    """Squared difference of the softmaxes, mean over the classes (the authors' semi-supervised code).

    Example:
        >>> SquaredDifference()(torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 100.0]]))
        tensor([1.])
    """

    needs_clean: ClassVar[bool] = True

    def __call__(self, logits: Tensor, clean_logits: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        clean = _given(clean_logits, "clean logits", self).softmax(-1)
        return (logits.softmax(-1) - clean).square().mean(-1)


@dataclass(frozen=True)
class Margin(Objective):
    """Best other logit less the label's: positive exactly when the label is missed (Carlini and Wagner 2017).

    Example:
        >>> Margin()(torch.tensor([[1.0, 4.0, 2.0]]), labels=torch.tensor([1]))
        tensor([-2.])
    """

    needs_labels: ClassVar[bool] = True

    def __call__(self, logits: Tensor, clean_logits: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        labels = _given(labels, "labels", self)
        return _best_other(logits, labels) - _gather(logits, labels)


@dataclass(frozen=True)
class DLR(Objective):
    """Difference of logits ratio: the margin over (largest - third largest) logit (Croce and Hein 2020, Eq. 6).

    Invariant to scale and shift of the logits; needs three classes.

    Example:
        >>> DLR()(torch.tensor([[1.0, 4.0, 2.0]]), labels=torch.tensor([1])).round(decimals=4)
        tensor([-0.6667])
    """

    needs_labels: ClassVar[bool] = True

    def __call__(self, logits: Tensor, clean_logits: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        if logits.shape[-1] < 3:
            raise InputError(f"DLR needs at least 3 classes; the model has {logits.shape[-1]} (use Margin)")
        top = logits.topk(3, dim=-1).values
        return Margin()(logits, labels=labels) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(
    logits: Float[Tensor, "rows classes"], labels: Int[Tensor, " rows"], targets: Int[Tensor, " rows"]
) -> Values:
    """Return -(z_label - z_target) / (z_(1) - (z_(3) + z_(4)) / 2), with z_(i) the i-th largest logit.

    Croce and Hein 2020, Eq. 7; needs four classes.

    Example:
        >>> targeted_dlr(torch.tensor([[4.0, 3.0, 2.0, 0.0]]), torch.tensor([0]), torch.tensor([1])).round(decimals=4)
        tensor([-0.3333])
    """
    top = logits.topk(4, dim=-1).values
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12
    return (_gather(logits, targets) - _gather(logits, labels)) / scale


@dataclass(frozen=True)
class Targeted(Objective):
    """The negative of an objective, so that maximising it pulls the prediction to the given label.

    Example:
        >>> Targeted(CrossEntropy())(torch.zeros(1, 2), labels=torch.tensor([0])).exp()
        tensor([0.5000])
    """

    of: Objective = CrossEntropy()

    @property
    def needs_clean(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Reads the clean logits where the inner objective does."""
        return self.of.needs_clean

    @property
    def needs_labels(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Reads the labels where the inner objective does."""
        return self.of.needs_labels

    def __call__(self, logits: Tensor, clean_logits: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        return -self.of(logits, clean_logits, labels)
