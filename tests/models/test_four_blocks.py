"""Teacher and student of MED-TEX have the thesis's counts, the maps of its table, and take images of any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.core.taps import extract, find_taps
from aureole.models import FourBlocks, ModelConfig

TEACHER, STUDENT = (32, 64, 128, 256), (2, 4, 8, 16)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def convolutions(widths, channels=3):
    return sum(9 * a * b + b for a, b in zip((channels, *widths), widths, strict=False))


@pytest.mark.parametrize(
    ("widths", "exactly", "thesis"),
    [(TEACHER, 390_466, "390.5k"), (STUDENT, 1_726, "1.7k")],
    ids=["teacher", "student"],
)
def test_parameters_are_the_thesis_counts(widths, exactly, thesis):
    model = FourBlocks(widths)
    assert count(model) == exactly == convolutions(widths) + 4 * widths[-1] * 2 + 2
    assert f"{count(model) / 1000:.1f}k" == thesis
    assert f"{exactly:,}" in str(FourBlocks.__doc__)


def test_the_student_is_226_times_smaller():
    assert round(count(FourBlocks(TEACHER)) / count(FourBlocks(STUDENT))) == 226


@pytest.mark.parametrize("positions", [1, 32 * 32], ids=["global-pooling", "all-positions"])
def test_other_readings_of_the_linear_layer_miss_the_counts(positions):
    teacher, student = (convolutions(w) + positions * w[-1] * 2 + 2 for w in (TEACHER, STUDENT))
    assert f"{teacher / 1000:.1f}k" != "390.5k"
    assert f"{student / 1000:.1f}k" != "1.7k"


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (64, 64)), (5, (17, 40)), (2, (8, 8))])
def test_images_of_any_size_and_channels(channels, size):
    model, x = FourBlocks(STUDENT, 7, channels, size), torch.rand(3, channels, *size)
    features = extract(model, x, find_taps(model, x))
    assert features.logits.shape == (3, 7)
    assert [tuple(m.shape[1:]) for m in features.maps] == [
        (width, size[0] // 2**k, size[1] // 2**k) for k, width in enumerate(STUDENT)
    ]
    assert count(model) == convolutions(STUDENT, channels) + 64 * 7 + 7


def test_a_pass_is_that_of_the_table():
    model, x = FourBlocks(STUDENT), torch.rand(2, 3, 32, 32)
    out = x
    for k in range(1, 5):
        conv = model.get_submodule(f"b{k}.conv")
        assert isinstance(conv, nn.Conv2d)
        out = nn.functional.conv2d(out, conv.weight, conv.bias, padding=1).clamp_min(0)
        out = nn.functional.max_pool2d(out, 2) if k < 4 else out
    quarters = out.reshape(2, 16, 2, 2, 2, 2).mean((3, 5)).flatten(1)
    head = model.get_submodule("fc")
    torch.testing.assert_close(model(x), head(quarters))
    torch.testing.assert_close(extract(model, x, model.taps).maps[3], out)


def test_the_catalogue_builds_both():
    for name, exactly in (("four-blocks", 390_466), ("four-blocks-tiny", 1_726)):
        assert count(ModelConfig(name=name).build(num_classes=2, image_shape=(3, 64, 48), seed=0)) == exactly


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"image_size": (7, 64)}, "at least 8x8 pixels; got 7x64"),
        ({"widths": (2, 4, 8)}, "needs four widths"),
        ({"widths": (2, 4, 0, 8)}, "all positive"),
        ({"num_classes": 0}, "all positive"),
    ],
)
def test_misuse_is_one_line(wrong, line):
    with pytest.raises(InputError, match=line) as error:
        FourBlocks(**wrong)
    assert "\n" not in str(error.value)
