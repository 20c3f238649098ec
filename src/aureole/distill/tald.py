"""TALD: where the teacher is attacked, the student is to be as sure of the label as the teacher.

    L = mean_i [CE(f_S(x_i), y) - CE(f_T(x_i), y)]^2,    x_1..x_n ~ P_T(x_adv | x) = exp(KL(f_T(x_adv) || f_T(x))) / Z

with particles in a Euclidean ball, found by Stein variational gradient descent on the teacher: thesis Eqs. 7.1 to 7.4
and Algorithm 7.1. The term needs no labels to find particles, trains nothing of its own, and is added to any method.

Readings, where the text is silent or at odds with itself: the mean is over particles and images, of the difference of
each (the square of a scalar); teacher and particles are constants; eta is the factor of the noise and tau the step, as
in the algorithm (section 7.4.1 has them the other way round); the ball is Euclidean, as the normalisation is. Lengths
are those of the images: the thesis's 0.3 may be meant for normalised ones, for which the presets take a ``unit``.

    default        the thesis's radius, noise, step and number, with particles that repel: the kernel's width is a third
                   of the distance between random starts, as in :mod:`aureole.semisup.ald`
    TALD.thesis    sigma = 1e-3, to the letter: nothing repels, the particles are restarts, and the search says so
    TALD.authors   the released code: one power iteration from each of 4 directions, squared difference of softmaxes,
                   the first 10 images of a batch; clean images join the mean. (Its kernel of width 1e-3 leaves nothing
                   to repel; the directions begin normal here, uniform in a cube there.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.attacks.bss import sample_targets
from aureole.core import checks
from aureole.core.balls import L2, Bounds
from aureole.core.errors import InputError, unknown_name
from aureole.core.method import Batch
from aureole.core.model import Mode, frozen, predict, searched
from aureole.core.objectives import KL, CrossEntropy, SquaredDifference, Targeted
from aureole.core.random import Streams, streams_for
from aureole.distill.particle_memory import ParticleMemory
from aureole.particles.kernels import RBF
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Probe, Uniform
from aureole.particles.steps import UnitL2

Logits = Float[Tensor, "batch classes"]
StudentMode = Literal["train", "batch_statistics", "eval"]
_STREAM = 7  # of each example, for this term alone
_CPU_ROWS = 64  # of one pass: the maps of more leave a CPU's cache, and their memory is mapped anew at every pass


@dataclass(frozen=True)
class _Attacked:
    """The images of a batch that are attacked, with what the search asks about them.

    Attributes:
        x: images.
        y: labels, or the classes that the particles are to approach.
        streams: of random numbers, one an image.
        clean: the teacher's logits at the images; None where they are not at hand.
    """

    x: Tensor
    y: Tensor
    streams: Streams
    clean: Tensor | None = None

    def select(self, rows: Tensor) -> _Attacked:
        """Return some of the images."""
        return _Attacked(self.x[rows], self.y[rows], self.streams.select(rows), _rows(self.clean, rows))

    def clean_logits(self, teacher: nn.Module, mode: Mode = "eval") -> Tensor:
        """Return the teacher's logits at the images, by a pass where they are not at hand."""
        if self.clean is not None:
            return self.clean
        with searched(teacher, self.x, mode) as images:
            return predict(teacher, images)


def _rows(logits: Tensor | None, rows: Tensor | slice) -> Tensor | None:
    return None if logits is None else logits.detach()[rows]


@dataclass(frozen=True, kw_only=True)
class TALD:
    """The term at the teacher's adversarial particles, unweighted, for any training loop.

    Attributes:
        weight: what a method multiplies the term by (lambda), at least 0; 0 leaves it out. The call does not.
        search: how the particles are found; its objective is what they maximise on the teacher.
        student_mode: of the pass over particles: ``"train"`` as the student is, its running statistics follow;
            ``"batch_statistics"`` leaves the running ones alone; ``"eval"`` uses them and leaves them alone.
        targeted: particles approach a class drawn by the teacher's probabilities, another than it predicts, in place of
            the search's objective.
        with_images: the images of the batch join the mean, as in the authors' code.
        fraction: share of a batch that is attacked, in (0, 1]: its first images, rounded up.
        max_images: most images of a batch that are attacked; None for no limit.
        reuse: further visits of an image for which its particles are kept, in a :meth:`memory`; 0 keeps none.
        shared_gradient: the particles of an image all follow the gradient at its first; they differ by their starts,
            and no kernel is used.
        teacher_dtype: of the teacher's passes; None leaves it alone.

    Raises:
        InputError: a number is out of range, or a name is unknown.

    Example:
        >>> from aureole.distill.tald import TALD
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
        >>> loss = TALD()(student, teacher, Batch(torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])))
        >>> bool(loss > 0), TALD()(teacher, teacher, Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))).item()
        (True, 0.0)
    """

    weight: float = 0.01
    search: ParticleSearch = ParticleSearch(
        L2(0.3),
        num_particles=4,
        num_steps=1,
        step_size=0.1,
        objective=KL("adversarial||clean"),
        kernel=RBF(0.12),
        balance=0.5,
        step=UnitL2(),
        start=Uniform(3.0),
    )
    student_mode: StudentMode = "train"
    targeted: bool = False
    with_images: bool = False
    fraction: float = 1.0
    max_images: int | None = None
    reuse: int = 0
    shared_gradient: bool = False
    teacher_dtype: Literal["bfloat16"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.search, ParticleSearch):
            raise InputError(f"search must be a ParticleSearch; got {self.search!r}")
        if not 0 <= self.weight < math.inf:
            raise InputError(f"the weight of TALD must be at least 0 and finite; got {self.weight}")
        if not 0 < self.fraction <= 1:
            raise InputError(f"fraction must be above 0 and at most 1; got {self.fraction}")
        if self.reuse < 0 or (self.max_images is not None and self.max_images < 1):
            raise InputError(
                f"reuse must be at least 0 and max_images at least 1; got {self.reuse} and {self.max_images}"
            )
        if self.student_mode not in get_args(StudentMode):
            raise unknown_name("student_mode", str(self.student_mode), get_args(StudentMode))
        if self.teacher_dtype not in (None, "bfloat16"):
            raise InputError(f"teacher_dtype must be 'bfloat16' or None; got {self.teacher_dtype!r}")

    @classmethod
    def thesis(
        cls,
        unit: float = 1.0,
        bounds: Bounds | None = (0.0, 1.0),
        *,
        noise_factor: float = 10.0,
        step_size: float = 0.1,
    ) -> TALD:
        """Return Algorithm 7.1 with the settings for CIFAR-100, and sigma = 1e-3.

        For ImageNet the noise factor is 5.0 and the step 0.2; the text has both 0.01 and 0.001 as its weight.

        Args:
            unit: what a length of 1 in the thesis's images is in these: 1 if 0.3 is taken as it stands, the standard
                deviation that the network divides images of [0, 1] by if normalised images are meant.
            bounds: of the images.
            noise_factor: of the uniform noise of the start (eta).
            step_size: of the one step (tau), in units.
        """
        search = ParticleSearch(
            L2(0.3 * unit, bounds),
            num_particles=4,
            num_steps=1,
            step_size=step_size * unit,
            objective=KL("adversarial||clean"),
            kernel=RBF(1e-3 * unit),
            temperature=1.0,
            step=UnitL2(),
            start=Uniform(noise_factor * 0.3 * unit),
        )
        return cls(search=search)

    @classmethod
    def authors(cls, unit: float = 1.0, bounds: Bounds | None = (0.0, 1.0)) -> TALD:
        """Return what the released code does, with the weight of its script for KD; arguments as of :meth:`thesis`."""
        search = ParticleSearch(
            L2(0.3 * unit, bounds),
            num_particles=4,
            num_steps=0,
            objective=SquaredDifference(),
            kernel=None,
            start=Probe(10.0 * unit),
        )
        return cls(search=search, max_images=10, with_images=True)

    def memory(self, num_examples: int | None, example: Float[Tensor, "batch *event"]) -> ParticleMemory | None:
        """Return where particles are kept; None where they are not reused.

        Args:
            num_examples: size of the training set.
            example: some of its images.

        Raises:
            InputError: particles are reused, and nobody said how many images there are.
        """
        if not self.reuse:
            return None
        if num_examples is None:
            raise InputError("reuse keeps particles of every image: pass num_examples, the size of the training set")
        return ParticleMemory(num_examples, self.search.num_particles, example)

    def __call__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        batch: Batch,
        memory: nn.Module | None = None,
        *,
        teacher_logits: Logits | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean squared difference of the losses, with its gradient to the student's parameters.

        Args:
            student: maps images to logits.
            teacher: maps images to logits; in evaluation mode here, and left as it was.
            batch: images in the bounds of the ball, and labels.
            memory: what :meth:`memory` returned; it is changed where particles are reused.
            teacher_logits: of the images, from the teacher in evaluation mode, where they are at hand: a pass less.

        Raises:
            InputError: images or labels are not as described; or particles are reused, and ``memory`` or the batch's
                ``index`` is missing or does not fit.
        """
        checks.check_labels(batch.y, batch.x)
        count = math.ceil(self.fraction * len(batch) - 1e-9)
        first = slice(min(count, self.max_images or count))
        streams = streams_for(batch.x, batch.streams).fork(_STREAM).select(first)
        fits = self.search.mode == "eval" and self.teacher_dtype is None  # as the search's own passes would be
        clean = _rows(teacher_logits if fits else None, first)
        attacked = _Attacked(batch.x[first], batch.y[first].long(), streams, clean)
        if self.reuse:
            x_adv, wanted = self._remembered(teacher, attacked, memory, batch.index)
        else:
            x_adv, wanted = self._particles(teacher, attacked)
        rows, labels, wanted = x_adv.flatten(0, 1), attacked.y.repeat(len(x_adv)), wanted.flatten()
        if self.with_images:
            rows, labels = torch.cat([rows, batch.x]), torch.cat([labels, batch.y.long()])
            wanted = torch.cat([wanted, self._clean_losses(teacher, batch, teacher_logits)])
        with student_in(student, self.student_mode):
            losses = F.cross_entropy(predict(student, rows), labels, reduction="none")
        return (losses - wanted).square().mean()

    def particles(self, teacher: nn.Module, batch: Batch) -> Float[Tensor, "num_particles batch *event"]:
        """Return the particles of all images of a batch, afresh: what the term looks at, for a picture or a count."""
        streams = streams_for(batch.x, batch.streams).fork(_STREAM)
        return self._particles(teacher, _Attacked(batch.x, batch.y.long(), streams))[0]

    def _remembered(
        self, teacher: nn.Module, attacked: _Attacked, memory: object, index: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return particles from the memory, after a search for those that are due."""
        if not isinstance(memory, ParticleMemory) or index is None:
            raise InputError(
                "TALD(reuse=...) keeps particles by the place of an image: pass memory(num_examples, x), and"
                " Batch(index=...)"
            )
        index = index[: len(attacked.x)].long()
        memory.check(index, attacked.x)
        due = memory.due(index)
        if bool(due.any()):
            found = self._particles(teacher, attacked.select(due), memory.x_adv.dtype)
            memory.store(index[due], *found, self.reuse + 1)
        return memory.take(index, attacked.x.dtype)

    def _particles(
        self, teacher: nn.Module, attacked: _Attacked, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return particles, rounded to a type, and the teacher's losses there (num_particles, batch)."""
        x = attacked.x
        search, aimed = _in_passes(self.search, x), attacked
        with self._autocast(x):
            if self.targeted:
                search = replace(search, objective=Targeted(CrossEntropy()))
                aimed = replace(attacked, y=sample_targets(attacked.clean_logits(teacher), attacked.streams))
            look = _together if self.shared_gradient else _apart
            x_adv = look(search, teacher, aimed)
        x_adv = x_adv if dtype is None else x_adv.to(dtype).to(x.dtype)
        return x_adv, self._teacher_losses(teacher, x_adv, attacked.y)

    def _clean_losses(self, teacher: nn.Module, batch: Batch, logits: Tensor | None) -> Tensor:
        """Return the teacher's losses at the images (batch,)."""
        if logits is None:
            return self._teacher_losses(teacher, batch.x[None], batch.y.long())[0]
        return F.cross_entropy(logits.detach(), batch.y.long(), reduction="none")

    def _teacher_losses(self, teacher: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
        rows = x_adv.flatten(0, 1)
        with torch.no_grad(), frozen(teacher), self._autocast(x_adv):
            parts = rows.split(_in_passes(self.search, x_adv).max_batch or len(rows))
            logits = torch.cat([predict(teacher, part) for part in parts])
        return F.cross_entropy(logits, y.repeat(len(x_adv)), reduction="none").view(x_adv.shape[:2])

    def _autocast(self, x: Tensor) -> AbstractContextManager[object]:
        return nullcontext() if self.teacher_dtype is None else torch.autocast(x.device.type, torch.bfloat16)


def _in_passes(search: ParticleSearch, x: Tensor) -> ParticleSearch:
    """Return a search with passes that are quick on the device of the images, where it leaves that open."""
    if search.max_batch is None and search.mode == "eval" and x.is_cpu:
        return replace(search, max_batch=_CPU_ROWS)
    return search


def _apart(search: ParticleSearch, teacher: nn.Module, attacked: _Attacked) -> Tensor:
    return search(teacher, attacked.x, attacked.y, generator=attacked.streams, clean=attacked.clean).x_adv


def _together(search: ParticleSearch, teacher: nn.Module, attacked: _Attacked) -> Tensor:
    """Search with one gradient an image: that of the objective at its first particle."""
    objective, labels, streams = search.objective, attacked.y, attacked.streams
    with searched(teacher, attacked.x, search.mode) as images:
        clean = attacked.clean_logits(teacher, search.mode) if objective.needs_clean else None

        def shared(points: Tensor) -> Tensor:
            with torch.enable_grad():
                rows = points[0].detach().requires_grad_()
                total = objective(predict(teacher, rows), clean, labels).sum()
            return torch.autograd.grad(total, rows)[0].expand_as(points)

        x_adv, state = search.start(images, search.ball, streams, search.num_particles, shared), None
        project = search.ball.projector(images)
        for _ in range(search.num_steps):
            move, state = search.step(shared(x_adv), search.step_size, search.ball, streams, state)
            x_adv = project(x_adv + move)
    return x_adv


@contextmanager
def student_in(student: nn.Module, mode: StudentMode) -> Iterator[None]:
    """Let a student run in a mode, and put it back; gradients flow. For the modes see :class:`TALD`.

    Example:
        >>> from aureole.distill.tald import student_in
        >>> student = nn.BatchNorm1d(4)
        >>> with student_in(student, "eval"):
        ...     student.training
        False
        >>> student.training
        True
    """
    name = "training" if mode == "eval" else "track_running_stats"
    changed = [m for m in student.modules() if m.training and getattr(m, name, False)] if mode != "train" else []
    try:
        for module in changed:
            setattr(module, name, False)
        yield
    finally:
        for module in changed:
            setattr(module, name, True)
