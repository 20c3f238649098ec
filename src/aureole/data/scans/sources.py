"""Find out by itself how the scans at a source are stored."""

from __future__ import annotations

from pathlib import Path

from aureole.core.errors import InputError
from aureole.data.scans.acdc import acdc_layout, is_acdc
from aureole.data.scans.decathlon import FILE, decathlon_layout
from aureole.data.scans.layout import Layout
from aureole.data.scans.left_atrium import is_left_atrium, left_atrium_layout
from aureole.data.scans.nifti_folder import is_nifti_folder, nifti_layout
from aureole.data.scans.phantoms import ATRIUM, HEART, Phantoms

EXPECTED = (
    f"{HEART!r}, {ATRIUM!r}, a folder with list files and HDF5 scans in the form of SSL4MIS (ACDC) or UA-MT (left "
    f"atrium), a folder with images/ and labels/ of NIfTI files, or a {FILE} of the Medical Segmentation Decathlon"
)


def find_layout(source: str, phantoms: Phantoms) -> Layout:
    """Return what is at a source of scans; no scan is read.

    Args:
        source: ``"phantom-heart"``, ``"phantom-atrium"``, a folder, or a ``dataset.json``.
        phantoms: how many patients are drawn, where they are.

    Raises:
        InputError: there is nothing at the source, or nothing that is known.

    Example:
        >>> from aureole.data.scans import Phantoms
        >>> from aureole.data.scans.sources import find_layout
        >>> find_layout("phantom-heart", Phantoms()).class_names
        ('background', 'RV', 'myocardium', 'LV')
    """
    if source in (HEART, ATRIUM):
        return phantoms.layout(source)
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".json":
        return decathlon_layout(path)
    if not path.is_dir():
        found = "is a file of another kind" if path.is_file() else "does not exist"
        raise InputError(f"the source {source} {found}; expected {EXPECTED}")
    if (path / FILE).is_file():
        return decathlon_layout(path / FILE)
    kinds = ((is_acdc, acdc_layout), (is_left_atrium, left_atrium_layout), (is_nifti_folder, nifti_layout))
    for fits, layout in kinds:
        if fits(path):
            return layout(path)
    raise InputError(f"{source} holds no scans in a known form; expected {EXPECTED}")
