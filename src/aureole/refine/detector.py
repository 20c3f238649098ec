r"""How easily a detector tells adversarial from natural images: DetAUC (thesis 3.4.1).

Three features an image, of the victim's logits and of its last hidden layer z, with y^ the predicted class:

    confidence   p_y^                                     (Pang et al. 2018)
    K-density    log 1/n sum_{j: class y^} N(z; z_j, h^2 I)  over training images z_j that the victim predicts as y^
                                                          (Feinman et al. 2017)
    non-ME       -sum_{i != y^} q_i log q_i,  q_i = p_i / sum_{j != y^} p_j          (Pang et al. 2018)

A logistic regression on the standardised features is fitted on one half of the images, natural and adversarial, and its
area under the ROC curve is taken on the other half. One detector an attack. Departures: the authors of the features fit
and judge on the same images (Feinman) or use one feature alone (Pang), and Pang's density has no logarithm. What the
thesis does not state and we choose: logistic regression; confidence, not dropout uncertainty; the bandwidth; only pairs
where the natural image is classified correctly and the attack succeeds, as Pang et al. do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.core.balls import Linf
from aureole.core.checks import check_classes, check_device, check_images, check_labels
from aureole.core.errors import InputError, unknown_name
from aureole.core.features import Activations, activations, hidden_layer
from aureole.core.random import mix_seed
from aureole.refine.density import RULES, Rule, log_density, non_maximal_entropy

_SELECTION, _HALVES, _BOOTSTRAP = 1, 2, 3  # what a seed is used for


class TooFewExamplesError(InputError):
    """Too few pairs of images can be used, or too few reference images of a class: there is no detector to judge.

    Example:
        >>> import torch
        >>> from aureole.refine.detector import detection_auc
        >>> detection_auc(torch.rand(4, 3), torch.rand(4, 3), torch.arange(4) < 1)
        Traceback (most recent call last):
        aureole.refine.detector.TooFewExamplesError: expected at least 2 usable pairs of images in each half; got 1 ...
    """


@dataclass(frozen=True)
class DetectionAUC:
    """How well a detector told adversarial from natural images that it was not fitted on.

    Attributes:
        auc: area under the ROC curve, in [0, 1]; 0.5 is chance. Ties count one half.
        low: lower end of the 95 % bootstrap interval over the pairs of half 2 (the fitted detector is held fixed).
        high: upper end.
        num_pairs: pairs in half 2, on which it was judged.
        num_fit_pairs: pairs in half 1, on which it was fitted.
        coefficients: of the logistic regression, for the standardised confidence, log density and non-ME; positive
            where a large value speaks for an adversarial image.
        bandwidth: of the kernel density.
        layer: the hidden layer that was used.
    """

    auc: float
    low: float
    high: float
    num_pairs: int
    num_fit_pairs: int
    coefficients: tuple[float, ...]
    bandwidth: float | None = None
    layer: str | None = None


def detection_auc(
    natural: Float[Tensor, "pairs features"],
    adversarial: Float[Tensor, "_ _"],
    first_half: Bool[Tensor, " pairs"],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> DetectionAUC:
    """Fit a logistic regression on one half of the pairs, and judge it on the other.

    Args:
        natural: features of natural images.
        adversarial: features of the same images, attacked.
        first_half: the pairs to fit on. Their mean and standard deviation alone standardise the features.
        num_bootstrap: how often the pairs of the other half are drawn again for the interval.
        seed: decides those draws.

    Raises:
        TooFewExamplesError: a half has fewer than two pairs.
        InputError: the features differ in shape, or one is not finite.

    Example:
        >>> import torch
        >>> from aureole.refine.detector import detection_auc
        >>> natural, first_half = torch.arange(8.0)[:, None] / 8, torch.arange(8) < 4
        >>> detection_auc(natural, natural + 2, first_half).auc
        1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check_pairs(natural, adversarial, first_half)
    regression = LogisticRegression(max_iter=1000)
    detector = make_pipeline(StandardScaler(), regression)
    detector.fit(*_labelled(natural[first_half], adversarial[first_half]))
    features, labels = _labelled(natural[~first_half], adversarial[~first_half])
    scores = detector.decision_function(features)
    low, high = _interval(torch.as_tensor(scores), num_bootstrap, seed)
    return DetectionAUC(
        auc=float(roc_auc_score(labels, scores)),
        low=low,
        high=high,
        num_pairs=len(labels) // 2,
        num_fit_pairs=int(first_half.sum()),
        coefficients=tuple(float(c) for c in regression.coef_[0]),
    )


def _check_pairs(natural: Tensor, adversarial: Tensor, first_half: Tensor) -> None:
    if natural.shape != adversarial.shape:
        shapes = f"{tuple(natural.shape)} and {tuple(adversarial.shape)}"
        raise InputError(f"expected natural and adversarial features of one shape; got {shapes}")
    if not bool((natural.isfinite() & adversarial.isfinite()).all()):
        raise InputError("the features must be finite; some are NaN or infinite: look at the victim's outputs")
    _check_halves(first_half)


def _check_halves(first_half: Tensor) -> None:
    first, second = int(first_half.sum()), int((~first_half).sum())
    if min(first, second) < 2:
        raise TooFewExamplesError(
            f"expected at least 2 usable pairs of images in each half; got {first} and {second}: give more images, or"
            " use the pairs where the attack failed too (successful_only=False)"
        )


def _labelled(natural: Tensor, adversarial: Tensor) -> tuple[Any, Any]:
    """Return features and labels for scikit-learn: natural images first, with label 0."""
    return torch.cat([natural, adversarial]).cpu().numpy(), torch.arange(2).repeat_interleave(len(natural)).numpy()


def _interval(scores: Tensor, num_bootstrap: int, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of the AUC under new draws of pairs; natural scores come first."""
    generator = torch.Generator().manual_seed(mix_seed(seed, _BOOTSTRAP))
    natural, adversarial = scores.unique(return_inverse=True)[1].chunk(2)  # ranks, equal where the scores are
    aucs = []
    for _ in range(num_bootstrap):
        drawn = torch.randint(len(natural), (len(natural),), generator=generator)
        aucs.append(_auc(natural[drawn], adversarial[drawn]))
    low, high = torch.stack(aucs).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _auc(natural: Tensor, adversarial: Tensor) -> Tensor:
    """Return the share of (natural, adversarial) pairs that the ranks order rightly; ties one half."""
    counts = natural.bincount(minlength=int(adversarial.max()) + 1).double()
    below = counts.cumsum(0) - counts / 2
    return below[adversarial].mean() / len(natural)


@dataclass(frozen=True, eq=False)
class Reference:
    """The training images as the detector sees them; made by :meth:`Detector.reference`, and good for many attacks.

    Attributes:
        layer: the hidden layer of the victim.
        classes: hidden features of the reference images that the victim predicts as each class, on the CPU.
        bandwidth: of the kernel density.
    """

    layer: str
    classes: tuple[Float[Tensor, "_ features"], ...]
    bandwidth: float

    def features(self, found: Activations) -> Float[Tensor, "batch 3"]:
        """Return confidence, log density and non-ME of images, in float64, from what the victim computed for them.

        Raises:
            TooFewExamplesError: a class is predicted of which there are fewer than two reference images.
        """
        logits = found.logits.cpu().double()
        predicted, hidden = logits.argmax(1), found.hidden.cpu()
        density = torch.empty(len(logits), dtype=torch.float64)
        for label in predicted.unique().tolist():
            points = self.classes[label]
            if len(points) < 2:
                raise TooFewExamplesError(
                    f"expected at least 2 reference images that the victim predicts (rightly, where labels are given)"
                    f" as class {label}; got {len(points)}: give more training images"
                )
            density[predicted == label] = log_density(hidden[predicted == label], points, self.bandwidth)
        return torch.stack([logits.softmax(1).amax(1), density, non_maximal_entropy(logits)], 1)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A detector of adversarial images, fitted to one attack on half of the images and judged on the other half.

    Attributes:
        bandwidth: of the kernel density: a number (Feinman et al.'s are ``MNIST_BANDWIDTH`` and ``CIFAR_BANDWIDTH``),
            or the name of a rule, ``"nearest"`` or ``"median"``; see :mod:`aureole.refine.density`.
        max_reference: most reference images a class, drawn at random.
        hidden_layer: name of the submodule whose output is the last hidden layer; None finds it.
        successful_only: keep only the pairs where the natural image is classified correctly and the attacked one is
            not; False keeps all.
        num_bootstrap: resamplings behind the interval.
        seed: decides the reference images, the halves and the resampling. The halves depend on nothing else but the
            number of images: they are the same for every attack.
        batch_size: most images in one pass through the victim; the result is the same.

    Raises:
        InputError: a number is out of its range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from aureole.refine.detector import Detector
        >>> victim = nn.Sequential(nn.Linear(2, 3))
        >>> x, y = torch.rand(40, 2), torch.zeros(40, dtype=torch.int64)
        >>> found = Detector(successful_only=False).measure(victim, x, x + 5, y, torch.cat([x, x + 5]))
        >>> found.auc > 0.5, found.num_pairs, found.layer
        (True, 20, '0:input')

    Source: thesis 3.4.1; Feinman et al. 2017; Pang et al. 2018.
    """

    bandwidth: float | Rule = "nearest"
    max_reference: int = 1000
    hidden_layer: str | None = None
    successful_only: bool = True
    num_bootstrap: int = 1000
    seed: int = 0
    batch_size: int = 256

    def __post_init__(self) -> None:
        if isinstance(self.bandwidth, str):
            if self.bandwidth not in RULES:
                raise unknown_name("rule for the bandwidth", self.bandwidth, RULES)
        elif not 0 < self.bandwidth < math.inf:
            raise InputError(f"the bandwidth must be positive, or one of {', '.join(RULES)}; got {self.bandwidth}")
        for name, least in (("max_reference", 2), ("num_bootstrap", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}; got {getattr(self, name)}")

    def check(self, victim: nn.Module, x: Float[Tensor, "batch *event"]) -> None:
        """Check on a few images that the hidden layer of a victim is found, before any work goes into an attack on it.

        Raises:
            InputError: it is not, or what the victim returns cannot be used.
        """
        _check(victim, x, None)
        self._activations(victim, x, None, self.hidden_layer or hidden_layer(victim, x))

    def measure(
        self,
        victim: nn.Module,
        x: Float[Tensor, "batch *event"],
        x_adv: Tensor,
        y: Tensor,
        reference_x: Float[Tensor, "reference *event"],
        reference_y: Int[Tensor, " reference"] | None = None,
    ) -> DetectionAUC:
        """Return how easily this attack on these images is detected: :meth:`reference`, then :meth:`judge`."""
        return self.judge(victim, x, x_adv, y, self.reference(victim, reference_x, reference_y))

    def reference(
        self,
        victim: nn.Module,
        x: Float[Tensor, "reference *event"],
        y: Int[Tensor, " reference"] | None = None,
    ) -> Reference:
        """Run training images through the victim, in random order until every class has ``max_reference`` of them.

        Args:
            victim: maps images to logits; it is left as it was.
            x: training images.
            y: their labels: only what the victim classifies correctly is kept. None keeps all.

        Raises:
            InputError: images or labels are not as described, or the bandwidth cannot be found.
        """
        _check(victim, x, y)
        layer = self.hidden_layer or hidden_layer(victim, x)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mix_seed(self.seed, _SELECTION)))
        classes: list[Tensor] = []
        for rows in order.to(x.device).split(self.batch_size):
            found = self._activations(victim, x[rows], None if y is None else y[rows], layer)
            predicted, hidden = found.logits.argmax(1), found.hidden
            wanted = torch.ones_like(predicted, dtype=torch.bool) if y is None else predicted == y[rows]
            classes = classes or [hidden[:0].cpu()] * found.logits.shape[1]
            for label in predicted[wanted].unique().tolist():
                new = hidden[wanted & (predicted == label)].cpu()
                classes[label] = torch.cat([classes[label], new])[: self.max_reference]
            if all(len(points) == self.max_reference for points in classes):
                break
        bandwidth = RULES[self.bandwidth](classes) if isinstance(self.bandwidth, str) else self.bandwidth
        if not bandwidth > 0:
            raise InputError(
                f"the rule {self.bandwidth!r} makes a bandwidth of {bandwidth} of these reference images: give more of"
                " each class, or bandwidth as a number"
            )
        return Reference(layer, tuple(classes), bandwidth)

    def judge(
        self,
        victim: nn.Module,
        x: Float[Tensor, "batch *event"],
        x_adv: Tensor,
        y: Tensor,
        reference: Reference,
    ) -> DetectionAUC:
        """Fit a detector to the images and their attacked versions, and judge it on the other half.

        Args:
            victim: maps images to logits; it is left as it was.
            x: natural images, none of them among the reference.
            x_adv: the same images, attacked.
            y: labels.
            reference: from :meth:`reference`, with the same victim.

        Raises:
            TooFewExamplesError: fewer than two pairs of a half can be used, or a class is predicted of which there are
                fewer than two reference images.
            InputError: images or labels are not as described, or the victim's outputs are not finite.
        """
        _check(victim, x, y)
        _check(victim, x_adv, None)
        if x.shape != x_adv.shape:
            raise InputError(f"expected attacked images of shape {tuple(x.shape)}; got {tuple(x_adv.shape)}")
        natural = self._activations(victim, x, y, reference.layer)
        adversarial = self._activations(victim, x_adv, None, reference.layer)
        used = torch.ones_like(y, dtype=torch.bool)
        if self.successful_only:
            used = (natural.logits.argmax(1) == y) & (adversarial.logits.argmax(1) != y)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mix_seed(self.seed, _HALVES)))
        first_half = (order.argsort() < len(x) // 2)[used.cpu()]
        _check_halves(first_half)
        found = detection_auc(
            reference.features(Activations(natural.logits[used], natural.hidden[used])),
            reference.features(Activations(adversarial.logits[used], adversarial.hidden[used])),
            first_half,
            num_bootstrap=self.num_bootstrap,
            seed=self.seed,
        )
        return replace(found, bandwidth=reference.bandwidth, layer=reference.layer)

    def _activations(self, victim: nn.Module, x: Tensor, y: Tensor | None, layer: str) -> Activations:
        found = activations(victim, x, layer, batch_size=self.batch_size)
        if y is not None:
            check_classes(y, found.logits.shape[1])
        if not all(bool(value.isfinite().all()) for value in found):
            raise InputError(f"the victim's logits and hidden layer {layer!r} must be finite; some are NaN or infinite")
        return found


def _check(victim: nn.Module, x: Tensor, y: Tensor | None) -> None:
    check_images(x, Linf(1.0, bounds=None))
    check_device(victim, x)
    if y is not None:
        check_labels(y, x)
