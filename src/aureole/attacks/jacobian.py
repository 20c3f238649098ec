"""The logits at some images together with the gradients of any of their sums: one forward pass, many backward."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.model import predict


class Linearised:
    """A model at some images: the logits, and the gradient of any combination of an image's logits.

    Args:
        model: maps images (batch, *event) to logits (batch, classes); frozen by the caller.
        x: where it is linearised, shape (batch, *event).

    Raises:
        InputError: the output does not depend differentiably on the images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> here = Linearised(model, torch.rand(5, 1, 2, 2))
        >>> value, gradient = here.difference(torch.full((5,), 2), torch.zeros(5, dtype=torch.int64))
        >>> value.shape, gradient.shape
        (torch.Size([5]), torch.Size([5, 1, 2, 2]))
    """

    def __init__(self, model: nn.Module, x: Float[Tensor, "batch *event"]) -> None:
        with torch.enable_grad():
            self.x = x.detach().requires_grad_()
            self._output = predict(model, self.x)
        if not self._output.requires_grad:
            raise InputError(
                "the model's output does not depend differentiably on the images: no gradient attack can work"
            )
        self.logits: Tensor = self._output.detach()

    def gradient(self, weights: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch *event"]:
        """Return the gradient of each image's sum_k weights_k logit_k to that image."""
        with torch.enable_grad():  # a sum: weights given to grad() make it import symbolic shapes, 35 MiB
            total = (weights * self._output).sum()
        (gradient,) = torch.autograd.grad(total, self.x, retain_graph=True, materialize_grads=True)
        return gradient

    def difference(
        self, plus: Int[Tensor, " batch"], minus: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch *event"]]:
        """Return logit_plus - logit_minus of each image, and its gradient."""
        weights = torch.zeros_like(self.logits).scatter_(1, plus[:, None], 1.0).scatter_(1, minus[:, None], -1.0)
        return (weights * self.logits).sum(1), self.gradient(weights)
