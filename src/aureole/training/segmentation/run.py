"""A run of segmentation from configuration to record: train, judge the test scans, write down."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from torch import nn

from aureole.core.config import from_values
from aureole.core.errors import InputError, UntrustedResult, first_line
from aureole.core.records import RECORD_NAME, Record, read_record, write_record
from aureole.data.scans import ScanSplits
from aureole.training.fit import BEST, CONFIG, WEIGHTS, claim_folder, read_values, train
from aureole.training.recording import Stopwatch, recorded
from aureole.training.run import divergence
from aureole.training.segmentation.config import Segmenting
from aureole.training.segmentation.measure import MASKS, check_labelled, judge_scans, write_masks
from aureole.training.segmentation.module import SegmentingModule, batches


def run_segmenting(config: Segmenting, folder: Path, *, recipe: str = "") -> Record:
    """Train, judge and record one run; a finished run is returned as it is, an interrupted one is resumed.

    No test scan is opened before training is over. One that cannot be used is left out, and named in the record.

    Args:
        config: the run.
        folder: where it lives; made when it does not exist.
        recipe: name of the recipe that made the configuration.

    Returns:
        The record that ``folder/record.json`` holds.

    Raises:
        InputError: scans, network or folder cannot be used.
    """
    claim_folder(config, folder)
    if (folder / RECORD_NAME).exists():
        return read_record(folder)
    watch = Stopwatch()
    test = config.data.test(config.num_test_scans)  # what is wrong with it shows now, not after hours of training
    with warnings.catch_warnings(record=True, action="always", category=UntrustedResult) as said:
        splits = load_scans(config, failed := dict[str, str]())
    scans = splits.train
    network = _build(config, scans.num_classes, scans.num_channels)
    about = {"num_channels": str(scans.num_channels), "class_names": json.dumps(scans.class_names)}
    network, history, seconds = train(
        config, folder, network, lambda net, keep: SegmentingModule(config, net, splits, keep), about
    )
    if config.judged == "best":
        read_weights(network, folder / BEST)
    judged = judge_scans(config, network.to(config.device()), test)
    write_masks(judged, test.class_names, folder / MASKS)
    record = recorded(
        "training",
        config,
        splits,
        watch,
        engine=config.engine,
        num_test=len(judged.scores),
        recipe=recipe,
        method=config.method.title,
        num_particles=config.method.num_particles,
        seed=config.seed,
        seconds_per_epoch=seconds,
        history=history,
        segmentations=judged.rows(config.empty),
        paper=dict(config.paper),
        proxy=bool(config.departure),
        proxy_reason=config.departure,
        warnings=[
            *divergence(history),
            *(str(warning.message) for warning in said),
            *(f"the scan to train on {name} is left out: {reason}" for name, reason in failed.items()),
            *judged.warnings,
        ],
    )
    write_record(record, folder)
    return record


def load_scans(config: Segmenting, failed: dict[str, str] | None = None) -> ScanSplits:
    """Return the scans to train and to validate on, those of validation in memory.

    Args:
        config: the run.
        failed: as for :meth:`aureole.data.scans.ScanData.train_and_validation`.

    Raises:
        InputError: a scan is unusable, or the scans do not fit the run.
    """
    data, layout = config.data, config.data.layout()
    dimensions = data.dimensions or layout.dimensions
    if dimensions != config.dimensions:
        raise InputError(
            f"patch_size must have {dimensions} lengths, as {layout.name} is trained on in {dimensions}-D; got "
            f"{config.patch_size}: give another, or set data.dimensions to {config.dimensions}"
        )
    splits = data.train_and_validation(failed)
    batches(config, splits.train)  # raises where there are too few scans for a batch
    if dimensions == 2 and splits.train.num_channels != 1:
        raise InputError(f"2-D networks label scans of one channel; {layout.name} has {splits.train.num_channels}")
    if splits.validation is None:
        if config.keep_best:
            raise InputError(
                f"keep_best needs validation scans and {layout.name} lists none: set data.num_validation, to keep some"
                " of the training scans for it"
            )
        return splits
    validation = splits.validation.in_memory()
    for scan in validation:
        check_labelled(scan)
    return ScanSplits(splits.train, validation)


def load_segmenter(folder: Path) -> tuple[nn.Module, Segmenting]:
    """Return the network of a run's folder as it was judged, in evaluation mode on the CPU, and the run.

    No scan is read, so that the data need not be there any more.

    Raises:
        InputError: there is no finished run of segmentation in the folder, or its weights cannot be read.
    """
    from safetensors import safe_open

    config = from_values(read_values(folder / CONFIG))
    if not isinstance(config, Segmenting):
        raise InputError(f"{folder} holds no run of segmentation: give the folder of one")
    path = folder / WEIGHTS
    if not path.exists():
        raise InputError(f"the run in {folder} is not finished: run the same command again to resume it")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
        network = _build(config, len(json.loads(about["class_names"])), int(about["num_channels"]))
    except Exception as error:
        raise _unreadable(path, error) from error
    read_weights(network, path if config.judged == "last" else folder / BEST)
    return network.eval(), config


def read_weights(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a file.

    Raises:
        InputError: the file cannot be read, or is of another network.
    """
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read ({first_line(error)}): delete it and run the command again")


def _build(config: Segmenting, num_classes: int, num_channels: int) -> nn.Module:
    shape = (num_channels, *config.patch_size)
    return config.model.build(num_classes=num_classes, image_shape=shape, seed=config.seed)
