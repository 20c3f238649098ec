"""Read the scans to train on into memory: the labels of the labelled ones, and the images of all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from aureole.core.errors import InputError, UntrustedResult
from aureole.data.scans.scan import Scan
from aureole.data.scans.scans import Scans
from aureole.data.scans.training_scans import TrainingScans, precision_dtype


def pack(
    scans: Scans,
    labelled: frozenset[str],
    dimensions: int,
    *,
    precision: str = "float32",
    failed: dict[str, str] | None = None,
) -> TrainingScans:
    """Return scans in memory, the labelled ones first, otherwise in their order; other labels are not even read.

    Args:
        scans: volumes or single slices; volumes are cut into slices for 2-D training.
        labelled: the patients whose labels are used.
        dimensions: 2 for slices, 3 for volumes.
        precision: ``"float32"`` or ``"float16"``, which takes half the memory.
        failed: gets the name of each unlabelled scan that cannot be used and why, and the others go on; None stops at
            the first. A labelled one always stops: there are too few of them to do without.

    Raises:
        InputError: a scan is unusable, a labelled one has no label, scans differ in their channels, single slices are
            to be trained on as volumes, or there is no labelled scan.

    Warns:
        UntrustedResult: all labels of a labelled patient are background.

    Example:
        >>> from aureole.data.scans import ScanData
        >>> from aureole.data.scans.pack import pack
        >>> scans = ScanData(source="phantom-atrium").test()
        >>> pack(scans, frozenset(scans.patients[:1]), 3, precision="float16").voxels.dtype
        torch.float16
    """
    dtype = precision_dtype(precision)
    order = sorted(range(len(scans)), key=lambda place: scans.entries[place].patient not in labelled)
    images: list[Tensor] = []
    labels: list[Tensor] = []
    names: list[tuple[str, str]] = []
    found: dict[str, bool] = {}
    for place in order:
        entry = scans.entries[place]
        try:
            items = list(_items(scans, place, entry.patient in labelled, dimensions))
            held = [_held(item.image, dtype, entry.name, images) for item in items]
        except InputError as error:
            if failed is None or entry.patient in labelled:
                raise
            failed[entry.name] = str(error)
            continue
        images += held
        own = [item.label.to(torch.uint8) for item in items if item.label is not None]
        labels += own
        if own:
            found[entry.patient] = found.get(entry.patient, False) or any(bool(label.any()) for label in own)
        names += [(item.name, entry.patient) for item in items]
    _check_labels(found, scans.name)
    return TrainingScans(
        voxels=torch.cat([image.flatten(1) for image in images], 1),
        labels=torch.cat([label.flatten() for label in labels]),
        sizes=tuple(tuple(image.shape[1:]) for image in images),
        num_labelled=len(labels),
        names=tuple(name for name, _ in names),
        patients=tuple(patient for _, patient in names),
        class_names=scans.class_names,
        name=scans.name,
    )


def _items(scans: Scans, place: int, with_label: bool, dimensions: int) -> Iterator[Scan]:
    """Yield a scan, or its slices, for training in so many dimensions."""
    if with_label and not scans.entries[place].has_label:
        raise InputError(f"{scans.names[place]} is to be labelled and has no label: lower num_labelled, or draw one")
    scan = scans.read(place, with_label=with_label)
    if len(scan.shape) == dimensions:
        yield scan
    elif dimensions == 3:
        raise InputError(f"{scan.name} is a slice, and 3-D training needs volumes: set dimensions to 2")
    else:
        image, label = scan.slices()
        for number in range(len(image)):
            own = None if label is None else label[number]
            yield Scan(name=f"{scan.name}_slice_{number + 1}", image=image[number], label=own)


def _held(image: Tensor, dtype: torch.dtype, name: str, others: list[Tensor]) -> Tensor:
    if others and len(others[0]) != len(image):
        raise InputError(
            f"all scans to train on must have {len(others[0])} channels like the first; {name} has {len(image)}"
        )
    held = image.to(dtype, copy=True)
    if not bool(held.isfinite().all()):
        raise InputError(f"voxels of {name} do not fit into float16, up to 65504: set precision to 'float32'")
    return held


def _check_labels(found: Mapping[str, bool], name: str) -> None:
    """Check that there are labels, and that they have more than background, by patient."""
    if not found:
        raise InputError(f"no labelled scan of {name} can be used")
    empty = [patient for patient, has_more in found.items() if not has_more]
    if empty:
        whose = f"of all {len(empty)} labelled patients" if len(empty) == len(found) else f"of {', '.join(empty)}"
        warnings.warn(
            f"the labels {whose} of {name} are background alone: a network can learn nothing else from them",
            UntrustedResult,
            stacklevel=3,
        )
