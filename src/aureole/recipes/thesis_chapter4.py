"""Tables and figures of thesis chapter 4: MED-TEX beside its rivals, with all, half and a quarter of the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aureole.recipes.explain import METHODS, Ground, Setting
from aureole.recipes.settings import Scale
from aureole.training.sweep import Experiment, Sweep

#: Post-hoc accuracy of tables 4.4 and 4.7, by setting, method and share of the images.
PAPER: dict[Setting, dict[str, tuple[float, float, float]]] = {
    "fundus": {
        "hard-attention": (0.895, 0.918, 0.928),
        "soft-attention": (0.895, 0.915, 0.948),
        "l2x": (0.863, 0.931, 0.94),
        "gradcam": (0.891, 0.921, 0.921),
        "student": (0.863, 0.90, 0.927),
        "medex": (0.908, 0.938, 0.951),
        "medtex": (0.915, 0.955, 0.975),
    },
    "fish": {
        "hard-attention": (0.92, 0.907, 0.966),
        "soft-attention": (0.913, 0.935, 0.953),
        "l2x": (0.833, 0.86, 0.87),
        "gradcam": (0.90, 0.92, 0.953),
        "student": (0.686, 0.80, 0.826),
        "medex": (0.913, 0.933, 0.953),
        "medtex": (0.927, 0.94, 0.967),
    },
}
_FRACTIONS = (0.25, 0.5, 1.0)


def _published(setting: Setting, scale: Scale, name: str, fraction: float) -> dict[str, float]:
    if scale != "paper" or setting not in PAPER or fraction not in _FRACTIONS:
        return {}
    return {"post-hoc": PAPER[setting][name][_FRACTIONS.index(fraction)]}


def comparison(
    summary: str,
    setting: Setting,
    methods: tuple[str, ...] = tuple(METHODS),
    fractions: tuple[float, ...] = _FRACTIONS,
) -> Callable[..., Sweep]:
    """Return the recipe of a table or a figure.

    Args:
        summary: its first line of help.
        setting: kind of data.
        methods: what is compared.
        fractions: shares of the training images.
    """
    chosen = setting

    def build(
        data: str | None = None,
        setting: Setting = chosen,
        scale: Scale = "small",
        seeds: tuple[int, ...] = (0, 1, 2),
        methods: tuple[str, ...] = methods,
        fractions: tuple[float, ...] = fractions,
        epochs: int | None = None,
    ) -> Sweep:
        """Return the runs: the teacher, then each method on each share of the images.

        Args:
            data: folder of the photographs, or of the data set.
            setting: painted lesions with known masks, fundus, or fish.
            scale: the paper's, or a declared cheaper one.
            seeds: of the students, and of the choice of a share.
            methods: medtex, medex, student, l2x, gradcam, soft-attention, hard-attention.
            fractions: shares of the training images.
            epochs: of teacher and students; None takes the scale's.
        """
        ground = Ground(setting=setting, scale=scale, data=data, epochs=epochs)
        runs: dict[str, Experiment] = {"teacher": ground.teacher()}
        for fraction in fractions:
            for name in methods:
                run = replace(ground.explained(name, fraction), teacher_folder="../teacher")
                label = f"{run.student.label}, {fraction:.0%} of the images"
                paper = _published(setting, scale, name, fraction)
                for seed in seeds:
                    data_of = replace(ground.images(fraction), fraction_seed=seed)
                    student = replace(run.student, label=label, data=data_of, paper=paper, seed=seed)
                    runs[f"{name}-{round(100 * fraction)}-seed{seed}"] = replace(run, student=student)
        return Sweep(title=f"Explaining a teacher, {setting}", runs=runs)

    build.__doc__ = f"{summary}\n{(build.__doc__ or '').partition(chr(10))[2]}"
    return build


_PAIR = ("medex", "medtex")

table_4_4 = comparison("How well students repeat their teacher, from all, half and a quarter of the images.", "fundus")
table_4_5 = comparison("Overlap of maps with lesions, as many pixels as a lesion has.", "painted", _PAIR)
figure_4_3 = comparison("Overlap of maps with lesions against the number of pixels.", "painted")
figure_4_4 = comparison("Pictures: maps of every method, from half of the images.", "painted", fractions=(0.5,))
figure_4_5 = comparison("Pictures: maps from all, half and a quarter of the images.", "painted", _PAIR)
table_4_7 = comparison("How well students repeat their teacher, goldfish against jellyfish.", "fish")
figure_4_8 = comparison("Pictures: maps of every method, goldfish and jellyfish.", "fish", fractions=(1.0,))
