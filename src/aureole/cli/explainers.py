"""What ``aureole explain`` loads: a run's network, its teacher, and what maps its pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.config import from_values
from aureole.core.errors import InputError, unknown_name
from aureole.core.model import frozen, predict
from aureole.data.pictures import read_picture
from aureole.explain import Attribution, ExplainedStudent, Explaining, PassThrough, folded
from aureole.recipes.explain import ATTRIBUTIONS
from aureole.report.drawing import pixels_of
from aureole.report.explained_page import ExplainedPicture
from aureole.training.config import Training
from aureole.training.evaluation.sources import ForeignModel, check_logits
from aureole.training.fit import CONFIG, Inputs, load_inputs, load_model, read_values

_OWN = "own"
_Prepare = Callable[[Tensor, str], Tensor]


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """A run's network with what maps the pixels that it looks at.

    Args:
        title: of the run.
        by: name of the attribution.
        attribution: maps the pixels.
        networks: the student or the classifier, then its teacher where there is one, by what they are called.
        image_shape: channels, height and width of what they take.
        class_names: a name for each class.
        prepare: the run's own way of bringing a picture to its size; None where it has none.
        note: why there is no teacher, where there should be one.
    """

    title: str
    by: str
    attribution: Attribution
    networks: Mapping[str, nn.Module]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    prepare: _Prepare | None
    note: str

    @classmethod
    def of(cls, folder: Path, by: str | None) -> Explainer:
        """Return the explainer of a finished run.

        Args:
            folder: of the run.
            by: a name of an attribution; None for the network's own map.

        Raises:
            InputError: there is no finished run, no such attribution, or the network has no map of its own.
        """
        if by is not None and by not in ATTRIBUTIONS:
            raise unknown_name("attribution", by, ATTRIBUTIONS)
        network, config = load_model(folder)
        chosen = _chosen(network, by, folder)
        network = folded(network) if chosen == _OWN else network  # the same values in two thirds of the time
        seen = load_inputs(folder)
        teacher, note = _teacher(folder, seen)
        device = "cuda" if config.engine.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
        names = {"network": network} if teacher is None and not note else {"student": network}
        names |= {} if teacher is None else {"teacher": teacher}
        return cls(
            title=config.title,
            by=chosen,
            attribution=ATTRIBUTIONS[chosen],
            networks={name: found.to(device).eval() for name, found in names.items()},
            image_shape=seen.image_shape,
            class_names=seen.class_names,
            prepare=getattr(config.data, "prepare", None),
            note=note,
        )

    @property
    def words(self) -> str:
        """What the maps are."""
        own = "The network's own maps, which say nothing of black pixels: their scores change nothing"
        return own if self.by == _OWN else f"Maps by {self.by}, of the class that the network sees"

    def explain(self, path: Path, patches: int) -> ExplainedPicture:
        """Return a picture with its map and what the networks see in it.

        Args:
            path: of the picture.
            patches: K, in 64ths of the picture.

        Raises:
            InputError: the picture is unreadable.
        """
        x, prepared = self._prepared(path)
        student = next(iter(self.networks.values()))
        x = x.to(next(student.parameters()).device)
        scores = self.attribution(student, x, None)[0].detach().float().cpu().numpy()
        return ExplainedPicture(
            name=str(path),
            pixels=pixels_of(x[0].cpu().numpy()),
            scores=scores,
            count=max(1, round(patches * scores.size / 64)),
            probabilities={name: _probabilities(network, x) for name, network in self.networks.items()},
            prepared=prepared,
        )

    def _prepared(self, path: Path) -> tuple[Tensor, str]:
        """Return a picture as a batch in [0, 1], and what was done to it."""
        channels, height, width = self.image_shape
        if not path.is_file():
            raise InputError(f"{path} is no file")
        picture = read_picture({"bytes": None, "path": str(path)}, "L" if channels == 1 else "RGB", str(path))
        if self.prepare is not None:
            picture = self.prepare(picture, str(path))
            said = "cropped and resized as the run's own pictures"
        elif tuple(picture.shape[1:]) != (height, width):
            said = f"resized to {height}x{width} pixels"
            resized = F.interpolate(picture[None].float(), (height, width), mode="bilinear", antialias=True)[0]
            picture = resized.round().clamp(0, 255).to(torch.uint8)
        else:
            said = ""
        return picture[None].float().div(255), said


def _chosen(network: nn.Module, by: str | None, folder: Path) -> str:
    """Return the name of the attribution; the network's own map where it has one and nothing was named."""
    blind = isinstance(network, ExplainedStudent) and isinstance(network.explainer, PassThrough)
    if (isinstance(network, Explaining) and not blind) or by not in (None, _OWN):
        return by or _OWN
    others = ", ".join(name for name in ATTRIBUTIONS if name != _OWN)
    raise InputError(f"the network in {folder} does not explain itself: choose what maps its pixels, --by {others}")


def _teacher(folder: Path, seen: Inputs) -> tuple[nn.Module | None, str]:
    """Return the teacher of a run in evaluation mode, or None and why it is left out; no word where there is none."""
    config = from_values(read_values(folder / CONFIG))
    if isinstance(config, Training) or not hasattr(config, "teacher_folder"):
        return None, ""
    try:
        if isinstance(config.teacher, ForeignModel):
            network = config.teacher.build()
        else:
            network, _ = load_model(folder / config.teacher_folder)
        check_logits(network, torch.zeros(2, *seen.image_shape), len(seen.class_names), str(folder))
    except InputError as error:
        return None, f"the teacher is left out: {error}"
    return network.eval(), ""


@torch.no_grad()
def _probabilities(network: nn.Module, x: Tensor) -> list[float]:
    with frozen(network):
        return predict(network, x)[0].double().softmax(-1).tolist()
