"""MED-TEX: an explainer and a student learn together what a teacher predicts, and what it computes inside.

    L   = CE(p_T(X), q_S(X')) + weight sum_i l_i,      X' = Theta(X) * X                       (4.2, 4.7)
    l_i = -log r(T_i(X) | S_i(X')) = sum_chw [log s_c + (T_i(X) - mu_i(S_i(X')))^2 / (2 s_c^2) + log(2 pi) / 2]
    s_c^2 = softplus(alpha_c) + 1e-5                                                           (4.4 to 4.6)

mu_i are a 1x1 convolution to half of the teacher's channels, a ReLU and a 1x1 convolution to all of them; s_c^2 is one
number a channel of the teacher; both learn. The labels of a batch are not looked at. weight = 0 is MED-EX; with
:class:`~aureole.explain.explainer.PassThrough` for an explainer it is the student alone.

The thesis sums over channels and positions (4.6), ``reduction="sum"``. With its teacher at 256 x 256 pixels
these are 3.9 million values an image, which at first outweigh the cross-entropy some thousandfold even at a weight of
0.001; ``"mean"`` takes the mean over the positions and the sum over the channels, 480 in all, and then the two are of
one size. The thesis does not
state: the first variance (5 here, as in Ahn et al. 2019, whom it follows) and the constant that it calls epsilon (1e-5,
as there). No public code exists.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError, UntrustedResult, unknown_name
from aureole.core.features import FeatureTap
from aureole.core.method import Batch, Terms
from aureole.core.model import frozen, logits_of, predict, random_state_kept
from aureole.core.taps import Taps, own_taps
from aureole.explain.base import FromTeacher, Taught, check_teacher, full_precision, kept_beside, output_loss

#: Over the positions of a map: their sum, as in the thesis, or their mean.
Reduction = Literal["sum", "mean"]

_LEAST = 1e-5


def gaussian_nll(
    mean: Float[Tensor, "batch channels height width"],
    values: Float[Tensor, "batch channels height width"],
    variance: Float[Tensor, " channels"],
    reduction: Reduction = "sum",
) -> Float[Tensor, ""]:
    """Return -log N(values; mean, variance): the sum over the channels, and the mean over the batch.

    Args:
        mean: of each value.
        values: what was seen.
        variance: of each channel, positive.
        reduction: over the positions.

    Example:
        >>> from aureole.explain.medtex import gaussian_nll
        >>> gaussian_nll(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.ones(1))
        tensor(1.4189)

    Source: thesis Eq. 4.5 and 4.6.
    """
    error = (values - mean).square().mean(dim=(0, 2, 3))  # of a channel: one pass over the map, the rest is small
    each = 0.5 * (error / variance + variance.log() + math.log(2 * math.pi)).sum()
    return each * (values.shape[2] * values.shape[3]) if reduction == "sum" else each


class VariationalHead(nn.Module):
    """What a map of the student says of its teacher's: a mean for each value, and a variance for each channel.

    Args:
        student_channels: of the student's map.
        teacher_channels: of the teacher's.
        initial_variance: more than 1e-5.

    Example:
        >>> from aureole.explain.medtex import VariationalHead
        >>> head = VariationalHead(2, 32)
        >>> head.mean[0].out_channels, head.variance.shape
        (16, torch.Size([32]))

    Source: thesis Eq. 4.5 and section 4.4.1.
    """

    def __init__(self, student_channels: int, teacher_channels: int, initial_variance: float = 5.0) -> None:
        super().__init__()
        _check_variance(initial_variance)
        inside = max(1, teacher_channels // 2)
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, inside, 1), nn.ReLU(), nn.Conv2d(inside, teacher_channels, 1)
        )
        start = initial_variance - _LEAST
        self.alpha = nn.Parameter(torch.full((teacher_channels,), start + math.log(-math.expm1(-start))))

    @property
    def variance(self) -> Float[Tensor, " channels"]:
        """The variance of each of the teacher's channels: softplus(alpha) + 1e-5."""
        return F.softplus(full_precision(self.alpha)) + _LEAST

    def forward(
        self,
        student: Float[Tensor, "batch student_channels _ _"],
        teacher: Float[Tensor, "batch teacher_channels height width"],
        reduction: Reduction = "sum",
    ) -> Float[Tensor, ""]:
        """Return l_i; a student's map of another size is averaged, or repeated, to that of the teacher's."""
        student = full_precision(student).to(self.alpha.dtype)
        if student.shape[2:] != teacher.shape[2:]:
            student = F.interpolate(student, size=teacher.shape[2:], mode="area")
        mean = full_precision(self.mean(student))
        return gaussian_nll(mean, full_precision(teacher.detach()), self.variance, reduction)


class Transfer(Taught):
    """A teacher, the layers that are compared, and a head for each; :meth:`MEDTEX.pair` makes one.

    Args:
        teacher: maps images to logits; from here on in evaluation mode, its parameters ask for no gradient.
        student_layers: of the network that is trained.
        teacher_layers: of the teacher, as many.
        heads: one for each pair of layers.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student_layers: Sequence[str] = (),
        teacher_layers: Sequence[str] = (),
        heads: Iterable[VariationalHead] = (),
    ) -> None:
        super().__init__(teacher)
        self.student_layers, self.teacher_layers = tuple(student_layers), tuple(teacher_layers)
        self.heads = nn.ModuleList(heads)

    @torch.no_grad()
    def features(self, x: Float[Tensor, "batch *event"]) -> tuple[Float[Tensor, "batch classes"], tuple[Tensor, ...]]:
        """Return the teacher's logits and the maps of its layers, without gradient.

        Raises:
            InputError: somebody has put the teacher in train mode.
        """
        self.check_mode()
        return _run(self.teacher, x, self.teacher_layers)


@dataclass(frozen=True, kw_only=True)
class MEDTEX(FromTeacher):
    """Learn an explainer and a small student from a teacher.

    Use it in any loop::

        network = ExplainedStudent(ExplainerUNet(3), FourBlocks((2, 4, 8, 16)))
        modules = method.pair(network, teacher, x)     # once, with an example batch
        optimizer = Adam([*network.parameters(), *method.own_parameters(modules)], lr=0.001)
        terms = method.loss(network, Batch(x, y), modules)
        terms.total.backward()

    Attributes:
        weight: of the losses of the layers inside, at least 0; 0 is MED-EX.
        reduction: over the positions of a map, ``"sum"`` or ``"mean"``.
        initial_variance: of the teacher's values given the student's, more than 1e-5.

    Example:
        >>> from aureole.explain import MEDTEX, ExplainedStudent, ExplainerUNet
        >>> from aureole.models import FourBlocks
        >>> teacher, student = FourBlocks((4, 4, 8, 8)), FourBlocks((2, 4, 8, 16))
        >>> network, x = ExplainedStudent(ExplainerUNet(3), student), torch.rand(2, 3, 16, 16)
        >>> list(MEDTEX().loss(network, Batch(x, torch.tensor([0, 1])), MEDTEX().pair(network, teacher, x)))
        ['output', 'transfer']

    Source: thesis chapter 4, Equations 4.1 to 4.7.
    """

    title: ClassVar[str] = "MED-TEX"

    weight: float = 0.001
    reduction: Reduction = "sum"
    initial_variance: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise InputError(f"weight must be at least 0 and finite; got {self.weight}")
        if self.reduction not in get_args(Reduction):
            raise unknown_name("reduction", str(self.reduction), get_args(Reduction))
        _check_variance(self.initial_variance)

    def pair(
        self,
        network: nn.Module,
        teacher: nn.Module,
        x: Float[Tensor, "batch *event"],
        *,
        student_taps: Taps | None = None,
        teacher_taps: Taps | None = None,
    ) -> Transfer:
        """Return what is kept beside the network: its teacher, and the heads that are trained with it.

        Args:
            network: maps images to logits, such as an :class:`~aureole.explain.ExplainedStudent`.
            teacher: maps images to logits; its parameters ask for no gradient from here on.
            x: an example batch of images.
            student_taps: layers of the network whose maps are compared; None takes its own.
            teacher_taps: layers of the teacher; None takes its own.

        Raises:
            InputError: the numbers of classes or of maps differ, a layer does not exist or gives no map, or network
                and teacher share a module.

        Warns:
            UntrustedResult: sizes of maps differ, so the student's are resized.
        """
        check_teacher(network, teacher, x)
        if not self.weight:
            return Transfer(teacher)
        mine = (own_taps(network) if student_taps is None else student_taps).maps
        theirs = (own_taps(teacher) if teacher_taps is None else teacher_taps).maps
        if len(mine) != len(theirs) or not mine:
            raise InputError(
                f"student and teacher must give equally many maps, at least one; got {len(mine)} and {len(theirs)}:"
                " name layers with Taps(maps=...), on the command line --teacher.layers, or set weight=0"
            )
        maps = zip(_maps(network, x, mine, "student"), _maps(teacher, x, theirs, "teacher"), strict=True)
        return Transfer(teacher, mine, theirs, [self._head(*pair) for pair in maps]).to(x.device)

    def _head(self, student: Tensor, teacher: Tensor) -> VariationalHead:
        if student.shape[2:] != teacher.shape[2:]:
            warnings.warn(
                f"a map of the student has {_size(student)} positions and its teacher's {_size(teacher)}: the student's"
                " is resized; name layers of one size with Taps(maps=...)",
                UntrustedResult,
                stacklevel=3,
            )
        head = VariationalHead(student.shape[1], teacher.shape[1], self.initial_variance)
        return head.to(full_precision(student).dtype)

    def own_parameters(self, modules: nn.Module | None) -> Iterable[nn.Parameter]:
        """Return what is trained with the network: the heads' parameters."""
        return _transfer(modules).heads.parameters()

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the losses of one batch: ``output``, and ``transfer`` unless its weight is 0."""
        transfer = _transfer(modules)
        if not self.weight:
            return Terms(output=output_loss(predict(model, batch.x), transfer.logits(batch.x)))
        if not transfer.heads:
            raise InputError("these modules were built with weight=0, without heads: build them anew with pair()")
        teacher_logits, teacher_maps = transfer.features(batch.x)
        logits, maps = _run(model, batch.x, transfer.student_layers)
        layers = zip(transfer.heads, maps, teacher_maps, strict=True)
        inside = torch.stack([head(s, t, self.reduction) for head, s, t in layers]).sum()
        return Terms(output=output_loss(logits, teacher_logits), transfer=self.weight * inside)


def _transfer(modules: nn.Module | None) -> Transfer:
    return kept_beside(modules, Transfer, MEDTEX.title)


def _run(model: nn.Module, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the logits and the maps of one pass, in the mode that the model is in."""
    tapped = FeatureTap(model, layers)(x)
    return logits_of(tapped.output, len(x)), tapped.features


def _maps(model: nn.Module, x: Tensor, layers: Sequence[str], role: str) -> tuple[Tensor, ...]:
    """Return the maps of an example; a layer that is none is refused with the network's role."""
    try:
        with random_state_kept(x.device), torch.no_grad(), frozen(model):
            _, maps = _run(model, x[:1], layers)
    except InputError as error:
        raise InputError(f"layers of the {role}: {error}") from None
    for name, value in zip(layers, maps, strict=True):
        if value.ndim != 4:
            raise InputError(
                f"expected a map (batch, channels, height, width) from the {role}'s layer {name!r}; got"
                f" {tuple(value.shape)}: name a convolution or a block"
            )
    return maps


def _size(x: Tensor) -> str:
    return f"{x.shape[2]} x {x.shape[3]}"


def _check_variance(initial_variance: float) -> None:
    if not _LEAST < initial_variance < math.inf:
        raise InputError(f"initial_variance must be more than {_LEAST} and finite; got {initial_variance}")
