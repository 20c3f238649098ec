"""A run of segmentation trains, resumes, judges and writes down what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aureole.core.config import to_values
from aureole.core.errors import InputError
from aureole.core.records import Record, read_record
from aureole.data.scans import Scan
from aureole.metrics.segmentation import class_scores
from aureole.training.config import Training
from aureole.training.fit import BEST, CHECKPOINT, CONFIG, WEIGHTS, load_model
from aureole.training.segmentation import Segmenting, load_segmenter, run_segmenting
from aureole.training.segmentation.module import SegmentingModule
from aureole.training.sweep import over_seeds, run_experiment, with_engine

Finished = dict[str, tuple[Segmenting, Path, Record]]
KINDS = ("2-D", "3-D")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def label_of(scan: Scan) -> torch.Tensor:
    assert scan.label is not None
    return scan.label


def untrained(run: Segmenting, folder: Path) -> dict[str, torch.Tensor]:
    network, _ = load_segmenter(folder)
    classes = len(read_record(folder).segmentations)  # one row is the mean, and the background has none
    shape = (1, *run.patch_size)
    assert next(p for p in network.parameters() if p.ndim > 3).shape[1] == 1
    return run.model.build(num_classes=classes, image_shape=shape, seed=run.seed).state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_every_weight_and_writes_down_what_it_did(finished: Finished, kind: str) -> None:
    run, folder, record = finished[kind]
    before, after = untrained(run, folder), weights(folder)
    assert not any(torch.equal(before[name], after[name]) for name in after if name.endswith("weight"))
    assert (record.kind, record.recipe, record.method, record.seed) == ("training", "tests", run.method.title, 0)
    assert [row["epoch"] for row in record.history] == [1, 2]
    assert all(
        {"train/labelled", "train/consistency", "train/loss", "validation/dice"} <= row.keys() for row in record.history
    )
    assert all(0 <= row["validation/dice"] <= 1 for row in record.history)
    assert len(record.seconds_per_epoch) == 2
    assert list(record.evaluations) == []
    assert list(record.warnings) == []
    assert record.data.labelled_patients == list(run.data.train_and_validation().train.labelled_patients)
    assert (record.data.num_validation, record.data.num_test) == ((2, 4) if kind == "2-D" else (1, 2))
    assert read_record(folder) == record
    assert (folder / BEST).exists() == run.keep_best


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_are_the_figures_of_the_stored_network(finished: Finished, kind: str) -> None:
    _, folder, record = finished[kind]
    network, run = load_segmenter(folder)
    scans = run.data.test()
    wanted = [
        class_scores(run.segment(network, s.image, slice_axis=s.slice_axis), label_of(s), scans.num_classes, s.spacing)
        for s in scans
    ]
    *rows, mean = record.segmentations
    assert [row.class_name for row in rows] == list(scans.class_names[1:])
    assert mean.class_name == "mean"
    for number, row in enumerate(rows, 1):
        assert row.scans == list(scans.names)
        for name in ("dice", "jaccard", "hd95", "asd"):
            values = [getattr(scores[number], name) for scores in wanted]
            assert getattr(row, f"{name}_by_scan") == pytest.approx(values)
            assert getattr(row, name) == pytest.approx(sum(values) / len(values))
        assert row.hd95_mm == pytest.approx(np.mean([s[number].hd95_mm or 0.0 for s in wanted]))
        assert row.num_empty_predictions == sum(s[number].num_empty_predictions for s in wanted)
    assert mean.dice == pytest.approx(sum(row.dice for row in rows) / len(rows))
    assert mean.dice_by_scan == pytest.approx(np.mean(np.array([row.dice_by_scan for row in rows], float), 0).tolist())
    assert mean.num_empty_predictions == sum(row.num_empty_predictions for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_hold_middle_slices_on_a_common_frame(finished: Finished, kind: str) -> None:
    _, folder, _ = finished[kind]
    network, run = load_segmenter(folder)
    scans = [run.data.test()[place] for place in range(min(run.num_pictures, len(run.data.test())))]
    with np.load(folder / "masks.npz", allow_pickle=False) as file:
        masks = dict(file)
    assert masks["scans"].tolist() == [scan.name for scan in scans]
    assert masks["class_names"].tolist() == list(run.data.test().class_names)
    for place, scan in enumerate(scans):
        image, label = scan.slices()[0], label_of(scan).movedim(scan.slice_axis, 0)
        middle = int(masks["slices"][place])
        assert middle == len(image) // 2
        height, width = label[middle].shape
        top, left = ((n - m) // 2 for n, m in zip(masks["truth"].shape[1:], (height, width), strict=True))
        window = (place, slice(top, top + height), slice(left, left + width))
        assert (masks["truth"][window] == label[middle].numpy()).all()
        assert masks["truth"][place].astype(bool).sum() == label[middle].bool().sum()
        found = run.segment(network, scan.image, slice_axis=scan.slice_axis).movedim(scan.slice_axis, 0)
        assert (masks["prediction"][window] == found[middle].numpy()).all()
        assert np.corrcoef(masks["images"][window].ravel(), image[middle, 0].numpy().ravel())[0, 1] > 0.9999
        assert (masks["images"][place].min(), masks["images"][place].max()) == (0, 1)
    assert ("surface_truth" in masks) == (kind == "3-D")
    if kind == "3-D":
        assert (masks["surface_truth"] == label_of(scans[0]).numpy()).all()
        assert (masks["surface_prediction"] == run.segment(network, scans[0].image).numpy()).all()


def test_the_seed_decides_the_weights_and_a_finished_run_is_left_alone(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder, record = finished["2-D"]
    run_segmenting(run, tmp_path / "again")
    run_segmenting(run.with_seed(1), tmp_path / "other")
    assert same(folder, tmp_path / "again")
    assert not same(folder, tmp_path / "other")
    monkeypatch.setattr(SegmentingModule, "training_step", None)
    assert run_segmenting(run, folder) == record


KILLER = """
import json, os, signal, sys
from pathlib import Path
import lightning.pytorch, torch
from aureole.core.config import from_values
from aureole.training.segmentation import run
from aureole.training.segmentation.module import SegmentingModule
torch.set_num_threads(1)
step = SegmentingModule.training_step
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def deadly(last):
    taken = []
    def training_step(self, batch, batch_idx):
        taken.append(0)
        return die() if len(taken) == last else step(self, batch, batch_idx)
    return training_step
for values, folder, last in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        SegmentingModule.training_step = deadly(last)
        run.judge_scans = run.judge_scans if last else die
        run.run_segmenting(from_values(values), Path(folder))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, folder
"""
DEATHS = {"2-D": (5, 0), "3-D": (4,)}  # at which of 6 steps, each run on its own; 0: as it begins to judge


def test_a_killed_run_ends_as_if_nothing_had_happened(finished: Finished, tmp_path: Path) -> None:
    """Also the schedule that counts batches, in the 3-D run."""
    cases = [(kind, death, tmp_path / f"{kind}-{death}") for kind, deaths in DEATHS.items() for death in deaths]
    often = {kind: finished[kind][0].with_engine(checkpoint_seconds=0.0) for kind in KINDS}
    jobs = [(to_values(often[kind]), str(folder), death) for kind, death, folder in cases]
    python = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, json.dumps(jobs)],
        env={**os.environ, "PYTHONPATH": python, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert killed.returncode == 0, killed.stderr
    for kind, death, folder in cases:
        assert (folder / CHECKPOINT).exists()
        assert not (folder / "record.json").exists()
        steps = int(torch.load(folder / CHECKPOINT, weights_only=True)["global_step"])
        assert steps == (death - 1 if death else 6)
        _, undisturbed, wanted = finished[kind]
        got = run_segmenting(often[kind], folder)
        assert same(folder, undisturbed)
        assert got.history == wanted.history
        assert got.segmentations == wanted.segmentations


def test_rates_fall_after_batches(
    deep: Callable[..., Segmenting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, rates = SegmentingModule.training_step, list[float]()

    def watched(self: Any, batch: Any, batch_idx: int) -> None:
        step(self, batch, batch_idx)
        rates.append(self.optimizers().param_groups[0]["lr"])

    monkeypatch.setattr(SegmentingModule, "training_step", watched)
    run_segmenting(deep(num_test_scans=1), tmp_path)
    assert rates == pytest.approx([1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4])


def test_labels_alone_need_no_unlabelled_scans(labels_alone: Callable[..., Segmenting], tmp_path: Path) -> None:
    record = run_segmenting(labels_alone(epochs=3, steps_per_epoch=10), tmp_path)
    assert record.history[0].keys() == {"epoch", "train/labelled", "train/loss", "validation/dice"}
    losses = [row["train/loss"] for row in record.history]
    assert losses[2] < losses[0] - 0.02
    assert record.segmentations[0].scans == ["patient005_frame01"]


def test_validation_every_other_epoch_and_the_best_of_it(
    labels_alone: Callable[..., Segmenting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aureole.training.segmentation import module

    scores = iter([0.25, 0.25, 0.5, 0.5, 0.25, 0.25])  # of two scans, after epochs 2, 4 and 6
    monkeypatch.setattr(module, "mean_dice", lambda *_: next(scores))
    run = labels_alone(epochs=6, steps_per_epoch=1, validate_every=2, keep_best=True)
    record = run_segmenting(run, tmp_path / "run")
    assert [row.get("validation/dice") for row in record.history] == [None, 0.25, None, 0.5, None, 0.25]
    shorter = run_segmenting(replace(run, epochs=4, keep_best=False, validate_every=9), tmp_path / "shorter")
    assert "validation/dice" not in shorter.history[-1]
    best, wanted = load_file(tmp_path / "run" / BEST), weights(tmp_path / "shorter")
    assert all(torch.equal(best[name], wanted[name]) for name in wanted)
    assert not same(tmp_path / "run", tmp_path / "shorter")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_labelled_along_the_axis_of_its_slices(finished: Finished, axis: int) -> None:
    network, run = load_segmenter(finished["2-D"][1])
    volume = run.data.test()[0].image
    wanted = run.segment(network, volume)
    assert wanted.unique().numel() > 1
    assert run.segment(network, volume[0]).equal(wanted)
    assert run.segment(network, volume.movedim(1, 1 + axis), slice_axis=axis).equal(wanted.movedim(0, axis))
    with pytest.raises(InputError, match="of one channel; got \\(2, 9, 24, 21\\)"):
        run.segment(network, volume.expand(2, -1, -1, -1))


def test_options_of_inference_are_the_run_s(finished: Finished) -> None:
    from aureole.segment.inference import keep_largest_component

    for kind in KINDS:
        network, run = load_segmenter(finished[kind][1])
        scan: Scan = run.data.test()[0]
        all_parts = run.segment(network, scan.image)
        alone = replace(run, largest_component=True, slices_per_call=1, windows_per_call=1)
        assert alone.segment(network, scan.image).equal(keep_largest_component(all_parts))


def test_it_runs_like_any_other_experiment(labels_alone: Callable[..., Segmenting], tmp_path: Path) -> None:
    run = labels_alone(steps_per_epoch=1)
    sweep = with_engine(over_seeds(run, (0, 3)), checkpoint_seconds=5.0)
    records = run_experiment(sweep, tmp_path)
    assert [record.seed for record in records] == [0, 3]
    assert {record.label for record in records} == {"alone"}
    assert json.loads((tmp_path / "seed3" / CONFIG).read_text())["seed"] == 3
    with pytest.raises(InputError, match=r"holds another run \(it differs in seed\)"):
        run_segmenting(run, tmp_path / "seed3")


def test_a_run_is_repeated_from_its_record(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aureole.cli import main

    _, folder, record = finished["2-D"]
    assert main(["rerun", str(folder), "--quiet", "--output", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert f"Dice, mean: {record.segmentations[-1].dice:.4f} (as recorded)" in said
    assert same(folder, tmp_path / "again")


def test_what_is_no_finished_run_of_segmentation(finished: Finished, tmp_path: Path) -> None:
    _, folder, _ = finished["2-D"]
    (tmp_path / CONFIG).write_text(json.dumps(to_values(Training())))
    with pytest.raises(InputError, match="holds no run of segmentation"):
        load_segmenter(tmp_path)
    (tmp_path / CONFIG).write_text((folder / CONFIG).read_text())
    with pytest.raises(InputError, match="not finished: run the same command again"):
        load_segmenter(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:300])
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read") as caught:
        load_segmenter(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="holds no training run"):
        load_model(folder)
