"""What all explanations share: a network that explains itself, its teacher beside it, and maps of any classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch, Method
from aureole.core.model import frozen, predict, random_state_kept
from aureole.core.taps import Taps

#: Explains a classifier: (model, x, target) -> map (batch, height, width), larger where a pixel matters more to the
#: class ``target`` (batch,).
Attribution = Callable[[nn.Module, Tensor, Tensor | None], Tensor]


class Explaining(nn.Module, ABC):
    """A classifier that says which pixels its prediction rests on; it is trained on the predictions of a teacher."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""

    @abstractmethod
    def map(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch height width"]:
        """Return the score of each pixel: the larger, the more it matters. No score outside [0, 1] is promised."""

    def simplified(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the images with each pixel weighted by its score."""
        return self.map(x)[:, None] * x


def own_map(
    model: nn.Module,
    x: Float[Tensor, "batch channels height width"],
    target: Tensor | None = None,  # noqa: ARG001
) -> Float[Tensor, "batch height width"]:
    """Return the map of a network that explains itself, in evaluation mode: an :data:`Attribution`.

    Args:
        model: an :class:`Explaining`; left as it was.
        x: images.
        target: not looked at: such a network has one map an image, whatever the class.

    Raises:
        InputError: the model does not explain itself.

    Example:
        >>> from aureole.explain.base import own_map
        >>> from aureole.explain.explainer import ExplainedStudent, ExplainerUNet
        >>> student = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> own_map(ExplainedStudent(ExplainerUNet(1), student), torch.rand(3, 1, 8, 8)).shape
        torch.Size([3, 8, 8])
    """
    if not isinstance(model, Explaining):
        raise InputError(
            f"expected a network that explains itself; got {type(model).__name__}: take an attribution of any"
            " classifier, or train one"
        )
    with torch.no_grad(), frozen(model):
        return model.map(x)


class Taught(nn.Module):
    """A teacher beside the network that learns from its predictions; it is never trained, and stays in evaluation mode.

    Args:
        teacher: maps images to logits; from here on in evaluation mode, its parameters ask for no gradient.

    Example:
        >>> from aureole.explain.base import Taught
        >>> taught = Taught(nn.Sequential(nn.Flatten(), nn.Linear(4, 3))).train()
        >>> taught.teacher.training, taught.logits(torch.rand(2, 1, 2, 2)).requires_grad
        (False, False)
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Taught:
        """Set the mode of what is trained; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def logits(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch classes"]:
        """Return the teacher's logits, without gradient.

        Raises:
            InputError: somebody has put the teacher in train mode.
        """
        self.check_mode()
        return predict(self.teacher, x)

    def check_mode(self) -> None:
        """Check that the teacher, every part of it, is in evaluation mode.

        Raises:
            InputError: somebody has put it in train mode.
        """
        if any(module.training for module in self.teacher.modules()):
            raise InputError(
                "the teacher is in train mode, so its predictions depend on the batch: call teacher.eval()"
            )


def check_teacher(network: nn.Module, teacher: nn.Module, x: Float[Tensor, "batch *event"]) -> None:
    """Check by a dry run that a network can learn from a teacher; both are left as they were.

    Args:
        network: what is trained.
        teacher: maps images to logits.
        x: an example batch.

    Raises:
        InputError: the numbers of classes differ, or the two share a module: the teacher is frozen.
    """
    if not set(network.modules()).isdisjoint(teacher.modules()):
        raise InputError("the network and its teacher share a module, and a teacher is frozen: pass a copy of it")
    with random_state_kept(x.device), torch.no_grad(), frozen(network), frozen(teacher):
        mine, theirs = (predict(model, x[:1]).shape[1] for model in (network, teacher))
    if mine != theirs:
        raise InputError(f"student and teacher must know the same classes; got {mine} and {theirs}")


@dataclass(frozen=True, kw_only=True)
class FromTeacher(Method):
    """What the methods share whose networks learn the predictions of a teacher; a subclass gives the loss."""

    def pair(
        self,
        network: nn.Module,
        teacher: nn.Module,
        x: Float[Tensor, "batch *event"],
        *,
        student_taps: Taps | None = None,
        teacher_taps: Taps | None = None,
    ) -> Taught:
        """Return what is kept beside the network: its teacher.

        Args:
            network: maps images to logits, such as an :class:`Explaining`.
            teacher: maps images to logits; its parameters ask for no gradient from here on.
            x: an example batch of images.
            student_taps: layers of the network, for a method that compares any.
            teacher_taps: layers of the teacher, likewise.

        Raises:
            InputError: the numbers of classes differ, or network and teacher share a module.
        """
        check_teacher(network, teacher, x)
        return Taught(teacher)

    def own_optimizer(self, modules: nn.Module) -> None:
        """Return None: what is trained beside the network shares its optimiser, and the teacher is not trained."""

    @torch.no_grad()
    def judge(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> dict[str, Tensor]:
        """Return whether each prediction is the label, ``accuracy``, and whether it is the teacher's, ``agreement``."""
        classes = predict(model, batch.x).argmax(-1)
        agreed = classes == kept_beside(modules, Taught, self.title).logits(batch.x).argmax(-1)
        return {"accuracy": (classes == batch.y).float(), "agreement": agreed.float()}


_Kept = TypeVar("_Kept", bound=Taught)


def kept_beside(modules: nn.Module | None, kind: type[_Kept], title: str) -> _Kept:
    """Return what is kept beside a network, checked to be what ``pair`` of a method returned.

    Args:
        modules: what the caller gave.
        kind: what it must be.
        title: of the method.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(modules, kind):
        raise InputError(f"{title} needs a teacher: pass what pair(network, teacher, x) returned as `modules`")
    return modules


def full_precision(x: Tensor) -> Tensor:
    """Return the numbers in float32 or better.

    Example:
        >>> from aureole.explain.base import full_precision
        >>> full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def output_loss(
    logits: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Return -sum_k p_k log q_k, mean over the batch: q the student's prediction, p the teacher's, a constant.

    Example:
        >>> from aureole.explain.base import output_loss
        >>> output_loss(torch.zeros(1, 2), torch.tensor([[100.0, 0.0]]))
        tensor(0.6931)

    Source: thesis Eq. 4.2.
    """
    return -(teacher_logits.detach().softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
