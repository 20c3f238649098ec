"""Learn the class that a teacher finds likeliest, as if it were the label.

    L = CE(argmax_k p_T(k | X), q(X))

Thesis section 4.4.3: so soft attention, hard attention and the network of Grad-CAM are trained. The labels of a batch
are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from aureole.core.method import Batch, Terms
from aureole.core.model import predict
from aureole.explain.base import FromTeacher, Taught, kept_beside


@dataclass(frozen=True, kw_only=True)
class TeacherLabels(FromTeacher):
    """Train a classifier on the classes that a teacher predicts.

    Use it in any loop::

        modules = method.pair(network, teacher, x)     # once, with an example batch
        method.loss(network, Batch(x, y), modules).total.backward()

    Example:
        >>> from aureole.explain import Attention, TeacherLabels
        >>> from aureole.models import FourBlocks
        >>> method, network = TeacherLabels(), Attention(nn.Conv2d(3, 5, 4, stride=4), width=5)
        >>> x = torch.rand(2, 3, 16, 16)
        >>> modules = method.pair(network, FourBlocks((4, 4, 8, 8)), x)
        >>> list(method.loss(network, Batch(x, torch.tensor([0, 1])), modules))
        ['output']

    Source: thesis section 4.4.3.
    """

    title: ClassVar[str] = "Teacher's labels"

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy of one batch, ``output``."""
        labels = kept_beside(modules, Taught, self.title).logits(batch.x).argmax(-1)
        return Terms(output=F.cross_entropy(predict(model, batch.x), labels))
