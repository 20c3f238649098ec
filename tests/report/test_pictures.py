from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from aureole.core.errors import InputError
from aureole.report.pictures import galleries, read_particles


def pixels(picture):
    data = picture.source.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def test_pictures_show_the_arrays(tmp_path, make_record, make_particles):
    x = np.zeros((1, 1, 2, 2), dtype="float32")
    x[0, 0] = [[0.0, 1.0], [0.5, 0.5]]
    x_adv = np.stack([x, x])
    x_adv[0, 0, 0, 0, 0] += 0.2
    x_adv[0, 0, 0, 1, 0] -= 0.2
    make_particles(tmp_path, x=x, x_adv=x_adv, labels=np.array([7]), predictions=np.array([[3], [7]]), class_names=None)
    (gallery,) = galleries([(tmp_path / "record.json", make_record())])
    (example,) = gallery.examples
    assert (pixels(example.clean)[..., 0] == [[0, 255], [128, 128]]).all()
    moved, still = example.particles
    assert pixels(moved.adversarial)[0, 0, 0] == 51
    up, down, none = (
        pixels(moved.perturbation)[0, 0],
        pixels(moved.perturbation)[1, 0],
        pixels(moved.perturbation)[0, 1],
    )
    assert up[0] > up[2] + 100
    assert down[2] > down[0] + 100
    assert len(set(none)) == 1
    assert none[0] > 240
    assert len(np.unique(pixels(still.perturbation))) == 1
    assert (moved.predicted, moved.fooled) == ("3", True)
    assert (still.predicted, still.fooled) == ("7", False)
    assert "change of 0.2," in gallery.note
    assert gallery.sentence.startswith("1 of 2 particles change the class")


def test_class_names_and_colour_images(tmp_path, make_record, make_particles):
    make_particles(tmp_path, channels=3)
    (gallery,) = galleries([(tmp_path / "record.json", make_record())])
    assert [example.label for example in gallery.examples] == ["zero", "one"]
    assert gallery.examples[0].particles[0].predicted == "one"
    assert [particle.fooled for particle in gallery.examples[1].particles] == [False] * 3
    assert "mean of the channels" in gallery.note
    assert len(np.unique(pixels(gallery.examples[0].clean))) > 50


def test_what_is_left_out_is_said(tmp_path, make_record, make_particles):
    make_particles(tmp_path, num_particles=9, num_images=7, size=200)
    (gallery,) = galleries([(tmp_path / "record.json", make_record())])
    assert len(gallery.examples) == 6
    assert len(gallery.examples[0].particles) == 8
    assert "the first 6 of 7 images and 8 of 9 particles" in gallery.note
    assert pixels(gallery.examples[0].clean).shape == (128, 128, 3)


def test_one_gallery_a_label_from_the_lowest_seed(tmp_path, make_record, make_particles):
    found = []
    for name, label, seed in (("a", "A", 2), ("b", "A", 1), ("c", "B", 5), ("d", "C", 0)):
        if label != "C":
            make_particles(tmp_path / name)
        found.append((tmp_path / name / "record.json", make_record(label=label, seed=seed)))
    assert [gallery.title for gallery in galleries(found)] == ["A, seed 1", "B, seed 5"]


def test_truncated_file_is_refused(tmp_path, make_particles):
    make_particles(tmp_path)
    path = tmp_path / "particles.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="not a complete npz file"):
        read_particles(path)


def test_objects_are_refused(tmp_path, make_particles):
    make_particles(tmp_path, labels=np.array([{}, {}], dtype=object))
    with pytest.raises(InputError, match="without objects"):
        read_particles(tmp_path / "particles.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "no array 'x'; it holds class_names, labels"),
        ({"x": np.zeros((2, 8, 8))}, "x must have the shape"),
        ({"x": np.zeros((0, 1, 8, 8))}, "x must have the shape"),
        ({"x_adv": np.zeros((3, 2, 1, 8, 9))}, "x_adv must have the shape"),
        ({"labels": np.zeros(3)}, "labels must have the shape"),
        ({"predictions": np.zeros((2, 3))}, "predictions must have the shape"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, make_particles, changes, message):
    if changes.get("x") is not None:
        changes = {**changes, "x_adv": np.zeros((3, *changes["x"].shape))}
    make_particles(tmp_path, **({"x": None} if "x" in changes and changes["x"] is None else changes))
    with pytest.raises(InputError, match=message):
        read_particles(tmp_path / "particles.npz")
