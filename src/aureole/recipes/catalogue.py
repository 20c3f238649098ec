"""Every recipe by name: what ``aureole list`` shows and ``aureole run`` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aureole.core.errors import unknown_name
from aureole.recipes import (
    segment,
    semisup,
    thesis,
    thesis_chapter3,
    thesis_chapter4,
    thesis_chapter6,
    thesis_chapter7,
)
from aureole.recipes.distill import distill, teacher
from aureole.recipes.explain import explain
from aureole.recipes.kernel_study import kernel_study
from aureole.recipes.refine import refine
from aureole.recipes.robust import SUMMARIES, robust
from aureole.recipes.settings import THREATS, method, training
from aureole.recipes.tald_study import tald_study
from aureole.recipes.thesis import figure_5_1, figure_5_2, figure_5_4, figure_5_5, figure_5_6, figure_5_7, table_5_3
from aureole.training.sweep import Experiment, Sweep

_Functions = dict[str, tuple[Callable[..., Sweep], str]]


@dataclass(frozen=True)
class Recipe:
    """A function that returns a configuration, and a line about it.

    Attributes:
        name: how the command line calls it.
        build: returns the configuration; its arguments are options.
        summary: one line.
    """

    name: str
    build: Callable[..., Experiment | Sweep]
    summary: str


def demo() -> Sweep:
    """An undefended classifier, PGD training and ALD with 4 particles on handwritten digits, all attacked.

    The study of diversity trains the undefended classifier, and attacks it with each sampler.
    """
    threat = THREATS["digits", "small"]
    study = thesis.diversity("digits", data=None, scale="small", particles=(2, 4, 8), seeds=(0, 1, 2)).runs["study"]
    trained: dict[str, Experiment] = {
        name: replace(training("digits", "small"), method=method(name, threat, number))
        for name, number in (("pgd", 1), ("ald-pgd", 4))
    }
    return Sweep(title="Robust training on handwritten digits", runs={"natural": study, **trained})


def _early() -> _Functions:
    """Return the tables and figures of chapters 3 and 4."""
    return {
        "thesis-figure-3.1": (thesis_chapter3.figure_3_1, "pictures of attacks refined to a tenth of the pixels"),
        "thesis-figure-3.3": (thesis_chapter3.pictures("mnist", "pgd"), "pictures of maps and refined attacks, MNIST"),
        "thesis-figure-3.4": (thesis_chapter3.figure_3_4, "pictures of refined and sparse attacks, CIFAR-10"),
        "thesis-figure-3.5": (thesis_chapter3.figure_3_5, "pictures of refined and sparse attacks, ImageNet"),
        "thesis-figure-3.9": (thesis_chapter3.pictures("fundus", "pgd"), "maps of photographs of the retina"),
        "thesis-figure-3.8": (thesis_chapter3.figure_3_8, "refined BIM against the share of pixels, ImageNet"),
        "thesis-figure-3.6": (thesis_chapter3.figure_3_6, "refined attacks against the share of pixels, MNIST"),
        "thesis-figure-3.7": (thesis_chapter3.figure_3_7, "refined attacks against the share of pixels, CIFAR-10"),
        "thesis-figure-3.10": (thesis_chapter3.figure_3_10, "refined attacks on defended victims"),
        "thesis-table-3.1": (thesis_chapter3.table_3_1, "refined attacks beside JSMA, SparseFool and CornerSearch"),
        "thesis-table-3.3": (thesis_chapter3.table_3_3, "maps learned from one attack refine the others"),
        "thesis-table-4.4": (thesis_chapter4.table_4_4, "students that explain their teacher: agreement, fundus"),
        "thesis-table-4.5": (thesis_chapter4.table_4_5, "MED-TEX and MED-EX: overlap of maps with lesions"),
        "thesis-table-4.6": (thesis_chapter4.table_4_5, "the same as table 4.5"),
        "thesis-table-4.7": (thesis_chapter4.table_4_7, "agreement with the teacher, goldfish against jellyfish"),
        "thesis-figure-4.3": (thesis_chapter4.figure_4_3, "overlap of maps with lesions against the number of pixels"),
        "thesis-figure-4.4": (thesis_chapter4.figure_4_4, "pictures of every method's maps, half of the images"),
        "thesis-figure-4.5": (
            thesis_chapter4.figure_4_5,
            "pictures of maps from all, half and a quarter of images",
        ),
        "thesis-figure-4.6": (thesis_chapter4.figure_4_3, "the same as figure 4.3"),
        "thesis-figure-4.7": (thesis_chapter4.table_4_7, "overlap of maps with boxes, goldfish against jellyfish"),
        "thesis-figure-4.8": (thesis_chapter4.figure_4_8, "pictures of every method's maps, goldfish and jellyfish"),
        "thesis-figure-4.9": (thesis_chapter4.figure_4_8, "the same runs as figure 4.8"),
    }


def _late() -> _Functions:
    """Return the tables and figures of chapters 5 to 7, and the studies."""
    return {
        "thesis-figure-5.1": (figure_5_1, "pictures of particles, Stein beside restarts"),
        "thesis-figure-5.2": (figure_5_2, "diversity and strength of Stein, restarts and Langevin"),
        "thesis-figure-5.3": (semisup.figure_5_3, "accuracy from few labels against the number of particles"),
        "thesis-table-5.1": (semisup.table_5_1, "VAT and ALD with and without Mixup"),
        "thesis-figure-5.4": (figure_5_4, "accuracy against the number of particles, MNIST"),
        "thesis-figure-5.5": (figure_5_5, "accuracy against the number of particles, CIFAR-10"),
        "thesis-figure-5.6": (figure_5_6, "time of an epoch of each method"),
        "thesis-figure-5.7": (figure_5_7, "time of an epoch against the number of particles"),
        "thesis-table-5.2": (table_5_3, "natural accuracy, CIFAR-10 (the runs of table 5.3)"),
        "thesis-table-5.3": (table_5_3, "robust accuracy of ADT, PGD, TRADES and ALD, CIFAR-10"),
        "study-few-labels": (semisup.few_labels_study, "every method from the same few labels, MNIST-300"),
        "thesis-figure-6.2": (thesis_chapter6.figure_6_2, "how far apart particles of scans are: VAT, SVGD, SVGDF"),
        "thesis-figure-6.3": (thesis_chapter6.figure_6_3, "pictures of masks of several methods beside the truth"),
        "thesis-table-6.1": (thesis_chapter6.table_6_1, "Cross-ALD beside six methods, slices of the heart (ACDC)"),
        "thesis-table-6.2": (
            thesis_chapter6.table_6_2,
            "Cross-ALD beside six methods, volumes of the atrium (LA)",
        ),
        "thesis-table-6.3": (thesis_chapter6.table_6_3, "the rungs from the labels alone to Cross-ALD"),
        "thesis-table-6.4": (thesis_chapter6.table_6_4, "Cross-ALD with several numbers of particles"),
        "thesis-figure-7.1": (thesis_chapter7.figure_7_1, "diversity of a teacher's particles beside BSS"),
        "thesis-figure-7.2": (thesis_chapter7.styled("same"), "students with and without TALD, one style of network"),
        "thesis-figure-7.3": (thesis_chapter7.styled("cross"), "students with and without TALD, different styles"),
        "thesis-figure-7.4": (thesis_chapter7.figure_7_4, "KD, KD + BSS and KD + TALD"),
        "thesis-figure-7.5": (thesis_chapter7.figure_7_5, "ResNet-18 from ResNet-34 with and without TALD, ImageNet"),
        "thesis-figure-7.6": (thesis_chapter7.figure_7_4, "MagSim and AngSim to the teacher (the runs of figure 7.4)"),
        "thesis-figure-7.7": (thesis_chapter7.figure_7_7, "accuracy against the number of TALD's particles"),
        "thesis-table-7.2": (thesis_chapter7.table_7_2, "time of an epoch of BSS and of TALD with several particles"),
        "study-tald": (tald_study, "TALD on whole batches beside its cheaper forms: accuracy and cost"),
        "study-kernel": (kernel_study, "ALD under each kernel, temperature and balance"),
    }


def _all() -> dict[str, Recipe]:
    named: list[Recipe] = [Recipe("demo", demo, "natural, PGD and ALD on digits, attacked and reported, in 3 minutes")]
    named += [Recipe(f"robust-{name}", robust(name), summary) for name, summary in SUMMARIES.items()]
    named += [Recipe(f"semisup-{name}", semisup.semisup(name), text) for name, text in semisup.SUMMARIES.items()]
    named.append(Recipe("refine", refine, "which pixels are vulnerable, and any dense attack cut down to them (PVAR)"))
    named.append(Recipe("teacher", teacher, "a classifier that students can learn from"))
    named.append(Recipe("distill", distill, "a small student from a large teacher, by any of 16 methods, with TALD"))
    named.append(Recipe("explain", explain, "a tiny student and a map of pixels that explain its teacher (MED-TEX)"))
    named += [Recipe(f"segment-{name}", segment.segment(name), text) for name, text in segment.SUMMARIES.items()]
    named += [Recipe(name, build, summary) for name, (build, summary) in {**_early(), **_late()}.items()]
    return {recipe.name: recipe for recipe in named}


RECIPES = _all()


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        InputError: there is none; the message offers the nearest.

    Example:
        >>> find_recipe("robust-pgd").summary
        'clean and adversarial cross-entropy, as the thesis trains PGD'
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]
