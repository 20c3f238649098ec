"""What a run of segmentation is: scans, network, method, optimiser, inference and judgement, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import torch
import tyro
from jaxtyping import Int64, Real
from torch import Tensor, nn

from aureole.core.errors import InputError, unknown_name
from aureole.core.records import Record
from aureole.data.scans import CropAugment, ScanData, SliceAugment
from aureole.metrics.segmentation import EmptyRule
from aureole.models.segmentation import SegmenterConfig
from aureole.segment.base import Segmentation
from aureole.segment.inference import slice_wise, sliding_window
from aureole.training.config import Engine
from aureole.training.experiment import Runnable
from aureole.training.optimizers import SGD, Optimizer


@dataclass(frozen=True, kw_only=True)
class Segmenting(Runnable):
    """Train a network that segments, and judge it on the test scans.

    The defaults are those of SS-Net on ACDC: 30,000 iterations, whose ramp moves every 150.

    Attributes:
        method: the training objective.
        data: which scans, and how many of the patients are labelled.
        model: which network.
        optimizer: the optimiser and its schedule; ``"iterations"`` counts milestones in steps.
        epochs: how many, an epoch being a number of steps.
        steps_per_epoch: steps of an epoch; validation and ramps move with the epochs.
        labelled_batch_size: labelled slices or crops of a batch, over all devices.
        unlabelled_batch_size: unlabelled ones beside them; 0 for a method that learns from labels alone.
        patch_size: (height, width) that slices are zoomed to, or the three lengths of a crop.
        rotate: in 2-D, the share of slices that are rotated by a few degrees; 0.25 as in SS-Net, 0.5 as in SSL4MIS.
        stride: between the windows of inference in 3-D.
        largest_component: keep only the largest component of each class, in validation as well.
        slices_per_call: slices that go through the network at once in 2-D inference.
        windows_per_call: windows that go through it at once in 3-D inference.
        clip_norm: largest norm of the gradient; None for no clipping.
        validate_every: so many epochs, where there are validation scans.
        keep_best: also store the weights of the highest mean Dice on the validation scans, as ``best.safetensors``.
        judged: ``"last"`` for the weights after the last step, or ``"best"`` for those that ``keep_best`` stores, as in
            the published code of SS-Net.
        seed: everything random in the run derives from it.
        num_test_scans: the first so many test scans; None for all.
        empty: what counts where a mask is empty, see :data:`aureole.metrics.segmentation.EmptyRule`.
        num_pictures: test scans whose middle slices are kept for the report.
        engine: how the loop runs.
        label: the row of the report; empty for the method's name.
        paper: what the paper reports: ``"dice"``, ``"jaccard"``, ``"hd95"`` and ``"asd"``, of the row ``"mean"``.
        proxy_reason: how scale or data differ from the paper's; empty where they do not.

    Raises:
        InputError: a number is out of its range.

    Source: SS-Net (Wu et al. 2022) and its code; thesis section 6.3.
    """

    method: Segmentation
    data: ScanData = ScanData()
    model: SegmenterConfig = SegmenterConfig()
    optimizer: Optimizer = SGD(weight_decay=1e-4, schedule="constant")
    epochs: int = 200
    steps_per_epoch: int = 150
    labelled_batch_size: int = 12
    unlabelled_batch_size: int = 12
    patch_size: tuple[int, ...] = (256, 256)
    rotate: float = 0.25
    stride: tuple[int, int, int] = (18, 18, 4)
    largest_component: bool = False
    slices_per_call: int = 8
    windows_per_call: int = 4
    clip_norm: float | None = None
    validate_every: int = 1
    keep_best: bool = False
    judged: Literal["last", "best"] = "last"
    seed: int = 0
    num_test_scans: int | None = None
    empty: EmptyRule = "ssl4mis"
    num_pictures: int = 4
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine()  # its fields are options without a prefix
    label: str = ""
    paper: dict[str, float] = field(default_factory=dict)
    proxy_reason: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "labelled_batch_size", "slices_per_call", "windows_per_call"):
            self._check_at_least(1, name)
        for name in ("validate_every", "num_test_scans"):
            self._check_at_least(1, name)
        for name in ("unlabelled_batch_size", "num_pictures"):
            self._check_at_least(0, name)
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"clip_norm must be positive; got {self.clip_norm}")
        self._check_judged()
        if self.empty not in get_args(EmptyRule):
            raise unknown_name("rule for empty masks", str(self.empty), get_args(EmptyRule))
        if self.method.uses_unlabelled and not self.unlabelled_batch_size:
            raise InputError(f"{self.method.title} learns from unlabelled scans: unlabelled_batch_size must not be 0")
        self._check_patch()
        self._check_devices()

    @property
    def title(self) -> str:
        """The row of the report."""
        return self.label or self.method.title

    @property
    def departure(self) -> str:
        """How the run differs from the paper's: by its data, which may be drawn, and as it was told."""
        return ", ".join(filter(None, ["drawn scans" if self.data.is_drawn else "", self.proxy_reason]))

    @property
    def patience(self) -> int | None:
        """None: it trains for all of its epochs."""
        return None

    @property
    def ema_decay(self) -> float | None:
        """None: where an average of the weights is kept, the method keeps it."""
        return None

    @property
    def dimensions(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.patch_size)

    @property
    def augment(self) -> SliceAugment | CropAugment:
        """What makes patches of scans."""
        if self.dimensions == 2:
            return SliceAugment(patch_size=(self.patch_size[0], self.patch_size[1]), rotate=self.rotate)
        return CropAugment(patch_size=(self.patch_size[0], self.patch_size[1], self.patch_size[2]))

    def segment(
        self, network: nn.Module, volume: Real[Tensor, "*channels d1 d2 d3"], *, slice_axis: int = 0
    ) -> Int64[Tensor, "d1 d2 d3"]:
        """Return the class of each voxel of a volume: slice by slice in 2-D, window by window in 3-D.

        Args:
            network: of this run, on any device.
            volume: in the units of the training, of shape (d1, d2, d3) or (channels, d1, d2, d3).
            slice_axis: which of the three axes goes through the slices; without effect in 3-D.

        Raises:
            InputError: the volume is unusable, or has several channels in 2-D.
        """
        channels_last, augment = self.engine.channels_last, self.augment
        if isinstance(augment, CropAugment):
            return sliding_window(
                network,
                volume,
                augment.patch_size,
                self.stride,
                windows_per_call=self.windows_per_call,
                channels_last=channels_last,
                largest_component=self.largest_component,
            )
        if volume.ndim == 4 and len(volume) == 1:
            volume = volume[0]
        if volume.ndim != 3:
            raise InputError(f"2-D networks label volumes (d1, d2, d3) of one channel; got {tuple(volume.shape)}")
        found = slice_wise(
            network,
            volume.movedim(slice_axis, 0),
            augment.patch_size,
            slices_per_call=self.slices_per_call,
            channels_last=channels_last,
            largest_component=self.largest_component,
        )
        return found.movedim(0, slice_axis)

    def device(self) -> torch.device:
        """Return where the finished network works: on a GPU where there is one and the engine takes it."""
        wants_gpu = self.engine.accelerator != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if wants_gpu else "cpu")

    def run(self, folder: Path, *, recipe: str = "") -> list[Record]:
        """Run it; see :func:`~aureole.training.segmentation.run.run_segmenting`."""
        from aureole.training.segmentation.run import run_segmenting

        return [run_segmenting(self, folder, recipe=recipe)]

    def with_engine(self, **changes: object) -> Segmenting:
        """Return the same run with fields of its engine changed."""
        return replace(self, engine=replace(self.engine, **changes))  # pyright: ignore[reportArgumentType]

    def with_seed(self, seed: int) -> Segmenting:
        """Return the same run under another seed."""
        return replace(self, seed=seed)

    def _check_at_least(self, least: int, name: str) -> None:
        number = getattr(self, name)
        if number is not None and number < least:
            raise InputError(f"{name} must be at least {least}; got {number}")

    def _check_judged(self) -> None:
        if self.judged not in ("last", "best"):
            raise unknown_name("weights to judge", str(self.judged), ("last", "best"))
        if self.judged == "best" and not self.keep_best:
            raise InputError("judged='best' needs keep_best, which stores the best weights")

    def _check_patch(self) -> None:
        if self.dimensions not in (2, 3):
            raise InputError(f"patch_size must be 2 lengths for slices or 3 for crops; got {self.patch_size}")
        patch = self.augment.patch_size
        steps = zip(self.stride, patch, strict=True) if len(patch) == 3 else ()
        if any(not 1 <= step <= length for step, length in steps):
            raise InputError(f"stride must be 1 to patch_size along each axis; got {self.stride} for {patch}")

    def _check_devices(self) -> None:
        devices = self.engine.devices
        if devices < 1 or self.labelled_batch_size % devices or self.unlabelled_batch_size % devices:
            raise InputError(
                "labelled_batch_size and unlabelled_batch_size must divide among the devices; got "
                f"{self.labelled_batch_size}, {self.unlabelled_batch_size} and {devices}"
            )
