"""HSAKD: the student is to tell class and rotation apart like its teacher, at every stage of the network.

    L = CE(f_S(x), y) + sum_l KD_3(A_l^S(F_S^l), A_l^T(F_T^l)) + KD_3(f_S, f_T)

Both KD terms (T = 3) are over all four rotations of each image, CE over the upright ones. F^l is the map behind stage l
= 1 ... L, all but the stem's. The auxiliary classifier A_l gives 4C logits for the joint label 4y + r of class y and
rotation r. It is a fresh copy of the stages l + 1 ... L, then the mean over the pixels and a linear layer; A_L has two
residual blocks at the last map's width in place of the stages, bottlenecks where stage L has fewer parameters
than one 3x3 convolution there (ResNet-50, ShuffleNet).

In the first 100 epochs (``warm_up``) the teacher's A_l alone are trained, with sum_l CE(A_l^T, 4y + r) over all four
rotations; they are constants from then on. The student's A_l are trained with it and dropped afterwards. Yang et al.
2021; weights of the authors' code.

Departures from the authors' code: there A_L has one more copy of the last stage, at stride 1; where the last map has
not passed an activation (wide networks, MobileNet) batch norm and ReLU stand in front of the mean, in place of what the
network has there; the learning rate is constant in the warm-up (there it drops by 10 after epochs 30, 60 and 90). Their
stronger teachers, trained from scratch together with the A_l, are another teacher's training: not here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError, first_line
from aureole.core.method import Batch, Terms
from aureole.core.model import frozen, random_state_kept
from aureole.core.taps import Features, Taps, extract
from aureole.distill.base import FeatureLoss, Pair, softened_kl
from aureole.distill.matching import full_precision, head_dtype
from aureole.distill.rotations import ROTATIONS, Rotating, joint_labels
from aureole.models.initial import fan_out_convolutions
from aureole.models.resnet import BasicBlock, Bottleneck


def auxiliary_classifiers(model: nn.Module, x: Float[Tensor, "batch *event"], taps: Taps) -> nn.ModuleList:
    """Return one untrained classifier of class and rotation for each tapped map but the first.

    The stages between two maps are the modules of the later name, or where both are children of one
    ``nn.Sequential``, all from behind the earlier one. A dry run checks that they make the later map of the earlier.
    Parameters of a module without ``reset_parameters`` start where the model's are.

    Args:
        model: the network; it and the global random state are left as they were, but for the draw of the new weights.
        x: an example batch, for the shape of an image.
        taps: of the network, as :func:`~aureole.core.taps.find_taps` returns them.

    Raises:
        InputError: fewer than two maps, or modules that do not follow one another.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.hsakd import auxiliary_classifiers
        >>> layers = (nn.Conv2d(1, 2, 3), nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(20, 3))
        >>> model, x = nn.Sequential(*layers), torch.rand(2, 1, 8, 8)
        >>> heads = auxiliary_classifiers(model, x, Taps(maps=("0", "1", "2"), pooled="4:input"))
        >>> [tuple(head(torch.rand(2, 4 + l, 4, 4)).shape) for l, head in enumerate(heads)]
        [(2, 12), (2, 12)]

    Source: Yang et al. 2021, section 3.2.
    """
    if len(taps.maps) < 2:
        raise InputError(
            f"HSAKD needs at least two maps, the stem's first; got {len(taps.maps)}: name layers with Taps(maps=...)"
        )
    noise = torch.rand(x[:2].shape, generator=torch.Generator().manual_seed(0)).to(x)  # an example may be all zeros
    with random_state_kept(x.device), torch.no_grad(), frozen(model):
        features = extract(model, noise, taps)
        neighbours = zip(pairwise(taps.maps[1:]), pairwise(features.maps[1:]), strict=True)
        stages = [_between(model, *names, *maps) for names, maps in neighbours]
    width, labels = features.maps[-1].shape[1], ROTATIONS * features.logits.shape[1]
    signed = bool((features.maps[-1] < 0).any())
    active = [nn.BatchNorm2d(width), nn.ReLU()] if signed else []
    bodies = [_fresh(nn.Sequential(*stages[level:], *active)) for level in range(len(stages))]
    bodies.append(_last(width, nn.Sequential(*stages[-1:])))
    for body in bodies:
        fan_out_convolutions(body)
    ends = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, labels)) for _ in bodies]
    heads = nn.ModuleList(nn.Sequential(body, *end) for body, end in zip(bodies, ends, strict=True))
    return heads.requires_grad_(True).train().to(device=x.device, dtype=head_dtype(features))


def _between(model: nn.Module, before: str, after: str, start: Tensor, end: Tensor) -> nn.Sequential:
    """Return the modules that make one tapped map of the one before; they are the model's own."""
    try:
        parent = model.get_submodule(after.rpartition(".")[0])
        children = [name for name, _ in parent.named_children()]
        place = children.index(after.rpartition(".")[2])
        together = isinstance(parent, nn.Sequential) and before.rpartition(".")[0] == after.rpartition(".")[0]
        first = children.index(before.rpartition(".")[2]) + 1 if together else place
        modules = nn.Sequential(*(parent.get_submodule(name) for name in children[first : place + 1]))
        reason = _difference(modules(start.clone()), end)
    except Exception as error:
        raise _unconnected(before, after, first_line(error)) from error
    if reason:
        raise _unconnected(before, after, reason)
    return modules


def _difference(found: Tensor, wanted: Tensor) -> str:
    if found.shape != wanted.shape:
        return f"it gives the shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
    slack = 1e-2 * float(wanted.abs().amax())
    return "" if torch.allclose(found, wanted, rtol=1e-2, atol=slack) else "it gives other values"


def _unconnected(before: str, after: str, reason: str) -> InputError:
    return InputError(
        f"HSAKD copies the modules between tapped maps; run on the output of {before!r}, {after!r} does not give its"
        f" own map ({reason}): name stages that follow one another, such as Taps(maps=('stem', 'layer1', 'layer2'))"
    )


def _last(width: int, stage: nn.Sequential) -> nn.Sequential:
    """Return two residual blocks: bottlenecks where a stage has fewer parameters than one 3x3 convolution."""
    size = sum(parameter.numel() for parameter in stage.parameters())
    block = Bottleneck if 0 < size < 9 * width**2 and width >= 4 else BasicBlock
    return nn.Sequential(block(width, width), block(width, width))


def _fresh(stages: nn.Sequential) -> nn.Sequential:
    copies = copy.deepcopy(stages)
    for module in copies.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    return copies


class AuxiliaryLoss(FeatureLoss):
    """Divergence between the auxiliary classifiers of a student and a teacher, summed over the stages.

    Args:
        student_heads: one for each map of the student but the first; each gives logits of class and rotation.
        teacher_heads: one for each map of the teacher but the first.
        temperature: of the softened predictions, positive.

    Raises:
        InputError: student and teacher have different numbers of heads, or not one for each of their maps.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.hsakd import AuxiliaryLoss
        >>> maps = [2 * (torch.rand(4, width, 2, 2),) for width in (2, 5)]
        >>> student, teacher = (Features(torch.rand(4, 3), m, torch.rand(4, 2)) for m in maps)
        >>> heads = [nn.ModuleList([nn.Sequential(nn.Flatten(), nn.Linear(4 * n, 12))]) for n in (2, 5)]
        >>> AuxiliaryLoss(*heads)(student, teacher).shape
        torch.Size([])
    """

    def __init__(self, student_heads: nn.ModuleList, teacher_heads: nn.ModuleList, temperature: float = 3.0) -> None:
        super().__init__()
        if len(student_heads) != len(teacher_heads):
            raise InputError(
                f"student and teacher need equally many heads; got {len(student_heads)} and {len(teacher_heads)}"
            )
        self.student_heads, self.teacher_heads, self.temperature = student_heads, teacher_heads, temperature

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        self.teacher_heads.eval()
        with torch.no_grad():
            wanted = _logits(self.teacher_heads, teacher)
        pairs = zip(_logits(self.student_heads, student), wanted, strict=True)
        return torch.stack([softened_kl(s, t, self.temperature) for s, t in pairs]).sum()

    def warm_up(self, student: Features, teacher: Features, batch: Batch) -> Terms:
        """Return the loss of the teacher's heads, ``heads``: CE with class and rotation, summed over the stages.

        Raises:
            InputError: the features are not of four rotations of the batch.
        """
        labels = joint_labels(batch.y).flatten()
        if len(teacher.logits) != len(labels):
            raise InputError(
                f"expected features of {ROTATIONS} rotations of {len(batch)} images; got {len(teacher.logits)} rows:"
                " run the networks on rotated(x).flatten(0, 1)"
            )
        self.teacher_heads.train(self.training)
        found = _logits(self.teacher_heads, teacher)
        return Terms(heads=torch.stack([F.cross_entropy(logits, labels) for logits in found]).sum())


def _logits(heads: nn.ModuleList, features: Features) -> list[Float[Tensor, "rows labels"]]:
    if len(features.maps) != len(heads) + 1:
        raise InputError(
            f"expected {len(heads) + 1} maps, the stem's first, one for each auxiliary classifier; got"
            f" {len(features.maps)}: take the taps that pair() has found"
        )
    maps = zip(heads, features.maps[1:], strict=True)
    return [full_precision(head(x.to(next(head.parameters()).dtype))) for head, x in maps]


@dataclass(frozen=True, kw_only=True)
class HSAKD(Rotating):
    """Hierarchical self-supervised augmented knowledge distillation, with a teacher that was trained before.

    Example:
        >>> from aureole.distill.hsakd import HSAKD
        >>> from aureole.models import VGG
        >>> student, teacher, x = VGG(8), VGG(8), torch.rand(2, 3, 8, 8)
        >>> method = HSAKD()
        >>> pair = method.pair(student, teacher, x)
        >>> list(method.loss(student, Batch(x, torch.tensor([0, 2]), epoch=0), pair))
        ['heads']
    """

    title: ClassVar[str] = "HSAKD"
    needs_maps: ClassVar[bool] = True
    heads: ClassVar[type[FeatureLoss]] = AuxiliaryLoss

    kd_weight: float = 1.0
    temperature: float = 3.0
    warm_up: int = 100

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
        """Return the teacher and the auxiliary classifiers of both networks; see :meth:`Distillation.pair`.

        Raises:
            InputError: as there, and as :func:`auxiliary_classifiers`.
        """
        found = super().pair(
            student, teacher, x, student_taps=student_taps, teacher_taps=teacher_taps, num_examples=num_examples
        )
        mine = auxiliary_classifiers(student, x, found.student_taps)
        theirs = auxiliary_classifiers(teacher, x, found.teacher_taps)
        found.criterion = AuxiliaryLoss(mine, theirs, self.temperature)
        return found

    def _terms(self, student: Features, teacher: Features, batch: Batch, pair: Pair) -> Terms:
        terms = Terms()
        if self.label_weight:
            terms["labelled"] = self.label_weight * F.cross_entropy(student.logits[: len(batch)], batch.y)
        if self.kd_weight:
            terms["distilled"] = self.kd_weight * softened_kl(student.logits, teacher.logits, self.temperature)
        if self.weight and pair.criterion is not None:
            terms["features"] = self.weight * pair.criterion(student, teacher, batch)
        return terms
