"""Drawn scans: the same for the same seed, with the parts of a heart and of an atrium, and not told by grey alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from aureole.core.errors import InputError
from aureole.data.scans import Phantoms
from aureole.data.scans.phantom_atrium import draw_atrium
from aureole.data.scans.phantom_heart import draw_heart

HEARTS = [[draw_heart(5, patient, frame, 48) for frame in (0, 1)] for patient in range(6)]
ATRIA = [draw_atrium(5, patient, 40) for patient in range(6)]


def components(mask):
    return ndimage.label(mask.numpy(), np.ones((3, 3, 3)))[1]


def test_the_seed_and_the_patient_decide():
    again, other = draw_heart(5, 2, 1, 48), draw_heart(6, 2, 1, 48)
    assert torch.equal(again.image, HEARTS[2][1].image)
    assert again.shape != other.shape or not torch.equal(again.label, other.label)
    assert torch.equal(draw_atrium(5, 3, 40).image, ATRIA[3].image)
    assert draw_heart(5, 0, 0, 48, with_label=False).label is None
    assert len({scan.shape for scan, _ in HEARTS}) > 3
    assert len({scan.shape for scan in ATRIA}) > 3
    torch.manual_seed(3)
    before = torch.get_rng_state()
    draw_heart(5, 0, 0, 24), draw_atrium(5, 0, 24)
    assert torch.equal(before, torch.get_rng_state())


def test_hearts_have_their_parts_in_their_places():
    for full, contracted in HEARTS:
        classes = [part.unique().tolist() for part in full.label]
        assert classes[0] == classes[-1] == [0]
        assert [0, 1, 2, 3] in classes[1:3]
        assert [0, 2] in classes  # near the apex only muscle is left
        assert (full.image.min(), full.image.max()) == (0, 1)
        volumes, smaller = (scan.label.flatten().bincount(minlength=4) for scan in (full, contracted))
        assert smaller[3] < 0.7 * volumes[3]
        assert smaller[1] < volumes[1]
        assert full.shape == contracted.shape
        assert not torch.equal(full.image, contracted.image)


def test_muscle_lies_around_the_left_ventricle():
    for scan, _ in HEARTS:
        left = (scan.label == 3).numpy()
        grown = ndimage.binary_dilation(left, np.ones((1, 3, 3)))
        ring = scan.label.numpy()[grown & ~left]
        assert (ring == 2).mean() == 1


def test_grey_levels_alone_do_not_tell_the_classes():
    for scan, _ in HEARTS:
        image, label = scan.image[0], scan.label
        blood, muscle = image[label == 3], image[label == 2]
        assert blood.mean() > muscle.mean() + 0.1
        assert ((image > blood.quantile(0.1)) & (label == 0)).sum() > 0.3 * (label == 3).sum()
        assert ((image < muscle.median()) & (label == 0)).sum() > (label == 2).sum()


def test_atria_are_one_piece_with_a_satellite_that_no_label_marks():
    for scan in ATRIA:
        label, image = scan.label, scan.image[0]
        assert 0.02 < label.float().mean() < 0.15
        smoothed = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), 0.7))
        bright = smoothed > (0.5 * smoothed[label == 1].mean() + 0.5 * smoothed[label == 0].mean())
        sizes = np.bincount(ndimage.label((bright & (label == 0)).numpy())[0].ravel())[1:]
        assert sizes.max() > 30
        assert abs(float(image.mean())) < 1e-4
        assert abs(float(image.std(correction=0)) - 1) < 1e-4


def test_atria_are_connected():
    assert [components(scan.label == 1) for scan in ATRIA] == [1] * len(ATRIA)


def test_phantoms_need_patients_and_room():
    for wrong in ({"num_train": 0}, {"num_test": 0}, {"size": 8}):
        with pytest.raises(InputError, match="each part needs a drawn patient"):
            Phantoms(**wrong)
