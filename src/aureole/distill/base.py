"""What all distillation methods share: a teacher beside the student, features of both, and the weighted losses.

    L = label_weight CE(f_S(x), y) + kd_weight KD(f_S(x), f_T(x)) + weight L_method(features of S, features of T)
        + tald.weight L_TALD(adversarial images of T)

The published scripts call the weights r, a and b. A method is a set of weights and a :class:`FeatureLoss`, a module
that can be called in any loop. The teacher is never trained, and stays in evaluation mode.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core import checks
from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.core.model import frozen, predict, random_state_kept
from aureole.core.taps import Features, Taps, extract, find_taps
from aureole.distill.matching import full_precision
from aureole.distill.tald import TALD


class FeatureLoss(nn.Module, ABC):
    """A loss between the features of a student and those of a teacher.

    What it learns (regressors, embeddings, memories) are its parameters and buffers, so that a checkpoint holds them.
    """

    @abstractmethod
    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        """Return the loss of a batch, to be weighted by the caller.

        Args:
            student: of the student, with gradient.
            teacher: of the teacher; no gradient reaches it.
            batch: images, labels and places in the data set, for losses that ask for them.
        """

    def warm_up(self, student: Features, teacher: Features, batch: Batch) -> Terms:
        """Return the losses of the stage before distillation, where a method has one."""
        raise InputError(f"{type(self).__name__} has no stage before distillation: set warm_up=0")


class Pair(nn.Module):
    """A teacher, what is looked at in it and in its student, and the loss between the two.

    A :class:`Distillation` makes one with :meth:`Distillation.pair`, and is handed it as ``modules``.

    Args:
        teacher: maps images to logits; from here on in evaluation mode, its parameters ask for no gradient.
        student_taps: layers of the student.
        teacher_taps: layers of the teacher.
        criterion: the loss between features; None where logits are enough.
        memory: particles that TALD reuses; None where it keeps none.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student_taps: Taps,
        teacher_taps: Taps,
        criterion: FeatureLoss | None,
        memory: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.student_taps, self.teacher_taps, self.criterion = student_taps, teacher_taps, criterion
        self.memory = memory

    def train(self, mode: bool = True) -> Pair:
        """Set the mode of what is trained; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def student_features(self, student: nn.Module, x: Float[Tensor, "batch *event"]) -> Features:
        """Return the student's features, with gradient; logits alone where nothing else is compared."""
        if self.criterion is None:
            return _logits_alone(student, x)
        return extract(student, x, self.student_taps)

    @torch.no_grad()
    def teacher_features(self, x: Float[Tensor, "batch *event"]) -> Features:
        """Return the teacher's features, without gradient; logits alone where nothing else is compared.

        Raises:
            InputError: somebody has put the teacher in train mode.
        """
        self.check_mode()
        if self.criterion is None:
            return _logits_alone(self.teacher, x)
        return extract(self.teacher, x, self.teacher_taps)

    def check_mode(self) -> None:
        """Check that the teacher, every part of it, is in evaluation mode.

        Raises:
            InputError: somebody has put it in train mode.
        """
        if any(module.training for module in self.teacher.modules()):
            raise InputError(
                "the teacher is in train mode, so its predictions depend on the batch: call teacher.eval()"
            )


def _logits_alone(model: nn.Module, x: Tensor) -> Features:
    logits = predict(model, x)
    return Features(logits, (), logits.new_zeros(len(x), 0))


@dataclass(frozen=True, kw_only=True)
class Distillation(Method):
    """A method that teaches a student what a teacher knows.

    Use it in any loop::

        pair = method.pair(student, teacher, x)     # once, with an example batch
        optimizer = SGD([*student.parameters(), *method.own_parameters(pair)], lr=0.05)
        terms = method.loss(student, Batch(x, y, index=index), pair)
        terms.total.backward()

    Attributes:
        needs_maps: feature maps are compared.
        warm_up_student: the stage before distillation looks at the student; else the student does not run in it.
        label_weight: of the cross-entropy with the labels (r), at least 0.
        kd_weight: of the divergence between the softened predictions (a), at least 0.
        weight: of the method's own loss (b), at least 0.
        temperature: of the softened predictions, positive.
        warm_up: epochs of the stage before distillation; the run has so many more.
        tald: the term at the teacher's adversarial images (thesis Eq. 7.4); by its own weight, which is 0 here.

    Example:
        >>> from aureole.distill import SP
        >>> student, teacher = (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3)) for _ in range(2))
        >>> x, y, maps = torch.rand(2, 1, 4, 4), torch.tensor([0, 2]), Taps(maps=("0",))
        >>> pair = SP().pair(student, teacher, x, student_taps=maps, teacher_taps=maps)
        >>> list(SP().loss(student, Batch(x, y), pair))
        ['labelled', 'features']
    """

    needs_maps: ClassVar[bool] = False
    warm_up_student: ClassVar[bool] = True

    label_weight: float = 1.0
    kd_weight: float = 0.0
    weight: float = 1.0
    temperature: float = 4.0
    warm_up: int = 0
    tald: TALD = TALD(weight=0.0)

    def __post_init__(self) -> None:
        for name in ("label_weight", "kd_weight", "weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0 and finite; got {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be positive and finite; got {self.temperature}")
        if self.warm_up < 0:
            raise InputError(f"warm_up must be at least 0 epochs; got {self.warm_up}")

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> FeatureLoss | None:
        """Return the loss between features, built for features of these shapes; None where logits are enough.

        Args:
            student: features of an example batch.
            teacher: features of the same.
            num_examples: size of the training set, for methods with a memory of it; None where nobody said.
        """
        return None

    def pair(
        self,
        student: nn.Module,
        teacher: nn.Module,
        x: Float[Tensor, "batch *event"],
        *,
        student_taps: Taps | None = None,
        teacher_taps: Taps | None = None,
        num_examples: int | None = None,
    ) -> Pair:
        """Return what the method keeps beside a student: its teacher, and the parts that are trained with it.

        Args:
            student: maps images to logits.
            teacher: maps images to logits; its parameters ask for no gradient from here on.
            x: an example batch of images.
            student_taps: layers of the student whose features are compared; None takes its own.
            teacher_taps: layers of the teacher; None takes its own.
            num_examples: size of the training set, for methods with a memory of it.

        Raises:
            InputError: the numbers of classes or of maps differ, sizes cannot be matched, a layer does not exist, or
                student and teacher are one module.
        """
        if student is teacher:
            raise InputError("student and teacher are the same module, and a teacher is frozen: pass a copy of it")
        taps = find_taps(student, x, student_taps), find_taps(teacher, x, teacher_taps)
        with random_state_kept(x.device), torch.no_grad(), frozen(student), frozen(teacher):
            mine, theirs = extract(student, x[:2], taps[0]), extract(teacher, x[:2], taps[1])
        _check_pair(mine, theirs, needs_maps=self.needs_maps)
        criterion = self.criterion(mine, theirs, num_examples)
        memory = self.tald.memory(num_examples, x) if self.tald.weight else None
        return Pair(teacher, *taps, None if criterion is None else criterion.to(x.device), memory)

    def own_parameters(self, modules: nn.Module | None) -> Iterable[nn.Parameter]:
        """Return what is trained with the student: the parameters of the loss between features."""
        criterion = _pair(modules, self.title).criterion
        return [] if criterion is None else [p for p in criterion.parameters() if p.requires_grad]

    def own_optimizer(self, modules: nn.Module) -> torch.optim.Optimizer | None:
        """Return None: what is trained beside the student shares its optimiser."""
        return None

    @property
    def num_particles(self) -> int | None:
        """Particles of TALD; None where it has no weight."""
        return self.tald.search.num_particles if self.tald.weight else None

    @property
    def warm_up_epochs(self) -> int:
        """Epochs before distillation, at a constant learning rate."""
        return self.warm_up

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the weighted losses of one batch: ``labelled``, ``distilled``, ``features`` and ``boundary``."""
        pair = _pair(modules, self.title)
        checks.check_labels(batch.y, batch.x)
        if self._warms_up(batch):
            return self._stage(model, batch, pair)
        student = pair.student_features(model, batch.x)
        if self.kd_weight or self.weight:
            teacher = pair.teacher_features(batch.x)
        else:
            pair.check_mode()
            teacher = student  # nothing of the teacher is looked at
        terms = self._terms(student, teacher, batch, pair)
        terms.update(self._adversarial_terms(model, student, teacher, batch, pair))
        return terms

    def _warms_up(self, batch: Batch) -> bool:
        """Say whether a batch belongs to the stage before distillation."""
        if self.warm_up and batch.epoch is None:
            raise InputError(
                f"{self.title} begins with {self.warm_up} epochs of another stage: pass Batch(..., epoch=epoch), from 0"
            )
        return (batch.epoch or 0) < self.warm_up

    def _stage(self, model: nn.Module, batch: Batch, pair: Pair) -> Terms:
        """Return the losses of the stage before distillation."""
        if pair.criterion is None:
            raise InputError(f"{self.title} has no stage before distillation: set warm_up=0")
        teacher = pair.teacher_features(batch.x)
        student = pair.student_features(model, batch.x) if self.warm_up_student else teacher
        return pair.criterion.warm_up(student, teacher, batch)

    def _terms(self, student: Features, teacher: Features, batch: Batch, pair: Pair) -> Terms:
        terms = Terms()
        if self.label_weight:
            terms["labelled"] = self.label_weight * F.cross_entropy(student.logits, batch.y)
        if self.kd_weight:
            terms["distilled"] = self.kd_weight * softened_kl(student.logits, teacher.logits, self.temperature)
        if self.weight and pair.criterion is not None:
            terms["features"] = self.weight * pair.criterion(student, teacher, batch)
        return terms

    def _adversarial_terms(
        self, model: nn.Module, student: Features, teacher: Features, batch: Batch, pair: Pair
    ) -> Terms:
        """Return the terms at adversarial images, which take passes of their own: ``boundary`` where TALD is on."""
        if not self.tald.weight:
            return Terms()
        known = None if teacher is student else teacher.logits
        boundary = self.tald(model, pair.teacher, batch, pair.memory, teacher_logits=known)
        return Terms(boundary=self.tald.weight * boundary)


def softened_kl(
    student: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"], temperature: float
) -> Float[Tensor, ""]:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch; the teacher is a constant.

    Example:
        >>> from aureole.distill.base import softened_kl
        >>> softened_kl(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), 4.0)
        tensor(0.)

    Source: Hinton et al. 2015; thesis Eq. 2.16, which leaves T^2 out.
    """
    student, teacher = full_precision(student), full_precision(teacher.detach())
    log_q, log_p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


def _pair(modules: nn.Module | None, title: str) -> Pair:
    if not isinstance(modules, Pair):
        raise InputError(f"{title} needs a teacher: pass what pair(student, teacher, x) returned as `modules`")
    return modules


def _check_pair(student: Features, teacher: Features, *, needs_maps: bool) -> None:
    """Check that a student can be compared with a teacher.

    Raises:
        InputError: the numbers of classes or of maps differ, or maps are compared and there are none.
    """
    classes = student.logits.shape[1], teacher.logits.shape[1]
    if classes[0] != classes[1]:
        raise InputError(f"student and teacher must know the same classes; got {classes[0]} and {classes[1]}")
    maps = len(student.maps), len(teacher.maps)
    if needs_maps and (maps[0] != maps[1] or not maps[0]):
        raise InputError(
            f"student and teacher must give equally many maps, at least one; got {maps[0]} and {maps[1]}: name layers"
            " with Taps(maps=...), on the command line --teacher.layers"
        )
