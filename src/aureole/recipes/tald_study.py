"""The cheaper forms of TALD: what each costs, and what it keeps of the accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aureole.core.errors import InputError, unknown_name
from aureole.distill import TALD
from aureole.recipes.distill import CHEAP, Budget, Ground, Setting, networks
from aureole.recipes.settings import Scale
from aureole.recipes.thesis_chapter7 import with_particles
from aureole.training.config import Training
from aureole.training.sweep import Experiment, Sweep, with_seed

#: Fields of the cheaper forms, by what a run is called.
FORMS: Mapping[str, Mapping[str, Any]] = {
    "fraction 0.25": {"fraction": 0.25},
    "reuse 3": {"reuse": 3},
    "shared gradient": {"shared_gradient": True},
    "teacher in bfloat16": {"teacher_dtype": "bfloat16"},
    "fraction 0.25, shared gradient": {"fraction": 0.25, "shared_gradient": True},
    "fraction 0.25, reuse 3": {"fraction": 0.25, "reuse": 3},
}
_BUDGET = Budget(num_train=2_000)


def tald_study(
    data: str | None = None,
    setting: Setting = "cifar10",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    pair: str = CHEAP[0],
    num_particles: int = 4,
    forms: tuple[str, ...] = tuple(FORMS),
    budget: Budget = _BUDGET,
) -> Sweep:
    """KD alone, with TALD on whole batches, and with each of TALD's cheaper forms.

    All images of a batch are attacked where the form says nothing else: ``budget.num_attacked`` has no say.

    Args:
        data: folder of the data.
        setting: kind of data.
        scale: the paper's, or a declared cheaper one.
        seeds: of the students.
        pair: teacher and student.
        num_particles: of TALD, at least 1.
        forms: by name.
        budget: of the scale small.

    Raises:
        InputError: there is no such form or pair.
    """
    for name in forms:
        if name not in FORMS:
            raise unknown_name("form", name, FORMS)
    whole = with_particles(num_particles)
    if whole is None:
        raise InputError(f"num_particles must be at least 1; got {num_particles}")
    ground = Ground(setting=setting, scale=scale, data=data, budget=replace(budget, num_attacked=None))
    terms: dict[str, TALD | None] = {"without": None, "whole batch": whole}
    terms |= {name: replace(whole, **FORMS[name]) for name in forms}
    home = f"teacher-{networks(pair)[0]}"
    runs: dict[str, Experiment] = {}
    for seed in seeds:
        for name, term in terms.items():
            run = ground.distilling("kd", pair, term)
            assert isinstance(run.teacher, Training)
            runs.setdefault(home, run.teacher)
            words = "" if term is None else f", n = {num_particles}, {name}"
            student = replace(run.student, label=f"{run.student.label}{words}, {pair}")
            folder = "".join(c if c.isalnum() or c == "." else "-" for c in name.replace(", ", "-"))
            taught = replace(run, student=student, teacher_folder=f"../{home}")
            runs[f"kd-{folder}-seed{seed}"] = with_seed(taught, seed)
    return Sweep(title=f"Cheaper forms of TALD, {setting}", runs=runs)
