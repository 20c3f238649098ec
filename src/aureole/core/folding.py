"""A network made fast for use: the same function in evaluation mode, with less to compute and less to fetch."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from aureole.core.errors import InputError

_Network = TypeVar("_Network", bound=nn.Module)
_PAIRS = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def folded(network: _Network) -> _Network:
    """Return a copy of a network for inference that computes the same, up to rounding, in less time.

    A batch normalisation in evaluation mode is an affine map of each channel: where it follows a convolution directly
    in an ``nn.Sequential``, it becomes part of the convolution's weights, and an ``nn.Identity`` takes its place, so
    that names stay. A ReLU after such a convolution works in place, and two-dimensional convolutions have their weights
    channels-last, which makes a CPU's max-pooling faster too. All other layers are copied as they are.

    Args:
        network: any module; left as it was.

    Returns:
        A copy in evaluation mode whose parameters ask for no gradient. It is not for training: putting it in train
        mode brings no batch normalisation back.

    Example:
        >>> from aureole.explain.base import own_map
        >>> from aureole.explain.explainer import ExplainedStudent, ExplainerUNet
        >>> from aureole.core.folding import folded
        >>> from aureole.models import FourBlocks
        >>> network, x = ExplainedStudent(ExplainerUNet(3), FourBlocks((2, 4, 8, 16))), torch.rand(1, 3, 32, 32)
        >>> torch.allclose(own_map(folded(network), x), own_map(network, x), atol=1e-5)
        True
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    copied.zero_grad(set_to_none=True)
    uses = Counter(module for _, module in copied.named_modules(remove_duplicate=False))
    for chain in list(_chains(copied)):
        _fold_chain(chain, {module for module in chain if uses[module] == 1 and not _hooked(module)})
    for module in copied.modules():
        if type(module) is nn.Conv2d:
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return copied


def keep_memory(megabytes: int = 31) -> None:
    """Let this process keep the memory that a pass frees for the next one, where the C library is glibc.

    glibc returns freed memory to the system above twice the largest block that it has mapped and freed, 32 MiB at most.
    A pass over large images then fetches fresh pages each time: the map of one 256 x 256 image takes a quarter to two
    fifths of its time for that. Here one block is mapped and freed, so that twice its size is kept. No result changes;
    with another C library nothing happens.

    Args:
        megabytes: half of what is kept, in MiB; from 1 to 31.

    Raises:
        InputError: it is outside that range.

    Example:
        >>> from aureole.core.folding import keep_memory
        >>> keep_memory()
    """
    if not 1 <= megabytes <= 31:
        raise InputError(f"megabytes must be from 1 to 31, as glibc maps larger blocks each time anew; got {megabytes}")
    torch.empty(megabytes * 2**20, dtype=torch.uint8, device="cpu")


def _chains(network: nn.Module) -> Iterator[nn.Sequential]:
    """Yield the modules that run their children one after the other, and do nothing else."""
    for module in network.modules():
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            yield module


def _fold_chain(chain: nn.Sequential, alone: set[nn.Module]) -> None:
    """Fold the batch normalisations of a chain; ``alone`` are the modules that run here only, and are not watched."""
    for i, (conv, norm) in enumerate(pairwise(list(chain))):
        if {conv, norm} <= alone and _foldable(conv, norm):
            fused = fuse_conv_bn_eval(conv, norm)  # pyright: ignore[reportArgumentType]
            chain[i], chain[i + 1] = fused.requires_grad_(False), nn.Identity().eval()
            alone.add(fused)
    before = None
    for module in chain:
        if type(module) is nn.ReLU and before in alone and type(before) in _PAIRS:
            module.inplace = module in alone
        before = before if type(module) is nn.Identity else module


def _foldable(conv: nn.Module, norm: nn.Module) -> bool:
    kind = _PAIRS.get(type(conv))  # a parametrised convolution is of another type
    return kind is not None and type(norm) is kind and norm.running_mean is not None


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
