"""Scans to segment: read them, draw them, split them by patient, and hand them out in two streams."""

from aureole.data.scans.crop_augment import CropAugment
from aureole.data.scans.layout import Layout
from aureole.data.scans.phantoms import Phantoms
from aureole.data.scans.read_scan import read_scan
from aureole.data.scans.scan import SCALINGS, Scan, scaled
from aureole.data.scans.scan_batches import ScanBatch, ScanBatches
from aureole.data.scans.scan_data import ScanData, ScanSplits
from aureole.data.scans.scans import Entry, Scans
from aureole.data.scans.slice_augment import SliceAugment
from aureole.data.scans.sources import find_layout
from aureole.data.scans.training_scans import TrainingScans

__all__ = [
    "SCALINGS",
    "CropAugment",
    "Entry",
    "Layout",
    "Phantoms",
    "Scan",
    "ScanBatch",
    "ScanBatches",
    "ScanData",
    "ScanSplits",
    "Scans",
    "SliceAugment",
    "TrainingScans",
    "find_layout",
    "read_scan",
    "scaled",
]
