"""What ``aureole segment`` loads: a run's network, what it needs to know of scans, and one scan after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from aureole.cli.segment_files import label_file, scan_name
from aureole.core.errors import InputError, first_line
from aureole.data.scans import Layout, Scan, ScanData, read_scan, scaled
from aureole.data.scans.nifti_folder import SCALING

if TYPE_CHECKING:
    from aureole.metrics.segmentation import ClassVolume


_GUESSED = tuple(
    f"the run's own scans are not at {{}} any more: they are taken to have had their slices {place}"
    for place in ("first", "last")
)


@dataclass(frozen=True, kw_only=True)
class SegmentedScan:
    """One scan with the classes of its voxels, in the order of its file.

    Args:
        path: of the file.
        scan: what was read, before scaling, with its label where there is a usable one.
        classes: class of each voxel, int64, of the scan's shape.
        volumes: of class 1, class 2, and so on.
        dice: of each class where there is a label; None where neither mask has the class.
        note: why a label is left out, or what is odd about it.
    """

    path: Path
    scan: Scan
    classes: Tensor
    volumes: Mapping[int, ClassVolume]
    dice: Mapping[int, float | None] | None
    note: str


@dataclass(frozen=True, kw_only=True)
class SegmentRun:
    """A run's network with what it needs to know of a scan.

    Args:
        folder: of the run.
        config: the run; its ``segment`` labels a volume.
        network: in evaluation mode.
        class_names: a name for each class, the background's first.
        dimensions: 2 where the network sees slices, 3 where it sees volumes.
        channels: of its input.
        scaling: of volumes in NIfTI files and of those in HDF5 files.
        slice_axis: which axis of the run's own volumes goes through the slices.
        file_axis: which axis of the given NIfTI and HDF5 files does.
        note: what could not be found out; empty where nothing is missing.
    """

    folder: Path
    config: Any
    network: nn.Module
    class_names: tuple[str, ...]
    dimensions: int
    channels: int
    scaling: tuple[str, str]
    slice_axis: int
    file_axis: tuple[int, int]
    note: str

    @classmethod
    def of(cls, folder: Path, weights: str, file_axis: int | None) -> SegmentRun:
        """Return the network of a finished run.

        Args:
            folder: of the run.
            weights: ``"last"``, or ``"best"`` on the validation scans.
            file_axis: which axis of the files goes through the slices; None for the last of a NIfTI file and, for an
                HDF5 file, the one of the run's own scans.

        Raises:
            InputError: there is no finished run, or it kept no best weights.
        """
        from aureole.training.segmentation import load_segmenter

        network, config = load_segmenter(folder)
        if weights == "best":
            _load_best(network, folder)
        class_names, channels = _about(folder)
        data, dimensions = config.data, config.dimensions
        try:
            layout, note = data.layout(), ""
        except InputError:
            layout, note = None, _GUESSED[dimensions - 2].format(data.source)
        axis = _own_axis(layout, dimensions)
        return cls(
            folder=folder,
            config=config,
            network=network.to(config.device()),
            class_names=class_names,
            dimensions=dimensions,
            channels=channels,
            scaling=_scalings(data, layout, dimensions),
            slice_axis=axis,
            file_axis=(2, axis) if file_axis is None else (file_axis, file_axis),
            note=note,
        )

    def segment(self, path: Path, *, largest_component: bool) -> SegmentedScan:
        """Return a scan with the class of each voxel.

        Args:
            path: of the file.
            largest_component: keep only the largest component of each class.

        Raises:
            InputError: the scan is unreadable, or does not fit the network.
        """
        from aureole.metrics.segmentation import class_volumes
        from aureole.segment.inference import keep_largest_component

        scan = self._read(path)
        classes = self._classes(scan, path)
        if largest_component:
            classes = keep_largest_component(classes)
        scan, note = self._labelled(scan, path)
        spacing = scan.spacing if len(scan.shape) == 3 else None
        return SegmentedScan(
            path=path,
            scan=scan,
            classes=classes,
            volumes=class_volumes(classes, len(self.class_names), spacing),
            dice=None if scan.label is None else dice_by_class(classes, scan.label, len(self.class_names)),
            note=note,
        )

    def _read(self, path: Path) -> Scan:
        """Return a scan as it lies in its file, and check that it fits the network."""
        scan = read_scan(str(path))
        if len(scan.image) != self.channels:
            raise InputError(
                f"{path} has {len(scan.image)} channels, and the network in {self.folder} takes {self.channels}: give "
                "each time or contrast in a file of its own"
            )
        if len(scan.shape) == 2:
            if self.dimensions == 3:
                raise InputError(f"{path} is a single slice, and the network in {self.folder} takes volumes")
            return scan
        return replace(scan, slice_axis=self.file_axis[0 if is_nifti(path) else 1])

    def _classes(self, scan: Scan, path: Path) -> Int64[Tensor, "..."]:
        """Return the class of each voxel: turn the scan as the run's own lie, label it, and turn the classes back."""
        image = scaled(scan.image, self.scaling[0 if is_nifti(path) else 1])
        if len(scan.shape) == 2:
            return self.config.segment(self.network, image).view(scan.shape)
        order = turned(scan.slice_axis, self.slice_axis)
        if self.dimensions == 2:  # slices first
            order = (order[self.slice_axis], *(axis for axis in order if axis != order[self.slice_axis]))
        volume = image.permute(0, *(1 + axis for axis in order)).contiguous()
        found = self.config.segment(self.network, volume[0] if len(volume) == 1 else volume)
        return found.permute(*(order.index(axis) for axis in range(3))).contiguous().cpu()

    def _labelled(self, scan: Scan, path: Path) -> tuple[Scan, str]:
        """Return the scan with the label that its file, or the folder beside it, has; and what is odd about that."""
        from aureole.data.scans.scan import check_classes

        try:
            label, affine = _label(path)
            if label is None:
                return scan, ""
            labelled = replace(scan, label=label)
            check_classes(labelled, len(self.class_names))
        except InputError as error:
            return scan, f"the label of {path} is left out: {error}"
        if affine is not None and scan.affine is not None and not torch.allclose(affine, scan.affine, atol=0.01):
            return labelled, f"the label of {path} has another affine, and is compared voxel by voxel all the same"
        return labelled, ""


def turned(slices_at: int, wanted_at: int) -> tuple[int, int, int]:
    """Return the order of axes that brings the slices of a volume where they are wanted.

    From the last place to the first, or back, the axes are reversed: what one library reads as (x, y, z), another
    reads, and the HDF5 files of ACDC hold, as (z, y, x).

    Example:
        >>> turned(2, 2), turned(2, 0), turned(1, 0)
        ((0, 1, 2), (2, 1, 0), (1, 0, 2))
    """
    if {slices_at, wanted_at} == {0, 2}:
        return (2, 1, 0)
    others = [axis for axis in range(3) if axis != slices_at]
    others.insert(wanted_at, slices_at)
    first, second, third = others
    return (first, second, third)


def dice_by_class(classes: Tensor, truth: Tensor, num_classes: int) -> dict[int, float | None]:
    """Return 2 |P and T| / (|P| + |T|) of each class but class 0; None where both masks are empty.

    Example:
        >>> dice_by_class(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 0]), 3)
        {1: 0.6666666666666666, 2: None}
    """
    found: dict[int, float | None] = {}
    for number in range(1, num_classes):
        one, other = classes == number, truth == number
        total = int(one.sum()) + int(other.sum())
        found[number] = 2 * int((one & other).sum()) / total if total else None
    return found


def _label(path: Path) -> tuple[Tensor | None, Tensor | None]:
    """Return the label of a scan, and its affine; None where there is none."""
    from aureole.data.scans.hdf5 import read_hdf5, whole_numbers

    if not is_nifti(path):
        import h5py

        with h5py.File(path, "r") as file:
            has = "label" in file
        return read_hdf5(path, scan_name(path)).label if has else None, None
    beside = label_file(path)
    if beside is None:
        return None, None
    found = read_scan(str(beside))
    return whole_numbers(found.image[0].numpy(), str(beside)), found.affine


def is_nifti(path: Path) -> bool:
    """Return whether a file has the ending of NIfTI."""
    from aureole.data.scans.nifti import stem

    return stem(path) is not None


def _load_best(network: nn.Module, folder: Path) -> None:
    from safetensors.torch import load_file

    from aureole.training.fit import BEST

    path = folder / BEST
    if not path.exists():
        raise InputError(f"the run in {folder} kept no best weights: take --weights last")
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}): take --weights last") from error


def _about(folder: Path) -> tuple[tuple[str, ...], int]:
    """Return the names of a run's classes and the number of its channels, which its weights tell."""
    from safetensors import safe_open

    from aureole.training.fit import WEIGHTS

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        about = file.metadata()
    return tuple(json.loads(about["class_names"])), int(about["num_channels"])


def _scalings(data: ScanData, layout: Layout | None, dimensions: int) -> tuple[str, str]:
    """Return how NIfTI and HDF5 volumes are scaled, so that they reach the network as the run's own did.

    HDF5 files of published data are scaled beforehand; NIfTI files are brought to the same.
    """
    own = data.scaling or ("none" if layout is None else layout.scaling[dimensions - 2])
    if data.scaling is not None or own != "none":
        return own, own
    return SCALING[dimensions - 2], own


def _own_axis(layout: Layout | None, dimensions: int) -> int:
    """Return which axis of the run's own volumes goes through the slices; the usual one where they cannot be read."""
    for entry in () if layout is None else (*(layout.test or ()), *(layout.volumes or ())):
        try:
            return entry.load(with_label=False).slice_axis
        except InputError:
            continue
    return 0 if dimensions == 2 else 2
