"""Which augmentations the views "plain", "weak" and "strong" of an image go through, by kind of picture."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aureole.core.errors import unknown_name
from aureole.data.augment import Augment, RandomHorizontalFlip, RandomTranslation
from aureole.data.rand_augment import Cutout, RandAugment

#: Augmentations that an image goes through, in this order.
Chain = tuple[Augment, ...]

_SHIFT = RandomTranslation(2)
_SHIFT_FLIP = (RandomTranslation(4, border="reflect"), RandomHorizontalFlip())

#: Kind of picture -> name of a view -> what makes it. Digits are white on black, and must not be mirrored.
VIEWS: Mapping[str, Mapping[str, Chain]] = MappingProxyType(
    {
        "digits": MappingProxyType(
            {"plain": (), "weak": (_SHIFT,), "strong": (_SHIFT, RandAugment(fill=0), Cutout(fill=0))}
        ),
        "photos": MappingProxyType(
            {"plain": (), "weak": _SHIFT_FLIP, "strong": (*_SHIFT_FLIP, RandAugment(), Cutout())}
        ),
    }
)


def view(name: str, kind: str | Mapping[str, Chain]) -> Chain:
    """Return what makes a view of images.

    Args:
        name: of the view, such as ``"plain"``, ``"weak"`` or ``"strong"``.
        kind: of picture, a key of :data:`VIEWS`: ``"digits"`` or ``"photos"``; or one's own views by name.

    Raises:
        InputError: there is no such view or kind.

    Example:
        >>> view("weak", "digits")
        (RandomTranslation(max_shift=2, border='zero'),)
    """
    if isinstance(kind, str):
        if kind not in VIEWS:
            raise unknown_name("kind of picture", kind, VIEWS)
        kind = VIEWS[kind]
    if name not in kind:
        raise unknown_name("view", name, kind)
    return kind[name]
