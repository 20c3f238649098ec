"""Masks and boxes beside images, the crop of fundus photographs, and fractions of the training images."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.data import BatchLoader, FractionData, Fundus, MaskedData, MaskedImages
from aureole.data.pictures import box_mask

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
MASK = np.zeros((4, 5), dtype=np.uint8)
MASK[1:3, 2] = 255


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Return three ill and three well pictures, numbered alike in both class folders, and a mask of one ill one."""
    for row in range(6):
        save(tmp_path / "images" / "train" / ("ill", "well")[row % 2] / f"{row // 2}.png", PIXELS[row])
    save(tmp_path / "masks" / "ill" / "1.png", MASK)
    return tmp_path


def data(folder, **options) -> MaskedData:
    return MaskedData(source=str(folder / "images"), mask_folder=str(folder / "masks"), **options)


def refuse(config, match, part="train"):
    with pytest.raises(InputError, match=match) as caught:
        config._read(part)
    assert "\n" not in str(caught.value)


def test_a_mask_folder_gives_each_mask_to_its_image(folder):
    images = data(folder, positive="ill")._read("train")
    assert images.has_mask.tolist() == [False, True, False, False, False, False]
    assert torch.equal(images.masks[1], torch.from_numpy(MASK) > 0)
    assert torch.equal(images.images[1], torch.from_numpy(PIXELS[2]).permute(2, 0, 1))
    assert (images.class_names, images.positive, images.labels.tolist()) == (("ill", "well"), 0, [0, 0, 0, 1, 1, 1])
    part = images.subset(torch.tensor([4, 1]))
    assert part.has_mask.tolist() == [False, True]
    assert len(images.with_masks()) == 1
    assert images.fingerprint != MaskedData(source=str(folder / "images"), positive="ill")._read("train").fingerprint


def test_a_relative_source_finds_its_masks(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert MaskedData(source="images", mask_folder="masks")._read("train").has_mask.sum() == 1


def test_dark_masks_and_lossy_masks(folder):
    assert torch.equal(data(folder, dark_masks=True)._read("train").masks[1], torch.from_numpy(MASK) == 0)
    (folder / "masks" / "ill" / "1.png").unlink()
    smeared = np.where(np.arange(5) < 3, 200, 20).astype(np.uint8) * np.ones((4, 1), np.uint8)
    save(folder / "masks" / "ill" / "1.jpg", smeared)
    assert data(folder)._read("train").masks[1].sum() == 12


def test_training_takes_the_images_as_any_others(folder):
    splits = data(folder, num_validation=2).train_and_validation()
    assert isinstance(splits.train, MaskedImages)
    batch = next(iter(BatchLoader(splits.train, batch_size=4, seed=0)))
    assert batch.x.max() <= 1
    assert splits.train.masks[batch.index].shape == (4, 4, 5)
    config = data(folder, prepare=Fundus(size=8), box_frame=(64, 64), classes=("ill", "well"))
    assert from_values(to_values(config)) == config


def test_mask_and_box_columns(tmp_path, hub_cache):
    from datasets import ClassLabel, Dataset, Features, List, Value
    from datasets import Image as ImageFeature

    kinds = {"label": ClassLabel(names=["goldfish", "frog", "jellyfish"]), "box": List(Value("int32"))}
    features = Features({"image": ImageFeature(), "mask": ImageFeature(), **kinds})
    pictures = [Image.fromarray(p[:, :4]) for p in PIXELS]
    masks = [None, Image.fromarray(MASK[:, :4]), None, None, None, None]
    boxes = [[0, 0, 7, 7], [2, 3, 4, 6], [5, 5, 5, 5], [0, 0, 0, 0], None, [0, 0, 1, 1]]
    rows = {"image": pictures, "mask": masks, "label": [2, 0, 1, 0, 2, 1], "box": boxes}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train-0.parquet")
    two = {"source": str(tmp_path), "classes": ("goldfish", "jellyfish")}
    images = MaskedData(**two, mask_column="mask")._read("train")
    assert (images.labels.tolist(), images.class_names) == ([1, 0, 0, 1], ("goldfish", "jellyfish"))
    assert images.positive == 1
    assert images.has_mask.tolist() == [False, True, False, False]
    boxed = MaskedData(**two, box_column="box", box_frame=(8, 8))._read("train")
    assert boxed.masks.flatten(1).sum(1).tolist() == [16, 6, 1, 0]
    assert boxed.masks[1].long().tolist() == [[0] * 4, [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    refuse(MaskedData(**two, box_column="box"), "inside a frame of 4x4 pixels")
    refuse(MaskedData(**two, box_column="bx"), "unknown column 'bx': did you mean 'box'")
    refuse(MaskedData(source=str(tmp_path), classes=("goldfish", "jelyfish")), "unknown class 'jelyfish'")
    refuse(MaskedData(source=str(tmp_path), classes=("frog",)), "at least two classes; got 'frog' alone")
    refuse(MaskedData(**two, positive="frog"), "unknown positive class 'frog'")


def test_several_boxes_are_joined_and_wrong_ones_refused():
    assert box_mask([[0, 0, 0, 0], [2, 1, 3, 1]], (3, 4), None, "x").sum() == 3
    for wrong in ([1, 2, 3], [3, 0, 1, 1], [0, 0, 4, 2], [-1, 0, 1, 1], ["a", "b", "c", "d"]):
        with pytest.raises(InputError, match="box of x must be"):
            box_mask(wrong, (3, 4), None, "x")


def deep_png(width: int, height: int) -> bytes:
    """Return a black PNG of colours with 16 bits a channel."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(6 * width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_unusable_pictures_and_masks_are_refused_in_one_line(folder):
    mask, picture = folder / "masks" / "ill" / "1.png", folder / "images" / "train" / "ill" / "1.png"
    save(mask, np.zeros((4, 6), np.uint8))
    refuse(data(folder), r"mask of row 1 of images \(1.png\) must be 4x5 pixels like its image; got 4x6")
    mask.write_bytes(b"nothing")
    refuse(data(folder), "the mask of row 1 of images .* cannot be decoded")
    save(mask, np.zeros((4, 5, 4), np.uint8))
    refuse(data(folder), "no transparency")
    save(picture, np.zeros((4, 5), np.uint16))
    refuse(data(folder), "must have 8 bits a channel")
    picture.write_bytes(deep_png(5, 4))
    with Image.open(picture) as opened:
        assert opened.mode == "RGB"  # Pillow drops the lower bits without a word
    refuse(data(folder), r"row 1 of images \(1.png\) must have 8 bits a channel; got a PNG of 16 bits")
    Image.new("CMYK", (5, 4)).save(picture, format="JPEG")
    refuse(data(folder), "must be grey or RGB; got CMYK")
    picture.write_bytes(b"nothing")
    refuse(data(folder), r"row 1 of images \(1.png\) cannot be decoded")
    save(picture, PIXELS[0][:3])
    mask.unlink()
    refuse(data(folder), "holds no images")
    refuse(MaskedData(source=str(folder / "images")), "must be 4x5 pixels like the first; row 1 is 3x5")


def test_unusable_folders_are_refused_in_one_line(folder):
    refuse(data(folder, positive="sick"), "unknown positive class 'sick'")
    save(folder / "masks" / "1.png", MASK)
    (folder / "masks" / "ill" / "1.png").unlink()
    refuse(data(folder), "a mask must belong to one image; 1.png is that of")
    refuse(MaskedData(source=str(folder / "images"), mask_folder=str(folder / "no")), "there is none at")
    with pytest.raises(InputError, match="one place; got mask_folder and box_column"):
        data(folder, box_column="box")
    for row in range(2):
        save(folder / "images" / "test" / "well" / f"{row + 5}.png", PIXELS[row])
    refuse(data(folder), "at least two classes; got 'well' alone", part="test")
    refuse(data(folder, positive="ill"), "no image of the positive class 'ill'", part="test")
    save(folder / "images" / "test" / "ill" / "9.png", PIXELS[0])
    refuse(data(folder), "no image of images has a mask", part="test")


def test_masked_images_check_their_parts():
    pixels, labels = torch.zeros(2, 1, 4, 5, dtype=torch.uint8), torch.tensor([0, 1])
    for masks, positive, match in (
        (torch.zeros(2, 5, 4, dtype=torch.bool), 1, r"bool of shape \(2, 4, 5\)"),
        (torch.zeros(2, 4, 5), 1, "must be bool"),
        (torch.zeros(2, 4, 5, dtype=torch.bool), 2, "positive class of x must be 0 to 1; got 2"),
    ):
        with pytest.raises(InputError, match=match):
            MaskedImages(pixels, labels, ("a", "b"), "x", masks=masks, positive=positive)


def photograph(height=90, width=140, radius=40, middle=(45, 80)) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= radius**2
    picture = torch.full((3, height, width), 3, dtype=torch.uint8)
    picture[:, inside] = torch.tensor([160, 90, 50], dtype=torch.uint8)[:, None]
    picture[:, 2, 2] = 255  # a speck in the background
    return picture


def test_the_background_of_a_fundus_photograph_is_cropped():
    picture = photograph()
    mask = torch.zeros(90, 140, dtype=torch.bool)
    mask[45:86, 80:121] = True  # the lower right quarter of the disk
    prepared, small = Fundus(size=64).with_mask(picture, mask, "x")
    lit = prepared[0] > 80
    assert prepared.shape == (3, 64, 64)
    assert lit[32].all()
    assert lit[:, 32].all()
    assert not lit[0, 0]
    assert lit.float().mean().item() == pytest.approx(torch.pi / 4, abs=0.04)
    assert small[34:, 34:].all()
    assert small.sum().item() == pytest.approx(32**2, abs=66)
    assert Fundus().disk(picture, "x").sum().item() == pytest.approx(torch.pi * 41**2, rel=0.05)


def test_the_mask_of_a_small_lesion_keeps_a_pixel():
    mask = torch.zeros(90, 140, dtype=torch.bool)
    mask[45, 80] = True  # a sixteenth of a pixel of the result
    small = Fundus(size=20).with_mask(photograph(), mask, "x")[1]
    assert (small.sum().item(), bool(small[9:11, 9:11].any())) == (1, True)
    assert not Fundus(size=20).with_mask(photograph(), torch.zeros_like(mask), "x")[1].any()


def test_a_source_that_is_not_named_is_asked_for():
    refuse(MaskedData(source=""), "must be named: --data.source, or --data")


def test_a_disk_that_the_camera_cut_off_stays_round():
    prepared = Fundus(size=80)(photograph(height=60, middle=(30, 80)), "x")
    lit = prepared[0] > 80
    assert lit[40].float().mean() > 0.95
    assert lit[:, 40].float().mean().item() == pytest.approx(60 / 81, abs=0.04)
    assert not lit[:8].any()


def test_a_black_picture_has_no_disk():
    with pytest.raises(InputError, match="x must show a bright disk"):
        Fundus()(torch.zeros(3, 20, 20, dtype=torch.uint8), "x")
    with pytest.raises(InputError, match="size must be at least 1"):
        Fundus(size=0)


def test_pictures_of_many_sizes_are_prepared_with_their_masks(tmp_path):
    for row in range(4):
        picture = photograph(height=90 + 10 * row, width=140 + row).permute(1, 2, 0).numpy()
        save(tmp_path / "images" / ("ill", "well")[row % 2] / f"{row}.png", picture)
    mask = np.zeros((90, 140), np.uint8)
    mask[45:, 80:] = 1
    save(tmp_path / "masks" / "0.png", mask)
    images = data(tmp_path, prepare=Fundus(size=32))._read("train")
    assert images.images.shape == (4, 3, 32, 32)
    assert images.masks[0].sum().item() == pytest.approx(256, abs=33)
    assert images.has_mask.tolist() == [True, False, False, False]


@pytest.mark.parametrize("seed", [0, 7])
def test_fractions_are_nested_keep_the_shares_and_leave_validation_alone(seed):
    splits = [FractionData(fraction=f, fraction_seed=seed).train_and_validation() for f in (0.25, 0.5, 1.0)]
    quarter, half, whole = [{image.numpy().tobytes() for image in s.train.images} for s in splits]
    assert quarter < half < whole
    shares = [s.train.labels.bincount(minlength=10) / len(s.train) for s in splits]
    assert all((share - shares[2]).abs().max() < 0.01 for share in shares)
    assert len({s.validation.fingerprint for s in splits}) == 1
    other = FractionData(fraction=0.25, fraction_seed=seed + 1).train_and_validation()
    assert other.train.fingerprint != splits[0].train.fingerprint


def test_unusable_fractions_are_refused():
    for fraction in (0.0, 1.5, 25.0):
        with pytest.raises(InputError, match="fraction must be above 0 and at most 1"):
            FractionData(fraction=fraction)
    with pytest.raises(InputError, match="leaves 1 of 10 classes"):
        FractionData(fraction=0.001).train_and_validation()


def test_goldfish_against_jellyfish(shared_data, hub_cache):
    folder = shared_data / "tiny-imagenet-100"
    if not folder.is_dir():
        pytest.skip(f"no data set at {folder}")
    fish = MaskedData(
        source=str(folder), classes=("goldfish", "jellyfish"), box_column="box", box_frame=(64, 64)
    ).test()
    assert fish.image_shape == (3, 32, 32)
    assert fish.labels.bincount().tolist() == [50, 50]
    assert fish.has_mask.all()
