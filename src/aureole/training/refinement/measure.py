"""What a refined attack is worth: accuracy, detection, norm, pixels and time, beside its source and its rivals."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError, first_line
from aureole.core.model import frozen, predict
from aureole.core.random import Streams
from aureole.core.records import RefinementRow
from aureole.data.streamed import ImageSet
from aureole.refine import (
    DetectionAUC,
    Detector,
    Refiner,
    at_random,
    by_gradient,
    by_size,
    changed_share,
    fewest_pixels,
    refined,
    top_pixels,
)
from aureole.refine.detector import Reference, TooFewExamplesError
from aureole.training.refinement.attacked import Attacked, batch_size

_BATCH = 100
_TIMED = 50  # images that the time of a refinement is taken from, one by one


@dataclass(frozen=True, eq=False)
class Judge:
    """A victim, and a detector that knows its training images.

    Attributes:
        victim: maps images to logits.
        detector: the detector.
        reference: the training images as it sees them.
    """

    victim: nn.Module
    detector: Detector
    reference: Reference

    @classmethod
    def of(cls, victim: nn.Module, detector: Detector, x: Tensor, y: Tensor) -> Judge:
        """Return the judge of attacks on a victim that was trained on such images."""
        return cls(victim, detector, detector.reference(victim, x, y))

    def row(
        self,
        attack: str,
        chosen: str,
        share: float,
        x: Tensor,
        x_adv: Tensor,
        y: Tensor,
        source_seconds: float,
        seconds: float,
    ) -> RefinementRow:
        """Return what some adversarial images are worth."""
        correct, changed = self.predict(x_adv) == y, changed_share(x, x_adv).double()
        l2 = (x_adv - x).flatten(1).norm(dim=1).double()
        fooled = ~correct & (self.predict(x) == y)
        found = self._detection(x, x_adv, y)
        return RefinementRow(
            attack=attack,
            pixels=chosen,
            share=share,
            num_examples=len(x),
            num_correct=int(correct.sum()),
            changed=float(changed.mean()),
            changed_fooled=float(changed[fooled].mean()) if bool(fooled.any()) else None,
            l2=float(l2.mean()),
            l2_fooled=float(l2[fooled].mean()) if bool(fooled.any()) else None,
            detection=None if found is None else found.auc,
            detection_low=None if found is None else found.low,
            detection_high=None if found is None else found.high,
            detection_pairs=0 if found is None else found.num_pairs,
            source_seconds=source_seconds,
            seconds=seconds,
        )

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the victim's classes."""
        with frozen(self.victim):
            return _in_batches(lambda part: predict(self.victim, part), x).argmax(-1)

    def _detection(self, x: Tensor, x_adv: Tensor, y: Tensor) -> DetectionAUC | None:
        """Return DetAUC; None where too few attacks succeed, or too little is known of a class."""
        try:
            return self.detector.judge(self.victim, x, x_adv, y, self.reference)
        except TooFewExamplesError:
            return None


def measure(
    judge: Judge,
    refiner: Refiner,
    pairs: Mapping[str, Attacked],
    y: Tensor,
    *,
    num_compared: int = 0,
    rivals: bool = True,
) -> list[RefinementRow]:
    """Return a row for each attack as it is, and for each refinement of it.

    Args:
        judge: the victim and the detector.
        refiner: the trained map.
        pairs: test images and what each attack made of them; the last ``num_compared`` are not refined.
        y: labels.
        num_compared: attacks that are judged as they are.
        rivals: of the first attack, judge rankings without a network at the same number of pixels, and the fewest
            pixels along each ranking.
    """
    rows = list[RefinementRow]()
    for place, (name, pair) in enumerate(pairs.items()):
        x, x_source = pair.x, pair.x_source
        rows.append(judge.row(name, "all", 1.0, x, x_source, y, pair.seconds, 0.0))
        if place >= len(pairs) - num_compared:
            continue
        x_adv = _in_batches(refiner, x, x_source)
        seconds = _seconds(refiner, x, x_source)
        rows.append(judge.row(name, "map", refiner.share, x, x_adv, y, pair.seconds, seconds))
        if rivals and place == 0:
            rows += _rivals(judge, refiner, name, pair, y)
    return rows


def _in_batches(call: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return what a function makes of images and what belongs to them, so many at once as memory is good for."""
    parts = zip(*(tensor.split(batch_size(tensors[0], _BATCH)) for tensor in tensors), strict=True)
    return torch.cat([call(*part) for part in parts])


def _rivals(judge: Judge, refiner: Refiner, name: str, pair: Attacked, y: Tensor) -> list[RefinementRow]:
    x, x_source = pair.x, pair.x_source
    streams = Streams.of(0, torch.arange(len(x)))

    with torch.no_grad(), frozen(refiner.network):
        rankings = {"map": _in_batches(refiner.scores, x, x_source)}
    rankings["size"] = by_size(x, x_source)
    for label, num_points in (("gradient", 1), ("integrated gradient", 8)):
        rankings[label] = _in_batches(
            lambda a, b, c, n=num_points: by_gradient(judge.victim, a, b, c, num_points=n), x, x_source, y
        )
    rankings["random"] = at_random(x, streams)
    rows = list[RefinementRow]()
    for label, scores in rankings.items():
        ranking = refiner.eligible(scores, x, x_source)  # all choose among the same pixels
        if label != "map":
            x_adv = refined(x, x_source, top_pixels(ranking, refiner.count(x)))
            rows.append(judge.row(name, label, refiner.share, x, x_adv, y, pair.seconds, 0.0))
        clock = time.perf_counter()
        x_few = _in_batches(lambda a, b, c, d: fewest_pixels(judge.victim, a, b, c, d).x_adv, x, x_source, ranking, y)
        seconds = (time.perf_counter() - clock) / len(x)
        rows.append(judge.row(name, f"{label}, fewest", 1.0, x, x_few, y, pair.seconds, seconds))
    return rows


def _seconds(refiner: Refiner, x: Tensor, x_source: Tensor) -> float:
    """Return the time of one image's refinement, images one by one."""
    refiner(x[:1], x_source[:1])
    clock = time.perf_counter()
    for place in range(min(_TIMED, len(x))):
        refiner(x[place : place + 1], x_source[place : place + 1])
    return (time.perf_counter() - clock) / min(_TIMED, len(x))


@torch.no_grad()
def write_pairs(
    judge: Judge,
    refiner: Refiner,
    pairs: Mapping[str, Attacked],
    test: ImageSet,
    count: int,
    path: Path,
    *,
    num_compared: int = 0,
) -> None:
    """Keep a few test images with their maps, their attacked and their refined versions: for pictures and a user study.

    Of the first attack; the first images that the victim classifies correctly and that attack and refinement fool.
    Beside them, what the last ``num_compared`` attacks made of the same images.

    Raises:
        InputError: the file cannot be written.
    """
    name, pair = next(iter(pairs.items()))
    x, x_source, y = pair.x, pair.x_source, test.labels
    some = slice(0, 20 * count)
    x, x_source, y = x[some], x_source[some], y[some]
    x_refined = _in_batches(refiner, x, x_source)
    fooled = (judge.predict(x) == y) & (judge.predict(x_source) != y) & (judge.predict(x_refined) != y)
    chosen = (fooled if bool(fooled.any()) else torch.ones_like(fooled)).nonzero().flatten()[:count]
    x, x_source, x_refined, y = x[chosen], x_source[chosen], x_refined[chosen], y[chosen]
    with frozen(refiner.network):
        theta = _in_batches(refiner.map, x, x_source)
    arrays = {
        "x": x, "x_source": x_source, "x_refined": x_refined, "map": theta, "labels": y, "index": chosen,
        "predicted": judge.predict(x), "predicted_source": judge.predict(x_source),
        "predicted_refined": judge.predict(x_refined),
    }  # fmt: skip
    compared = {other: pairs[other].x_source[chosen] for other in list(pairs)[len(pairs) - num_compared :]}
    if compared:
        arrays["x_compared"] = torch.stack(list(compared.values()))
        arrays["predicted_compared"] = torch.stack([judge.predict(images) for images in compared.values()])
    kept: dict[str, Any] = {key: value.numpy() for key, value in arrays.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(
            temporary,
            attack=np.array(name),
            compared=np.array(list(compared), dtype=str),
            class_names=np.array(test.class_names),
            names=np.array([f"{name}-{place}" for place in chosen.tolist()]),
            **kept,
        )
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path} ({first_line(error)}): choose a folder that can be written") from error
