"""The set of painted lesions: every photograph once clean and once painted, with the mask of what was painted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams, mix_seed
from aureole.data.drawn import DRAWN, RETINA, draw_fundus, retina_picture, vary
from aureole.data.fractions import FractionData
from aureole.data.fundus import Fundus
from aureole.data.lesions import LesionPainter
from aureole.data.masks import MaskedImages, choose_classes
from aureole.data.pictures import read_picture
from aureole.data.splits import Splits
from aureole.data.stratify import permutation
from aureole.data.tables import Table, open_table, quiet

CLASS_NAMES = ("clean", "painted")
_PARTS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class PaintedLesions(FractionData):
    """Painted lesions on photographs of healthy retinas: class 0 clean, class 1 painted, each photograph once in both.

    So nothing but the lesions tells the classes apart. A photograph is never in two of training, validation and test,
    and a fraction is one of photographs: both classes always have the same number of images.

    Attributes:
        source: a folder of fundus photographs in classes, or a name on the hub, of which one class is healthy;
            ``"retina"`` for variants of scikit-image's one photograph, ``"drawn"`` for drawn ones;
            :func:`aureole.data.drawn.fundus_source` chooses by what is at hand.
        num_train: how many images to train on, half of them painted; None for all that validation leaves.
        num_validation: how many images of the training part to validate on, half of them painted.
        healthy: name of the class to paint on; None for the first one.
        painter: what the lesions look like.
        paint_seed: of the lesions; no other seed changes them.
        prepare: the crop and the size of the photographs.
        num_drawn: photographs in each part of ``"retina"`` and ``"drawn"``.

    Raises:
        InputError: ``num_drawn`` is below 1.

    Example:
        >>> from aureole.data.painted import PaintedLesions
        >>> splits = PaintedLesions(num_drawn=4, num_validation=2, prepare=Fundus(size=48)).train_and_validation()
        >>> splits.train.labels.tolist(), splits.train.has_mask.tolist()
        ([0, 1, 0, 1, 0, 1], [False, True, False, True, False, True])
    """

    source: str = DRAWN
    healthy: str | None = None
    painter: LesionPainter = LesionPainter()
    paint_seed: int = 0
    prepare: Fundus = Fundus()
    num_drawn: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_drawn < 1:
            raise InputError(f"num_drawn must be at least 1; got {self.num_drawn}")

    def train_and_validation(self) -> Splits:
        """Read the training part, choose photographs for validation, then the fraction of the others; paint them.

        Raises:
            InputError: the source is unusable, it has too few photographs, or a number of images is odd.
        """
        whole = self._read("train")
        self._check(len(whole))
        if self.num_validation % 2 or (self.num_train or 0) % 2:
            raise InputError(
                "num_validation and num_train of painted lesions must be even, a clean and a painted image of each "
                f"photograph; got {self.num_validation} and {self.num_train}"
            )
        order, held = permutation(len(whole) // 2, mix_seed(self.seed, 0)), self.num_validation // 2
        rest = order[held:].sort().values
        if self.num_train is not None:
            rest = rest[permutation(len(rest), mix_seed(self.seed, 1))[: self.num_train // 2]]
        count = max(1, round(self.fraction * len(rest)))
        chosen = rest[permutation(len(rest), mix_seed(self.fraction_seed, 2))[:count]]
        return Splits(train=whole.subset(_both(chosen)), validation=whole.subset(_both(order[:held])))

    def _read(self, part: str) -> MaskedImages:
        photographs, name = self._photographs(part)
        keys = mix_seed(self.paint_seed, 3, _PARTS.index(part))
        images, masks = [], []
        for row, photograph in enumerate(photographs):
            streams = Streams.of(keys, torch.tensor([row]))
            painted, mask = self.painter.paint(photograph, streams, f"photograph {row} of {name}")
            images += [photograph, painted]
            masks += [torch.zeros_like(mask), mask]
        labels = torch.arange(len(images)) % 2
        title = f"painted lesions on {name}"
        return MaskedImages(torch.stack(images), labels, CLASS_NAMES, title, masks=torch.stack(masks), positive=1)

    def _photographs(self, part: str) -> tuple[list[UInt8[Tensor, "3 size size"]], str]:
        keys = mix_seed(self.paint_seed, 4, _PARTS.index(part))
        streams = [Streams.of(keys, torch.tensor([row])) for row in range(self.num_drawn)]
        if self.source == DRAWN:
            return [draw_fundus(self.prepare.size, one) for one in streams], "drawn fundi"
        if self.source == RETINA:
            retina = self.prepare(retina_picture(), "the retina of scikit-image")
            return [vary(retina, one) for one in streams], "variants of scikit-image's retina"
        table = open_table(self.source, part)
        table = choose_classes(table, (self.healthy or table.class_names[0],))
        with quiet():
            return [self._prepared(table, row) for row in range(len(table.labels))], table.name

    def _prepared(self, table: Table, row: int) -> UInt8[Tensor, "3 size size"]:
        where = f"row {row} of the class {table.class_names[0]!r} of {table.name}"
        return self.prepare(read_picture(table.dataset[row][table.column], "RGB", where), where)


def _both(photographs: Tensor) -> Tensor:
    """Return the rows of these photographs, clean and painted, in their order in the set."""
    first = 2 * photographs.sort().values
    return torch.stack([first, first + 1], 1).flatten()
