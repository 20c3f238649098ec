"""Painted lesions are where their masks say, inside the retina, and fixed by their seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.data import Fundus, LesionPainter, PaintedLesions, drawn
from aureole.data.drawn import draw_fundus, fundus_source, vary

SMALL = Fundus(size=64)


def one(seed: int) -> Streams:
    return Streams.of(seed, torch.tensor([0]))


@pytest.mark.parametrize("kind", ["bright", "dark"])
@pytest.mark.parametrize("seed", range(4))
def test_lesions_are_where_the_mask_says_and_nowhere_else(kind, seed):
    clean = draw_fundus(96, one(seed))
    painted, mask = LesionPainter(kinds=(kind,)).paint(clean, one(seed + 10), "x")
    change = (painted.float() - clean.float()).mean(0)
    disk = Fundus().disk(clean, "x")
    assert mask.any()
    assert disk[mask].all()
    assert not change[~disk].any()
    assert (change[mask] if kind == "bright" else -change[mask]).mean() > 8
    halo = torch.nn.functional.max_pool2d(mask[None].float(), 21, 1, 10)[0] > 0
    assert change[~halo].abs().max() == 0
    assert change[mask].abs().mean() > 4 * change[halo & ~mask].abs().mean()


def test_the_shape_is_irregular_and_of_the_size_asked_for():
    clean = draw_fundus(256, one(0))
    painter = LesionPainter(num_lesions=(1, 1), radius=(0.1, 0.1))
    areas = []
    for seed in range(6):
        mask = painter.paint(clean, one(seed), "x")[1]
        areas.append(mask.sum().item() / (torch.pi * (0.1 * 256) ** 2))
        rows, columns = mask.nonzero().float().unbind(1)
        spread = torch.stack([rows, columns]).cov()
        ellipse = 4 * torch.pi * spread.det().sqrt()  # the area of an ellipse with these second moments
        assert mask.sum() < 0.995 * ellipse
    assert 0.6 < np.mean(areas) < 1.6
    assert np.std(areas) > 0.01


def test_the_same_stream_gives_the_same_lesions():
    clean = draw_fundus(64, one(0))
    first, again, other = (LesionPainter().paint(clean, one(seed), "x") for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_unusable_painters_and_photographs_are_refused():
    for wrong in ({"radius": (0.2, 0.1)}, {"num_lesions": (0, 2)}, {"strength": (0.5, 1.5)}, {"edge": (0.1, 0.9)}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be a range above 0 and at most"):
            LesionPainter(**wrong)
    with pytest.raises(InputError, match="unknown kind of lesion 'brigt': did you mean 'bright'"):
        LesionPainter(kinds=("brigt",))
    with pytest.raises(InputError, match="at least one of bright, dark"):
        LesionPainter(kinds=())
    with pytest.raises(InputError, match="x must show a bright disk"):
        LesionPainter().paint(torch.zeros(3, 32, 32, dtype=torch.uint8), one(0), "x")
    with pytest.raises(InputError, match="x must have room for a lesion"):
        LesionPainter().paint(torch.full((3, 3, 3), 99, dtype=torch.uint8), one(0), "x")


def test_each_photograph_is_once_clean_and_once_painted_and_in_one_part_only():
    data = PaintedLesions(num_drawn=8, num_validation=4, prepare=SMALL)
    splits = data.train_and_validation()
    assert (len(splits.train), len(splits.validation)) == (12, 4)
    seen = []
    for images in (splits.train, splits.validation, data.test()):
        assert images.name == "painted lesions on drawn fundi"
        assert (images.class_names, images.positive) == (("clean", "painted"), 1)
        assert torch.equal(images.has_mask, images.labels == 1)
        clean, painted = images.images[::2], images.images[1::2]
        outside = ~images.masks[1::2] & (clean == painted).all(1)
        assert outside.flatten(1).float().mean(1).min() > 0.5
        assert ((clean != painted).any(1) & images.masks[1::2]).flatten(1).any(1).all()
        seen += [picture.numpy().tobytes() for picture in clean]
    assert len(set(seen)) == len(seen) == 16
    assert from_values(to_values(data)) == data


def test_fractions_are_of_photographs_and_nested():
    config = {"num_drawn": 10, "num_validation": 4, "prepare": Fundus(size=32)}
    quarter, half, whole = (PaintedLesions(fraction=f, **config).train_and_validation() for f in (0.25, 0.5, 1.0))
    assert [len(s.train) for s in (quarter, half, whole)] == [4, 8, 16]
    assert half.train.labels.bincount().tolist() == [4, 4]
    few, more = ({p.numpy().tobytes() for p in s.train.images} for s in (quarter, half))
    assert few < more
    assert quarter.validation.fingerprint == whole.validation.fingerprint
    assert len(PaintedLesions(num_train=6, **config).train_and_validation().train) == 6
    for wrong in ({"num_validation": 3}, {"num_train": 5}):
        with pytest.raises(InputError, match="must be even"):
            PaintedLesions(**(config | wrong)).train_and_validation()
    with pytest.raises(InputError, match="num_drawn must be at least 1"):
        PaintedLesions(num_drawn=0)


def test_another_paint_seed_paints_other_lesions():
    first, other = (PaintedLesions(num_drawn=2, paint_seed=seed, prepare=SMALL).test() for seed in (0, 1))
    assert not torch.equal(first.masks, other.masks)


def test_photographs_of_a_folder_are_painted_on_their_healthy_class(tmp_path):
    for row, name in enumerate(("healthy", "ill", "healthy", "ill")):
        place = tmp_path / "train" / name
        place.mkdir(parents=True, exist_ok=True)
        pixels = torch.zeros(3, 70, 100 + row, dtype=torch.uint8)
        pixels[:, 3:67, 20:84] = draw_fundus(64, one(row))
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(place / f"{row}.png")
    images = PaintedLesions(source=str(tmp_path), prepare=SMALL)._read("train")
    assert len(images) == 4
    assert images.name.startswith("painted lesions on ")
    assert (images.images[0].float() - draw_fundus(64, one(0)).float()).abs().mean() < 6
    named = PaintedLesions(source=str(tmp_path), healthy="ill", prepare=SMALL)._read("train")
    assert not torch.equal(named.images[0], images.images[0])
    with pytest.raises(InputError, match="unknown class 'wel'"):
        PaintedLesions(source=str(tmp_path), healthy="wel")._read("train")
    (tmp_path / "train" / "healthy" / "2.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"row 1 of the class 'healthy' of .* cannot be decoded"):
        PaintedLesions(source=str(tmp_path), prepare=SMALL)._read("train")


def test_the_stand_in_is_what_is_at_hand(tmp_path, monkeypatch):
    assert fundus_source(str(tmp_path)) == str(tmp_path)
    retina = draw_fundus(80, one(5))

    def missing():
        raise InputError("there is none")

    monkeypatch.setattr(drawn, "retina_picture", missing)
    assert fundus_source(str(tmp_path / "no")) == "drawn"
    monkeypatch.setattr(drawn, "retina_picture", lambda: retina)
    assert fundus_source(str(tmp_path / "no")) == "retina"
    monkeypatch.setattr("aureole.data.painted.retina_picture", lambda: retina)
    images = PaintedLesions(source="retina", num_drawn=3, prepare=SMALL)._read("train")
    assert images.name == "painted lesions on variants of scikit-image's retina"
    assert len({picture.numpy().tobytes() for picture in images.images[::2]}) == 3


def test_without_scikit_image_the_retina_is_refused_in_one_line(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(drawn.importlib, "import_module", absent)
    with pytest.raises(InputError, match="install scikit-image, or use the source 'drawn'") as caught:
        drawn.retina_picture()
    assert "\n" not in str(caught.value)


def test_a_variant_keeps_the_disk():
    picture = draw_fundus(64, one(2))
    varied = vary(picture, one(1))
    assert not torch.equal(varied, picture)
    kept = Fundus().disk(varied, "x") == Fundus().disk(picture, "x")
    assert kept.float().mean() > 0.96


def test_drawn_fundi_differ_and_have_a_disk():
    pictures = [draw_fundus(64, one(seed)) for seed in range(3)]
    assert torch.equal(pictures[0], draw_fundus(64, one(0)))
    assert not torch.equal(pictures[0], pictures[1])
    for picture in pictures:
        assert Fundus().disk(picture, "x").float().mean().item() == pytest.approx(torch.pi / 4, abs=0.05)


def test_palm(shared_data, hub_cache):
    folder = shared_data / "palm"
    if not folder.is_dir():
        pytest.skip(f"no data set at {folder}")
    images = PaintedLesions(source=str(folder), prepare=SMALL)._read("train")
    assert len(images) == 2 * 187
    assert images.name == "painted lesions on palm"
    assert torch.equal(images.has_mask, images.labels == 1)
