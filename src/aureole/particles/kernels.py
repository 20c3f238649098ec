"""Kernels between particles, and what Stein variational gradient descent makes of them (thesis Eqs. 5.6, 5.7).

    drive_i     = 1/n sum_j K_ij score_j
    repulsion_i = 1/n sum_j grad_{x_j} K(x_j, x_i) = 1/n sum_j K_ij (x_i - x_j) / sigma^2
    K_ij        = exp(-|x_i - x_j|^2 / (2 sigma^2))

The repulsion is in closed form: two batched products, no second backward pass. Distances come from the Gram matrix of
the perturbations, centred per group and in float32 or better: the raw images would cancel (|x|^2 is about 800 where d^2
is 0.01). Particles that coincide but for the rounding of that matrix do not repel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError, unknown_name
from aureole.core.model import frozen

Bandwidth = Literal["median", "narrow", "thesis"] | float
Scope = Literal["image", "batch"]
Space = Literal["perturbation", "image"]
FeatureGradient = Literal["own", "others"]
_NARROW = 6.25  # minus the logarithm of the kernel at the median distance
Points = Float[Tensor, "num_particles batch *event"]


class Interaction(NamedTuple):
    """What the particles of each image do to one another.

    Attributes:
        drive: kernel-weighted mean of the scores, shape (num_particles, batch, *event).
        repulsion: what pushes the particles apart, same shape.
        kernel: mean off-diagonal kernel value of each image's group, shape (batch,).
    """

    drive: Points
    repulsion: Points
    kernel: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Kernel(ABC):
    """A positive definite function of two particles."""

    @abstractmethod
    def __call__(self, score: Points, x_adv: Points, x: Float[Tensor, "batch *event"]) -> Interaction:
        """Combine the scores of the particles at ``x_adv`` around the images ``x``."""


def squared_distances(points: Float[Tensor, "groups n d"]) -> Float[Tensor, "groups n n"]:
    """Return the squared Euclidean distance of every pair in each group, in float32 or better.

    What is no larger than the rounding of the Gram matrix is exactly zero, as the diagonal is.

    Example:
        >>> squared_distances(torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]))
        tensor([[[ 0., 25.],
                 [25.,  0.]]])
    """
    with torch.autocast(points.device.type, enabled=False):
        centred = _centred(points)
        gram = centred @ centred.mT
    square = gram.diagonal(dim1=1, dim2=2)
    total = square[:, :, None] + square[:, None, :]
    distance = total - 2 * gram
    return distance.masked_fill(distance <= 16 * torch.finfo(total.dtype).eps * total, 0)


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _centred(points: Tensor) -> Tensor:
    """Return points of shape (groups, n, d) less the mean of their group."""
    points = _precise(points)
    return points - points.mean(1, keepdim=True)


def inverse_variance(
    bandwidth: Bandwidth, distances: Float[Tensor, "groups n n"], num_particles: int
) -> Float[Tensor, "groups 1 1"]:
    """Return 1 / sigma^2 of each group.

    ``"median"``: sigma^2 = median of the squared distances of the pairs / (2 log(n + 1)), so that the kernel of the
    median pair is 1 / (n + 1), which averages the scores of different particles. ``"narrow"``: sigma = 0.4 / sqrt(2)
    times the median distance, so that it is exp(-6.25) = 0.002: particles repel, and each follows its own score. So
    small a kernel's repulsion is small too: for use with ``balance``. ``"thesis"``: sigma = 10^(1 - num_particles),
    with the floor of the authors' code, exp(-d^2 / (1e-8 + 2 sigma^2)). A number is sigma itself.

    Args:
        bandwidth: the rule, or sigma.
        distances: squared distances of all pairs of a group.
        num_particles: particles of one image, also where the group is the whole batch.
    """
    n = distances.shape[-1]
    if n == 1:
        return torch.ones_like(distances)
    if bandwidth in ("median", "narrow"):
        pairs = torch.triu_indices(n, n, offset=1, device=distances.device)
        median = distances[:, pairs[0], pairs[1]].median(-1).values
        exponent = math.log(n + 1) if bandwidth == "median" else _NARROW
        return (2 * exponent / median.clamp_min(1e-20))[:, None, None]
    width = 1e-8 + 2 * 10.0 ** (2 - 2 * num_particles) if bandwidth == "thesis" else 2 * float(bandwidth) ** 2
    return distances.new_full((1, 1, 1), 2 / width).expand(len(distances), 1, 1)


def _weights(bandwidth: Bandwidth, points: Tensor, num_particles: int) -> tuple[Tensor, Tensor]:
    """Return K without its diagonal, and K / sigma^2 where two points differ, for points of shape (groups, n, d)."""
    distances = squared_distances(points)
    inverse = inverse_variance(bandwidth, distances, num_particles)
    off = torch.exp(-0.5 * inverse * distances)
    off = off - torch.diag_embed(off.diagonal(dim1=1, dim2=2))
    return off, (off * inverse).masked_fill(distances == 0, 0)


def _group(points: Tensor, scope: Scope) -> Tensor:
    """Lay particles out as (groups, members, d): one group an image, or one for the batch."""
    flat = _precise(points).flatten(2)
    return flat.transpose(0, 1) if scope == "image" else flat.flatten(0, 1)[None]


def _ungroup(grouped: Tensor, like: Tensor, scope: Scope) -> Tensor:
    return (grouped.transpose(0, 1) if scope == "image" else grouped[0]).reshape(like.shape).to(like.dtype)


def _push(strength: Tensor, points: Tensor) -> Tensor:
    """Return mean_j strength_ij (x_i - x_j), with strength = K / sigma^2."""
    return (torch.diag_embed(strength.sum(-1)) - strength) / points.shape[1] @ points


def _interact(off: Tensor, score: Tensor, scope: Scope, batch: int) -> tuple[Tensor, Tensor]:
    """Return the drive (the diagonal of the kernel is 1) and the mean off-diagonal kernel value of each image."""
    scores = _group(score, scope)
    n = scores.shape[1]
    drive = _ungroup((off + torch.eye(n, dtype=off.dtype, device=off.device)) / n @ scores, score, scope)
    return drive, (off.sum((-1, -2)) / max(n * (n - 1), 1)).expand(batch)


def _check(bandwidth: Bandwidth, scope: Scope) -> None:
    if scope not in get_args(Scope):
        raise unknown_name("scope", str(scope), get_args(Scope))
    if isinstance(bandwidth, str) and bandwidth not in ("median", "narrow", "thesis"):
        raise InputError(f"the bandwidth must be 'median', 'narrow', 'thesis' or a positive number; got {bandwidth!r}")
    if not isinstance(bandwidth, str) and not 0 < bandwidth < math.inf:
        raise InputError(f"the bandwidth must be positive; got {bandwidth} (kernel=None gives independent restarts)")


@dataclass(frozen=True)
class RBF(Kernel):
    """Gaussian kernel on pixels.

    Args:
        bandwidth: ``"median"`` or ``"narrow"`` (see :func:`inverse_variance`), ``"thesis"`` (10^(1 - num_particles),
            which for images is so narrow that nothing repels), or sigma itself.
        scope: ``"image"`` lets the particles of one image meet; ``"batch"`` those of all images, as the authors' code
            does.
        space: ``"perturbation"`` measures x_adv - x, ``"image"`` x_adv; they differ in the scope ``"batch"`` alone.

    Raises:
        InputError: the bandwidth is not positive, or a name is unknown.

    Example:
        >>> x_adv = torch.tensor([[[0.0]], [[1.0]]])  # two particles of one image with one pixel
        >>> RBF(1.0)(torch.zeros_like(x_adv), x_adv, torch.zeros(1, 1)).repulsion.flatten()
        tensor([-0.3033,  0.3033])
    """

    bandwidth: Bandwidth = "median"
    scope: Scope = "image"
    space: Space = "perturbation"

    def __post_init__(self) -> None:
        _check(self.bandwidth, self.scope)
        if self.space not in get_args(Space):
            raise unknown_name("space", str(self.space), get_args(Space))

    def __call__(self, score: Points, x_adv: Points, x: Float[Tensor, "batch *event"]) -> Interaction:
        with torch.autocast(x.device.type, enabled=False):
            points = _centred(_group(x_adv - x if self.space == "perturbation" else x_adv, self.scope))
            off, strength = _weights(self.bandwidth, points, len(x_adv))
            drive, kernel = _interact(off, score, self.scope, len(x))
            return Interaction(drive, _ungroup(_push(strength, points), x_adv, self.scope), kernel)


@dataclass(frozen=True)
class FeatureRBF(Kernel):
    """Gaussian kernel on features (SVGDF, thesis chapter 6); its gradient flows through the extractor.

    The gradient of the kernel is taken at one of the two particles that it compares:

        "own"      -1/n sum_j grad_{x_i} K_ij: x_i moves to where its own features differ; one backward pass for all
        "others"   1/n sum_j grad_{x_j} K_ji, to the letter of Eqs. 5.7 and 6.6: a pass for each other particle

    They are equal where the extractor is linear.

    Args:
        extractor: maps images (rows, *event) to features (rows, *any), differentiably; in evaluation mode here.
        bandwidth: as for :class:`RBF`, in the units of the features.
        scope: as for :class:`RBF`.
        gradient: see above.

    Raises:
        InputError: the bandwidth is not positive, or a name is unknown.

    Example:
        >>> x_adv = torch.tensor([[[0.0]], [[1.0]]])
        >>> FeatureRBF(nn.Identity(), 1.0)(torch.zeros_like(x_adv), x_adv, torch.zeros(1, 1)).repulsion.flatten()
        tensor([-0.3033,  0.3033])
    """

    extractor: nn.Module
    bandwidth: Bandwidth = "median"
    scope: Scope = "image"
    gradient: FeatureGradient = "own"

    def __post_init__(self) -> None:
        _check(self.bandwidth, self.scope)
        if self.gradient not in get_args(FeatureGradient):
            raise unknown_name("gradient", str(self.gradient), get_args(FeatureGradient))

    def __call__(self, score: Points, x_adv: Points, x: Float[Tensor, "batch *event"]) -> Interaction:
        rows = x_adv.detach().flatten(0, 1).requires_grad_()
        with frozen(self.extractor), torch.enable_grad():
            features = _precise(self.extractor(rows).flatten(1))
        with torch.autocast(x.device.type, enabled=False):
            particles = features.detach().unflatten(0, x_adv.shape[:2])
            points = _centred(_group(particles, self.scope))
            off, strength = _weights(self.bandwidth, points, len(x_adv))
            drive, kernel = _interact(off, score, self.scope, len(x))

            def pulled(push: Tensor) -> Tensor:
                """Return the gradient of the features in a direction, at each particle's own pixels."""
                direction = _ungroup(push, particles, self.scope).flatten(0, 1)
                literal = self.gradient == "others"
                return torch.autograd.grad(features, rows, direction, retain_graph=literal)[0].view_as(x_adv)

            if self.gradient == "own":
                return Interaction(drive, pulled(_push(strength, points)), kernel)
            repulsion = torch.zeros_like(_group(x_adv, self.scope))
            for shift in range(1, points.shape[1]):  # the gradient at x_j moves the particle so many places before it
                push = _at_shift(strength, shift) * (points.roll(shift, 1) - points) / points.shape[1]
                repulsion += _group(pulled(push), self.scope).roll(-shift, 1)
            return Interaction(drive, _ungroup(repulsion, x_adv, self.scope), kernel)


def _at_shift(strength: Float[Tensor, "groups n n"], shift: int) -> Float[Tensor, "groups n 1"]:
    """Return what joins each particle with the one so many places before it."""
    place = torch.arange(strength.shape[-1], device=strength.device)
    return strength[:, place, place.roll(shift)][..., None]
