"""Parquet folders and image folders, in memory and streamed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from aureole.core.errors import InputError
from aureole.data import Images, Streamed, read

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


def tensor(pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def save_parquet(path, pixels, labels, *, image="image", label="label", feature=None):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    feature = feature or ClassLabel(names=["ant", "bee", "cat"])
    features = Features({image: ImageFeature(), label: feature})
    rows = {image: [Image.fromarray(p) if isinstance(p, np.ndarray) else p for p in pixels], label: list(labels)}
    Dataset.from_dict(rows, features=features).to_parquet(path)


def save_classes(folder, per_class, pixels=PIXELS):
    """Write a class folder each: ``per_class`` maps its name to rows of ``pixels``."""
    for name, rows in per_class.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for row in rows:
            Image.fromarray(pixels[row]).save(folder / name / f"{row}.png")


@pytest.fixture
def parquet(tmp_path, hub_cache):
    save_parquet(tmp_path / "train-00000-of-00001.parquet", PIXELS, LABELS)
    save_parquet(tmp_path / "validation-00000-of-00001.parquet", PIXELS[:2] ^ 255, [2, 2])
    return tmp_path


@pytest.fixture
def folders(tmp_path):
    save_classes(tmp_path / "train", {"ant": [0, 3], "bee": [1, 4], "cat": [2, 5]})
    save_classes(tmp_path / "test", {"cat": [1]})
    return tmp_path


def refuse(source, part="train", match=""):
    with pytest.raises(InputError, match=match) as caught:
        read(str(source), part)
    assert "\n" not in str(caught.value)


def test_parquet_folder(parquet, capfd):
    before = sorted(parquet.rglob("*"))
    train, test = read(str(parquet), "train"), read(str(parquet), "test")
    assert isinstance(train, Images)
    assert torch.equal(train.images, tensor(PIXELS))
    assert torch.equal(test.images, tensor(PIXELS[:2] ^ 255))
    assert (train.labels.tolist(), test.labels.tolist()) == (LABELS, [2, 2])
    assert train.class_names == ("ant", "bee", "cat")
    assert sorted(parquet.rglob("*")) == before
    assert capfd.readouterr() == ("", "")


def test_the_progress_bars_of_the_caller_stay_as_they_were(parquet):
    import datasets

    assert not datasets.are_progress_bars_disabled()
    read(str(parquet), "train")
    assert not datasets.are_progress_bars_disabled()


def test_training_never_opens_the_test_files(parquet):
    (parquet / "validation-00000-of-00001.parquet").write_bytes(b"broken")
    assert len(read(str(parquet), "train")) == 6
    refuse(parquet, "test", "cannot be read as a folder of images")


def test_a_test_split_goes_before_validation(parquet):
    save_parquet(parquet / "test-00000-of-00001.parquet", PIXELS[:3], LABELS[:3])
    assert len(read(str(parquet), "test")) == 3


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["ant", "bee"], "training part has 3 and the test part 2, and class 2 is 'cat' in the one and missing in the"),
        (["ant", "bee", "cat", "dog"], "has 3 and the test part 4, and class 3 is missing in the one and 'dog' in"),
        (["ant", "cat", "bee"], "has 3 and the test part 3, and class 1 is 'bee' in the one and 'cat' in the other"),
    ],
)
def test_a_test_part_with_other_classes_is_refused_where_it_is_read(parquet, names, match):
    """Labels that mean another class would be judged wrongly, without a word."""
    from datasets import ClassLabel

    save_parquet(parquet / "test-0.parquet", PIXELS[:2], [0, 1], feature=ClassLabel(names=names))
    assert len(read(str(parquet), "train")) == 6
    refuse(parquet, "test", match)
    (parquet / "train-00000-of-00001.parquet").unlink()
    assert read(str(parquet), "test").class_names == tuple(names)


def test_columns_are_found_by_type_or_by_name(tmp_path, hub_cache):
    from datasets import Value

    save_parquet(tmp_path / "a" / "train-0.parquet", PIXELS, LABELS, image="photo", label="species")
    assert read(str(tmp_path / "a"), "train").labels.tolist() == LABELS
    save_parquet(tmp_path / "b" / "train-0.parquet", PIXELS, LABELS, image="img", feature=Value("int32"))
    save_parquet(tmp_path / "b" / "test-0.parquet", PIXELS[:1], [0], image="img", feature=Value("int32"))
    assert read(str(tmp_path / "b"), "test").class_names == ("0", "1", "2")
    words = [["ant", "bee", "cat"][label] for label in LABELS]
    save_parquet(tmp_path / "c" / "train-0.parquet", PIXELS, words, feature=Value("string"))
    save_parquet(tmp_path / "c" / "test-0.parquet", PIXELS[:1], ["cat"], feature=Value("string"))
    assert read(str(tmp_path / "c"), "test").labels.tolist() == [2]
    save_parquet(tmp_path / "d" / "train-0.parquet", PIXELS, LABELS, label="weight", feature=Value("int32"))
    refuse(tmp_path / "d", match="needs one column 'label' or 'fine_label'.* it has 'image', 'weight'")


def test_mixtures_take_the_mode_of_the_first_image(tmp_path, hub_cache):
    grey = PIXELS[1, :, :, 0]
    save_parquet(tmp_path / "a" / "train-0.parquet", [PIXELS[0], grey], [0, 1])
    colour = read(str(tmp_path / "a"), "train")
    assert torch.equal(colour.images[1], torch.from_numpy(grey).expand(3, 4, 5))
    save_parquet(tmp_path / "b" / "train-0.parquet", [grey, PIXELS[0]], [0, 1])
    assert read(str(tmp_path / "b"), "train").image_shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("pixels", "labels", "match"),
    [
        ([PIXELS[0], PIXELS[1, :3]], [0, 1], "must be 4x5 pixels like the first; row 1 is 3x5: resize"),
        ([PIXELS[0], PIXELS[1]], [0, -1], "must lie in 0 to 2; got -1 at row 1"),
        ([PIXELS[0], PIXELS[1]], [0, None], "must hold a class for every row"),
        ([PIXELS[0, :, :, 0].astype(np.int32) * 100] * 2, [0, 1], "8 bits a channel; got the mode I"),
        ([{"bytes": b"no image", "path": None}] * 2, [0, 1], "row 0 of .* cannot be decoded"),
        ([PIXELS[0], None], [0, 1], "row 1 of .* has no image"),
    ],
)
def test_unusable_rows_are_refused(tmp_path, hub_cache, pixels, labels, match):
    save_parquet(tmp_path / "train-0.parquet", pixels, labels)
    refuse(tmp_path, match=match)


def test_image_folder(folders):
    before = sorted(folders.rglob("*"))
    train, test = read(str(folders), "train"), read(str(folders), "test")
    assert torch.equal(train.images, tensor(PIXELS[[0, 3, 1, 4, 2, 5]]))
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (test.labels.tolist(), test.class_names) == ([2], ("ant", "bee", "cat"))
    assert sorted(folders.rglob("*")) == before


def test_image_folder_without_parts_is_all_training(tmp_path):
    save_classes(tmp_path, {"ant": [0], "bee": [1]})
    assert len(read(str(tmp_path), "train")) == 2
    refuse(tmp_path, "test", "has no test part; put its class folders into .*test")


def test_image_folder_with_a_class_that_was_not_trained(folders):
    save_classes(folders / "test", {"dog": [0]})
    refuse(folders, "test", "must be among those of .*train; got 'dog'")


def test_image_folder_with_a_broken_file(folders):
    (folders / "train" / "bee" / "1.png").write_bytes(b"no image")
    refuse(folders, match="row 2 of .* cannot be decoded: cannot identify")


def test_transparent_palettes_are_read_as_colour(tmp_path):
    save_classes(tmp_path, {"ant": [0], "bee": [1]})
    palette = Image.fromarray(PIXELS[2]).quantize(8)
    palette.save(tmp_path / "bee" / "2.png", transparency=b"\x00\x80")
    expected = torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(read(str(tmp_path), "train").images[2], expected)


def test_a_folder_with_nothing_readable(tmp_path, hub_cache):
    refuse(tmp_path, match="holds nothing readable; expected digits")
    (tmp_path / "notes.xyz").write_text("nothing")
    refuse(tmp_path, match="cannot be read as a folder of images")


def test_an_unreachable_hub(monkeypatch):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub\nand a second line")

    monkeypatch.setattr(datasets, "get_dataset_split_names", unreachable)
    refuse("someone/something", match="is no file or folder here, nor read from the hub .Couldn't reach the hub.;")


def test_a_hub_name_goes_through_load_dataset(monkeypatch):
    import datasets

    features = datasets.Features({"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"img": [Image.fromarray(p) for p in PIXELS[:2]], "fine_label": [1, 0]}
    asked = []

    def load(name, *, split):
        asked.append((name, split))
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda _: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    read_back = read("someone/something", "test")
    assert asked == [("someone/something", "test")]
    assert torch.equal(read_back.images, tensor(PIXELS[:2]))
    assert (read_back.name, read_back.labels.tolist()) == ("someone/something", [1, 0])


@pytest.fixture(params=["parquet", "folders"])
def both_ways(request):
    source = str(request.getfixturevalue(request.param))
    return read(source, "train"), read(source, "train", memory_limit=6 * 3 * 4 * 5 - 1)


def test_streamed_images_equal_those_in_memory(both_ways):
    memory, streamed = both_ways
    assert isinstance(streamed, Streamed)
    for name in ("name", "class_names", "num_classes", "image_shape"):
        assert getattr(streamed, name) == getattr(memory, name)
    assert len(streamed) == len(memory)
    assert torch.equal(streamed.labels, memory.labels)
    some = torch.tensor([4, 0, 4])
    assert torch.equal(streamed.batch(some), memory.batch(some))
    part = torch.tensor([5, 2, 1])
    assert torch.equal(streamed.subset(part).batch(some[1:2]), memory.subset(part).batch(some[1:2]))
    assert torch.equal(streamed.subset(part).labels, memory.subset(part).labels)
    assert (
        len({streamed.fingerprint, streamed.subset(part).fingerprint, streamed.subset(part.flip(0)).fingerprint}) == 3
    )


def test_exactly_the_limit_is_still_in_memory(parquet):
    assert isinstance(read(str(parquet), "train", memory_limit=6 * 3 * 4 * 5), Images)


def test_streamed_images_report_a_differing_size_when_read(tmp_path, hub_cache):
    save_parquet(tmp_path / "train-0.parquet", [PIXELS[0], PIXELS[1, :3]], [0, 1])
    streamed = read(str(tmp_path), "train", memory_limit=1)
    with pytest.raises(InputError, match="row 1 is 3x5"):
        streamed.batch(torch.tensor([0, 1]))


def test_real_parquet(shared_data, hub_cache):
    test = read(str(shared_data / "palm"), "test")
    assert (len(test), test.image_shape) == (400, (3, 224, 224))
    assert test.class_names == ("non-pathological", "pathological myopia")
