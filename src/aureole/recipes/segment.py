"""Segmentation from few labelled scans, on slices or on volumes: ``segment-*``, and what thesis chapter 6 shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from aureole.core.balls import L2
from aureole.core.errors import InputError
from aureole.core.ramps import Sigmoid
from aureole.data.scans import ScanData
from aureole.models.segmentation import SegmenterConfig
from aureole.particles.starts import Probe
from aureole.recipes.settings import Scale
from aureole.segment import (
    DTC,
    SVGD,
    SVGDF,
    UAMT,
    URPC,
    VAT,
    CrossALD,
    EntropyMinimisation,
    MCNet,
    MeanTeacher,
    RandomMixup,
    SASSNet,
    Segmentation,
    SoftDice,
    SSNet,
    Supervised,
    SVGDFContrast,
    VATMixup,
)
from aureole.training.optimizers import SGD
from aureole.training.segmentation import Segmenting

Setting = Literal["acdc", "la"]

#: The method and its network, by name on the command line; ``{}`` stands for ``unet`` or ``vnet``.
METHODS: Mapping[str, tuple[type[Segmentation], str]] = {
    "supervised": (Supervised, "{}"),
    "mean-teacher": (MeanTeacher, "{}"),
    "entropy": (EntropyMinimisation, "{}"),
    "ua-mt": (UAMT, "{}"),
    "sassnet": (SASSNet, "{}-sdf"),
    "dtc": (DTC, "{}-sdf"),
    "urpc": (URPC, "urpc"),
    "mc-net": (MCNet, "mcnet"),
    "ss-net": (SSNet, "{}"),
    "random-mixup": (RandomMixup, "{}"),
    "vat": (VAT, "{}"),
    "vat-mixup": (VATMixup, "{}"),
    "svgd": (SVGD, "{}"),
    "svgdf": (SVGDF, "{}"),
    "svgdf-cs": (SVGDFContrast, "{}"),
    "cross-ald": (CrossALD, "{}"),
}
#: What ``aureole list`` says of each.
SUMMARIES: Mapping[str, str] = {
    "supervised": "segmentation from the labelled scans alone",
    "mean-teacher": "agreement with a moving average of the network on noisy scans",
    "entropy": "confident predictions on unlabelled scans",
    "ua-mt": "a mean teacher, where it is certain (Yu et al. 2019)",
    "sassnet": "signed distances that a discriminator cannot tell from labelled ones (Li et al. 2020)",
    "dtc": "agreement of a mask with its signed distances (Luo et al. 2021)",
    "urpc": "agreement of the decoder's levels (Luo et al. 2021)",
    "mc-net": "agreement of two decoders (Wu et al. 2021)",
    "ss-net": "smoothness by VAT and separation of classes (Wu et al. 2022)",
    "random-mixup": "mixtures of scans have mixed predictions",
    "vat": "smoothness in the direction in which the mask changes most",
    "vat-mixup": "VAT whose adversarial scans are mixed",
    "svgd": "several adversarial particles a scan that repel one another",
    "svgdf": "particles that repel one another in features",
    "svgdf-cs": "SVGDF and separation of classes",
    "cross-ald": "crossed adversarial particles and separation of classes (thesis Eq. 6.8)",
}


@dataclass(frozen=True, kw_only=True)
class Clinic:
    """What is segmented, and at what expense.

    Attributes:
        setting: ``"acdc"`` for slices of the heart, ``"la"`` for volumes of the left atrium.
        scale: the paper's, or a cheaper one.
        data: where the scans are; None draws them.
        num_labelled: patients with a label, at least 1.
        steps: of training, a multiple of those of an epoch (150 at the paper's scale, 50 at the other) or fewer than
            one has; None takes 30,000 or 15,000 at the paper's scale, 1,000 at the other.

    Raises:
        InputError: a number is out of range.
    """

    setting: Setting
    scale: Scale
    data: str | None = None
    num_labelled: int = 3
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.num_labelled < 1:
            raise InputError(f"num_labelled must be at least 1; got {self.num_labelled}")
        if self.steps is not None and (self.steps < 1 or self.steps % self._epoch):
            usual = 150 if self.scale == "paper" else 50
            raise InputError(f"steps must be a multiple of {usual}, or from 1 to {usual}; got {self.steps}")

    @property
    def _epoch(self) -> int:
        """Steps of an epoch: ramps and validation move with it."""
        return min(150 if self.scale == "paper" else 50, max(1, self._steps))

    @property
    def _steps(self) -> int:
        return self._usual_steps if self.steps is None else self.steps

    @property
    def _usual_steps(self) -> int:
        return 1_000 if self.scale == "small" else {"acdc": 30_000, "la": 15_000}[self.setting]

    @property
    def _epochs(self) -> int:
        return self._steps // self._epoch

    @property
    def _patch(self) -> tuple[int, ...]:
        if self.scale == "paper":
            return (256, 256) if self.setting == "acdc" else (112, 112, 80)
        return (96, 96) if self.setting == "acdc" else (48, 48, 48)

    @property
    def _zoom(self) -> float:
        """How much shorter a side of what the network sees is than in the paper: a ball shrinks as its images do."""
        return {"acdc": 96 / 256, "la": 0.5}[self.setting] if self.scale == "small" else 1.0

    @property
    def reason(self) -> str:
        """How a run differs from the paper's."""
        if self.scale == "paper":
            return "" if self._steps == self._usual_steps else f"{self._steps:,} of {self._usual_steps:,} steps"
        sizes = "x".join(map(str, self._patch))
        paper = {"acdc": "256x256", "la": "112x112x80"}[self.setting]
        return f"patches of {sizes} instead of {paper}, half the channels or fewer, {self._steps:,} steps"

    def method(self, name: str, num_particles: int | None = None) -> Segmentation:
        """Return a method with the settings of the published code on such scans.

        Args:
            name: of the method.
            num_particles: of VAT and what is built on it; None for the method's own number.
        """
        method = METHODS[name][0]()
        length = float(self._epochs) if self.scale == "small" else {"acdc": 200.0, "la": 40.0}[self.setting]
        method = replace(method, ramp=Sigmoid(length), background=self.setting == "acdc")
        if isinstance(method, UAMT):
            method = replace(method, threshold=Sigmoid(float(self._epochs)))
        if self.setting == "la":
            method = self._for_the_atrium(method)
        if isinstance(method, VAT):
            search = replace(
                method.search,
                ball=L2({"acdc": 6.0, "la": 10.0}[self.setting] * self._zoom, bounds=None),
                start=Probe(10.0 * self._zoom),
                objective=self._distance,
                num_particles=method.num_particles if num_particles is None else num_particles,
            )
            method = replace(method, search=search)
        return replace(method, objective=self._distance) if isinstance(method, RandomMixup) else method

    @staticmethod
    def _for_the_atrium(method: Segmentation) -> Segmentation:
        """Return a method with the weights of its code for the left atrium, and SS-Net's Dice loss where that is it."""
        if isinstance(method, Supervised | RandomMixup | VAT | MCNet):
            method = replace(method, form="joint", smooth=1e-8)
        if isinstance(method, MCNet):
            method = replace(method, labelled_weight=0.5)
        return replace(method, weight=1.0) if isinstance(method, RandomMixup | VAT | MCNet | DTC) else method

    @property
    def _distance(self) -> SoftDice:
        if self.setting == "la":
            return SoftDice(form="joint", scope="batch", smooth=1e-8)
        return SoftDice(scope="batch")

    def run(self, name: str, num_particles: int | None = None) -> Segmenting:
        """Return the run of a method.

        Args:
            name: of the method.
            num_particles: as for :meth:`method`.
        """
        method, volumes = self.method(name, num_particles), self.setting == "la"
        source = self.data or {"acdc": "phantom-heart", "la": "phantom-atrium"}[self.setting]
        small = self.scale == "small"
        batch = (2 if volumes else 4) if small else (2 if volumes else 12)
        optimizer = SGD(weight_decay=1e-4, schedule="constant")
        if volumes and not small:
            milestones = tuple(range(2500, 15_000, 2500))
            optimizer = SGD(weight_decay=1e-4, schedule="iterations", milestones=milestones)
        width = (4 if volumes else 8) if small else None
        return Segmenting(
            method=method,
            data=ScanData(source=source, num_labelled=self.num_labelled),
            model=SegmenterConfig(name=METHODS[name][1].format("vnet" if volumes else "unet"), width=width),
            optimizer=optimizer,
            epochs=self._epochs,
            steps_per_epoch=self._epoch,
            labelled_batch_size=batch,
            unlabelled_batch_size=batch if method.uses_unlabelled else 0,
            patch_size=self._patch,
            stride=(24, 24, 24) if small else (18, 18, 4),
            largest_component=volumes,
            validate_every=5 if small else 1,
            proxy_reason=self.reason,
        )


def segment(name: str) -> Callable[..., Segmenting]:
    """Return the recipe of a method.

    Args:
        name: of the method.
    """

    def build(
        setting: Setting = "acdc",
        scale: Scale = "small",
        num_labelled: int = 3,
        particles: int | None = None,
        steps: int | None = None,
    ) -> Segmenting:
        """Return the run.

        Your own scans go into --data.source: a folder of HDF5 files with lists, a folder with images/ and labels/ of
        NIfTI files, or a dataset.json of the Medical Segmentation Decathlon; their classes into --data.class-names.

        Args:
            setting: acdc trains on slices and a U-Net, la on volumes and a V-Net; without a source both are drawn.
            scale: the paper's, or a cheaper form that fits a laptop.
            num_labelled: patients with a label, the first of the list; the others teach without.
            particles: of VAT and what is built on it; by default 1, and 2 from SVGD on.
            steps: of training; by default the scale's.
        """
        return Clinic(setting=setting, scale=scale, num_labelled=num_labelled, steps=steps).run(name, particles)

    build.__doc__ = f"Segmentation: {SUMMARIES[name]}.\n{(build.__doc__ or '').partition(chr(10))[2]}"
    return build
