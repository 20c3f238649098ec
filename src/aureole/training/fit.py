"""Train one run in its folder: start, or take it up where it was killed, and leave its weights there."""

from __future__ import annotations

import json
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError, first_line
from aureole.core.records import replace_text
from aureole.data import Splits
from aureole.training.config import Engine, Training

if TYPE_CHECKING:
    from aureole.training.module import Loop, LoopModule

CONFIG, CHECKPOINT, WEIGHTS, BEST = "config.json", "last.ckpt", "weights.safetensors", "best.safetensors"


def claim_folder(config: Any, folder: Path) -> None:
    """Make a run's folder, or check that it belongs to the same run.

    Args:
        config: the run's configuration.
        folder: where the run lives.

    Raises:
        InputError: the folder cannot be written, or holds another run.
    """
    path, values = folder / CONFIG, _settled(to_values(config))
    if not path.exists():
        replace_text(path, json.dumps(values, indent=1) + "\n")
        return
    before = _as_now(read_values(path))
    if before != values:
        changed = ", ".join(sorted(_differences(before, values))[:4])
        raise InputError(f"{folder} holds another run (it differs in {changed}): choose another --output, or delete it")


def _as_now(values: Any) -> Any:
    """Return a written configuration as this version writes it: a field that is newer than the file has its default."""
    try:
        return _settled(to_values(from_values(values)))
    except InputError:
        return values  # of another version: the comparison names the difference


def _settled(values: Any) -> Any:
    """Return a configuration without what may change between two starts of a run: whether a bar is shown."""
    if not isinstance(values, dict):
        return values
    return {key: _settled(value) for key, value in values.items() if key not in ("progress", "checkpoint_seconds")}


def read_values(path: Path) -> Any:
    """Return the values of a configuration file.

    Raises:
        InputError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"no run at {path.parent}: {path.name} is missing ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path} is not complete JSON ({error}): repeat the run in another folder") from error


def _differences(before: Any, after: Any, name: str = "") -> set[str]:
    """Return the dotted names of the fields that differ."""
    if isinstance(before, dict) and isinstance(after, dict) and before.get("type") == after.get("type"):
        keys = before.keys() | after.keys()
        return set().union(*(_differences(before.get(k), after.get(k), f"{name}.{k}") for k in keys))
    return set() if before == after else {name.lstrip(".") or "type"}


def build(config: Training, splits: Splits) -> nn.Module:
    """Return the untrained network of a run."""
    train = splits.train
    return config.model.build(num_classes=train.num_classes, image_shape=train.image_shape, seed=config.seed)


def load_config(folder: Path) -> Training:
    """Return the configuration of the classifier whose run lives in a folder.

    Raises:
        InputError: there is none.
    """
    config = from_values(read_values(folder / CONFIG))
    config = getattr(config, "classifier", config)  # of an experiment around a training run
    if not isinstance(config, Training):
        raise InputError(f"{folder} holds no training run: give the folder of one")
    return config


class Inputs(NamedTuple):
    """What a trained classifier takes and tells apart.

    Attributes:
        image_shape: channels, height and width of its images.
        class_names: a name for each class.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]


def load_inputs(folder: Path) -> Inputs:
    """Return what the classifier of a finished run takes: from its weights file, or where that is older, its data.

    Raises:
        InputError: there is no finished run in the folder, or its weights cannot be read.
    """
    from safetensors import safe_open

    config, path = load_config(folder), folder / WEIGHTS
    if not path.exists():
        raise InputError(f"the run in {folder} is not finished: run the same command again to resume it")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
    except Exception as error:
        raise _unreadable(path, error) from error
    if "image_shape" not in about:
        train = config.data.train_and_validation().train
        return Inputs(train.image_shape, tuple(train.class_names))
    channels, height, width = json.loads(about["image_shape"])
    return Inputs((channels, height, width), tuple(json.loads(about["class_names"])))


def load_model(folder: Path) -> tuple[nn.Module, Training]:
    """Return the trained network of a run's folder, in evaluation mode on the CPU, and its configuration.

    Raises:
        InputError: there is no finished run in the folder, or its weights cannot be read.
    """
    from safetensors.torch import load_file

    config, seen = load_config(folder), load_inputs(folder)
    network = config.model.build(num_classes=len(seen.class_names), image_shape=seen.image_shape, seed=config.seed)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:
        raise _unreadable(folder / WEIGHTS, error) from error
    return network.eval(), config


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read ({first_line(error)}): delete it and run the command again")


def fit(
    config: Training, folder: Path, splits: Splits, parts: nn.Module | None = None
) -> tuple[nn.Module, list[dict[str, float]], list[float]]:
    """Train, or resume, and write the weights.

    Args:
        config: the run.
        folder: its folder, claimed before.
        splits: training and validation images.
        parts: what the method uses beside the network; None asks the method for its own.

    Returns:
        The trained network, its history, and the seconds of each epoch.

    Raises:
        InputError: the checkpoint cannot be read (it is left as it is) or written, or the device is not there.
    """
    from aureole.training.module import TrainingModule

    seen = Inputs(splits.train.image_shape, tuple(splits.train.class_names))
    return train(
        config,
        folder,
        build(config, splits),
        lambda network, keep: TrainingModule(config, network, splits, parts, keep),
        {name: json.dumps(value) for name, value in seen._asdict().items()},
    )


def train(
    config: Loop,
    folder: Path,
    network: nn.Module,
    host: Callable[[nn.Module, Callable[[nn.Module], None] | None], LoopModule[Any]],
    about: Mapping[str, str] | None = None,
) -> tuple[nn.Module, list[dict[str, float]], list[float]]:
    """Train a network, or resume, and write its weights: the one loop of all runs.

    Args:
        config: the run.
        folder: its folder, claimed before.
        network: as the run starts.
        host: makes the module that trains the network, and hands the best ones to its second argument.
        about: stored with the weights.

    Returns:
        The trained network, its history, and the seconds of each epoch.

    Raises:
        InputError: as for :func:`fit`.
    """
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    from aureole.training.callbacks import Bar, SaveOften

    engine = config.engine
    if engine.channels_last:
        network = _channels_last(network)
    if engine.compile:
        network.compile()
    keep = (lambda best: _save_weights(best, folder / BEST, about)) if config.keep_best else None
    module = host(network, keep)
    callbacks: list[Any] = [Bar(config.title, enabled=engine.progress), *_average(config)]
    callbacks.append(SaveOften(folder / CHECKPOINT, engine.checkpoint_seconds))
    with _quiet(), _plain_errors(engine), _own_processes():
        trainer = Trainer(
            accelerator=engine.accelerator,
            devices=engine.devices,
            strategy="ddp" if engine.devices > 1 else "auto",
            precision=engine.precision,
            max_epochs=config.epochs + config.method.warm_up_epochs,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            check_val_every_n_epoch=module.validate_every,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit(module, ckpt_path=_resumable(folder / CHECKPOINT), weights_only=True)
    if not trainer.is_global_zero:
        raise SystemExit(0)  # the first process writes and evaluates
    trained = config.method.trained(network, module.parts)
    _save_weights(trained, folder / WEIGHTS, about)
    return trained.cpu(), module.history, module.seconds


def _channels_last(network: nn.Module) -> nn.Module:
    deep = any(p.ndim == 5 for p in network.parameters())
    layout = torch.channels_last_3d if deep else torch.channels_last
    return network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]


def _average(config: Loop) -> list[Any]:
    if config.ema_decay is None:
        return []
    from lightning.pytorch.callbacks import EMAWeightAveraging

    return [EMAWeightAveraging(decay=config.ema_decay)]


def _resumable(path: Path) -> Path | None:
    """Return the checkpoint if there is one that can be read."""
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not (isinstance(checkpoint, dict) and "aureole" in checkpoint):
            raise InputError("it is not one of aureole's")
    except Exception as error:
        reason = first_line(error).partition(". ")[0]  # what follows is torch's advice to trust the file
        raise InputError(
            f"the checkpoint {path} cannot be read ({reason}): put a copy back, or delete it to start again"
        ) from error
    return path


def _save_weights(network: nn.Module, path: Path, about: Mapping[str, str] | None = None) -> None:
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    temporary, more = path.with_suffix(".part"), {} if about is None else {"metadata": dict(about)}
    try:
        save_file(state, temporary, **more)
        temporary.replace(path)
    except Exception as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path} ({first_line(error)}); give the same command again to resume") from error


@contextmanager
def _own_processes() -> Iterator[None]:
    """Leave the process group of a run, and its traces, so that the next run can start processes of its own."""
    names = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    ours = [name for name in names if name not in os.environ]
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def _plain_errors(engine: Engine) -> Iterator[None]:
    """Say in one line that a device is missing, and let an interruption be one, where Lightning exits with status 1."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except MisconfigurationException as error:
        wanted = f"{engine.devices} x {engine.accelerator}"
        raise InputError(
            f"this machine cannot run on {wanted} (--accelerator, --devices): {first_line(error)}"
        ) from error
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)  # Lightning has switched it off
        raise KeyboardInterrupt from stop


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice about loaders and hardware, which our loader and recipes settle."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
