"""Names of views mean chains of augmentations."""

from __future__ import annotations

import pytest

from aureole.core.errors import InputError
from aureole.data import VIEWS, Cutout, RandAugment, RandomHorizontalFlip, view


def test_every_kind_has_the_same_views_and_strong_goes_on_from_weak():
    for kind, chains in VIEWS.items():
        assert set(chains) == {"plain", "weak", "strong"}
        assert view("plain", kind) == ()
        weak, strong = view("weak", kind), view("strong", kind)
        assert strong[: len(weak)] == weak
        assert [type(augment) for augment in strong[len(weak) :]] == [RandAugment, Cutout]


def test_photos_are_mirrored_and_digits_are_not():
    assert RandomHorizontalFlip() in view("weak", "photos")
    assert not any(isinstance(augment, RandomHorizontalFlip) for augment in view("strong", "digits"))


def test_own_views_are_found_by_name():
    own = {"mirror": (RandomHorizontalFlip(1.0),)}
    assert view("mirror", own) == own["mirror"]


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("week", "photos", "unknown view 'week': did you mean 'weak'"),
        ("weak", "photo", "unknown kind of picture 'photo': did you mean 'photos'"),
        ("weak", {"mirror": ()}, "unknown view 'weak': choose one of mirror"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(name, kind, match):
    with pytest.raises(InputError, match=match):
        view(name, kind)
