"""Turns, rotations, zooms and crops equal those that NumPy and SciPy make one after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.data.scans import CropAugment, SliceAugment, TrainingScans
from aureole.data.scans.slice_augment import _zoomed


def pile(*sizes, num_labelled=None, channels=1):
    generator = torch.Generator().manual_seed(0)
    total = sum(int(np.prod(size)) for size in sizes)
    count = len(sizes) if num_labelled is None else num_labelled
    return TrainingScans(
        voxels=torch.rand(channels, total, generator=generator),
        labels=torch.randint(1, 9, (sum(int(np.prod(s)) for s in sizes[:count]),), generator=generator).byte(),
        sizes=sizes,
        num_labelled=count,
        names=tuple(map(str, range(len(sizes)))),
        patients=tuple(map(str, range(len(sizes)))),
        class_names=tuple("abcdefghi"),
    )


def by_scipy(picture, draw, augment):
    kind, quarter, side, angle = draw
    if kind < augment.turn:
        picture = np.flip(np.rot90(picture, int(quarter * 4)), axis=int(side * 2))
    elif kind < augment.turn + augment.rotate:
        degrees = int(np.floor(angle * 2 * augment.max_degrees)) - augment.max_degrees
        picture = ndimage.rotate(picture, degrees, order=0, reshape=False)
    factors = [new / old for new, old in zip(augment.patch_size, picture.shape, strict=True)]
    return ndimage.zoom(picture, factors, order=0)


@pytest.mark.parametrize("augment", [SliceAugment(patch_size=(24, 30)), SliceAugment(patch_size=(33, 17), rotate=0.5)])
def test_slices_equal_scipy(augment):
    sizes = [(20 + n % 7, 31 - n % 5) for n in range(60)]
    scans, index = pile(*sizes), torch.arange(60)
    draws = Streams.of(3, index).uniform((60, 4)).tolist()
    x, y = augment(scans, index, Streams.of(3, index))
    kinds = {(d[0] < 0.5, d[0] < 0.5 + augment.rotate, int(d[1] * 4), int(d[2] * 2)) for d in draws}
    assert len(kinds) > 12  # every turn with every flip, and more
    for place, draw in enumerate(draws):
        wanted = by_scipy(scans.image(place)[0].numpy(), draw, augment)
        np.testing.assert_array_equal(x[place, 0].numpy(), wanted)
        np.testing.assert_array_equal(y[place].numpy(), by_scipy(scans.label(place).numpy(), draw, augment))


def test_zoom_equals_scipy_for_all_sizes():
    for new in (1, 5, 64, 256):
        for old in range(1, 300):
            index, inside = _zoomed(torch.tensor([old]), new)
            wanted = ndimage.zoom(np.arange(1, old + 1), new / old, order=0)
            assert torch.where(inside, index + 1, 0)[0].tolist() == wanted.tolist(), (old, new)


def test_what_happens_to_a_slice_does_not_depend_on_its_batch():
    scans, augment = pile(*[(9, 12 + n) for n in range(8)], num_labelled=5, channels=2), SliceAugment(patch_size=(8, 8))
    streams = Streams.of(1, torch.arange(5))
    x, y = augment(scans, torch.arange(5), streams.select(slice(None)))
    for place in range(5):
        alone = augment(scans, torch.tensor([place]), Streams.of(1, torch.tensor([place])))
        assert torch.equal(alone[0][0], x[place])
        assert torch.equal(alone[1][0], y[place])
    assert x.shape == (5, 2, 8, 8)
    bare, none = augment(scans, torch.tensor([7]), Streams.of(1, torch.tensor([7])), with_label=False)
    assert (none, bare.shape) == (None, (1, 2, 8, 8))


def by_numpy(volume, draw, size):
    """Turn, flip and pad the whole volume, then cut: the published order."""
    volume = np.flip(np.rot90(volume, int(draw[0] * 4)), axis=int(draw[1] * 2))
    if any(n <= p for n, p in zip(volume.shape, size, strict=True)):
        volume = np.pad(volume, [(max((p - n) // 2 + 3, 0),) * 2 for n, p in zip(volume.shape, size, strict=True)])
    starts = [int(u * (n - p)) for u, n, p in zip(draw[2:], volume.shape, size, strict=True)]
    return volume[tuple(slice(s, s + p) for s, p in zip(starts, size, strict=True))]


@pytest.mark.parametrize("size", [(6, 6, 6), (8, 5, 9), (20, 16, 16)])
def test_crops_equal_numpy_also_where_volumes_are_smaller(size):
    sizes = [(7 + n % 5, 10 - n % 4, 6 + n % 9) for n in range(40)]
    scans, index = pile(*sizes), torch.arange(40)
    draws = Streams.of(2, index).uniform((40, 5)).tolist()
    x, y = CropAugment(patch_size=size)(scans, index, Streams.of(2, index))
    for place, draw in enumerate(draws):
        np.testing.assert_array_equal(x[place, 0].numpy(), by_numpy(scans.image(place)[0].numpy(), draw, size))
        np.testing.assert_array_equal(y[place].numpy(), by_numpy(scans.label(place).numpy(), draw, size))


def test_crops_without_turns_and_labels():
    scans, index = pile((8, 9, 10)), torch.zeros(6, dtype=torch.int64)
    x, none = CropAugment(patch_size=(6, 6, 6), turn=False)(
        scans, index, Streams.of(0, torch.arange(6)), with_label=False
    )
    assert none is None
    windows = scans.image(0)[0].unfold(0, 6, 1).unfold(1, 6, 1).unfold(2, 6, 1).reshape(-1, 6, 6, 6)
    assert all((windows == crop).flatten(1).all(1).any() for crop in x[:, 0])


def test_misuse_is_refused():
    for wrong in ({"turn": 0.8, "rotate": 0.3}, {"turn": -0.1}, {"max_degrees": 0}, {"patch_size": (0, 4)}):
        with pytest.raises(InputError, match="must be"):
            SliceAugment(**wrong)
    with pytest.raises(InputError, match="three lengths"):
        CropAugment(patch_size=(4, 4, 0))
    one = torch.tensor([0])
    with pytest.raises(InputError, match="use CropAugment"):
        SliceAugment()(pile((4, 4, 4)), one, Streams.of(0, one))
    with pytest.raises(InputError, match="use SliceAugment"):
        CropAugment()(pile((4, 4)), one, Streams.of(0, one))
    with pytest.raises(InputError, match="ask for 16 voxels and 16 labels"):
        TrainingScans(
            voxels=torch.rand(1, 15),
            labels=torch.zeros(16, dtype=torch.uint8),
            sizes=((4, 4),),
            num_labelled=1,
            names=("a",),
            patients=("a",),
            class_names=("a", "b"),
        )
