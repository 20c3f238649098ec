"""CRD: of many images, the student's vector is to tell which one the teacher's belongs to, and the other way round.

    L = CE(f_S(x), y) + 0.8 (NCE(v_S, memory_T) + NCE(v_T, memory_S))
    NCE(v, M) = -1/B sum_i [ log h(v_i, M_i) + sum_k log (c / (p(v_i, M_k) + c + 1e-7)) ],    c = K / N
    h = p / (p + c + 1e-7),    p(v, M_j) = exp(<v, M_j> / 0.07) / Z

v are the vectors before the logits, through a learned linear map to 128 features of unit length; both networks have
one. M holds such a vector for each of the N training images, and k runs over K = 16,384 images of other classes, drawn
without replacement. Z is the mean of exp(<v, M_j> / 0.07) over the first batch, times N, and stays. After its loss, an
image's place in the memory becomes the unit vector along 0.5 M_i + 0.5 v_i. Tian, Krishnan and Isola 2020; numbers of
RepDistiller's scripts. ``CRD.with_kd`` adds KD with weight 1, as their CRD + KD.

Departures from the authors' code: images are drawn where the memory lies, not in the loader, so the loss must learn
which are of another class. It does as labels come: until all have come once (one epoch), an image whose label is
unknown counts as of another class; ``CRDLoss(..., labels=...)`` or ``learn_labels`` tell them beforehand. Batches give
the places of their images (``Batch(index=...)``). All N scores are computed, as one product, and K + 1 of them looked
up: (B, N) in place of (B, K, 128) values. A row of zeros stays zero (theirs, NaN).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError, unknown_name
from aureole.core.method import Batch
from aureole.core.random import Streams, streams_for
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import full_precision, head_dtype, unit_rows

Positives = Literal["exact", "relax"]

_EPSILON = 1e-7
_MAX_KEYS = 2**24


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """With what an image is contrasted, and how.

    Attributes:
        size: features of an embedding, at least 1.
        num_negatives: images of other classes for each image of a batch, at least 1. Where the data set has fewer of
            them, they are drawn with replacement.
        temperature: that divides inner products, positive.
        momentum: share that a place in the memory keeps at an update, in [0, 1).
        positives: ``"exact"``, the image itself, or ``"relax"``, any image of its class that has been seen.
        replacement: whether an image may be drawn twice: cheaper, as not every image of the data set needs a number.

    Example:
        >>> from aureole.distill.contrastive import Contrast
        >>> Contrast(num_negatives=4096).temperature
        0.07
    """

    size: int = 128
    num_negatives: int = 16384
    temperature: float = 0.07
    momentum: float = 0.5
    positives: Positives = "exact"
    replacement: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.num_negatives < 1:
            raise InputError(f"size and num_negatives must be at least 1; got {self.size} and {self.num_negatives}")
        if not 0 < self.temperature < math.inf or not 0 <= self.momentum < 1:
            raise InputError(
                f"temperature must be positive and momentum in [0, 1); got {self.temperature} and {self.momentum}"
            )
        if self.positives not in get_args(Positives):
            raise unknown_name("kind of positives", str(self.positives), get_args(Positives))


class CRDLoss(FeatureLoss):
    """Contrastive loss against two memories of the training set; ``batch.index`` says which images a batch has.

    Memories, Z and the labels seen are buffers; they move on in train mode alone. Equal streams of a batch give equal
    negatives. Each process keeps what it has seen itself.

    Args:
        student_features: length of the student's vector.
        teacher_features: length of the teacher's.
        num_examples: size of the training set.
        contrast: how images are contrasted.
        labels: of the whole training set, int64; None learns them as they come.

    Raises:
        InputError: the training set is empty, or the labels are not one an example.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.contrastive import CRDLoss
        >>> student, teacher = (Features(torch.rand(2, 3), (), torch.rand(2, size)) for size in (4, 6))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), index=torch.tensor([7, 3]))
        >>> CRDLoss(4, 6, num_examples=10)(student, teacher, batch).shape
        torch.Size([])
    """

    memory_student: Tensor
    memory_teacher: Tensor
    normalizers: Tensor
    labels: Tensor

    def __init__(
        self,
        student_features: int,
        teacher_features: int,
        num_examples: int,
        contrast: Contrast = Contrast(),
        labels: Int[Tensor, " examples"] | None = None,
    ) -> None:
        super().__init__()
        if num_examples < 2:
            raise InputError(f"CRD contrasts training images: num_examples must be at least 2; got {num_examples}")
        self.num_examples, self.contrast = num_examples, contrast
        self.embed_student = nn.Linear(student_features, contrast.size)
        self.embed_teacher = nn.Linear(teacher_features, contrast.size)
        bound = math.sqrt(3 / contrast.size)
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, torch.empty(num_examples, contrast.size).uniform_(-bound, bound))
        self.register_buffer("normalizers", torch.zeros(2))
        self.register_buffer("labels", torch.full((num_examples,), -1))
        self.register_load_state_dict_pre_hook(_check_size)
        if labels is not None:
            if labels.shape != self.labels.shape:
                raise InputError(f"expected one label an example, shape ({num_examples},); got {tuple(labels.shape)}")
            self.learn_labels(torch.arange(num_examples), labels)

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        if batch is None or batch.index is None:
            raise InputError("CRD remembers each image by its place in the training set: pass Batch(x, y, index=...)")
        index = batch.index.to(self.labels)
        labels = self._with_labels(index, batch.y.to(self.labels))
        chosen = _choose(labels, index, self.contrast, streams_for(student.pooled, batch.streams))
        with torch.autocast(student.pooled.device.type, enabled=False):
            mine = _embedded(self.embed_student, student.pooled)
            theirs = _embedded(self.embed_teacher, teacher.pooled.detach())
            scores = [
                self._scores(mine, self.memory_teacher, chosen),
                self._scores(theirs, self.memory_student, chosen),
            ]
            normalizers = self._normalizers(scores)
            pairs = zip(scores, normalizers.to(mine.dtype).log(), strict=True)
            loss = torch.stack([noise_contrastive(score - log_z, self.num_examples) for score, log_z in pairs]).sum()
        if self.training:
            self.normalizers, self.labels = normalizers, labels
            self.memory_student = self._moved_on(self.memory_student, index, mine)
            self.memory_teacher = self._moved_on(self.memory_teacher, index, theirs)
        return loss

    def learn_labels(self, index: Int[Tensor, " batch"], labels: Int[Tensor, " batch"]) -> None:
        """Tell classes of training images before they come in a batch.

        Raises:
            InputError: an index lies outside the training set, or a label is not that which its image had before.
        """
        self.labels = self._with_labels(index.to(self.labels), labels.to(self.labels))

    def _with_labels(self, index: Int[Tensor, " batch"], y: Int[Tensor, " batch"]) -> Int[Tensor, " examples"]:
        low, high = torch.stack(index.aminmax()).tolist()
        if low < 0 or high >= self.num_examples:
            raise InputError(
                f"an index must be from 0 to {self.num_examples - 1}; they range from {low} to {high}: num_examples"
                " must be the size of the training set that the batches come from"
            )
        known = self.labels[index]
        if bool(((known >= 0) & (known != y)).any()):
            raise InputError(
                "an index came with another label than before: it must name the same image in every epoch, and the data"
                " set must be the one that the memory was made for"
            )
        return self.labels.index_copy(0, index, y)

    def _scores(
        self, v: Float[Tensor, "batch size"], memory: Float[Tensor, "examples size"], chosen: Int[Tensor, "batch drawn"]
    ) -> Float[Tensor, "batch drawn"]:
        return (v @ memory.to(v.dtype).mT).gather(1, chosen) / self.contrast.temperature

    @torch.no_grad()
    def _normalizers(self, scores: list[Tensor]) -> Float[Tensor, " 2"]:
        if bool((self.normalizers > 0).all()):
            return self.normalizers
        return torch.stack([score.exp().mean() for score in scores]).to(self.normalizers) * self.num_examples

    @torch.no_grad()
    def _moved_on(
        self, memory: Float[Tensor, "examples size"], index: Int[Tensor, " batch"], v: Float[Tensor, "batch size"]
    ) -> Float[Tensor, "examples size"]:
        """Return a new memory, as the gradient still needs the old; of an image that comes twice, the last counts."""
        places = torch.arange(len(index), device=index.device)
        last = index.new_zeros(len(memory)).scatter_reduce(0, index, places, "amax")[index]
        share = self.contrast.momentum
        return memory.index_copy(0, index, unit_rows(share * memory[index] + (1 - share) * v[last].to(memory)))


def noise_contrastive(log_p: Float[Tensor, "batch drawn"], num_examples: int) -> Float[Tensor, ""]:
    """Return the loss of telling the first column from the others, which are drawn uniformly from all examples.

    Args:
        log_p: logarithm of the model's probability of each example.
        num_examples: that there are.

    Example:
        >>> from aureole.distill.contrastive import noise_contrastive
        >>> noise_contrastive(torch.tensor([[0.0, 0.0]]), num_examples=1)
        tensor(1.3863)

    Source: Gutmann and Hyvärinen 2010; as RepDistiller computes it, with 1e-7 beside the noise.
    """
    noise = (log_p.shape[1] - 1) / num_examples
    odds = log_p - math.log(noise + _EPSILON)
    shift = (log_p.shape[1] - 1) * math.log1p(_EPSILON / noise)
    return (F.softplus(-odds[:, 0]).sum() + F.softplus(odds[:, 1:]).sum()) / len(log_p) + shift


def _embedded(embed: nn.Linear, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch size"]:
    return unit_rows(full_precision(embed(x.to(embed.weight.dtype))))


def _choose(
    labels: Int[Tensor, " examples"], index: Int[Tensor, " batch"], contrast: Contrast, streams: Streams
) -> Int[Tensor, "batch drawn"]:
    """Return the positive of each image of a batch, and its negatives.

    The examples are put in the order of their labels: those of an image's own class are then a block of it, and a
    number drawn below the number of all others is a place in this order, the block left out.
    """
    y = labels[index]
    ranked, order = labels.sort(stable=True)
    start = torch.searchsorted(ranked, y)
    count = torch.searchsorted(ranked, y, right=True) - start
    places = _draw(streams.fork(1), len(labels) - count, len(labels), contrast)
    negatives = order[places + count[:, None] * (places >= start[:, None])]
    if contrast.positives == "exact":
        return torch.cat([index[:, None], negatives], 1)
    return torch.cat([order[start[:, None] + _below(streams.fork(2), count, 1)], negatives], 1)


def _draw(streams: Streams, room: Int[Tensor, " batch"], most: int, contrast: Contrast) -> Int[Tensor, "batch drawn"]:
    """Return numbers below ``room``: different ones, if there are enough and they have to be."""
    least, largest = torch.stack(room.aminmax()).tolist()
    if not least:
        raise InputError("CRD contrasts an image with those of other classes, and the training set has none")
    if contrast.replacement or largest < contrast.num_negatives:
        return _below(streams, room, contrast.num_negatives)
    places = torch.arange(most, device=room.device)
    parts = []
    for rows in torch.arange(len(room), device=room.device).split(max(1, _MAX_KEYS // most)):
        keys = streams.select(rows).uniform((len(rows), most))
        keys.masked_fill_(places >= room[rows, None], -1)
        parts.append(keys.topk(contrast.num_negatives, sorted=False).indices)
    different = torch.cat(parts)
    if least >= contrast.num_negatives:
        return different
    enough = (room >= contrast.num_negatives)[:, None]
    return torch.where(enough, different, _below(streams, room, contrast.num_negatives))


def _below(streams: Streams, room: Int[Tensor, " batch"], count: int) -> Int[Tensor, "batch count"]:
    """Return numbers uniform below ``room``, with replacement."""
    drawn = (streams.uniform((len(room), count)) * room[:, None]).long()
    return torch.minimum(drawn, room[:, None] - 1)


def _check_size(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Say in one line that a stored memory is of another training set."""
    stored = state_dict.get(f"{prefix}labels")
    if isinstance(module, CRDLoss) and stored is not None and len(stored) != module.num_examples:
        raise InputError(
            f"the stored memory has {len(stored)} examples and the training set {module.num_examples}: go on with the"
            " training set that the run began with"
        )


@dataclass(frozen=True, kw_only=True)
class CRD(Distillation):
    """Contrastive representation distillation; needs ``pair(..., num_examples=...)`` and ``Batch(index=...)``.

    Attributes:
        contrast: with what an image is contrasted, and how.

    Example:
        >>> from aureole.distill.contrastive import CRD
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, n), nn.Linear(n, 3)) for n in (2, 5))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), index=torch.tensor([7, 3]))
        >>> method = CRD.with_kd()
        >>> list(method.loss(student, batch, method.pair(student, teacher, batch.x, num_examples=10)))
        ['labelled', 'distilled', 'features']
    """

    title: ClassVar[str] = "CRD"

    weight: float = 0.8
    contrast: Contrast = Contrast()

    @classmethod
    def with_kd(cls) -> CRD:
        """Return the settings of CRD + KD in RepDistiller's scripts: KD with weight 1 beside."""
        return cls(kd_weight=1.0)

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> CRDLoss:
        if num_examples is None:
            raise InputError("CRD keeps a memory of the training set: pass pair(..., num_examples=len(training set))")
        sizes = student.pooled.shape[1], teacher.pooled.shape[1]
        return CRDLoss(*sizes, num_examples, self.contrast).to(head_dtype(student))
