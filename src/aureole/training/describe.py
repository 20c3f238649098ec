"""How a student and its teacher look: accuracy, size and time of a network."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import nn

from aureole.core.model import frozen, predict
from aureole.core.records import NetworkRow
from aureole.data.streamed import ImageSet

_BATCH = 250
_TIMED = 30  # passes of one image, after a few that warm the network up


@torch.no_grad()
def describe(network: nn.Module, images: ImageSet, *, role: str, name: str) -> NetworkRow:
    """Return size, time and accuracy of a network.

    Args:
        network: maps images to logits.
        images: test images, at least one.
        role: what it is in the run.
        name: of the network.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with frozen(network):
        parts = torch.arange(len(images)).split(_BATCH)
        hits = [(_predicted(network, images, part, device) == images.labels[part]).sum() for part in parts]
        seconds = _passes(network, images.batch(torch.zeros(1, dtype=torch.int64)).float().div(255).to(device))
    stored = [*network.parameters(), *network.buffers()]
    return NetworkRow(
        role=role,
        name=name,
        num_parameters=sum(p.numel() for p in network.parameters()),
        megabytes=sum(value.numel() * value.element_size() for value in stored) / 1e6,
        milliseconds=1000 * seconds,
        num_examples=len(images),
        num_correct=int(torch.stack(hits).sum()),
    )


def _predicted(network: nn.Module, images: ImageSet, part: torch.Tensor, device: torch.device) -> torch.Tensor:
    return predict(network, images.batch(part).float().div(255).to(device)).argmax(-1).cpu()


def _passes(network: nn.Module, x: torch.Tensor) -> float:
    """Return the median time of a pass."""
    taken = []
    for _ in range(_TIMED + 5):
        clock = time.perf_counter()
        predict(network, x).sum().item()  # waits for the device
        taken.append(time.perf_counter() - clock)
    return median(taken[5:])
