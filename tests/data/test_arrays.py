"""Digits, IDX folders and NumPy archives: read right, or refused in one line."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch

from aureole.core.errors import InputError
from aureole.data import read

PIXELS = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 2, 1, 0, 2, 1], dtype=np.uint8)


def idx(array) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(PIXELS))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(PIXELS[:2] + 7)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:1].repeat(2))))
    return tmp_path


def refuse(source, part="train", match=""):
    with pytest.raises(InputError, match=match) as caught:
        read(str(source), part)
    assert "\n" not in str(caught.value)


def test_digits_are_split_class_by_class():
    train, test = read("digits", "train"), read("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.image_shape == test.image_shape == (1, 8, 8)
    assert (train.images.min(), train.images.max()) == (0, 255)
    total = train.labels.bincount() + test.labels.bincount()
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert ((test.labels.bincount() - total * 360 / 1797).abs() <= 1).all()


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    train, test = read("digits", "train"), read("digits", "test")
    ours = torch.cat([train.images, test.images])[:, 0].double() * 16 / 255
    theirs = torch.from_numpy(load_digits().images)
    distance = torch.cdist(ours.flatten(1), theirs.flatten(1))
    assert sorted(distance.argmin(dim=1).tolist()) == list(range(1797))
    assert distance.min(dim=1).values.max() < 0.25


def test_idx_folder_with_and_without_gzip(folder):
    train, test = read(str(folder), "train"), read(str(folder), "test")
    assert torch.equal(train.images[:, 0], torch.from_numpy(PIXELS))
    assert train.labels.tolist() == LABELS.tolist()
    assert torch.equal(test.images[:, 0], torch.from_numpy(PIXELS[:2] + 7))
    assert test.class_names == train.class_names == ("0", "1", "2")


def test_idx_truncated_gzip(folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    refuse(folder, "test", "truncated or corrupt")
    path.write_bytes(b"no gzip at all")
    refuse(folder, "test", "truncated or corrupt")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (idx(PIXELS)[:-1], "must hold 120 bytes .* got 119"),
        (idx(PIXELS) + b"0", "must hold 120 bytes .* got 121"),
        (b"\x00\x00\x0d\x03" + idx(PIXELS)[4:], "magic number 00000803; got 00000d03"),
        (idx(LABELS), "magic number 00000803; got 00000801"),
        (b"", "magic number 00000803; got"),
    ],
)
def test_idx_with_wrong_content(folder, content, match):
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    refuse(folder, match=match)


def test_idx_with_a_file_missing_or_labels_of_another_set(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:4]))
    refuse(folder, match="a label an image; got 6 and 4")
    (folder / "train-labels-idx1-ubyte").unlink()
    refuse(folder, match="has no file train-labels-idx1-ubyte")
    assert len(read(str(folder), "test")) == 2


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 5, 1), (6, 1, 4, 5)])
def test_npz_with_both_parts(tmp_path, shape):
    path = tmp_path / "mine.npz"
    y = LABELS.astype(np.int32)[:, None]
    np.savez(path, x_train=PIXELS.reshape(shape), y_train=y, x_test=PIXELS[:2].reshape(2, *shape[1:]), y_test=y[:2])
    train, test = read(str(path), "train"), read(str(path), "test")
    assert torch.equal(train.images[:, 0], torch.from_numpy(PIXELS))
    assert torch.equal(test.images, train.images[:2])
    assert (train.name, train.num_classes, len(test)) == ("mine", 3, 2)


def test_npz_in_colour_and_floating_point(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", train_images=(pixels / 255).astype(np.float32), train_labels=LABELS[:4])
    read_back = read(str(tmp_path / "a.npz"), "train")
    assert torch.equal(read_back.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))


def test_npz_with_one_part_is_split_once_and_for_all(tmp_path):
    pixels = np.zeros((50, 4, 4), dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(50)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(50) % 5)
    train, test = read(str(tmp_path / "a.npz"), "train"), read(str(tmp_path / "a.npz"), "test")
    assert test.labels.bincount().tolist() == [2] * 5
    assert sorted(torch.cat([train.images, test.images])[:, 0, 0, 0].tolist()) == list(range(50))
    assert torch.equal(test.images, read(str(tmp_path / "a.npz"), "test").images)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"a": PIXELS, "b": LABELS}, "x_train and y_train, or images and labels; it holds a, b"),
        ({"images": PIXELS.astype(np.float32), "labels": LABELS}, r"must lie in \[0, 1\]; got 0 to 119"),
        ({"images": PIXELS.astype(np.int64), "labels": LABELS}, "must be uint8, or floats"),
        ({"images": PIXELS, "labels": LABELS.astype(np.int64) - 1}, "must lie in 0 to 1; got -1"),
        ({"images": PIXELS, "labels": LABELS.astype(np.float64)}, "must be integers"),
        ({"images": PIXELS, "labels": np.eye(6, 3, dtype=np.int64)}, "must be integers of shape"),
        ({"images": np.stack([PIXELS] * 4), "labels": LABELS[:4]}, "with 1 or 3 channels"),
        ({"images": np.array([None, "x"]), "labels": LABELS[:2]}, "cannot be read"),
    ],
)
def test_npz_with_foreign_arrays(tmp_path, arrays, match):
    np.savez(tmp_path / "a.npz", **arrays)
    refuse(tmp_path / "a.npz", match=match)


def test_npz_that_is_none(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"nothing like it")
    refuse(tmp_path / "a.npz", match="cannot be read")
    with (tmp_path / "c.npz").open("wb") as file:
        np.save(file, PIXELS)
    refuse(tmp_path / "c.npz", match="cannot be read")
    np.savez(tmp_path / "b.npz", images=PIXELS, labels=LABELS)
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:200])
    refuse(tmp_path / "b.npz", match="cannot be read")


@pytest.mark.parametrize("source", ["digit", "./nowhere", "a/b/c", "nowhere.npz"])
def test_a_missing_path_is_refused_without_asking_the_hub(source):
    refuse(source, match=f"there is nothing at {source}; expected digits, a folder")


def test_other_files_and_parts_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    refuse(tmp_path / "a.csv", match=r"is a \.csv file")
    refuse("digits", part="trian", match="unknown part 'trian': did you mean 'train'")


def test_real_mnist(shared_data):
    train, test = (read(str(shared_data / "mnist"), part) for part in ("train", "test"))
    assert (len(train), len(test), train.image_shape, train.num_classes) == (60_000, 10_000, (1, 28, 28), 10)
    assert train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert test.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
