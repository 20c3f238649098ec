"""What a network computes inside: the features of named layers, and the last hidden layer of any classifier."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from aureole.core.checks import check_device
from aureole.core.errors import InputError, unknown_name
from aureole.core.model import frozen, logits_of, random_state_kept, searched

_INPUT = ":input"


@dataclass(frozen=True)
class Tapped:
    """What one pass through a model gave.

    Attributes:
        output: what the model returned.
        features: one tensor a tapped layer, in the order of the names.
    """

    output: Any
    features: tuple[Tensor, ...]


class FeatureTap:
    """Run a model and keep what named layers give; nothing stays behind in the model.

    The features are differentiable copies: a later layer that works in place does not change them. A layer that runs
    several times in one pass gives its last output. The tap changes neither the model's mode nor the grad mode: wrap
    the call in ``torch.no_grad()`` for a teacher.

    Args:
        model: any module.
        layers: names of submodules, as ``model.named_modules()`` gives them. The suffix ``":input"`` takes the first
            input of a layer in place of its output.

    Raises:
        InputError: a name is no submodule of the model.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from aureole.core.features import FeatureTap
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> tapped = FeatureTap(model, ("1", "2:input"))(torch.rand(5, 4))
        >>> tapped.output.shape, [f.shape for f in tapped.features]
        (torch.Size([5, 2]), [torch.Size([5, 3]), torch.Size([5, 3])])
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"the model must be a torch.nn.Module; got {type(model).__name__}: wrap it in one")
        if isinstance(layers, str):
            raise InputError(f"layers must be a sequence of names; got the string {layers!r}: write ({layers!r},)")
        self.model, self.layers = model, tuple(layers)
        known = _named(model)
        for layer in self.layers:
            _find(known, layer)

    def __call__(self, x: Tensor) -> Tapped:
        """Run the model on ``x``.

        Returns:
            The output and the features.

        Raises:
            InputError: a layer did not run in this pass, or gave no tensor.
        """
        known, caught = _named(self.model), dict[str, Any]()
        handles: list[RemovableHandle] = []
        try:
            for layer in dict.fromkeys(self.layers):
                handles.append(_catch(_find(known, layer), layer, caught))
            output = self.model(x)
        finally:
            for handle in handles:
                handle.remove()
        return Tapped(output, tuple(_feature(caught, layer) for layer in self.layers))

    def shapes(self, x: Tensor) -> tuple[torch.Size, ...]:
        """Return the shape of each feature for a batch such as ``x``, the batch included, by one dry run.

        The run is in evaluation mode and without gradient; the model and the global random state are left as they were.
        """
        with random_state_kept(x.device), torch.no_grad(), frozen(self.model):
            return tuple(feature.shape for feature in self(x).features)


def _named(model: nn.Module) -> dict[str, nn.Module]:
    return dict(model.named_modules(remove_duplicate=False))


def _find(known: dict[str, nn.Module], layer: str) -> nn.Module:
    name = layer.removesuffix(_INPUT)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise unknown_name("layer", name, near or [child for child in known if child and "." not in child])
    return known[name]


def _catch(module: nn.Module, layer: str, caught: dict[str, Any]) -> RemovableHandle:
    """Keep a copy of a layer's output or first input: a later layer may work in place on the tensor itself."""

    def keep(value: Any) -> None:
        caught[layer] = value.clone() if isinstance(value, Tensor) else value

    if layer.endswith(_INPUT):
        return module.register_forward_pre_hook(
            lambda _, args, kwargs: keep(next(iter((*args, *kwargs.values())), None)), with_kwargs=True
        )
    return module.register_forward_hook(lambda _, args, output: keep(output))


def _feature(caught: dict[str, Any], layer: str) -> Tensor:
    if layer not in caught:
        raise InputError(f"expected layer {layer!r} to run in a pass through the model; it did not: name another")
    if not isinstance(caught[layer], Tensor):
        kind = type(caught[layer]).__name__
        raise InputError(f"expected a tensor from layer {layer!r}; got {kind}: name a layer inside or after it")
    return caught[layer]


class Activations(NamedTuple):
    """What a classifier computes for each image.

    Attributes:
        logits: shape (batch, classes).
        hidden: the last hidden layer, shape (batch, features).
    """

    logits: Float[Tensor, "batch classes"]
    hidden: Float[Tensor, "batch features"]


def hidden_layer(model: nn.Module, x: Float[Tensor, "batch *event"]) -> str:
    """Find the last hidden layer of a classifier: what goes into the layer that gives the logits.

    That layer is the last ``nn.Linear`` that runs in a pass and has one output a class; where there is none, the last
    such 1x1 convolution.

    Args:
        model: maps images to logits.
        x: images; the first is run through the model.

    Returns:
        A name for :class:`FeatureTap`, such as ``"fc:input"``.

    Raises:
        InputError: no layer of the model gives the logits.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from aureole.core.features import hidden_layer
        >>> hidden_layer(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.rand(5, 4))
        '2:input'
    """
    ran: list[str] = []
    modules = dict(model.named_modules())
    leaves = {name: module for name, module in modules.items() if not any(module.children())}
    handles: list[RemovableHandle] = []
    try:
        for name, module in leaves.items():
            handles.append(module.register_forward_hook(lambda _, args, output, name=name: ran.append(name)))
        with random_state_kept(x.device), searched(model, x[:1]) as image:
            classes = logits_of(model(image)).shape[1]
    finally:
        for handle in handles:
            handle.remove()
    for gives in (_linear_outputs, _convolution_outputs):
        heads = [name for name in ran if gives(leaves[name]) == classes]
        if heads:
            return heads[-1] + _INPUT
    raise _no_hidden(model, [name for name in ran if name], classes)


def _linear_outputs(module: nn.Module) -> int | None:
    return module.out_features if isinstance(module, nn.Linear) else None


def _convolution_outputs(module: nn.Module) -> int | None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and set(module.kernel_size) == {1}:
        return module.out_channels
    return None


def _no_hidden(model: nn.Module, ran: list[str], classes: int) -> InputError:
    what = f"the last hidden layer of {type(model).__name__} was not found: no nn.Linear or 1x1 convolution that runs"
    offer = ", ".join(map(repr, list(dict.fromkeys(reversed(ran)))[:4]))
    named = f"name it with layer=... (--detector.hidden-layer NAME), such as {offer}"
    mend = named if ran else "end the model in an nn.Linear"
    return InputError(f"{what} gives its {classes} logits: {mend}")


def activations(
    model: nn.Module, x: Float[Tensor, "batch *event"], layer: str | None = None, *, batch_size: int = 256
) -> Activations:
    """Return the logits and the last hidden layer of a classifier; arguments and errors as for :func:`last_hidden`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from aureole.core.features import activations
        >>> found = activations(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.rand(5, 4))
        >>> found.logits.shape, found.hidden.shape
        (torch.Size([5, 2]), torch.Size([5, 3]))
    """
    check_device(model, x)
    if batch_size < 1 or len(x) == 0:
        raise InputError(
            f"expected at least one image, in batches of at least 1; got {len(x)} in batches of {batch_size}"
        )
    layer = hidden_layer(model, x) if layer is None else layer
    tap, module = FeatureTap(model, (layer,)), _find(_named(model), layer)
    parts = []
    with random_state_kept(x.device), searched(model, x) as images:
        for part in images.split(batch_size):
            tapped = tap(part)
            hidden = _rows(tapped.features[0], layer, len(part), tokens=isinstance(module, nn.Linear))
            parts.append((logits_of(tapped.output, len(part)), hidden))
    return Activations(*(torch.cat(column) for column in zip(*parts, strict=True)))


def last_hidden(
    model: nn.Module, x: Float[Tensor, "batch *event"], layer: str | None = None, *, batch_size: int = 256
) -> Float[Tensor, "batch features"]:
    """Return the last hidden layer of a classifier for each image, in evaluation mode and without gradient.

    A map (batch, channels, height, width) is averaged over its positions, and tokens (batch, tokens, features) over the
    tokens. The model and the global random state are left as they were.

    Args:
        model: maps images to logits, or to an object with ``.logits``.
        x: images of shape (batch, *event).
        layer: a submodule whose output is taken, or its input with the suffix ``":input"``; None finds the layer, see
            :func:`hidden_layer`.
        batch_size: most images in one pass; the result is the same.

    Returns:
        Features in float32 or better.

    Raises:
        InputError: the layer cannot be found, does not run, or does not give one row of features an image.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from aureole.core.features import last_hidden
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> last_hidden(model, torch.rand(5, 4)).shape, last_hidden(model, torch.rand(5, 4), "2").shape
        (torch.Size([5, 3]), torch.Size([5, 2]))
    """
    return activations(model, x, layer, batch_size=batch_size).hidden


def _rows(feature: Tensor, layer: str, rows: int, *, tokens: bool) -> Tensor:
    """Return one row an image. ``tokens``: the features are the last dimension, else the channels of a map."""
    if feature.ndim < 2 or len(feature) != rows or not feature.is_floating_point():
        got = f"{feature.dtype} of shape {tuple(feature.shape)}"
        raise InputError(f"expected features of {rows} images from layer {layer!r}; got {got}: name another layer")
    feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
    if feature.ndim == 2:
        return feature
    return feature.flatten(1, -2).mean(1) if tokens or feature.ndim == 3 else feature.flatten(2).mean(2)
