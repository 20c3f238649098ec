"""What a student that explains its teacher is worth: its agreement with the teacher, and its maps against masks."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError, first_line
from aureole.core.model import frozen, predict
from aureole.core.records import AgreementRow, ExplanationRow
from aureole.data import ImageSet, MaskedImages
from aureole.explain import Attribution
from aureole.metrics import Deletion, Insertion, iou_at_top, pointing_game, post_hoc

_BATCH = 50
_TIMED = 15  # maps of one image, after a few that warm the network up
_STEPS = 64  # of a curve
_CURVES = {"insertion": Insertion, "deletion": Deletion}


def agreement(student: nn.Module, teacher: nn.Module, images: ImageSet, batch_size: int = 250) -> AgreementRow:
    """Return how often a student's class is its teacher's.

    Args:
        student: maps images to logits; one that explains itself sees them simplified.
        teacher: maps images to logits.
        images: test images.
        batch_size: images at once.
    """
    places = torch.arange(len(images)).split(batch_size)
    classes = [torch.cat([_classes(model, _pixels(images, part)) for part in places]) for model in (student, teacher)]
    positive = images.positive if isinstance(images, MaskedImages) else None
    found = post_hoc(classes[0], classes[1], positive)
    return AgreementRow(
        num_examples=found.num_examples,
        accuracy=found.accuracy,
        precision=found.precision,
        recall=found.recall,
        f1=found.f1,
    )


def judge_maps(
    name: str,
    attribution: Attribution,
    student: nn.Module,
    teacher: nn.Module,
    images: ImageSet,
    patches: tuple[int, ...],
    num_curves: int,
) -> ExplanationRow:
    """Return what the maps of an attribution are worth.

    Args:
        name: of the attribution.
        attribution: maps the pixels that matter to the student's own class.
        student: maps images to logits.
        teacher: follows the pixels as they come and go.
        images: test images; those with a mask are compared with it.
        patches: K, in 64ths of an image.
        num_curves: the first so many images of insertion and deletion.
    """
    measured: dict[str, Any] = {"milliseconds": 1000 * _seconds(attribution, student, images)}
    if _has_masks(images):
        masked = images.with_masks()
        measured |= _against_masks(maps_of(attribution, student, masked), masked.masks, patches)
    if num_curves:
        some = images.subset(torch.arange(min(num_curves, len(images))))
        x, maps = _pixels(some, torch.arange(len(some))), maps_of(attribution, student, some)
        steps = min(_STEPS, maps[0].numel())
        areas = {kind: curve(num_steps=steps)(teacher, x, maps).area for kind, curve in _CURVES.items()}
        measured |= {"num_curves": len(some), **{kind: float(area.mean()) for kind, area in areas.items()}}
    return ExplanationRow(attribution=name, **measured)


def _has_masks(images: ImageSet) -> TypeGuard[MaskedImages]:
    return isinstance(images, MaskedImages) and bool(images.has_mask.any())


def _against_masks(maps: Tensor, masks: Tensor, patches: tuple[int, ...]) -> dict[str, Any]:
    counts = [max(1, round(k * maps[0].numel() / 64)) for k in patches]
    return {
        "num_masks": len(maps),
        "counts": counts,
        "iou": [float(iou_at_top(maps, masks, count).mean()) for count in counts],
        "iou_at_size": float(iou_at_top(maps, masks).mean()),
        "pointing": float(pointing_game(maps, masks).float().mean()),
    }


def maps_of(attribution: Attribution, model: nn.Module, images: ImageSet) -> Tensor:
    """Return the map of each image of a set, on the CPU."""
    parts = torch.arange(len(images)).split(_BATCH)
    return torch.cat([attribution(model, _pixels(images, part), None).detach().float().cpu() for part in parts])


def _seconds(attribution: Attribution, model: nn.Module, images: ImageSet) -> float:
    """Return the median time of one map."""
    taken, x = [], _pixels(images, torch.zeros(1, dtype=torch.int64))
    for _ in range(_TIMED + 3):
        clock = time.perf_counter()
        attribution(model, x, None)
        taken.append(time.perf_counter() - clock)
    return median(taken[3:])


def _pixels(images: ImageSet, places: Tensor) -> Tensor:
    return images.batch(places).float().div(255)


@torch.no_grad()
def _classes(model: nn.Module, x: Tensor) -> Tensor:
    with frozen(model):
        return predict(model, x).argmax(-1)


def write_maps(
    attributions: Mapping[str, Attribution],
    student: nn.Module,
    teacher: nn.Module,
    images: ImageSet,
    count: int,
    path: Path,
) -> None:
    """Keep a few test images with their maps and masks for the report: the first with a mask, or the first.

    Raises:
        InputError: the file cannot be written.
    """
    places = images.has_mask.nonzero().flatten() if _has_masks(images) else torch.arange(len(images))
    some = images.subset(places[:count])
    x = _pixels(some, torch.arange(len(some)))
    arrays = {
        "x": x.numpy(),
        "labels": some.labels.numpy(),
        "index": places[:count].numpy(),
        "teacher": _classes(teacher, x).numpy(),
        "student": _classes(student, x).numpy(),
        "maps": np.stack([maps_of(attribution, student, some).numpy() for attribution in attributions.values()]),
        "attributions": np.array(list(attributions)),
        "class_names": np.array(images.class_names),
    }
    if isinstance(some, MaskedImages):
        arrays["masks"] = some.masks.numpy()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path} ({first_line(error)}): choose a folder that can be written") from error
