"""What a study is: pairs of adversarial images, one of a source attack and one of the same attack refined.

The page that persons see knows its pictures by opaque names alone. Which of them is refined stands in the key, a small
file that stays with whoever made the study; the answers mean nothing without it.

Source: Thesis, section 3.4.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.schema import from_values, read_object

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1  # of the key and of the answers
KEY_NAME = "study.json"
_ROUNDING = 1e-6  # how far outside [0, 1] an image may be


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyPair:
    """Two adversarial images of one clean image; as 8-bit pictures they differ.

    Args:
        name: what the pair is called; with ``attack``, it is unique in the study.
        attack: name of the source attack, a row of the table.
        source: the source attack's image, (channels, height, width) in [0, 1], with 1 or 3 channels.
        refined: the refined attack's image, of the same shape.
        clean: the clean image, of the same shape; needed where the study shows it.

    Raises:
        InputError: an image is not of this kind, or nobody could tell the two apart on a screen.

    Example:
        >>> from aureole.refine.study import StudyPair
        >>> StudyPair(name="3", attack="BIM", source=torch.zeros(1, 8, 8), refined=torch.ones(1, 8, 8)).differs
        True
    """

    name: str
    attack: str
    source: Float[Tensor, "..."] = field(repr=False)
    refined: Float[Tensor, "..."] = field(repr=False)
    clean: Float[Tensor, "..."] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for text in ("name", "attack"):
            if not getattr(self, text).strip():
                raise InputError(f"{text} of a pair must say something; got {getattr(self, text)!r}")
        for role in ("source", "refined", "clean"):
            image = getattr(self, role)
            if image is not None:
                _check(image, f"{role} of pair {self.name!r}", self.source.shape)
        if not self.differs:
            raise InputError(
                f"pair {self.name!r} of {self.attack!r} shows the same picture twice (in 8 bits): leave it out"
            )

    @property
    def differs(self) -> bool:
        """Whether the two images differ as pictures of 8 bits, which is all that a page can show."""
        return not torch.equal(*(torch.round(image.detach().double() * 255) for image in (self.source, self.refined)))


def _check(image: Tensor, what: str, shape: torch.Size) -> None:
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise InputError(
            f"{what} must have the shape (1 or 3 channels, height, width); got {tuple(image.shape)}: give one image"
        )
    if image.shape != shape:
        raise InputError(f"{what} must have the shape of the source, {tuple(shape)}; got {tuple(image.shape)}")
    low, high = float(image.min()), float(image.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise InputError(f"{what} must lie in [0, 1]; got values from {low:g} to {high:g}: rescale the images")


@dataclass(frozen=True, kw_only=True)
class PairKey:
    """Which picture of a pair is which: opaque names as they stand in the page and in the answers."""

    pair: str
    name: str
    attack: str
    source: str
    refined: str


@dataclass(frozen=True, kw_only=True)
class StudyKey:
    """What it takes to read the answers of a study: the file ``study.json``, without pictures."""

    format: int
    study: str
    title: str
    pairs: list[PairKey]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Pairs of pictures and the title of their page.

    Args:
        title: heading of the page, which each person reads.
        pairs: at least one; the page shows them in a random order.
        seed: goes into the opaque names, so that studies of the same pictures differ where their seeds do.
        show_clean: whether the clean image stands above each pair. The thesis showed the pairs alone.

    Raises:
        InputError: there is no pair, two pairs have the same name, or a clean image is missing where it is shown.

    Example:
        >>> from aureole.refine.study import Study, StudyPair
        >>> pair = StudyPair(name="3", attack="BIM", source=torch.zeros(1, 8, 8), refined=torch.ones(1, 8, 8))
        >>> len(Study(title="Pictures", pairs=[pair]).identifier)
        12
    """

    title: str
    pairs: Sequence[StudyPair] = field(repr=False)
    seed: int = 0
    show_clean: bool = False

    def __post_init__(self) -> None:
        if not self.pairs:
            raise InputError("pairs of a study must not be empty; got none: give at least one pair")
        if not self.title.strip():
            raise InputError("title of a study must not be empty: say what the page is about")
        names = [(pair.attack, pair.name) for pair in self.pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise InputError(f"pairs of one attack need distinct names; {twice[0]!r} has {twice[1]!r} twice")
        bare = [pair.name for pair in self.pairs if pair.clean is None]
        if self.show_clean and bare:
            raise InputError(f"show_clean needs the clean image of every pair; {bare[0]!r} has none")

    @property
    def identifier(self) -> str:
        """Fingerprint of what is asked (pictures, attacks, seed; not the title): 12 hexadecimal digits."""
        parts = [self.seed, self.show_clean]
        for pair, key in zip(self.pairs, self._keys(), strict=True):
            parts += [key.pair, key.source, key.refined]
            parts += [levels(pair.clean)] if self.show_clean and pair.clean is not None else []
        return _digest(*parts)[:12]

    @property
    def key(self) -> StudyKey:
        """Which picture is which; not for the eyes of whoever takes part."""
        return StudyKey(format=FORMAT, study=self.identifier, title=self.title, pairs=self._keys())

    def _keys(self) -> list[PairKey]:
        return [self._key(pair) for pair in self.pairs]

    def _key(self, pair: StudyPair) -> PairKey:
        """Name the pictures by what they show, so that neither the names nor their order tell which is refined."""
        whose = (self.seed, pair.attack, pair.name)
        source, refined = (_digest(*whose, levels(image))[:16] for image in (pair.source, pair.refined))
        both = _digest(*whose, *sorted((source, refined)))[:16]
        return PairKey(pair=both, name=pair.name, attack=pair.attack, source=source, refined=refined)


def levels(image: Float[Tensor, "channels height width"]) -> np.ndarray:
    """Return an image as a screen shows it: 8-bit levels, (height, width, 3), or (height, width) for one channel.

    Example:
        >>> levels(torch.tensor([[[0.0, 0.5, 1.0]]])).tolist()
        [[0, 128, 255]]
    """
    shown = torch.round(image.detach().double().clamp(0, 1) * 255).to(torch.uint8).cpu()
    return shown[0].numpy() if len(shown) == 1 else shown.movedim(0, -1).contiguous().numpy()


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        array = hasattr(part, "tobytes")
        content = part.tobytes() if array else str(part).encode()
        digest.update(f"{part.shape if array else ''}|{len(content)}|".encode() + content)
    return digest.hexdigest()


def read_key(path: Path) -> StudyKey:
    """Read the key of a study.

    Args:
        path: ``study.json`` itself or the folder that holds it.

    Returns:
        The key.

    Raises:
        InputError: there is no such file, or it is not a key that this version reads.
    """
    path = Path(path)
    path = path / KEY_NAME if path.is_dir() else path
    mend = f"give the {KEY_NAME} that was written beside the page, or its folder"
    values = read_object(path, "the key of a study", mend, field="format", version=FORMAT)
    try:
        key = from_values(StudyKey, values)
    except InputError as error:
        raise InputError(f"{path} is not the key of a study: {error}") from error
    if not key.pairs:
        raise InputError(f"{path} has no pairs: make the study again")
    return key
