"""The configurations of the networks that explain themselves: MED-TEX, L2X, the student alone, and attention.

The network of Grad-CAM needs none: it is the plain ``ModelConfig(name="resnet18-imagenet")``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from aureole.core.errors import InputError, unknown_name
from aureole.core.model import frozen, random_state_kept
from aureole.core.random import mix_seed
from aureole.core.selection import num_pixels
from aureole.explain.attention import Attention, Kind, LastMap, check_temperature
from aureole.explain.explainer import ExplainedStudent, ExplainerUNet, PassThrough
from aureole.explain.l2x import PatchExplainer, PatchStudent
from aureole.models import MODELS, ModelConfig
from aureole.models.catalogue import build_seeded

#: What a student sees an image through: MED-TEX's U-Net, L2X's patches, or nothing.
Explainer = Literal["unet", "patches", "none"]


@dataclass(frozen=True, kw_only=True)
class ExplainedModel(ModelConfig):
    """A student and what it sees an image through.

    With one seed the student's initial weights are the same whatever the explainer. The explainer sees the pixels in
    [0, 1]; the normalisation belongs to the student, behind Theta * x.

    Attributes:
        name: the student, a key of ``MODELS``.
        explainer: ``"unet"`` for MED-TEX, ``"patches"`` for L2X, ``"none"`` for the student alone.
        features: of the patches' explainer: the classifier whose last map's positions are the patches.
        share: of the patches that the student sees, in (0, 1].
        temperature: of the patches' draws, positive.

    Example:
        >>> from aureole.explain.networks import ExplainedModel
        >>> network = ExplainedModel().build(num_classes=2, image_shape=(3, 256, 256), seed=0)
        >>> sum(p.numel() for p in network.student.parameters())
        1726

    Source: thesis Figure 4.1 and section 4.4.3.
    """

    name: str = "four-blocks-tiny"
    explainer: Explainer = "unet"
    features: str = "resnet18-imagenet"
    share: float = 1 / 16
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.explainer not in get_args(Explainer):
            raise unknown_name("explainer", str(self.explainer), get_args(Explainer))
        num_pixels(self.share, 1, 1)  # checks the share
        check_temperature(self.temperature)

    def build(self, *, num_classes: int, image_shape: tuple[int, int, int], seed: int) -> ExplainedStudent:
        """Return a new network on the CPU; arguments and errors as for :meth:`~aureole.models.ModelConfig.build`."""
        _check_classifier(self.name)
        student = super().build(num_classes=num_classes, image_shape=image_shape, seed=seed)
        if self.explainer == "none":
            return ExplainedStudent(PassThrough(), student)
        seed = mix_seed(seed, 1)
        if self.explainer == "unet":
            return ExplainedStudent(build_seeded(lambda: ExplainerUNet(image_shape[0]), seed), student)
        features, width = _features(ModelConfig(name=self.features), image_shape, seed)
        share, temperature = self.share, self.temperature
        patches = build_seeded(lambda: PatchExplainer(features, width, share=share, temperature=temperature), seed)
        return PatchStudent(patches, student)


@dataclass(frozen=True, kw_only=True)
class AttentionModel(ModelConfig):
    """A classifier's feature map under attention; the normalisation is in front of the features.

    Attributes:
        name: the classifier whose last map is looked at, a key of ``MODELS``.
        kind: ``"soft"`` or ``"hard"``.
        temperature: of hard draws, positive.

    Example:
        >>> from aureole.explain.networks import AttentionModel
        >>> network = AttentionModel(name="resnet8").build(num_classes=2, image_shape=(3, 32, 32), seed=0)
        >>> network.map(torch.rand(1, 3, 32, 32)).unique().numel() <= 8 * 8
        True

    Source: thesis section 4.4.3.
    """

    name: str = "resnet18-imagenet"
    kind: Kind = "soft"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown_name("attention", str(self.kind), get_args(Kind))
        check_temperature(self.temperature)

    def build(self, *, num_classes: int, image_shape: tuple[int, int, int], seed: int) -> Attention:
        """Return a new network on the CPU; arguments and errors as for :meth:`~aureole.models.ModelConfig.build`."""
        plain = ModelConfig(name=self.name, mean=self.mean, std=self.std)
        features, width = _features(plain, image_shape, seed)
        kind, temperature = self.kind, self.temperature
        return build_seeded(
            lambda: Attention(features, num_classes, width=width, kind=kind, temperature=temperature), mix_seed(seed, 1)
        )


def _features(config: ModelConfig, image_shape: tuple[int, int, int], seed: int) -> tuple[LastMap, int]:
    """Return a classifier up to its last map, and the map's channels."""
    _check_classifier(config.name)
    features = LastMap(config.build(num_classes=2, image_shape=image_shape, seed=seed))
    x = torch.zeros(1, *image_shape, device="cpu")
    with random_state_kept(x.device), torch.no_grad(), frozen(features):
        _, width, rows, columns = features(x).shape
    if rows * columns < 2:
        raise InputError(
            f"{config.name} makes one position of an image of {image_shape[1]} x {image_shape[2]} pixels, and one"
            " explains nothing: choose a network for smaller images, such as resnet18"
        )
    return features, width


def _check_classifier(name: str) -> None:
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
