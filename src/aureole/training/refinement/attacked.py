"""Images of an attack on a victim that does not change: computed once, kept beside the victim, and found again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.attacks.base import Attack
from aureole.core.config import to_values
from aureole.core.errors import InputError, first_line
from aureole.core.random import Streams, mix_seed
from aureole.data.streamed import ImageSet
from aureole.metrics import model_fingerprint
from aureole.training.callbacks import progress_bar

_PIXELS = 10**6  # of one pass, 1,000 images of 32x32


@dataclass(frozen=True, eq=False)
class Attacked:
    """A set of images and what an attack made of them.

    Attributes:
        x: the images, in [0, 1].
        x_source: the attack's.
        seconds: of the attack, for each image.
    """

    x: Float[Tensor, "images channels height width"]
    x_source: Float[Tensor, "images channels height width"]
    seconds: float


def pixels(images: ImageSet) -> Float[Tensor, "images channels height width"]:
    """Return all images of a set in [0, 1]."""
    return images.batch(torch.arange(len(images))).float().div_(255)


def batch_size(x: Float[Tensor, "images *event"], most: int) -> int:
    """Return how many images go through a network at once: fewer of large ones, of which a pass needs more memory.

    Example:
        >>> from aureole.training.refinement.attacked import batch_size
        >>> batch_size(torch.zeros(1, 3, 32, 32), 250), batch_size(torch.zeros(1, 3, 224, 224), 250)
        (250, 19)
    """
    return max(1, min(most, _PIXELS // x[0, 0].numel()))


def attacked(
    victim: nn.Module,
    attack: Attack,
    images: ImageSet,
    folder: Path,
    *,
    seed: int,
    name: str = "attack",
    progress: bool = True,
) -> Attacked:
    """Attack every image of a set, or read what an earlier run with the same victim, attack, images and seed left.

    Args:
        victim: maps images to logits, on the device to work on.
        attack: any attack.
        images: what is attacked, with their labels.
        folder: where the images are kept, one file for each combination of the above.
        seed: of the attack's random numbers, which belong to the images.
        name: of the attack, for the progress bar.
        progress: show a bar.

    Raises:
        InputError: the attack does not fit, or the folder cannot be written.
    """
    x = pixels(images)
    path = folder / f"{name}-{_key(victim, attack, images, seed)}.pt"
    kept = _read(path, x)
    if kept is not None:
        return kept
    device = next((p.device for p in victim.parameters()), x.device)
    parts, clock = list[Tensor](), time.perf_counter()
    with progress_bar(enabled=progress) as bar:
        task = bar.add_task(f"{name} on {images.name}", total=len(x), note="")
        for place in torch.arange(len(x)).split(batch_size(x, 250)):
            streams = Streams.of(mix_seed(seed, 6), place)  # the attack moves them to the device of the images
            found = attack(victim, x[place].to(device), images.labels[place].to(device), generator=streams)
            parts.append(found.cpu())
            bar.update(task, advance=len(place))
    result = Attacked(x, torch.cat(parts), (time.perf_counter() - clock) / len(x))
    _write(path, result)
    return result


def _key(victim: nn.Module, attack: Attack, images: ImageSet, seed: int) -> str:
    said = [model_fingerprint(victim), to_values(attack), images.fingerprint, len(images), seed]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _read(path: Path, x: Tensor) -> Attacked | None:
    """Return what a file holds; None where it holds nothing of use, and the attack runs again."""
    try:
        kept = torch.load(path, weights_only=True)
        same = kept["x_source"].shape == x.shape
    except Exception:
        return None
    return Attacked(x, kept["x_source"], float(kept["seconds"])) if same else None


def _write(path: Path, result: Attacked) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"x_source": result.x_source, "seconds": result.seconds}, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path} ({first_line(error)}): mend the cause, and give the command again"
        ) from error
