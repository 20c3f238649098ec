"""Where a model to be judged comes from: a run of this library, or a user's own function with weights from a file."""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aureole.core.errors import InputError, first_line, unknown_name
from aureole.core.model import frozen, predict
from aureole.data import Data, Splits
from aureole.data.streamed import ImageSet
from aureole.training.config import Evaluation
from aureole.training.fit import load_model


@dataclass(frozen=True, eq=False)
class Subject:
    """What is judged, and on what.

    Attributes:
        title: what a person calls the model.
        network: maps images to logits.
        images: the images.
        data: fingerprint of the set that these are the first images of.
        accelerator: ``"auto"`` takes a GPU where there is one.
    """

    title: str
    network: nn.Module
    images: ImageSet
    data: str
    accelerator: str = "auto"


def judged_images(data: Data, plan: Evaluation, splits: Splits | None = None) -> tuple[ImageSet, str]:
    """Return the images that a plan names, the first so many of the test part or of validation.

    Args:
        data: where the images are.
        plan: which part of them, and how many.
        splits: the training and validation images, where they are at hand.

    Returns:
        The images, and the fingerprint of the whole part.

    Raises:
        InputError: the data is unusable, or there are not so many.
    """
    if plan.part == "test":
        whole = data.test()
        if plan.num_examples is not None and plan.num_examples > len(whole):
            raise InputError(
                f"num_examples must be 1 to {len(whole)}, the test images of {whole.name}; got {plan.num_examples}"
            )
    else:
        whole = (splits or data.train_and_validation()).validation
    count = min(plan.num_examples or len(whole), len(whole))
    return (whole if count == len(whole) else whole.subset(torch.arange(count))), whole.fingerprint


def subject(title: str, network: nn.Module, data: Data, plan: Evaluation, *, accelerator: str = "auto") -> Subject:
    """Return a model with the images that a plan names.

    Raises:
        InputError: as :func:`judged_images`.
    """
    return Subject(title, network, *judged_images(data, plan), accelerator)


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished run of this library.

    Attributes:
        folder: of the run.
    """

    folder: str

    def load(self, plan: Evaluation) -> Subject:
        """Return the trained network and the images that the plan names.

        Raises:
            InputError: there is no finished run, or its data is gone.
        """
        network, config = load_model(Path(self.folder))
        return subject(config.title, network, config.data, plan, accelerator=config.engine.accelerator)


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A model that a user's function returns.

    Attributes:
        model: the function, as ``module:function``; the module is looked for in the current directory, too.
        weights: a state dictionary as ``.safetensors``, or one that ``torch.save`` wrote; None for the function's own.
        data: where the images are; their test part is judged.
        num_classes: handed to the function by this name; None for a function without arguments.
    """

    model: str
    weights: str | None = None
    data: Data = Data()
    num_classes: int | None = None

    @property
    def title(self) -> str:
        """The function's name."""
        return self.model.rpartition(":")[2]

    def load(self, plan: Evaluation) -> Subject:
        """Return the model, with its weights, and the images that the plan names.

        Raises:
            InputError: module, function, weights or data cannot be used, or the model does not fit the data.
        """
        with contextlib.redirect_stdout(sys.stderr):  # what foreign code says is no result
            network = self.build()
        found = subject(self.title, network, self.data, plan)
        check_fit(network, found.images)
        return found

    def build(self) -> nn.Module:
        """Return the model with its weights, on the CPU and in evaluation mode.

        Raises:
            InputError: module, function or weights cannot be used.
        """
        function = _function(self.model)
        given = {} if self.num_classes is None else {"num_classes": self.num_classes}
        try:
            network = function(**given)
        except InputError:
            raise
        except Exception as error:
            called = f"{self.title}({', '.join(f'{k}={v}' for k, v in given.items())})"
            raise InputError(f"{self.model} failed when called as {called}: {first_line(error)}") from error
        if not isinstance(network, nn.Module):
            raise InputError(f"{self.model} must return a torch.nn.Module; it returned {type(network).__name__}")
        if self.weights is not None:
            load_weights(network, Path(self.weights))
        return network.eval()


def _function(name: str) -> Any:
    module_name, _, function = name.partition(":")
    if not module_name or not function.isidentifier():
        raise InputError(f"a model is named module:function, such as my_models:resnet; got {name!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(
                f"there is no module {error.name!r} in the current directory or among the installed packages:"
                " --model takes module:function, without .py"
            ) from error
        raise InputError(f"the module {module_name} cannot be imported: {first_line(error)}") from error
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        raise InputError(f"the module {module_name} cannot be imported: {kind}: {first_line(error)}") from error
    if not callable(getattr(module, function, None)):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise unknown_name(f"function of {module_name}", function, known)
    return getattr(module, function)


def load_weights(network: nn.Module, path: Path) -> None:
    """Put the weights of a file into a model, all of them.

    Args:
        network: the model.
        path: a ``.safetensors`` file, or what ``torch.save`` wrote of a state dictionary (or of a dictionary that holds
            one as ``state_dict`` or ``model``); nothing but tensors is read.

    Raises:
        InputError: the file cannot be read, or its names and shapes are not those of the model.
    """
    found, wanted = _state(path), network.state_dict()
    missing, extra = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    if missing or extra:
        parts = [f"{len(names)} {what}, such as {names[0]!r}" for names, what in
                 ((missing, "are missing"), (extra, "are unexpected")) if names]  # fmt: skip
        raise InputError(f"the weights in {path} are not those of the model: {'; '.join(parts)}")
    for name, value in wanted.items():
        if isinstance(value, Tensor) and found[name].shape != value.shape:
            raise InputError(
                f"the weights in {path} do not fit the model: {name!r} has the shape {tuple(found[name].shape)}, the"
                f" model wants {tuple(value.shape)}"
            )
    network.load_state_dict(found)


def _state(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"there are no weights at {path}: give a .safetensors file")
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else _pickled(path)
    except Exception as error:
        raise InputError(f"the weights {path} cannot be read: {first_line(error).partition('. ')[0]}") from error
    for name in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not (isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values())):
        raise InputError(f"{path} holds no weights: expected a state dictionary, names and tensors")
    return state


def _pickled(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


@torch.no_grad()
def check_fit(network: nn.Module, images: ImageSet) -> None:
    """Check on two images that a model takes them, and returns logits of at least as many classes.

    Raises:
        InputError: it does not.
    """
    x = images.batch(torch.arange(min(2, len(images)))).float().div_(255)
    check_logits(network, x, images.num_classes, images.name)


def check_logits(network: nn.Module, x: Tensor, num_classes: int, name: str) -> None:
    """Check that a model takes images, and returns logits of at least so many classes.

    Args:
        network: maps images to logits.
        x: images (batch, *event).
        num_classes: of the data.
        name: of the data.

    Raises:
        InputError: it does not.
    """
    try:
        with frozen(network):
            logits = predict(network, x)
    except InputError:
        raise
    except Exception as error:
        shape = tuple(x.shape[1:])
        raise InputError(f"the model cannot take images of shape {shape}: {first_line(error)}") from error
    if not bool(logits.isfinite().all()):
        raise InputError("the model returns logits that are not finite: check its weights, and how it normalises")
    if logits.shape[1] < num_classes:
        raise InputError(
            f"the model has {logits.shape[1]} classes, the data {num_classes} ({name}): give the model's"
            " own data, or --num-classes"
        )
