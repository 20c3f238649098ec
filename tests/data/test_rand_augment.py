"""RandAugment draws what it says, for each image by its own stream; Cutout paints its square."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.data import Cutout, RandAugment
from aureole.data.operations import OPERATIONS


def pixels(count, channels=3, size=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)


def streams(indices, seed=0):
    return Streams.of(seed, torch.as_tensor(indices))


@pytest.mark.parametrize("augment", [RandAugment(), RandAugment(3, 1.0), Cutout()])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_its_batch(augment, channels):
    x = pixels(60, channels)
    before = x.clone()
    whole = augment(x, streams(range(60)))
    some = torch.tensor([31, 4, 17, 59])
    assert torch.equal(augment(x[some], streams(some)), whole[some])
    assert torch.equal(augment(x[7:8], streams([7])), whole[7:8])
    assert whole.dtype == torch.uint8
    assert torch.equal(x, before)
    assert not torch.equal(whole, x)
    assert not torch.equal(augment(x, streams(range(60), seed=1)), whole)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(12)), st.integers(1, 11))
def test_order_and_splits_of_the_batch_do_not_matter(seed, order, cut):
    x, augment = pixels(12, seed=3), RandAugment(2, 0.8)
    order = torch.tensor(order)
    expected = augment(x, streams(range(12), seed))[order]
    parts = [augment(x[part], streams(part, seed)) for part in (order[:cut], order[cut:])]
    assert torch.equal(torch.cat(parts), expected)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_one_operation_in_the_pool_is_that_operation(name):
    x, operation = pixels(20, size=20), OPERATIONS[name]
    out = RandAugment(1, 1.0, fill=7, pool=(name,))(x, streams(range(20)))
    share = streams(range(20)).uniform((20, 3, 1))[:, 2, 0]
    strength = operation.low + (operation.high - operation.low) * share
    assert torch.equal(out, operation.apply(x, strength, 7))


def test_operations_follow_one_another_as_drawn():
    x, pool = pixels(40), ("solarise", "identity", "shear-x", "equalise")
    out = RandAugment(3, 0.7, fill=5, pool=pool)(x, streams(range(40)))
    draws = streams(range(40)).uniform((40, 3, 3))
    for i in range(40):
        image = x[i : i + 1]
        for which, carried_out, share in draws[i].T:
            if carried_out < 0.7:
                operation = OPERATIONS[pool[int(which * 4)]]
                strength = operation.low + (operation.high - operation.low) * share
                image = operation.apply(image, strength[None], 5)
        assert torch.equal(out[i : i + 1], image)


def test_the_probability_is_that_of_a_change():
    x = torch.randint(1, 128, (2000, 1, 1, 3)).to(torch.uint8)
    changed = (RandAugment(1, 0.3, pool=("brightness",))(x, streams(range(2000))) != x).flatten(1).any(1)
    assert 0.25 < changed.float().mean() < 0.35
    assert torch.equal(RandAugment(5, 0.0)(x, streams(range(2000))), x)
    assert torch.equal(RandAugment(0)(x, streams(range(2000))), x)


@pytest.mark.parametrize(("size", "fill"), [(0.5, 127), (0.25, 0), (0.0, 9), (1.0, 255)])
def test_cutout_paints_a_square_about_its_centre(size, fill):
    x = pixels(100, size=8)
    out = Cutout(size, fill)(x, streams(range(100)))
    centres = (streams(range(100)).uniform((100, 2, 1)) * 8).long().flatten(1).tolist()
    side = int(8 * size)
    for before, after, (row, column) in zip(x, out, centres, strict=True):
        expected = before.clone()
        top, left = row - side // 2, column - side // 2
        expected[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = fill
        assert torch.equal(after, expected)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RandAugment(-1), "num_operations must be at least 0; got -1"),
        (lambda: RandAugment(probability=1.5), r"probability must be in \[0, 1\]; got 1.5"),
        (lambda: RandAugment(fill=256), "fill must be a level from 0 to 255; got 256"),
        (lambda: RandAugment(pool=()), "pool must name at least one operation"),
        (lambda: RandAugment(pool=("rotat",)), "unknown operation 'rotat': did you mean 'rotate'"),
        (lambda: Cutout(2.0), r"size must be in \[0, 1\], a part of the shorter side; got 2.0"),
        (lambda: Cutout(fill=-1), "fill must be a level"),
        (lambda: RandAugment()(pixels(2, channels=2), streams([0, 1])), "1 or 3 channels; got torch.uint8 with 2"),
        (lambda: RandAugment()(pixels(2) / 255, streams([0, 1])), "uint8 images with 1 or 3 .* got torch.float32"),
        (lambda: Cutout()(pixels(2) / 255, streams([0, 1])), "Cutout changes uint8 images; got torch.float32"),
    ],
)
def test_misuse_is_refused_in_one_line(make, match):
    with pytest.raises(InputError, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_an_accelerator_gives_the_same_levels():
    x, augment = pixels(300, size=32), RandAugment(3, 1.0)
    here, there = augment(x, streams(range(300))), augment(x.cuda(), streams(torch.arange(300).cuda()))
    assert int((here.int() - there.cpu().int()).abs().max()) <= 1 or (here != there.cpu()).float().mean() < 1e-3
