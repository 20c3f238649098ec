"""A tiny student and a map that explains its teacher, for any data: ``explain``, and what thesis chapter 4 shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from aureole.core.errors import unknown_name
from aureole.data import MaskedData, PaintedLesions
from aureole.data.fractions import FractionData
from aureole.data.fundus import Fundus
from aureole.explain import (
    MEDTEX,
    RISE,
    AttentionModel,
    Attribution,
    ExplainedModel,
    GradCAM,
    IntegratedGradients,
    Occlusion,
    OwnMap,
    TeacherLabels,
)
from aureole.explain.base import FromTeacher
from aureole.models import ModelConfig
from aureole.recipes.distill import Teacher
from aureole.recipes.settings import Scale
from aureole.training.config import Training
from aureole.training.explanation import Explained
from aureole.training.explanation.run import LEARNER
from aureole.training.optimizers import Adam

Setting = Literal["painted", "fundus", "fish", "folder"]
EPOCHS = 100  # the thesis does not state a number
_SMALL = 64  # pixels a side, instead of 256
_TRAINED = Teacher()
_FEATURES = {"paper": "resnet18-imagenet", "small": "resnet8"}

#: Name in the report, by name on the command line.
METHODS: Mapping[str, str] = {
    "medtex": "MED-TEX",
    "medex": "MED-EX",
    "student": "Student (only)",
    "l2x": "L2X",
    "gradcam": "Grad-CAM",
    "soft-attention": "Soft attention",
    "hard-attention": "Hard attention",
}
#: Maps of any classifier, by name on the command line.
ATTRIBUTIONS: Mapping[str, Attribution] = {
    "own": OwnMap(),
    "gradcam": GradCAM(),
    "integrated-gradients": IntegratedGradients(),
    "occlusion": Occlusion(),
    "rise": RISE(),
}


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What teacher and student look at.

    Attributes:
        setting: ``"painted"`` lesions on photographs of the retina, with known masks; ``"fundus"`` photographs with and
            without pathological myopia; ``"fish"``, goldfish against jellyfish with boxes; ``"folder"``, any images
            of one size in classes.
        scale: the paper's, or a cheaper one.
        data: where the data is; None for drawn photographs, or the name of a hub data set. Fundus and folder need it.
        epochs: of teacher and student; None takes 100 at the paper's scale, 40 at the other.
    """

    setting: Setting
    scale: Scale
    data: str | None = None
    epochs: int | None = None

    @property
    def reason(self) -> str:
        """How a run differs from the paper's."""
        kind = {
            "painted": "painted lesions instead of real ones",
            "fundus": "without the private part of the thesis's photographs",
            "fish": "" if self.scale == "paper" else "images of 32x32 pixels",
            "folder": "images that the thesis does not have",
        }[self.setting]
        if self.scale == "paper":
            return kind
        cropped = self.setting in ("painted", "fundus")
        size = f"{_SMALL}x{_SMALL} instead of 256x256 pixels, " if cropped else ""
        cheap = f"{self._epochs} epochs in batches of 16 at a cosine rate"
        return f"{kind}, {size}{cheap}, ResNet-8 instead of ResNet-18 in what is compared".removeprefix(", ")

    @property
    def _epochs(self) -> int:
        return self.epochs or (EPOCHS if self.scale == "paper" else 40)

    def images(self, fraction: float = 1.0) -> FractionData:
        """Return the data, with a share of the training images.

        Args:
            fraction: the share, in (0, 1].
        """
        prepare = Fundus() if self.scale == "paper" else Fundus(size=_SMALL)
        if self.setting == "painted":
            return PaintedLesions(
                source=self.data or PaintedLesions.source, prepare=prepare, num_validation=40, fraction=fraction
            )
        if self.setting == "fundus":
            return MaskedData(source=self.data or "", prepare=prepare, num_validation=40, fraction=fraction)
        if self.setting == "folder":
            return MaskedData(source=self.data or "", num_validation=40, fraction=fraction)
        return MaskedData(
            source=self.data or "zh-plus/tiny-imagenet",
            classes=("goldfish", "jellyfish"),
            box_column="box",
            box_frame=(64, 64),
            num_validation=100,
            fraction=fraction,
        )

    def teacher(self) -> Training:
        """Return the run of the teacher, on all training images and their labels."""
        return replace(
            self._learner(),
            method=Training().method,
            model=ModelConfig(name="four-blocks"),
            data=self.images(),
            label="teacher",
        )

    def explained(self, name: str, fraction: float = 1.0) -> Explained:
        """Return the run of a method.

        Args:
            name: of the method.
            fraction: of the training images that the student sees.

        Raises:
            InputError: there is no such method.
        """
        method, model, attribution = self._parts(name)
        student = replace(self._learner(), method=method, model=model, data=self.images(fraction), label=METHODS[name])
        attributions = {} if attribution is None else {METHODS[name]: attribution}
        return Explained(student=student, teacher=self.teacher(), attributions=attributions)

    def _parts(self, name: str) -> tuple[FromTeacher, ModelConfig, Attribution | None]:
        if name not in METHODS:
            raise unknown_name("method", name, METHODS)
        features = _FEATURES[self.scale]
        mean, std = (0.5,), (0.25,)  # of every channel; without them the tiny student's ReLUs often die
        student = ExplainedModel(features=features, mean=mean, std=std)
        if name == "gradcam":
            return TeacherLabels(), ModelConfig(name=features, mean=mean, std=std), GradCAM()
        if name.endswith("attention"):
            kind = "soft" if name.startswith("soft") else "hard"
            return TeacherLabels(), AttentionModel(name=features, kind=kind, mean=mean, std=std), OwnMap()
        if name == "medtex":
            return MEDTEX(), student, OwnMap()
        explainer = {"medex": "unet", "l2x": "patches", "student": "none"}[name]
        own = None if name == "student" else OwnMap()
        return MEDTEX(weight=0.0), replace(student, explainer=explainer), own

    def _learner(self) -> Training:
        run = replace(LEARNER, epochs=self._epochs, proxy_reason=self.reason)
        if self.scale == "paper":
            return run
        return replace(run, batch_size=16, optimizer=Adam(schedule="cosine"))  # a constant rate ends anywhere so soon


def explain(
    setting: Setting = "painted",
    scale: Scale = "small",
    method: str = "medtex",
    fraction: float = 1.0,
    by: tuple[str, ...] = (),
    epochs: int | None = None,
    teacher: Teacher = _TRAINED,
) -> Explained:
    """Learn a tiny student and a map of the pixels that explain its teacher (thesis chapter 4).

    Your own images go into --data.source: a folder of class folders, or a data set; masks into --data.mask-folder,
    --data.mask-column or --data.box-column of the settings folder, fundus and fish.

    Args:
        setting: painted lesions with known masks; fundus for photographs of the retina in class folders; fish for
            goldfish against jellyfish, with boxes; folder for any images of one size in classes.
        scale: the paper's, or a cheaper form that fits a laptop.
        method: medtex, medex, student, l2x, gradcam, soft-attention, hard-attention.
        fraction: share of the training images that the student sees.
        by: further maps of the student: gradcam, integrated-gradients, occlusion, rise.
        epochs: of teacher and student; None takes the scale's.
        teacher: what the student learns from.
    """
    run = Ground(setting=setting, scale=scale, epochs=epochs).explained(method, fraction)
    for name in by:
        if name not in ATTRIBUTIONS:
            raise unknown_name("attribution", name, ATTRIBUTIONS)
    further = {name: ATTRIBUTIONS[name] for name in by}
    return teacher.of(replace(run, attributions={**run.attributions, **further}))
