"""``aureole segment``: masks lie where their scans do, volumes are right, and a bad scan stops nobody else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from aureole.cli import main
from aureole.cli.segment_run import turned
from aureole.data.scans import ScanData, read_scan

pytestmark = pytest.mark.usefixtures("loaded")
TILTED = np.array([[0.0, -0.7, 0.1, 4.0], [0.6, 0.0, 0.2, -3.0], [0.05, 0.1, 5.0, 9.5], [0.0, 0.0, 0.0, 1.0]])


@dataclass
class Stub:
    """A run whose network finds class 1 above a threshold and class 2 above another, and remembers what it saw."""

    data: ScanData
    dimensions: int = 2
    seen: list[Tensor] = field(default_factory=list)

    def segment(self, network: nn.Module, volume: Tensor) -> Tensor:
        self.seen.append(volume)
        shift = float(network.bias.detach()[0])  # type: ignore[union-attr, operator]
        return (volume > 0.5 + shift).long() + (volume > 0.8 + shift).long()

    def device(self) -> torch.device:
        return torch.device("cpu")


@dataclass
class Loaded:
    """What the command loads in place of a run's folder."""

    network: nn.Module
    stub: Stub

    def use(self, dimensions: int, **data: Any) -> Stub:
        self.network = (nn.Conv2d if dimensions == 2 else nn.Conv3d)(1, 3, 1)
        nn.init.zeros_(self.network.bias)  # type: ignore[arg-type]
        self.stub = Stub(ScanData(dimensions=dimensions, **data), dimensions)
        return self.stub

    def load(self, folder: Path) -> tuple[nn.Module, Stub]:
        folder.mkdir(parents=True, exist_ok=True)
        about = {"class_names": '["background", "wall", "blood"]', "num_channels": "1"}
        save_file(dict(self.network.state_dict()), folder / "weights.safetensors", metadata=about)
        return self.network, self.stub


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Stand in for the loading of a run: slices of the drawn hearts by default."""
    found = Loaded(nn.Identity(), Stub(ScanData()))
    found.use(2)
    monkeypatch.setattr("aureole.training.segmentation.load_segmenter", found.load)
    return found


def voxels(*shape: int, seed: int = 0) -> np.ndarray:
    """Return grey levels in [0, 1], with both ends, so that scaling to [0, 1] changes nothing."""
    image = np.random.default_rng(seed).random(shape, dtype=np.float32)
    image.flat[0], image.flat[1] = 0.0, 1.0
    return image


def thresholded(image: np.ndarray) -> np.ndarray:
    return (image > 0.5).astype(np.uint8) + (image > 0.8)


def write_nifti(path: Path, image: np.ndarray, affine: np.ndarray = TILTED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image, affine), path)
    return path


def write_hdf5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
    return path


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    file: Any = nibabel.load(path)
    return np.asarray(file.dataobj), file.affine


def test_a_mask_lies_where_its_scan_does(say: Callable[..., str], loaded: Loaded) -> None:
    image = voxels(7, 6, 5)
    path = write_nifti(Path("heart.nii.gz"), image)
    found = json.loads(say("segment", path, "--run", "runs/a", "--json"))
    assert found["failed"] == []
    assert json.loads(Path("runs/segment-a/volumes.json").read_text()) == found
    assert sorted(p.name for p in Path("runs/segment-a").iterdir()) == [
        "heart_mask.nii.gz", "heart_preview.png", "volumes.csv", "volumes.json",
    ]  # fmt: skip
    row = found["scans"][0]
    mask, affine = read(row["mask"])
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, thresholded(image))
    assert np.array_equal(affine, read(str(path))[1])
    # the drawn hearts have their slices first, so the network sees (z, y, x)
    assert len(loaded.stub.seen) == 1
    assert torch.equal(loaded.stub.seen[0], torch.from_numpy(image.transpose(2, 1, 0).copy()))
    millilitres = np.prod(np.sqrt((affine[:3, :3] ** 2).sum(0))) / 1000
    for number, (name, entry) in enumerate(zip(("wall", "blood"), row["classes"], strict=True), start=1):
        count = int((mask == number).sum())
        assert (entry["class"], entry["voxels"], entry["dice"]) == (name, count, None)
        assert entry["millilitres"] == pytest.approx(count * millilitres)
    with Image.open(row["preview"]) as picture:
        assert picture.mode == "RGB"
        assert min(picture.size) > 300


def test_slices_go_to_the_network_as_in_training(say: Callable[..., str], loaded: Loaded, tmp_path: Path) -> None:
    image = voxels(7, 6, 5)
    for name in "abc":
        write_nifti(tmp_path / "source" / "images" / f"{name}.nii.gz", image)
        write_nifti(tmp_path / "source" / "labels" / f"{name}.nii.gz", thresholded(image))
    stub = loaded.use(2, source=str(tmp_path / "source"), class_names=("background", "wall", "blood"))
    slices = stub.data.train_and_validation().train
    found = json.loads(say("segment", tmp_path / "source", "--run", "a", "--json"))
    assert [Path(row["scan"]).name for row in found["scans"]] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]  # no labels
    assert stub.seen[0].shape == (5, 7, 6)
    assert slices.sizes[0] == (7, 6)
    assert torch.equal(stub.seen[0][2], torch.from_numpy(image[:, :, 2]))
    assert [entry["dice"] for entry in found["scans"][0]["classes"]] == [1.0, 1.0]
    assert np.array_equal(read(found["scans"][0]["mask"])[0], thresholded(image))


def test_volumes_keep_their_axes_and_are_scaled_as_the_run(say: Callable[..., str], loaded: Loaded) -> None:
    stub = loaded.use(3, source="phantom-atrium")
    image = voxels(7, 6, 5)
    write_nifti(Path("a.nii"), 300 * image)
    write_hdf5(Path("b.h5"), image=image)
    say("segment", "a.nii", "b.h5", "--run", "a", "--json")
    whole = torch.from_numpy(image)
    assert torch.allclose(stub.seen[0], (whole - whole.mean()) / whole.std(correction=0), atol=1e-5)  # z-score
    assert torch.equal(stub.seen[1], whole)  # as it is
    stub = loaded.use(3, source="phantom-atrium", scaling="unit")
    say("segment", "a.nii", "--run", "a", "--json")
    assert torch.allclose(stub.seen[0], whole, atol=1e-6)


def test_hdf5_volumes_slices_and_labels(say: Callable[..., str], loaded: Loaded) -> None:
    image = voxels(4, 6, 7)
    label = thresholded(image)
    label[:, :3] = 0
    write_hdf5(Path("volume.h5"), image=image, label=label)
    write_hdf5(Path("slice.h5"), image=image[0])
    found = json.loads(say("segment", "volume.h5", "slice.h5", "--run", "a", "--json"))
    volume, single = found["scans"]
    assert torch.equal(loaded.stub.seen[0], torch.from_numpy(image))
    assert torch.equal(loaded.stub.seen[1], torch.from_numpy(image[:1]))
    mask, affine = read(volume["mask"])
    assert np.array_equal(mask, thresholded(image))
    assert np.array_equal(affine, np.eye(4))
    assert np.array_equal(read(single["mask"])[0][..., 0], thresholded(image[0]))
    for number, entry in enumerate(volume["classes"], start=1):
        both = ((mask == number) & (label == number)).sum()
        assert entry["dice"] == pytest.approx(2 * both / ((mask == number).sum() + (label == number).sum()))
        assert entry["millilitres"] is None
    assert (volume["labelled"], single["labelled"]) == (True, False)


def test_the_table_and_the_list_of_volumes(say: Callable[..., str]) -> None:
    image = voxels(4, 6, 7)
    write_hdf5(Path("[a].h5"), image=image, label=thresholded(image) * (image < 0.8))
    text = say("segment", "[a].h5", "--run", "a", "--output", "out")
    counts = np.bincount(thresholded(image).ravel())
    assert text.splitlines()[0].split() == ["scan", "class", "voxels", "Dice"]
    assert text.splitlines()[1].split() == ["[a].h5", "wall", str(counts[1]), "1.0000"]
    assert text.splitlines()[2].split() == ["blood", str(counts[2]), "0.0000"]
    assert "mean Dice (scans): wall 1.0000 (1), blood 0.0000 (1)" in text
    assert text.endswith("masks, pictures, volumes.csv: out\n")
    with Path("out/volumes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["class"], int(row["voxels"]), row["millilitres"], row["dice"]) for row in rows] == [
        ("wall", counts[1], "", "1.0"), ("blood", counts[2], "", "0.0"),
    ]  # fmt: skip


def test_a_class_in_neither_mask_has_no_dice(say: Callable[..., str]) -> None:
    image = voxels(4, 6, 7) * 0.7
    write_hdf5(Path("a.h5"), image=image, label=thresholded(image))
    entries = json.loads(say("segment", "a.h5", "--run", "a", "--json"))["scans"][0]["classes"]
    assert [(entry["voxels"] > 0, entry["dice"]) for entry in entries] == [(True, 1.0), (False, None)]


def test_a_bad_scan_stops_nobody_else(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    image = voxels(4, 6, 7)
    folder = Path("scans")
    write_nifti(folder / "z_good.nii.gz", image)
    write_nifti(folder / "nan.nii.gz", np.where(image > 0.9, np.nan, image))
    write_nifti(folder / "deep" / "series.nii.gz", voxels(4, 6, 7, 3))
    write_nifti(folder / "flat.nii.gz", image[0])
    singular = nibabel.Nifti1Image(image, np.eye(4))
    singular.header["srow_x"] = 0
    singular.header["sform_code"] = 1
    nibabel.Nifti1Image(image, None, singular.header).to_filename(folder / "singular.nii.gz")
    whole = (folder / "z_good.nii.gz").read_bytes()
    (folder / "corrupt.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_hdf5(folder / "other.h5", picture=image)
    (folder / "._z_good.nii.gz").write_bytes(b"of another system")
    import h5py

    with h5py.File(folder / "group.h5", "w") as file:
        file.create_group("image")
    assert main(["segment", "missing.nii.gz", "scans", "--run", "a", "--output", "out"]) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    expected = {
        "missing": "has no file",
        "group": "is a group: expected a data set",
        "corrupt": "cannot be read as NIfTI",
        "series": "has 3 channels, and the network in a takes 1",
        "flat": "must be a volume (x, y, z)",
        "nan": "are NaN or infinite",
        "other": "has no data set 'image'; it has 'picture'",
        "singular": "cannot be inverted",
    }
    assert len(lines) == len(expected) + 1
    for name, words in expected.items():
        assert [line for line in lines if name in line and words in line], (name, lines)
        assert not list(Path("out").glob(f"{name}*"))
    assert lines[-1].startswith("aureole: 8 of 9 scans could not be segmented: missing.nii.gz, scans/corrupt.nii.gz, ")
    assert lines[-1].endswith("scans/singular.nii.gz")
    assert "wall" in out
    assert np.array_equal(read("out/z_good_mask.nii.gz")[0], thresholded(image))
    failed = json.loads(Path("out/volumes.json").read_text())["failed"]
    assert sorted(Path(row["scan"]).name.split(".")[0] for row in failed) == sorted(expected)
    assert not [path.name for path in Path("out").iterdir() if path.name.startswith(".")]


def test_a_single_slice_is_nothing_for_a_network_of_volumes(loaded: Loaded, fail: Callable[..., str]) -> None:
    loaded.use(3, source="phantom-atrium")
    write_hdf5(Path("slice.h5"), image=voxels(6, 7))
    assert main(["segment", "slice.h5", "--run", "a"]) == 2
    assert loaded.stub.seen == []


def test_a_label_that_does_not_fit_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    image = voxels(4, 6, 7)
    write_hdf5(Path("shape.h5"), image=image, label=np.zeros((4, 6, 6), np.uint8))
    write_hdf5(Path("range.h5"), image=image, label=np.full((4, 6, 7), 3))
    write_hdf5(Path("half.h5"), image=image, label=image)
    assert main(["segment", "shape.h5", "range.h5", "half.h5", "--run", "a", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)["scans"]
    assert [row["labelled"] for row in found] == [False] * 3
    for row, words in zip(found, ("same shape", "must lie in 0 to 2; got 3 to 3", "whole numbers"), strict=True):
        assert words in row["note"]
        assert row["note"] in err
    assert err.count("\n") == 3
    write_nifti(Path("images/a.nii.gz"), image)
    write_nifti(Path("labels/a.nii.gz"), thresholded(image), np.eye(4))
    assert main(["segment", "images/a.nii.gz", "--run", "b", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["scans"][0]["classes"][0]["dice"] == 1.0
    assert "has another affine" in err


def test_largest_component_and_best_weights(say: Callable[..., str], fail: Callable[..., str]) -> None:
    image = np.zeros((3, 9, 9), np.float32)
    image[:, 1:4, 1:4] = image[1, 6, 6] = 0.7
    write_hdf5(Path("a.h5"), image=image)

    def voxels_of(*given: object) -> int:
        return json.loads(say("segment", "a.h5", "--json", *given))["scans"][0]["classes"][0]["voxels"]

    assert voxels_of("--run", "a") == 28
    assert voxels_of("--run", "a", "--largest-component") == 27
    assert "the run in a kept no best weights" in fail("segment", "a.h5", "--run", "a", "--weights", "best")
    best = nn.Conv2d(1, 3, 1)
    nn.init.ones_(best.bias)  # type: ignore[arg-type]
    save_file(dict(best.state_dict()), "a/best.safetensors")
    assert voxels_of("--run", "a", "--weights", "best") == 0
    Path("a/best.safetensors").write_bytes(b"half of a file")
    assert "cannot be read" in fail("segment", "a.h5", "--run", "a", "--weights", "best")


def test_slices_may_lie_along_another_axis(say: Callable[..., str], loaded: Loaded) -> None:
    image = voxels(4, 6, 7)
    write_hdf5(Path("a.h5"), image=image)
    for axis, shape in ((0, (4, 6, 7)), (1, (6, 4, 7)), (2, (7, 6, 4))):
        found = json.loads(say("segment", "a.h5", "--run", "a", "--slice-axis", axis, "--json"))
        assert loaded.stub.seen[-1].shape == shape
        assert np.array_equal(read(found["scans"][0]["mask"])[0], thresholded(image))


@pytest.mark.parametrize("slices_at", range(3))
@pytest.mark.parametrize("wanted_at", range(3))
def test_turning_puts_the_slices_where_they_are_wanted(slices_at: int, wanted_at: int) -> None:
    order = turned(slices_at, wanted_at)
    assert sorted(order) == [0, 1, 2]
    assert order[wanted_at] == slices_at
    if slices_at == wanted_at:
        assert order == (0, 1, 2)


def test_scans_of_one_name_do_not_take_each_others_place(say: Callable[..., str]) -> None:
    for folder in ("left", "right"):
        write_nifti(Path(folder, "a.nii.gz"), voxels(4, 5, 6))
        (Path(folder) / "one").mkdir()
        write_hdf5(Path(folder, "one", "mri_norm2.h5"), image=voxels(4, 5, 6))
    found = json.loads(say("segment", "left", "right", "--run", "a", "--output", "left/out", "--json"))
    names = [Path(row["mask"]).name.removesuffix("_mask.nii.gz") for row in found["scans"]]
    assert names == ["a", "one", "a-2", "one-2"]
    again = json.loads(say("segment", "left", "--run", "a", "--output", "left/out", "--json"))
    assert len(again["scans"]) == 2  # its own masks are no scans
    other = json.loads(say("segment", "left", "--run", "a", "--output", "other", "--json"))
    assert len(other["scans"]) == 2


def test_mistakes_are_one_line(fail: Callable[..., str]) -> None:
    path = write_nifti(Path("scans/a.nii.gz"), voxels(4, 5, 6))
    assert "needs file first" in fail("segment", "--run", "a")
    assert "needs the run that segments" in fail("segment", path)
    assert "no scan and no folder at nothing.nii" in fail("segment", "nothing.nii", "--run", "a")
    Path("empty").mkdir()
    assert "no scans in empty" in fail("segment", "empty", "--run", "a")
    assert "holds other files" in fail("segment", path, "--run", "a", "--output", "scans")
    assert "it is a file" in fail("segment", path, "--run", "a", "--output", path)
    assert "must be 0, 1 or 2; got 3" in fail("segment", path, "--run", "a", "--slice-axis", 3)
    assert "weights" in fail("segment", path, "--run", "a", "--weights", "middle")
    assert [p.name for p in Path("scans").iterdir()] == ["a.nii.gz"]
    assert read_scan(str(path)).shape == (4, 5, 6)


def test_the_data_of_the_run_need_not_be_there(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    stub = loaded.use(2, source="moved/away")
    write_nifti(Path("a.nii"), 300 * voxels(7, 6, 5))
    assert main(["segment", "a.nii", "--run", "a", "--json"]) == 0
    assert stub.seen[0].shape == (5, 6, 7)
    assert torch.allclose(stub.seen[0], torch.from_numpy(voxels(7, 6, 5)).permute(2, 1, 0), atol=1e-6)
    err = capsys.readouterr().err
    assert err.startswith("aureole: the run's own scans are not at moved/away any more: they are taken to have had ")
    assert err.count("\n") == 1


def test_a_trained_network_finds_again_what_its_record_says(
    say: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aureole.data.scans import Phantoms
    from aureole.models.segmentation import SegmenterConfig
    from aureole.segment.cross_ald import RandomMixup
    from aureole.training.config import Engine
    from aureole.training.segmentation import Segmenting
    from aureole.training.segmentation.run import load_segmenter

    data = ScanData(phantoms=Phantoms(num_train=4, num_validation=1, num_test=1, size=16))
    run = Segmenting(
        method=RandomMixup(),
        data=data,
        model=SegmenterConfig(width=2),
        patch_size=(16, 16),
        epochs=1,
        steps_per_epoch=2,
        labelled_batch_size=2,
        unlabelled_batch_size=2,
        empty="skip",
        engine=Engine(accelerator="cpu", progress=False),
    )
    monkeypatch.setattr("aureole.training.segmentation.load_segmenter", load_segmenter)
    record = run.run(Path("trained"))[0]
    for scan in data.test():
        assert scan.label is not None
        write_hdf5(Path(f"{scan.name}.h5"), image=scan.image[0].numpy(), label=scan.label.numpy())
    files = sorted(Path().glob("*.h5"))
    found = json.loads(say("segment", *files, "--run", "trained", "--json"))["scans"]
    assert len(found) == 2
    for place, row in enumerate(found):
        by_class = [values.dice_by_scan[place] for values in record.segmentations[:-1]]
        assert [entry["dice"] for entry in row["classes"]] == pytest.approx(by_class)
        assert [entry["class"] for entry in row["classes"]] == ["RV", "myocardium", "LV"]
