"""Tables and figures of thesis chapter 6: Cross-ALD beside six methods, its ablation, and its number of particles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aureole.core.errors import unknown_name
from aureole.recipes.segment import METHODS, Clinic, Setting
from aureole.recipes.settings import Scale
from aureole.segment import VAT
from aureole.segment.network import EMBEDDING
from aureole.training.segmentation.diversity import ScanDiversity
from aureole.training.sweep import Experiment, Sweep

#: Labelled patients where the thesis has the fewest.
FEWEST: dict[Setting, int] = {"acdc": 3, "la": 4}
#: Tables 6.1 and 6.2: Dice and Jaccard in percent, 95HD and ASD in voxels, by setting, labelled patients and method.
#: Rows of the second table are told apart by their complexity, and by SS-Net's own table where the text has lost them.
COMPARED: dict[tuple[Setting, int], dict[str, tuple[float, float, float, float]]] = {
    ("acdc", 3): {
        "supervised": (47.83, 37.01, 31.16, 12.62),
        "ua-mt": (46.04, 35.97, 20.08, 7.75),
        "sassnet": (57.77, 46.14, 20.05, 6.06),
        "dtc": (56.90, 45.67, 23.36, 7.39),
        "urpc": (55.87, 44.64, 13.60, 3.74),
        "mc-net": (62.85, 52.29, 7.62, 2.33),
        "ss-net": (65.82, 55.38, 6.67, 2.28),
        "cross-ald": (80.60, 69.08, 5.96, 1.90),
    },
    ("acdc", 7): {
        "supervised": (79.41, 68.11, 9.35, 2.70),
        "ua-mt": (81.65, 70.64, 6.88, 2.02),
        "sassnet": (84.50, 74.34, 5.42, 1.86),
        "dtc": (84.29, 73.92, 12.81, 4.01),
        "urpc": (83.10, 72.41, 4.84, 1.53),
        "mc-net": (86.44, 77.04, 5.50, 1.84),
        "ss-net": (86.78, 77.67, 6.07, 1.40),
        "cross-ald": (87.52, 78.62, 4.81, 1.60),
    },
    ("la", 4): {
        "supervised": (52.55, 39.60, 47.05, 9.87),
        "sassnet": (81.60, 69.63, 16.16, 3.58),
        "dtc": (81.25, 69.33, 14.90, 3.99),
        "urpc": (82.48, 71.35, 14.65, 3.65),
        "mc-net": (83.59, 72.36, 14.07, 2.70),
        "ss-net": (86.33, 76.15, 9.97, 2.31),
        "cross-ald": (88.62, 79.62, 7.098, 1.83),
    },
    ("la", 8): {
        "supervised": (82.74, 71.72, 13.35, 3.26),
        "ua-mt": (87.79, 78.39, 8.68, 2.12),
        "sassnet": (87.54, 78.05, 9.84, 2.59),
        "dtc": (87.51, 78.17, 8.23, 2.36),
        "urpc": (86.92, 77.03, 11.13, 2.28),
        "mc-net": (87.62, 78.25, 10.03, 1.82),
        "ss-net": (88.55, 79.62, 7.49, 1.90),
        "cross-ald": (89.92, 81.78, 7.65, 1.546),
    },
}
#: Tables 6.3 and 6.4 with the fewest labels. Where the thesis prints the row of another table for Cross-ALD on the left
#: atrium (it equals ACDC's with 7 patients), the value is left out.
ABLATION: dict[Setting, dict[str, tuple[float, float, float, float]]] = {
    "acdc": {
        "random-mixup": (61.78, 51.69, 8.16, 3.44),
        "vat": (63.87, 53.18, 7.61, 3.38),
        "vat-mixup": (66.23, 56.37, 7.18, 2.53),
        "svgd": (66.53, 58.09, 6.41, 2.40),
        "svgdf": (73.15, 61.71, 6.32, 2.12),
        "svgdf-cs": (74.89, 62.61, 6.52, 2.01),
    },
    "la": {
        "random-mixup": (79.82, 67.44, 16.52, 5.19),
        "vat": (82.27, 70.46, 13.82, 3.48),
        "vat-mixup": (83.28, 71.77, 12.80, 2.63),
        "svgd": (84.62, 73.60, 11.68, 2.94),
        "svgdf": (86.30, 76.17, 10.01, 2.11),
        "svgdf-cs": (86.55, 76.51, 9.41, 2.24),
    },
}
PARTICLES: dict[Setting, dict[int, tuple[float, float, float, float]]] = {
    "acdc": {
        1: (76.59, 65.73, 8.44, 2.21),
        2: (80.60, 69.08, 5.96, 1.90),
        3: (80.36, 68.05, 5.61, 2.07),
        4: (77.86, 65.49, 6.16, 2.14),
    },
    "la": {1: (86.83, 77.03, 5.5671, 1.993), 3: (87.71, 78.44, 5.204, 1.9216)},
}
_RIVALS = ("supervised", "ua-mt", "sassnet", "dtc", "urpc", "mc-net", "ss-net", "cross-ald")
_RUNGS = ("supervised", "random-mixup", "vat", "vat-mixup", "svgd", "svgdf", "svgdf-cs", "cross-ald")
_DRAWN = ("supervised", "vat", "ss-net", "cross-ald")


def _published(clinic: Clinic, name: str, num_particles: int | None) -> dict[str, float]:
    """Return what the thesis reports of a method, as fractions and voxels."""
    if clinic.scale != "paper":
        return {}
    found = COMPARED.get((clinic.setting, clinic.num_labelled), {}).get(name)
    if clinic.num_labelled == FEWEST[clinic.setting]:
        found = ABLATION[clinic.setting].get(name, found)
        if name == "cross-ald" and num_particles is not None:
            found = PARTICLES[clinic.setting].get(num_particles)
    if found is None:
        return {}
    dice, jaccard, hd95, asd = found
    return {"dice": dice / 100, "jaccard": jaccard / 100, "hd95": hd95, "asd": asd}


def _sweep(
    title: str,
    clinics: tuple[Clinic, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    particles: tuple[int | None, ...] = (None,),
) -> Sweep:
    for name in methods:
        if name not in METHODS:
            raise unknown_name("method", name, METHODS)
    runs: dict[str, Experiment] = {}
    for clinic in clinics:
        for seed in seeds:
            for name in methods:
                for number in particles if name == "cross-ald" else (None,):
                    run = clinic.run(name, number)
                    label = f"{run.method.title}, {clinic.num_labelled} labelled"
                    paper = _published(clinic, name, number)
                    suffix = "" if number is None else f"-n{number}"
                    key = f"{name}{suffix}-{clinic.num_labelled}-seed{seed}"
                    runs[key] = replace(run, seed=seed, label=label, paper=paper)
    return Sweep(title=title, runs=runs)


def comparison(
    summary: str,
    setting: Setting,
    methods: tuple[str, ...],
    num_labelled: tuple[int, ...] = (),
    seeds: tuple[int, ...] = (0, 1, 2),
) -> Callable[..., Sweep]:
    """Return the recipe of a table or a figure that compares methods.

    Args:
        summary: its first line of help.
        setting: kind of scans.
        methods: what is compared.
        num_labelled: patients with a label; () for the thesis's fewest, 3 of ACDC or 4 of LA.
        seeds: of the runs.
    """
    usual, chosen = num_labelled, setting

    def build(
        data: str | None = None,
        setting: Setting = chosen,
        scale: Scale = "small",
        seeds: tuple[int, ...] = seeds,
        methods: tuple[str, ...] = methods,
        num_labelled: tuple[int, ...] = usual,
        steps: int | None = None,
    ) -> Sweep:
        """Return the runs: each method with each number of labelled patients and each seed.

        Args:
            data: folder of the scans; without one they are drawn.
            setting: acdc for slices of the heart, la for volumes of the left atrium.
            scale: the paper's, or a declared cheaper one.
            seeds: of the runs.
            methods: names, as in the recipes segment-NAME.
            num_labelled: patients with a label; none given takes the thesis's.
            steps: of training; None takes the scale's.
        """
        counts = num_labelled or (FEWEST[setting],)
        clinics = tuple(
            Clinic(setting=setting, scale=scale, data=data, num_labelled=count, steps=steps) for count in counts
        )
        return _sweep(f"Segmentation from few labelled scans, {setting}", clinics, methods, seeds)

    build.__doc__ = f"{summary}\n{(build.__doc__ or '').partition(chr(10))[2]}"
    return build


table_6_1 = comparison("Cross-ALD beside six methods and the labels alone, the heart.", "acdc", _RIVALS, (3, 7))
table_6_2 = comparison("Cross-ALD beside six methods and the labels alone, the left atrium.", "la", _RIVALS, (4, 8))
table_6_3 = comparison("The rungs from the labels alone to Cross-ALD.", "acdc", _RUNGS)
figure_6_3 = comparison("Pictures: masks of several methods beside the truth.", "acdc", _DRAWN, seeds=(0,))


def table_6_4(
    data: str | None = None,
    setting: Setting = "acdc",
    scale: Scale = "small",
    seeds: tuple[int, ...] = (0, 1, 2),
    particles: tuple[int, ...] = (1, 2, 3, 4),
    num_labelled: int | None = None,
    steps: int | None = None,
) -> Sweep:
    """Cross-ALD with several numbers of particles.

    Args:
        data: folder of the scans; without one they are drawn.
        setting: acdc for slices of the heart, la for volumes of the left atrium.
        scale: the paper's, or a declared cheaper one.
        seeds: of the runs.
        particles: numbers of particles.
        num_labelled: patients with a label; None takes the thesis's fewest, 3 or 4.
        steps: of training; None takes the scale's.
    """
    labelled = FEWEST[setting] if num_labelled is None else num_labelled
    clinic = Clinic(setting=setting, scale=scale, data=data, num_labelled=labelled, steps=steps)
    return _sweep(f"Number of particles, {setting}", (clinic,), ("cross-ald",), seeds, particles)


def figure_6_2(
    data: str | None = None,
    setting: Setting = "acdc",
    scale: Scale = "small",
    particles: tuple[int, ...] = (2, 3, 4, 8),
    seeds: tuple[int, ...] = (0, 1, 2),
    num_labelled: int | None = None,
    steps: int | None = None,
) -> Sweep:
    """How far apart the particles of VAT with random starts, SVGD and SVGDF are, on a network from the labels alone.

    Args:
        data: folder of the scans; without one they are drawn.
        setting: acdc for slices of the heart, la for volumes of the left atrium.
        scale: the paper's, or a declared cheaper one.
        particles: numbers of particles, each with every seed.
        seeds: of the searches.
        num_labelled: patients with a label; None takes the thesis's fewest, 3 or 4.
        steps: of training; None takes the scale's.
    """
    labelled = FEWEST[setting] if num_labelled is None else num_labelled
    clinic = Clinic(setting=setting, scale=scale, data=data, num_labelled=labelled, steps=steps)
    methods: dict[str, VAT] = {}
    for name in ("vat", "svgd", "svgdf"):
        method = clinic.method(name)
        assert isinstance(method, VAT)
        methods[{"vat": "VAT, random starts"}.get(name, method.title)] = method
    decoder = methods["SVGDF"]
    methods["SVGDF, decoder"] = replace(decoder, features=EMBEDDING)
    study = ScanDiversity(
        model=clinic.run("supervised"),
        methods=methods,
        particles=particles,
        seeds=seeds,
        label=f"diversity, {setting}",
        proxy_reason=clinic.reason,
    )
    return Sweep(title=f"Diversity of particles, {setting}", runs={"study": study})
