"""``aureole segment``: the class of each voxel of scans, by a trained network, as masks, pictures and volumes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aureole.cli.common import complain, say, watched
from aureole.cli.segment_files import GENERATOR, VOLUMES, check_output, find_scans
from aureole.core.errors import InputError
from aureole.options import parse

if TYPE_CHECKING:
    from aureole.cli.segment_run import SegmentedScan, SegmentRun

_TABLE = "volumes.csv"


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """Write the class of each voxel of scans as NIfTI masks, with a picture of each, and the volumes of the classes.

    FILE is a scan, .nii, .nii.gz, .h5 or .hdf5 with a data set "image", or a folder of scans; several may be given.
    A mask lies in the room where its scan does. Where a label is at hand, the Dice of each class is shown, too.

    Attributes:
        run: folder of the finished run whose network labels the voxels.
        output: folder of what is written; by default runs/segment-RUN. One that holds anything else is refused.
        weights: last, or best on the validation scans.
        largest_component: keep only the largest connected component of each class.
        slice_axis: axis of the files, from 0, that goes through the slices; by default the last of NIfTI files, and
            that of the run's own scans for HDF5 files.
        json: print the results as JSON, and nothing else.
        quiet: no progress bar.
    """

    run: Path | None = None
    output: Path | None = None
    weights: Literal["last", "best"] = "last"
    largest_component: bool = False
    slice_axis: int | None = None
    json: bool = False
    quiet: bool = False


def segment(arguments: Sequence[str]) -> None:
    """Write the masks, the pictures and the volumes of scans, and list the volumes.

    Raises:
        InputError: the options are wrong; or, after all others were segmented, a scan could not be.
    """
    given, options = _read(arguments)
    if options.run is None:
        raise InputError("'aureole segment' needs the run that segments: aureole segment FILE... --run RUN")
    if options.slice_axis not in (None, 0, 1, 2):
        raise InputError(f"--slice-axis must be 0, 1 or 2; got {options.slice_axis}")
    output = options.output or Path("runs") / f"segment-{options.run.resolve().name}"
    check_output(output)
    scans = find_scans(given, output)

    from aureole.cli.segment_run import SegmentRun

    run = SegmentRun.of(options.run, options.weights, options.slice_axis)
    if run.note:
        complain(run.note)
    results: list[dict[str, Any]] = []
    failed: dict[Path, str] = {}
    _write_volumes(run, results, failed, output, options)  # now the folder is this command's
    try:
        _segment_all(run, scans, output, options, results, failed)
    finally:
        values = _write_volumes(run, results, failed, output, options)
    _tell(values, output, options)
    if failed:
        words = ", ".join(map(str, failed))
        raise InputError(f"{len(failed)} of {len(scans)} scans could not be segmented: {words}")


def _read(arguments: Sequence[str]) -> tuple[list[Path], SegmentOptions]:
    """Return the scans and folders, and the options."""
    prog = "aureole segment FILE..."
    if arguments and arguments[0] in ("-h", "--help"):
        parse(SegmentOptions, ["--help"], prog=prog, default=SegmentOptions())
    first = next((place for place, text in enumerate(arguments) if text.startswith("-")), len(arguments))
    if not first:
        raise InputError("'aureole segment' needs file first: aureole segment FILE... --run RUN [--field value]")
    options = parse(SegmentOptions, arguments[first:], prog=prog, default=SegmentOptions())
    return [Path(text) for text in arguments[:first]], options


def _segment_all(
    run: SegmentRun,
    scans: dict[Path, str],
    output: Path,
    options: SegmentOptions,
    results: list[dict[str, Any]],
    failed: dict[Path, str],
) -> None:
    """Segment each scan; what cannot be segmented is said at once, and kept with the reason."""
    for path in watched(list(scans), "scans", shown=not (options.json or options.quiet)):
        try:
            found = _segmented(run, path, options)
        except InputError as error:
            failed[path] = str(error) if path.name in str(error) else f"{path}: {error}"
            complain(failed[path])
            continue
        if found.note:
            complain(found.note)
        results.append(_written(run, found, scans[path], output))


def _segmented(run: SegmentRun, path: Path, options: SegmentOptions) -> SegmentedScan:
    from aureole.training.evaluation.judge import out_of_memory

    try:
        return run.segment(path, largest_component=options.largest_component)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(f"{path} is too large for the memory") from error


def _written(run: SegmentRun, found: SegmentedScan, name: str, output: Path) -> dict[str, Any]:
    """Write mask and picture of a scan, and return what is to be said about it."""
    from aureole.cli.segment_run import is_nifti
    from aureole.core.records import replace_bytes
    from aureole.data.scans.write_scan import write_mask

    mask, preview = output / f"{name}_mask.nii.gz", output / f"{name}_preview.png"
    classes = found.classes if found.classes.ndim == 3 else found.classes[..., None]
    write_mask(mask, classes, like=found.path if is_nifti(found.path) else None)
    replace_bytes(preview, _picture(run, found, name))
    classes = [
        {
            "class": run.class_names[number],
            "voxels": volume.voxels,
            "millilitres": volume.millilitres,
            "dice": None if found.dice is None else found.dice[number],
        }
        for number, volume in found.volumes.items()
    ]
    spacing = found.scan.spacing
    return {
        "scan": str(found.path),
        "mask": str(mask),
        "preview": str(preview),
        "shape": list(found.scan.shape),
        "spacing": None if spacing is None else list(spacing),
        "labelled": found.dice is not None,
        "note": found.note,
        "classes": classes,
    }


def _picture(run: SegmentRun, found: SegmentedScan, name: str) -> bytes:
    from aureole.report.scan_pictures import ScanPicture

    scan, flat = found.scan, len(found.scan.shape) == 2
    parts = [None if part is None else part.numpy() for part in (scan.image[0], found.classes, scan.label)]
    image, classes, truth = (part[None] if flat and part is not None else part for part in parts)
    return ScanPicture(
        title=name,
        image=image,
        classes=classes,
        truth=truth,
        legend=[f"{run.class_names[number]} {_size(volume)}" for number, volume in found.volumes.items()],
        slice_axis=0 if flat else scan.slice_axis,
        spacing=None if flat else scan.spacing,
        affine=None if scan.affine is None else scan.affine.numpy(),
    ).png()


def _size(volume: Any) -> str:
    return f"{volume.voxels:,} voxels" if volume.millilitres is None else f"{volume.millilitres:.3g} mL"


def _write_volumes(
    run: SegmentRun,
    results: Sequence[dict[str, Any]],
    failed: dict[Path, str],
    output: Path,
    options: SegmentOptions,
) -> dict[str, Any]:
    """Write the volumes as JSON and as CSV, and return the former."""
    from aureole.core.records import replace_text

    values = {
        "generator": GENERATOR,
        "run": str(options.run),
        "weights": options.weights,
        "largest_component": options.largest_component,
        "class_names": list(run.class_names),
        "scans": list(results),
        "failed": [{"scan": str(path), "reason": reason} for path, reason in failed.items()],
    }
    replace_text(output / VOLUMES, json.dumps(values, indent=1) + "\n")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("scan", "class", "voxels", "millilitres", "dice"))
    for found in results:
        table.writerows((found["scan"], *row.values()) for row in found["classes"])
    replace_text(output / _TABLE, text.getvalue())
    return values


def _tell(values: dict[str, Any], output: Path, options: SegmentOptions) -> None:
    if options.json:
        return say(json.dumps(values, indent=1))
    from rich.console import Console
    from rich.table import Table

    console, scans = Console(), values["scans"]
    if not scans:
        return None
    in_ml = any(row["millilitres"] is not None for found in scans for row in found["classes"])
    labelled = any(found["labelled"] for found in scans)
    table = Table(box=None, pad_edge=False)
    table.add_column("scan", overflow="fold")
    table.add_column("class", overflow="fold")
    for column in ("voxels", *(["mL"] if in_ml else []), *(["Dice"] if labelled else [])):
        table.add_column(column, justify="right")
    for found in scans:
        for place, row in enumerate(found["classes"]):
            table.add_row(*_cells(found["scan"] if place == 0 else "", row, in_ml=in_ml, labelled=labelled))
    console.print(table)
    if labelled:
        console.print(_mean_dice(scans), soft_wrap=True, highlight=False, markup=False)
    console.print(f"masks, pictures, {_TABLE}: {output}", soft_wrap=True, highlight=False, markup=False)
    return None


def _cells(name: str, row: dict[str, Any], *, in_ml: bool, labelled: bool) -> list[str]:
    from rich.markup import escape

    cells = [escape(name), escape(row["class"]), f"{row['voxels']:,}"]
    if in_ml:
        cells.append("" if row["millilitres"] is None else f"{row['millilitres']:.2f}")
    if labelled:
        cells.append("" if row["dice"] is None else f"{row['dice']:.4f}")
    return cells


def _mean_dice(scans: Sequence[dict[str, Any]]) -> str:
    """Return the mean Dice of each class over the scans that have one."""
    by_class: dict[str, list[float]] = {}
    for found in scans:
        for row in found["classes"]:
            by_class.setdefault(row["class"], []).extend([] if row["dice"] is None else [row["dice"]])
    means = [f"{name} {sum(values) / len(values):.4f} ({len(values)})" for name, values in by_class.items() if values]
    return f"mean Dice (scans): {', '.join(means)}" if means else "no Dice: neither masks nor labels have any class"
