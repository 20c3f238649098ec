"""What a run is: data, model, method, optimiser, evaluation, as frozen values that a recipe returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from aureole.core.balls import Ball, Linf
from aureole.core.errors import InputError
from aureole.core.method import Method
from aureole.data import Data
from aureole.models import MAPS, ModelConfig
from aureole.refine import PVAR
from aureole.robust import Natural
from aureole.training.optimizers import SGD, Optimizer


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How the finished model is judged, at the last epoch.

    Attributes:
        part: the ``"test"`` images, touched here alone; ``"validation"`` for runs that choose a setting.
        ball: where the attacks' images lie.
        step_size: of the iterative attacks, in the units of the images.
        attacks: names such as ``fgsm``, ``pgd-200``, ``pgd-50x2``.
        num_examples: the first so many images; None for all.
        batch_size: images at once.
        seed: of the attacks' random starts.
    """

    part: Literal["test", "validation"] = "test"
    ball: Ball = Linf(0.3)
    step_size: float = 0.01
    attacks: tuple[str, ...] = ("pgd-20",)
    num_examples: int | None = None
    batch_size: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.step_size < math.inf:
            raise InputError(f"step_size must be positive and finite; got {self.step_size}")
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1; got {self.batch_size}")
        if self.num_examples is not None and self.num_examples < 1:
            raise InputError(f"num_examples must be at least 1; got {self.num_examples}")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How the loop runs: nothing here changes what is computed, but for the precision.

    Attributes:
        accelerator: ``"auto"`` takes a GPU where there is one.
        devices: processes; each takes an equal share of every batch.
        precision: ``"bf16-mixed"`` computes passes in bfloat16; losses, steps and projections stay in float32.
        channels_last: memory format of images and weights; the faster one for convolutions, also on a CPU.
        compile: compile the model.
        checkpoint_seconds: at most so long after the last checkpoint another is written, also in mid-epoch.
        progress: show a progress bar.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    channels_last: bool = True
    compile: bool = False
    checkpoint_seconds: float = 30.0
    progress: bool = True


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training run, from data to evaluated model.

    Attributes:
        method: the training objective.
        data: which images.
        model: which network.
        optimizer: the optimiser and its schedule.
        epochs: passes over the training set, at most.
        patience: stop when the training loss has not fallen below its least for so many epochs; None never stops early.
        batch_size: images in a batch, over all devices.
        unlabelled_batch_size: unlabelled images beside each batch, over all devices, where the data has few labels.
        steps_per_epoch: batches of an epoch there; None for one pass over the unlabelled images.
        views: what augments the images there: ``"digits"`` shifts, ``"photos"`` shifts and mirrors.
        augment: ``"crop-flip"`` pads by 4, crops, and mirrors at random.
        clip_norm: largest norm of the gradient; None for no clipping.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated; None for no average.
        keep_best: also store the weights of the highest validation accuracy, as ``best.safetensors``; those of the last
            epoch are what is judged.
        seed: everything random in the run derives from it.
        evaluation: how the model is judged.
        engine: how the loop runs.
        label: the row of the report; empty for the method's name.
        paper: what the paper reports, by attack.
        proxy_reason: how scale or data differ from the paper's; empty where they do not.
    """

    method: Method = Natural()
    data: Data = Data()
    model: ModelConfig = ModelConfig()
    optimizer: Optimizer = SGD()
    epochs: int = 10
    patience: int | None = None
    batch_size: int = 100
    unlabelled_batch_size: int = 128
    steps_per_epoch: int | None = None
    views: Literal["digits", "photos"] = "photos"
    augment: Literal["none", "crop-flip"] = "none"
    clip_norm: float | None = None
    ema_decay: float | None = None
    keep_best: bool = False
    seed: int = 0
    evaluation: Evaluation = Evaluation()
    engine: Annotated[Engine, tyro.conf.arg(name="")] = Engine()  # its fields are options without a prefix
    label: str = ""
    paper: dict[str, float] = field(default_factory=dict)
    proxy_reason: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "unlabelled_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience must be at least 1 epoch, or None; got {self.patience}")
        self._check_average()
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"clip_norm must be positive; got {self.clip_norm}")
        if self.model.name in MAPS and not isinstance(self.method, PVAR):
            raise InputError(
                f"the model {self.model.name} makes a map of pixels, and {self.method.title} trains a classifier:"
                " choose another model, such as lenet5 or resnet18"
            )
        if self.engine.devices < 1 or self.batch_size % self.engine.devices:
            raise InputError(
                f"batch_size must divide among the devices; got {self.batch_size} and {self.engine.devices}"
            )

    def _check_average(self) -> None:
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay must lie in [0, 1); got {self.ema_decay}")
        if self.keep_best and self.ema_decay is not None:
            raise InputError("keep_best stores weights as they are trained: leave ema_decay or keep_best out")

    @property
    def title(self) -> str:
        """The row of the report."""
        return self.label or self.method.title
