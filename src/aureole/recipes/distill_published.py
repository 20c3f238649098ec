"""Accuracies that others have published for CIFAR-100 and ImageNet, in percent: last epoch, no KD beside other methods.

CIFAR-100: tables of Tian et al. 2020 (CRD), which the thesis takes its baselines from (Table 7.1, section 7.4.2). The
networks of SSKD and HSAKD had other teachers, so their numbers are not beside these. ImageNet: torchdistill.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan

#: Teachers and students of one style, then of different styles.
SAME_STYLE = (
    "wrn-40-2-wrn-16-2", "wrn-40-2-wrn-40-1", "resnet56-resnet20", "resnet110-resnet20", "resnet110-resnet32",
    "resnet32x4-resnet8x4", "vgg13-vgg8",
)  # fmt: skip
CROSS_STYLE = (
    "vgg13-mobilenet-v2", "resnet50-mobilenet-v2", "resnet50-vgg8", "resnet32x4-shufflenet-v1",
    "resnet32x4-shufflenet-v2", "wrn-40-2-shufflenet-v1",
)  # fmt: skip
_STUDENTS: Mapping[str, tuple[float, ...]] = {
    "kd": (74.92, 73.54, 70.66, 70.67, 73.08, 73.33, 72.98, 67.37, 67.35, 73.81, 74.07, 74.45, 74.83),
    "fitnet": (73.58, 72.24, 69.21, 68.99, 71.06, 73.50, 71.02, 64.14, 63.16, 70.69, 73.59, 73.54, 73.73),
    "at": (74.08, 72.77, 70.55, 70.22, 72.31, 73.44, 71.43, 59.40, 58.58, 71.84, 71.73, 72.73, 73.32),
    "sp": (73.83, 72.43, 69.67, 70.04, 72.69, 72.94, 72.68, 66.30, 68.08, 73.34, 73.48, 74.56, 74.52),
    "cc": (73.56, 72.21, 69.63, 69.48, 71.48, 72.97, 70.71, 64.86, 65.43, 70.25, 71.14, 71.29, 71.38),
    "vid": (74.11, 73.30, 70.38, 70.16, 72.61, 73.09, 71.23, 65.56, 67.57, 70.30, 73.38, 73.40, 73.61),
    "rkd": (73.35, 72.22, 69.61, 69.25, 71.82, 71.90, 71.48, 64.52, 64.43, 71.50, 72.28, 73.21, 72.21),
    "pkt": (74.54, 73.45, 70.34, 70.25, 72.61, 73.64, 72.88, 67.13, 66.52, 73.01, 74.10, 74.69, 73.89),
    "ab": (72.50, 72.38, 69.47, 69.53, 70.98, 73.17, 70.94, 66.06, 67.20, 70.65, 73.55, 74.31, 73.34),
    "ft": (73.25, 71.59, 69.84, 70.22, 72.37, 72.86, 70.58, 61.78, 60.99, 70.29, 71.75, 72.50, 72.03),
    "fsp": (72.91, nan, 69.95, 70.11, 71.89, 72.62, 70.23, *6 * (nan,)),
    "nst": (73.68, 72.24, 69.60, 69.53, 71.96, 73.30, 71.53, 58.16, 64.96, 71.28, 74.12, 74.68, 74.89),
    "crd": (75.48, 74.14, 71.16, 71.46, 73.48, 75.51, 73.94, 69.73, 69.11, 74.30, 75.11, 75.65, 76.05),
}
_ALONE: Mapping[str, float] = {
    "wrn-40-2": 75.61, "wrn-40-1": 71.98, "wrn-16-2": 73.26, "resnet110": 74.31, "resnet56": 72.34, "resnet32": 71.14,
    "resnet20": 69.06, "resnet32x4": 79.42, "resnet8x4": 72.50, "resnet50": 79.34, "vgg13": 74.64, "vgg8": 70.36,
    "mobilenet-v2": 64.60, "shufflenet-v1": 70.50, "shufflenet-v2": 71.82,
}  # fmt: skip
_IMAGENET: Mapping[str, float] = {
    "none": 69.76, "kd": 71.37, "at": 70.90, "ft": 71.56, "crd": 70.93, "sskd": 70.09
}  # fmt: skip


def alone(network: str) -> dict[str, float]:
    """Return the accuracy on CIFAR-100 of a network that learns from the labels alone; empty where there is none.

    Example:
        >>> from aureole.recipes.distill_published import alone
        >>> alone("wrn-40-2"), alone("lenet5")
        ({'natural': 0.7561}, {})
    """
    return _shares(_ALONE.get(network, nan))


def taught(method: str, pair: str) -> dict[str, float]:
    """Return the accuracy on CIFAR-100 of a student that a method taught; empty where there is none.

    Example:
        >>> from aureole.recipes.distill_published import taught
        >>> taught("kd", "resnet56-resnet20"), taught("hsakd", "resnet56-resnet20")
        ({'natural': 0.7066}, {})
    """
    pairs = (*SAME_STYLE, *CROSS_STYLE)
    if method not in _STUDENTS or pair not in pairs:
        return {}
    return _shares(_STUDENTS[method][pairs.index(pair)])


def on_imagenet(method: str) -> dict[str, float]:
    """Return the accuracy on ImageNet of a ResNet-18 that a method taught from a ResNet-34; empty where there is none.

    Example:
        >>> from aureole.recipes.distill_published import on_imagenet
        >>> on_imagenet("kd")
        {'natural': 0.7137}
    """
    return _shares(_IMAGENET.get(method, nan))


def _shares(percent: float) -> dict[str, float]:
    return {} if isnan(percent) else {"natural": round(percent / 100, 4)}
