"""A run that is killed and started again ends as if nothing had happened: equal weights to the bit, equal history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aureole import ADTEXPAM, InputError, Linf
from aureole.core.config import to_values
from aureole.core.records import Record
from aureole.data import Data, FewLabels
from aureole.models import ModelConfig
from aureole.training.config import SGD, Training
from aureole.training.fit import CHECKPOINT, WEIGHTS
from aureole.training.run import run_training

DRIVER = Path(__file__).with_name("kill_driver.py")
NEVER, ALWAYS = 1e9, 0.0  # seconds between checkpoints within an epoch


@dataclass(frozen=True)
class Case:
    """What is trained, how often a checkpoint is written, and at which losses (there are 9) the process dies."""

    kind: str
    seconds: float
    deaths: tuple[int, ...]


CASES = {
    "in mid-epoch, batch norm and augmentation": Case("batch-norm", ALWAYS, (5,)),
    "in mid-epoch, averaged weights": Case("average", ALWAYS, (5,)),
    "in mid-epoch, dropout": Case("dropout", ALWAYS, (5,)),
    "in mid-epoch, parts of the method": Case("parts", ALWAYS, (5,)),
    "in mid-epoch, few labels": Case("few labels", ALWAYS, (5,)),
    "at the first step of an epoch": Case("batch-norm", ALWAYS, (4,)),
    "in mid-epoch, checkpoints at the ends alone": Case("batch-norm", NEVER, (5,)),
    "averaged weights, checkpoints at the ends alone": Case("average", NEVER, (8,)),
    "before anything": Case("batch-norm", NEVER, (1,)),
    "in the evaluation": Case("average", NEVER, (0,)),
    "twice": Case("batch-norm", ALWAYS, (2, 5)),
}


def _configurations(tiny: Callable[..., Training], folder: Path) -> dict[str, Training]:
    random = np.random.default_rng(0)
    labels = np.arange(80) % 4
    pictures = np.clip(random.normal(0.2 * labels[:, None, None], 0.2, (80, 16, 16)), 0, 1).astype(np.float32)
    np.savez(folder / "pictures.npz", images=pictures, labels=labels)
    base = tiny(model=ModelConfig(name="resnet8"))
    return {
        "batch-norm": replace(base, augment="crop-flip"),
        "average": replace(base, ema_decay=0.9),
        "dropout": replace(
            base,
            data=Data(source=str(folder / "pictures.npz"), num_train=48, num_validation=8),
            model=ModelConfig(name="small-cnn"),
            evaluation=replace(base.evaluation, num_examples=10),
        ),
        "few labels": tiny(
            data=FewLabels(num_labelled=30, num_validation=20),
            batch_size=15,
            unlabelled_batch_size=20,
            steps_per_epoch=3,
            views="digits",
        ),
        "parts": tiny(method=ADTEXPAM(ball=Linf(0.15), width=8), optimizer=SGD(schedule="cosine")),
    }


@dataclass(frozen=True)
class Killed:
    """Folders of killed runs, by case; the configurations and the results of runs that nobody killed, by kind."""

    configurations: dict[str, Training]
    folders: dict[str, Path]
    undisturbed: dict[str, tuple[Path, Record]]


def _seconds(config: Training, seconds: float) -> Training:
    return replace(config, engine=replace(config.engine, checkpoint_seconds=seconds))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Training]) -> Killed:
    root = tmp_path_factory.mktemp("killed")
    configurations = _configurations(tiny, root)
    folders = {name: root / name.replace(" ", "-") for name in CASES}
    jobs = [
        (to_values(_seconds(configurations[case.kind], case.seconds)), str(folders[name]), death)
        for name, case in CASES.items()
        for death in case.deaths
    ]
    python = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, DRIVER, json.dumps(jobs)],
        env={**os.environ, "PYTHONPATH": python, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    undisturbed = {kind: root / kind for kind in configurations}
    records = {kind: (path, run_training(configurations[kind], path)) for kind, path in undisturbed.items()}
    return Killed(configurations, folders, records)


def assert_equal_weights(one: Path, other: Path) -> None:
    a, b = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_ends_as_if_nothing_had_happened(killed: Killed, name: str) -> None:
    case, folder = CASES[name], killed.folders[name]
    assert not (folder / "record.json").exists()
    assert (folder / CHECKPOINT).exists() == (case.deaths != (1,))
    path, wanted = killed.undisturbed[case.kind]
    got = run_training(_seconds(killed.configurations[case.kind], case.seconds), folder)
    assert_equal_weights(folder, path)
    assert got.history == wanted.history
    assert [row["epoch"] for row in got.history] == [1, 2, 3]
    assert len(got.seconds_per_epoch) == 3
    assert all(0 < seconds < 60 for seconds in got.seconds_per_epoch)  # the clock is taken up, too
    assert [(e.attack, e.num_correct) for e in got.evaluations] == [
        (e.attack, e.num_correct) for e in wanted.evaluations
    ]


def test_the_seed_matters(killed: Killed, folder: Path) -> None:
    """Otherwise equal weights would say nothing."""
    run_training(replace(killed.configurations["batch-norm"], seed=1, epochs=1), folder)
    with pytest.raises(AssertionError):
        assert_equal_weights(folder, killed.undisturbed["batch-norm"][0])


def _started(tiny: Callable[..., Training], folder: Path) -> Training:
    """Leave a run in the folder that is trained but not recorded."""
    config = tiny(epochs=1)
    run_training(config, folder)
    (folder / "record.json").unlink()
    return config


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def _foreign(path: Path) -> None:
    torch.save({"state_dict": {}}, path)


def _pickle(path: Path) -> None:
    torch.save(print, path)


@pytest.mark.parametrize("spoil", [_truncated, _foreign, _pickle, lambda path: path.write_bytes(b"")])
def test_a_corrupt_checkpoint_is_refused_and_left_alone(
    tiny: Callable[..., Training], folder: Path, spoil: Callable[[Path], None]
) -> None:
    config = _started(tiny, folder)
    spoil(folder / CHECKPOINT)
    before = (folder / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match=r"the checkpoint .*last\.ckpt cannot be read") as caught:
        run_training(config, folder)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert (folder / CHECKPOINT).read_bytes() == before


def test_another_configuration_in_the_folder_is_refused_by_its_fields(
    tiny: Callable[..., Training], folder: Path
) -> None:
    config = _started(tiny, folder)
    with pytest.raises(InputError, match=r"differs in epochs, optimizer\.learning_rate, seed\)"):
        run_training(replace(config, seed=1, epochs=2, optimizer=SGD(learning_rate=0.1, milestones=(2,))), folder)
    with pytest.raises(InputError, match=r"differs in method\)"):
        run_training(replace(config, method=ADTEXPAM(ball=Linf(0.15), width=8)), folder)


def test_bar_and_checkpoints_are_not_part_of_a_run(
    tiny: Callable[..., Training], folder: Path, no_training: None
) -> None:
    from aureole.training.fit import claim_folder

    config = tiny()
    claim_folder(config, folder)
    claim_folder(replace(config, engine=replace(config.engine, progress=True, checkpoint_seconds=1.0)), folder)
