"""How features of different sizes and types come to be comparable: pooling, regression, unit length, precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.taps import Features


def full_precision(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return half precision as float32; float32 and float64 as they are.

    Example:
        >>> from aureole.distill.matching import full_precision
        >>> full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pool_to_common(
    a: Float[Tensor, "batch a_channels a_height a_width"], b: Float[Tensor, "batch b_channels b_height b_width"]
) -> tuple[Float[Tensor, "batch a_channels height width"], Float[Tensor, "batch b_channels height width"]]:
    """Return two maps at the smaller one's height and width: the larger one is average-pooled.

    Example:
        >>> from aureole.distill.matching import pool_to_common
        >>> [tuple(x.shape) for x in pool_to_common(torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4))]
        [(2, 3, 4, 4), (2, 5, 4, 4)]
    """
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    pooled = [x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (a, b)]
    return pooled[0], pooled[1]


def unit_rows(x: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
    """Return each row divided by its Euclidean norm; a row shorter than 1e-12 becomes zero, with zero gradient.

    ``torch.nn.functional.normalize`` has the same values, but hands a row of zeros a gradient times 1e12.

    Example:
        >>> from aureole.distill.matching import unit_rows
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * (norm > 1e-12) / norm.clamp_min(1e-12)


def map_pairs(student: Features, teacher: Features, num_maps: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return the maps to compare, student's and teacher's, at full precision; the teacher's are constants.

    Args:
        student: features of the student.
        teacher: features of the teacher.
        num_maps: how many, counted from the last; None takes all but the first, which is the stem's.

    Raises:
        InputError: the two have different numbers of maps, or too few.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.matching import map_pairs
        >>> maps = tuple(torch.rand(1, 2, size, size) for size in (8, 4, 2))
        >>> features = Features(torch.rand(1, 3), maps, torch.rand(1, 2))
        >>> [tuple(s.shape) for s, t in map_pairs(features, features)]
        [(1, 2, 4, 4), (1, 2, 2, 2)]
    """
    have = len(student.maps)
    if have != len(teacher.maps):
        raise InputError(f"student and teacher must give equally many maps; got {have} and {len(teacher.maps)}")
    count = have - 1 if num_maps is None else num_maps
    if not 1 <= count <= have:
        wanted = "at least two maps, the stem's first" if num_maps is None else f"{num_maps} maps, at least one"
        raise InputError(f"expected {wanted}; the networks give {have}: name layers with Taps(maps=...)")
    pairs = zip(student.maps[-count:], teacher.maps[-count:], strict=True)
    return [(full_precision(s), full_precision(t.detach())) for s, t in pairs]


def check_normalizable(x: Float[Tensor, "batch channels height width"], module: nn.Module) -> None:
    """Check that a batch norm in train mode has more than one value a channel.

    Raises:
        InputError: one image of one pixel came in train mode.
    """
    if module.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
        raise InputError(
            "batch norm needs more than one value a channel; got one image with a map of one pixel: drop the last,"
            " incomplete batch, or call eval() on the loss"
        )


class Regressor(nn.Module):
    """Map a student's feature map to the shape of its teacher's: one convolution, batch norm, and a ReLU.

    The convolution has stride 2 (3 x 3) where the student's map is twice as large, is transposed (4 x 4) where it is
    half as large, and else has no padding and the kernel that leaves the teacher's size.

    Args:
        student_shape: of the student's map, (batch, channels, height, width).
        teacher_shape: of the teacher's map.
        relu: whether the teacher's map is one after a ReLU.

    Raises:
        InputError: no such convolution exists.

    Example:
        >>> from aureole.distill.matching import Regressor
        >>> Regressor((1, 3, 8, 8), (1, 5, 4, 4))(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 5, 4, 4])

    Source: RepDistiller's ``ConvReg``; Romero et al. 2015 have the last kind alone, without batch norm.
    """

    def __init__(self, student_shape: Sequence[int], teacher_shape: Sequence[int], relu: bool = True) -> None:
        super().__init__()
        self.conv = _convolution(student_shape, teacher_shape)
        self.norm = nn.BatchNorm2d(teacher_shape[1])
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch student_channels _ _"]
    ) -> Float[Tensor, "batch teacher_channels height width"]:
        """Return the map at the teacher's shape."""
        x = self.conv(x.to(self.conv.weight.dtype))
        check_normalizable(x, self)
        return self.relu(self.norm(x))


def _convolution(student_shape: Sequence[int], teacher_shape: Sequence[int]) -> nn.Conv2d | nn.ConvTranspose2d:
    if len(student_shape) != 4 or len(teacher_shape) != 4:
        raise InputError(
            f"expected two shapes (batch, channels, height, width); got {tuple(student_shape)} and"
            f" {tuple(teacher_shape)}"
        )
    (_, channels, *mine), (_, wanted, *theirs) = student_shape, teacher_shape
    if mine == [2 * size for size in theirs]:
        return nn.Conv2d(channels, wanted, 3, stride=2, padding=1)
    if [2 * size for size in mine] == theirs:
        return nn.ConvTranspose2d(channels, wanted, 4, stride=2, padding=1)
    if mine[0] < theirs[0] or mine[1] < theirs[1]:
        raise InputError(
            f"no regressor from the student's map {tuple(student_shape)} to the teacher's {tuple(teacher_shape)}: the"
            " student's must be at least as large, or exactly half as large; name another layer"
        )
    return nn.Conv2d(channels, wanted, (1 + mine[0] - theirs[0], 1 + mine[1] - theirs[1]))


def head_dtype(features: Features) -> torch.dtype:
    """Return the type for parts that are trained on features: theirs, but float32 in place of half precision.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.matching import head_dtype
        >>> head_dtype(Features(torch.rand(1, 3), (), torch.rand(1, 2, dtype=torch.float64)))
        torch.float64
    """
    return torch.promote_types(features.pooled.dtype, torch.float32)
