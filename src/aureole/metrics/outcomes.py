"""The outcomes of several attacks on the same points, as one small file that numpy reads."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from aureole.core.errors import InputError, first_line
from aureole.metrics.evaluation import Outcomes

_POINTS = ("index", "label", "natural")
_ATTACK = ("robust", "l0", "l2", "linf")


@dataclass(frozen=True, kw_only=True, eq=False)
class OutcomeTable:
    """One row a point, and for each attack one column of outcomes and three of distances.

    The file is an ``.npz`` of the arrays ``index``, ``label`` and ``natural``, and for each attack ``NAME/robust``,
    ``NAME/l0``, ``NAME/l2`` and ``NAME/linf`` (0 where the attack did not fool the model).

    Attributes:
        about: what the outcomes belong to, such as the fingerprints of model and data.
        index: number of each point in its data set.
        label: its class.
        natural: whether the clean image is classified correctly.
        columns: name of an attack -> its arrays by name.
        threats: name of an attack -> what it was allowed to do, in words; attacks of one threat may be joined.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> from aureole.metrics import evaluate
        >>> batches = [Batch(torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1]))]
        >>> table = OutcomeTable.of(evaluate(model, batches, None), about="mine")
        >>> table = table.with_attack("fgsm", evaluate(model, batches, FGSM(ball=Linf(0.1))), threat="Linf 0.1")
        >>> sorted(table.columns), int(table.worst_case("Linf 0.1").sum()) == int(table.columns["fgsm"]["robust"].sum())
        (['fgsm'], True)
    """

    about: str
    index: Int[np.ndarray, " points"]
    label: Int[np.ndarray, " points"]
    natural: Bool[np.ndarray, " points"]
    columns: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    threats: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, natural: Outcomes, *, about: str) -> OutcomeTable:
        """Return the table of the natural outcomes alone."""
        index, label = natural.index.numpy(), natural.labels.long().numpy()
        return cls(about=about, index=index, label=label, natural=natural.natural.numpy())

    def with_attack(self, name: str, outcomes: Outcomes, *, threat: str) -> OutcomeTable:
        """Return the table with the outcomes of one attack more; those of the same name are replaced."""
        assert np.array_equal(outcomes.index.numpy(), self.index), "an attack on other points"
        column = {measure: getattr(outcomes, measure).numpy() for measure in _ATTACK}
        columns, threats = {**self.columns, name: column}, {**self.threats, name: threat}
        return replace(self, columns=columns, threats=threats)

    def attacks(self, threat: str) -> list[str]:
        """Return the attacks that were allowed this."""
        return [name for name, known in self.threats.items() if known == threat]

    def worst_case(self, threat: str) -> Bool[np.ndarray, " points"]:
        """Say which points are right without an attack, and stood every attack that was allowed this."""
        stood = [self.natural, *(self.columns[name]["robust"] for name in self.attacks(threat))]
        return np.logical_and.reduce(stood)

    def merged(self, before: OutcomeTable | None) -> OutcomeTable:
        """Return this table with the attacks of an earlier one on the same points of the same model."""
        if before is None or before.about != self.about or not np.array_equal(before.index, self.index):
            return self
        columns, threats = {**before.columns, **self.columns}, {**before.threats, **self.threats}
        return replace(self, columns=columns, threats=threats)

    def save(self, path: Path) -> None:
        """Write the table in one step.

        Raises:
            InputError: the file cannot be written.
        """
        arrays: dict[str, Any] = {name: getattr(self, name) for name in (*_POINTS, "about")}
        for name, column in self.columns.items():
            arrays |= {f"{name}/{measure}": values for measure, values in column.items()}
            arrays[f"{name}/threat"] = self.threats[name]
        temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(temporary, **arrays)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise InputError(
                f"cannot write {path} ({first_line(error)}): choose a folder that can be written"
            ) from error

    @classmethod
    def read(cls, path: Path) -> OutcomeTable | None:
        """Return the table of a file; None where there is none, or none that can be read."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = dict(file)
            names = [key.removesuffix("/threat") for key in arrays if key.endswith("/threat")]
            return cls(
                about=str(arrays["about"]),
                **{name: arrays[name] for name in _POINTS},
                columns={name: {measure: arrays[f"{name}/{measure}"] for measure in _ATTACK} for name in names},
                threats={name: str(arrays[f"{name}/threat"]) for name in names},
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
