"""A label for every voxel of a scan: slice by slice through a 2-D network, window by window through a 3-D network.

As the published evaluation scripts do it (SSL4MIS and SS-Net for ACDC, UA-MT and SS-Net for the left atrium), with many
slices or windows a call instead of one, and the convolutions' weights channels-last in the meantime. Both change a
probability by rounding alone, about 1e-7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, Real
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.model import frozen


def slice_wise(
    model: nn.Module,
    volume: Real[Tensor, "slices h w"],
    size: tuple[int, int] = (256, 256),
    *,
    slices_per_call: int = 8,
    autocast: torch.dtype | None = None,
    channels_last: bool = True,
    largest_component: bool = False,
) -> Int64[Tensor, "slices h w"]:
    """Return the class of each voxel, slice by slice: zoom to ``size``, argmax of the softmax, zoom back.

    Both zooms are ``scipy.ndimage.zoom`` of order 0. For some sizes (200, 216 and 250 pixels, and more) its rounding
    looks beyond the last pixel on the way back, and the last row or column gets class 0: the published scripts have
    that too, and so have we.

    Args:
        model: maps (batch, 1, *size) to logits (batch, classes, *size), on any device; left as it was.
        volume: the scan, slices first, in the units of the training.
        size: of the slices that the network was trained on.
        slices_per_call: how many slices go through the network at once.
        autocast: dtype in which the network computes where it can, such as ``torch.bfloat16``; None for its own.
        channels_last: False for a network that calls ``view`` on its feature maps.
        largest_component: keep only the largest component of each class (:func:`keep_largest_component`).

    Returns:
        Class numbers on the device of the volume.

    Raises:
        InputError: the volume is not three-dimensional or has NaN, a number is below 1, or the model returns anything
            but logits of the size of its input.

    Example:
        >>> from aureole.segment.inference import slice_wise
        >>> model = nn.Conv2d(1, 2, 1)
        >>> slice_wise(model, torch.rand(3, 20, 24), size=(16, 16)).shape
        torch.Size([3, 20, 24])

    Source: SS-Net's evaluation on ACDC, after SSL4MIS; thesis section 6.3.2.
    """
    volume = volume.as_subclass(Tensor)  # MONAI's tensors with metadata are slower
    _check_volume(volume, 3, "(slices, height, width)")
    _check_numbers("size", size, 2)
    _check_numbers("slices_per_call", (slices_per_call,), 1)
    parts = []
    with _ready(model, 2, channels_last):
        for slices in volume.split(slices_per_call):
            resized = _zoomed(slices.to(_device(model, volume), torch.float32), size)
            classes = _probabilities(model, resized[:, None], autocast).argmax(1)
            parts.append(_zoomed(classes, (volume.shape[1], volume.shape[2])).to(volume.device))
    labels = torch.cat(parts)
    return keep_largest_component(labels) if largest_component else labels


def sliding_window(
    model: nn.Module,
    volume: Real[Tensor, "*channels d1 d2 d3"],
    patch: tuple[int, int, int] = (112, 112, 80),
    stride: tuple[int, int, int] = (18, 18, 4),
    *,
    windows_per_call: int = 4,
    autocast: torch.dtype | None = None,
    channels_last: bool = True,
    largest_component: bool = False,
) -> Int64[Tensor, "d1 d2 d3"]:
    """Return the class of each voxel by :func:`window_probabilities`; arguments as there.

    Of two classes, class 1 is where its mean probability is above 0.5; of more, the largest mean wins. The published
    scripts keep the largest component; here it is an option, and a scan without any foreground is no error.

    Args:
        model: maps (batch, channels, *patch) to logits (batch, classes, *patch), on any device; left as it was.
        volume: the scan, of shape (d1, d2, d3) or (channels, d1, d2, d3), in the units of the training.
        patch: of the windows.
        stride: between windows, at most the patch; the last window of each axis ends with the scan.
        windows_per_call: how many windows go through the network at once; more need more memory.
        autocast: dtype in which the network computes where it can, such as ``torch.bfloat16``; None for its own.
        channels_last: False for a network that calls ``view`` on its feature maps.
        largest_component: keep only the largest component of each class (:func:`keep_largest_component`).

    Returns:
        Class numbers on the device of the volume.

    Raises:
        InputError: as for :func:`window_probabilities`.

    Example:
        >>> from aureole.segment.inference import sliding_window
        >>> model = nn.Conv3d(1, 2, 1)
        >>> sliding_window(model, torch.rand(9, 8, 7), patch=(8, 8, 8), stride=(4, 4, 4)).shape
        torch.Size([9, 8, 7])

    Source: SS-Net's evaluation on LA, after UA-MT; thesis section 6.3.2.
    """
    found = window_probabilities(
        model, volume, patch, stride, windows_per_call=windows_per_call, autocast=autocast, channels_last=channels_last
    )
    labels = (found[1] > 0.5).long() if len(found) == 2 else found.argmax(0)
    return keep_largest_component(labels) if largest_component else labels


def window_probabilities(
    model: nn.Module,
    volume: Real[Tensor, "*channels d1 d2 d3"],
    patch: tuple[int, int, int] = (112, 112, 80),
    stride: tuple[int, int, int] = (18, 18, 4),
    *,
    windows_per_call: int = 4,
    autocast: torch.dtype | None = None,
    channels_last: bool = True,
) -> Float[Tensor, "classes d1 d2 d3"]:
    """Return the mean over the windows on each voxel of the softmax there, by MONAI's sliding window.

        starts of an axis: min(k * stride, length - patch),    k = 0 .. ceil((length - patch) / stride)

    An axis shorter than the patch is padded with zeros on both sides, the odd one at the end, and cut back afterwards.

    Args:
        model: as for :func:`sliding_window`, like all the others.
        volume: the scan.
        patch: of the windows.
        stride: between windows.
        windows_per_call: how many windows go through the network at once.
        autocast: dtype in which the network computes.
        channels_last: how the weights lie.

    Returns:
        Probabilities in [0, 1] on the device of the volume; they sum to 1 over the classes.

    Raises:
        InputError: the volume has not three dimensions (four with channels) or has NaN, a number is below 1, a stride
            is above the patch, the model returns anything but logits of the size of its input, or MONAI is missing.

    Example:
        >>> from aureole.segment.inference import window_probabilities
        >>> found = window_probabilities(nn.Conv3d(1, 2, 1), torch.rand(9, 8, 7), patch=(8, 8, 8), stride=(4, 4, 4))
        >>> bool(((found.sum(0) - 1).abs() < 1e-6).all())
        True
    """
    _check_volume(volume, 4 if volume.ndim == 4 else 3, "(d1, d2, d3) or (channels, d1, d2, d3)")
    _check_numbers("patch", patch, 3)
    _check_numbers("stride", stride, 3)
    _check_numbers("windows_per_call", (windows_per_call,), 1)
    if any(step > length for step, length in zip(stride, patch, strict=True)):
        raise InputError(f"a stride above the patch leaves voxels out; got {stride} for {patch}: give smaller strides")
    volume = volume.as_subclass(Tensor)
    scan = volume if volume.ndim == 4 else volume[None]
    with _ready(model, 3, channels_last):
        found = _monai_windows()(
            scan[None].to(_device(model, volume), torch.float32),
            patch,
            windows_per_call,
            lambda windows: _probabilities(model, windows, autocast),
            # MONAI's step is int(length * (1 - overlap)): the half keeps rounding from taking one off
            overlap=[max(1 - (step + 0.5) / length, 0.0) for step, length in zip(stride, patch, strict=True)],
        )
    return found[0].to(volume.device)


def keep_largest_component(labels: Integer[Tensor, "*spatial"]) -> Integer[Tensor, "*spatial"]:
    """Return the labels with only the largest connected component of each class but class 0; the rest becomes 0.

    Voxels that share a face, an edge or a corner are connected. Of two components as large, the first in memory stays.

    Example:
        >>> from aureole.segment.inference import keep_largest_component
        >>> keep_largest_component(torch.tensor([[1, 0, 1, 1], [0, 0, 0, 2]]))
        tensor([[0, 0, 1, 1],
                [0, 0, 0, 2]])

    Source: SS-Net's evaluation on LA, there of one class.
    """
    from scipy.ndimage import generate_binary_structure, label

    found = labels.cpu().numpy()
    kept, neighbours = np.zeros_like(found), generate_binary_structure(found.ndim, found.ndim)
    for number in np.unique(found[found > 0]):
        labelled: Any = label(found == number, structure=neighbours)
        components = labelled[0]
        largest = int(np.bincount(components.ravel())[1:].argmax()) + 1
        kept[components == largest] = number
    return torch.from_numpy(kept).to(labels.device)


@contextmanager
def _ready(model: nn.Module, num_axes: int, channels_last: bool) -> Iterator[None]:
    """Put the model in evaluation mode without gradients, the weights of its convolutions channels-last; put all back.

    With such weights, batches take a fifth to two fifths less time on a CPU.
    """
    layout = torch.channels_last if num_axes == 2 else torch.channels_last_3d
    weights = [(p, p.data) for p in model.parameters() if channels_last and p.ndim == num_axes + 2]
    with torch.no_grad(), frozen(model):
        try:
            for parameter, data in weights:
                parameter.data = data.contiguous(memory_format=layout)
            yield
        except RuntimeError as error:
            if "view size is not compatible" not in str(error):
                raise
            raise InputError(
                "the network calls view on channels-last feature maps: pass channels_last=False"
            ) from error
        finally:
            for parameter, data in weights:
                parameter.data = data


def _probabilities(model: nn.Module, x: Tensor, autocast: torch.dtype | None) -> Tensor:
    """Return the softmax over classes of the model's checked logits, in float32 or better."""
    with torch.autocast(x.device.type, autocast or torch.bfloat16, enabled=autocast is not None):
        output = model(x)
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the model must return logits, or an object with .logits; it returned a {type(output).__name__}: wrap it"
            " in a module that picks them"
        )
    if logits.ndim != x.ndim or logits.shape[1] < 2 or logits.shape[2:] != x.shape[2:] or len(logits) != len(x):
        size = ", ".join(map(str, x.shape[2:]))
        raise InputError(f"expected logits of shape ({len(x)}, classes >= 2, {size}); got {tuple(logits.shape)}")
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)


def _zoomed(stack: Tensor, size: Sequence[int]) -> Tensor:
    """Return each picture of the stack as ``scipy.ndimage.zoom`` of order 0 gives it; beyond the picture, 0."""
    from scipy.ndimage import zoom

    for axis, length in zip((1, 2), size, strict=True):
        old = stack.shape[axis]
        places = zoom(np.arange(1.0, old + 1), length / old, order=0)  # 0 where it looks beyond
        index = torch.from_numpy(places).long().to(stack.device)
        shape = [-1 if other == axis else 1 for other in range(3)]
        stack = stack.index_select(axis, (index - 1).clamp_min(0)) * (index > 0).view(shape)
    return stack


def _monai_windows() -> Any:
    try:
        from monai.inferers.utils import sliding_window_inference
    except ImportError:
        raise InputError("sliding windows need MONAI, which is missing: pip install 'aureole[medical]'") from None
    return sliding_window_inference


def _device(model: nn.Module, volume: Tensor) -> torch.device:
    parameter = next(model.parameters(), None)
    return volume.device if parameter is None else parameter.device


def _check_volume(volume: Tensor, ndim: int, shape: str) -> None:
    if volume.ndim != ndim or volume.numel() == 0:
        raise InputError(f"the volume must have the shape {shape} and not be empty; got {tuple(volume.shape)}")
    unknown = int((~volume.isfinite()).sum())
    if unknown:
        raise InputError(f"the voxels must be finite; {unknown} of {volume.numel()} are NaN or infinite")


def _check_numbers(name: str, numbers: Sequence[int], count: int) -> None:
    if len(numbers) != count or not all(isinstance(n, int) and n >= 1 for n in numbers):
        what = "a whole number of at least 1" if count == 1 else f"{count} whole numbers of at least 1"
        raise InputError(f"{name} must be {what}; got {numbers if len(numbers) != 1 else numbers[0]}")
