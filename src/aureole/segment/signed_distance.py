"""Signed distances to the border of each class, scaled to [-1, 1] as SASSNet and DTC have them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from aureole.core.errors import InputError
from aureole.models.segmentation import SegmenterOutputs


def signed_distances(
    y: Int64[Tensor, "rows *spatial"], num_classes: int
) -> Float32[Tensor, "rows foreground *spatial"]:
    """Return the distances of each position to the border of each class but the background.

        scaled(distance to the class) - scaled(distance to what is outside),    scaled to [0, 1] over the image

    so that they are positive outside and negative inside; the class's own positions at its border are set to 0. A class
    that is not in an image, and one that fills it, have zeros.

    Args:
        y: class of each position.
        num_classes: with the background.

    Raises:
        InputError: SciPy is missing.

    Example:
        >>> from aureole.segment.signed_distance import signed_distances
        >>> signed_distances(torch.tensor([[[0, 0, 0, 1, 1, 1]]]), 2)
        tensor([[[[ 1.0000,  0.6667,  0.3333,  0.0000, -0.6667, -1.0000]]]])

    Source: SASSNet (Li et al. 2020).
    """
    classes = y.cpu().numpy()
    found = np.stack([[_of_mask(image == c) for c in range(1, num_classes)] for image in classes])
    return torch.from_numpy(found.astype(np.float32)).to(y.device)


def _of_mask(mask: np.ndarray) -> np.ndarray:
    try:
        from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure
    except ImportError:
        raise InputError("signed distances need SciPy, which is missing: pip install 'aureole[medical]'") from None
    if not mask.any() or mask.all():
        return np.zeros(mask.shape)
    outside, inside = np.asarray(distance_transform_edt(~mask)), np.asarray(distance_transform_edt(mask))
    found = _scaled(outside) - _scaled(inside)
    kept = np.asarray(binary_erosion(mask, generate_binary_structure(mask.ndim, 1), border_value=1), dtype=bool)
    found[mask & np.logical_not(kept)] = 0
    return found


def _scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def needed_distances(outputs: SegmenterOutputs, method: str) -> Float[Tensor, "rows foreground *spatial"]:
    """Return the signed distances that a network predicts.

    Raises:
        InputError: it predicts none.
    """
    if outputs.distances is None:
        raise InputError(
            f"{method} needs a network that predicts signed distances too: choose unet-sdf or vnet-sdf (SDFSegmenter)"
        )
    return outputs.distances
