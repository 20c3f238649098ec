"""Where TALD keeps the particles of an image from one visit to a later one."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.core.errors import InputError

Points = Float[Tensor, "num_particles batch *event"]
Losses = Float[Tensor, "num_particles batch"]


class ParticleMemory(nn.Module):
    """Particles of each training image with the teacher's loss there; all of it is stored with a checkpoint.

    It holds whole images (those of the view that was attacked, whose particles need not fit another view) in half
    precision: two bytes a value, 1.2 GB for 4 particles of each image of CIFAR.

    Args:
        num_examples: size of the training set.
        num_particles: particles an image.
        example: images of the training set, for their shape and device.

    Example:
        >>> from aureole.distill.particle_memory import ParticleMemory
        >>> memory, x_adv = ParticleMemory(9, 2, torch.rand(1, 3)), torch.zeros(2, 1, 3)
        >>> memory.store(torch.tensor([4]), x_adv, torch.zeros(2, 1), uses=1)
        >>> memory.due(torch.tensor([3, 4]))
        tensor([ True, False])
    """

    x_adv: Tensor
    losses: Tensor
    left: Tensor

    def __init__(self, num_examples: int, num_particles: int, example: Float[Tensor, "batch *event"]) -> None:
        super().__init__()
        rows, device = (num_examples, num_particles), example.device
        self.register_buffer("x_adv", torch.zeros(*rows, *example.shape[1:], dtype=torch.float16, device=device))
        self.register_buffer("losses", torch.zeros(*rows, device=device))
        self.register_buffer("left", torch.zeros(num_examples, dtype=torch.int16, device=device))

    def check(self, index: Int[Tensor, " batch"], x: Float[Tensor, "batch *event"]) -> None:
        """Check that there is a place for each of some images.

        Raises:
            InputError: a place is out of range, or the images have another shape.
        """
        if bool(((index < 0) | (index >= len(self.left))).any()):
            raise InputError(
                f"the memory of TALD has {len(self.left)} images; the batch has places from {index.min()} to"
                f" {index.max()}: make it with the size of this training set"
            )
        if self.x_adv.shape[2:] != x.shape[1:]:
            raise InputError(
                f"the memory of TALD holds images of shape {tuple(self.x_adv.shape[2:])}; got {tuple(x.shape[1:])}:"
                " make it with images of this training set"
            )

    def due(self, index: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Say which images have no particles, or have used them up."""
        return self.left[index] == 0

    @torch.no_grad()
    def store(self, index: Int[Tensor, " batch"], x_adv: Points, losses: Losses, uses: int) -> None:
        """Keep the particles of images for so many uses."""
        self.x_adv[index] = x_adv.transpose(0, 1).to(self.x_adv.dtype)
        self.losses[index] = losses.mT.to(self.losses.dtype)
        self.left[index] = uses

    @torch.no_grad()
    def take(self, index: Int[Tensor, " batch"], dtype: torch.dtype) -> tuple[Points, Losses]:
        """Return the particles and the teacher's losses of images, and count one use."""
        self.left[index] -= 1
        return self.x_adv[index].transpose(0, 1).to(dtype), self.losses[index].mT.to(dtype)
