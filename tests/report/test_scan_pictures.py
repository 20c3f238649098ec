"""The picture of a segmented scan: the right slices, the right way up, each class in its colour."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from aureole.report.scan_pictures import ScanPicture, chosen_slices, class_colour, contoured, windowed

SIDE, TOP, LEFT = 288, 66, 12


def drawn(**given):
    with Image.open(io.BytesIO(ScanPicture(**({"title": "a scan", "legend": ["heart"]} | given)).png())) as picture:
        return np.asarray(picture) / 255


def panel(pixels, row, height=SIDE, width=SIDE):
    top = TOP + row * (height + 8)
    return pixels[top : top + height, LEFT : LEFT + width]


def corner(*place):
    """Return a volume of 9 slices (z last) with one bright quarter, marked as class 1."""
    image = np.zeros((8, 8, 9))
    image[*(slice(0, 4) if at == 0 else slice(4, 8) for at in place)] = 1
    return image, image.astype(np.uint8)


def bright_quarter(pixels):
    half = SIDE // 2
    quarters = {
        (r, c): pixels[r * half : (r + 1) * half, c * half : (c + 1) * half].mean() for r in (0, 1) for c in (0, 1)
    }
    return max(quarters, key=quarters.__getitem__)


@pytest.mark.parametrize(
    ("signs", "expected"),
    # the bright quarter is that of small x and small y; the right is drawn on the left, the front up
    [((1, 1), (1, 1)), ((-1, 1), (1, 0)), ((1, -1), (0, 1)), ((-1, -1), (0, 0))],
)
def test_the_right_is_on_the_left_and_the_front_is_up(signs, expected):
    image, classes = corner(0, 0)
    pixels = drawn(image=image, classes=classes, slice_axis=2, affine=np.diag([*signs, 1.0, 1.0]))
    assert bright_quarter(panel(pixels, 0)) == expected


def test_swapped_axes_and_other_planes_are_turned():
    image, classes = corner(0, 1)  # small first, large second axis
    swapped = np.array([[0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]])  # first is y, second x
    pixels = drawn(image=image, classes=classes, slice_axis=2, affine=swapped)
    assert bright_quarter(panel(pixels, 0)) == (1, 0)  # back, left of the patient is right: x large is on the left
    coronal = np.moveaxis(image, 2, 1)  # x, slices, z
    pixels = drawn(image=coronal, classes=np.moveaxis(classes, 2, 1), slice_axis=1, affine=np.eye(4))
    assert bright_quarter(panel(pixels, 0)) == (0, 1)  # head up


def test_without_an_affine_slices_are_drawn_as_they_are():
    image, classes = corner(0, 1)
    pixels = drawn(image=np.moveaxis(image, 2, 0), classes=np.moveaxis(classes, 2, 0), slice_axis=0)
    assert bright_quarter(panel(pixels, 0)) == (0, 1)


def test_spacing_makes_the_shape():
    image, classes = corner(0, 0)
    pixels = drawn(image=image, classes=classes, slice_axis=2, spacing=(1.0, 0.5, 3.0))
    grey = panel(pixels, 0, height=SIDE // 2)
    assert grey[:140, :140].mean() > 0.3
    assert np.allclose(pixels[TOP + SIDE // 2 + 2, LEFT + 2], 0.07, atol=0.01)  # the gap below half the height


def test_contours_have_the_colours_of_the_legend():
    classes = np.zeros((5, 16, 16), dtype=np.uint8)
    classes[:, 2:8, 2:8], classes[:, 10:14, 10:14] = 1, 2
    truth = np.where(classes == 1, 2, 0)
    image = np.random.default_rng(0).random(classes.shape)
    plain = drawn(image=image, classes=classes, legend=["one", "two"])
    pixels = drawn(image=image, classes=classes, legend=["one", "two"], truth=truth)
    assert pixels.shape[0] - plain.shape[0] == SIDE + 8

    def has(part, number):
        return bool((np.abs(part - np.array(class_colour(number))).max(axis=-1) < 0.01).any())

    shown = [[has(panel(pixels, row), number) for number in (1, 2)] for row in range(3)]
    assert shown == [[False, False], [True, True], [False, True]]
    assert has(pixels[-40:], 1)
    assert has(pixels[-40:], 2)


def test_long_legends_and_titles_stay_inside():
    classes = np.zeros((1, 8, 8), dtype=np.uint8)
    names = [f"class number {number} of many" for number in range(1, 13)]
    pixels = drawn(image=np.zeros(classes.shape), classes=classes, legend=names, title="x" * 300)
    few = drawn(image=np.zeros(classes.shape), classes=classes)
    assert pixels.shape[1] == few.shape[1] == 480
    assert pixels.shape[0] > few.shape[0] + 3 * 28
    assert pixels[12:30, 470:].max() < 0.1


def test_contours_leave_the_inside_and_the_picture_alone():
    pixels, classes = np.full((12, 12, 3), 0.5), np.zeros((12, 12), dtype=int)
    classes[2:10, 2:10] = 3
    found = contoured(pixels, classes)
    assert (pixels == 0.5).all()
    rim = (found != 0.5).any(axis=-1)
    assert rim.sum() == 28
    assert np.allclose(found[2, 2], class_colour(3))
    assert not rim[3:9, 3:9].any()


def test_slices_are_those_with_something_in_them():
    classes = np.zeros((4, 4, 30), dtype=int)
    assert chosen_slices(classes, 2) == [7, 15, 22]
    classes[0, 0, 29] = 1
    assert chosen_slices(classes, 2) == [29]
    assert chosen_slices(np.zeros((1, 4, 4)), 0) == [0]


def test_grey_levels_do_not_hang_on_a_few_voxels():
    image = np.linspace(0, 1, 10_000).reshape(10, 10, 100)
    image.flat[5] = 1e6
    assert windowed(image)[5, 0, 0] == pytest.approx(0.5, abs=0.02)
    assert (windowed(np.full((2, 2, 2), 7.0)) == 0).all()
