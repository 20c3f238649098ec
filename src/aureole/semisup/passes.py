"""How the images of a step go through the model: whose statistics batch normalisation uses, and whose it remembers.

    "together"   all images of the step in one pass, on the statistics of all, which the running ones follow
    "separate"   a pass for each kind of images, on its own statistics; the running ones follow every pass
    "clean"      separate passes; the running ones follow the labelled images and those that only give targets
    "labelled"   separate passes; the running ones follow the labelled images alone

What only gives a target never gets a gradient. A model in evaluation mode makes no difference between the four.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aureole.core.model import predict, quiet, statistics_kept

BatchNorm = Literal["together", "separate", "clean", "labelled"]
Images = Float[Tensor, "rows *event"]


class Passes(NamedTuple):
    """Logits of one step.

    Attributes:
        labelled: of the labelled images.
        targets: of each batch that gives targets, without gradient.
        trained: of each unlabelled batch that is trained.
    """

    labelled: Float[Tensor, "rows classes"]
    targets: list[Tensor]
    trained: list[Tensor]


def run_passes(
    model: nn.Module,
    batch_norm: BatchNorm,
    labelled: Images,
    *,
    targets: Sequence[Float[Tensor, "_ *event"]] = (),
    trained: Sequence[Float[Tensor, "_ *event"]] = (),
    max_batch: int | None = None,
) -> Passes:
    """Run the images of a step through the model.

    Args:
        model: maps images to logits.
        batch_norm: which images share a pass, and which passes the running statistics follow; see above.
        labelled: images with labels.
        targets: batches whose logits are constants.
        trained: batches without labels whose logits are trained.
        max_batch: most images of a pass over those that are trained, where the running statistics do not follow it;
            each part is run again for its gradient, so that the memory of one is needed at a time, and has statistics
            of its own. None runs a batch at once.

    Example:
        >>> from aureole.semisup.passes import run_passes
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> passes = run_passes(model, "together", torch.rand(2, 1, 2, 2), targets=[torch.rand(5, 1, 2, 2)])
        >>> len(passes.labelled), len(passes.targets[0]), passes.targets[0].requires_grad
        (2, 5, False)
    """
    if batch_norm == "together":
        parts = [labelled, *targets, *trained]
        first, *rest = predict(model, torch.cat(parts)).split([len(part) for part in parts])
        count = len(targets)
        return Passes(first, [logits.detach() for logits in rest[:count]], rest[count:])
    first = predict(model, labelled)
    if batch_norm == "labelled":
        constant = [quiet(model, part) for part in targets]
    else:
        with torch.no_grad():
            constant = [predict(model, part) for part in targets]
    if batch_norm == "separate":
        return Passes(first, constant, [predict(model, part) for part in trained])
    return Passes(first, constant, [_in_parts(model, part, max_batch) for part in trained])


def _in_parts(model: nn.Module, rows: Tensor, max_batch: int | None) -> Tensor:
    """Return logits that leave running statistics alone, by a pass or, in parts, by passes that are run again."""

    def kept(part: Tensor) -> Tensor:
        with statistics_kept(model):
            return predict(model, part)

    if max_batch is None or len(rows) <= max_batch:
        return kept(rows)
    return torch.cat([checkpoint(kept, part, use_reentrant=False) for part in rows.split(max_batch)])
