"""Made-up records: numbers that a person can check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aureole.core.records import DataRecord, DiversityRow, Evaluation, Record

DATA = DataRecord(name="digits", fingerprint="0123456789abcdef", num_train=1200, num_validation=200, num_test=400)


def made_up_record(**changes):
    values = {
        "kind": "training",
        "recipe": "robust-ald",
        "method": "ALD",
        "label": "ALD",
        "seed": 0,
        "config": {"seed": 0, "search": {"num_steps": 10}},
        "versions": {"aureole": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        "device": "CPU, 2 cores",
        "data": DATA,
        "started": "2026-01-02T03:04:05",
        "wall_seconds": 12.5,
    }
    return Record(**{**values, **changes})


def made_up_evaluation(attack, num_correct, num_examples=400, **settings):
    return Evaluation(attack=attack, num_examples=num_examples, num_correct=num_correct, seconds=1.5, settings=settings)


def made_up_row(sampler="Stein", num_particles=2, seed=0, **changes):
    values = {
        "squared_distance": 4.0,
        "cosine": 0.25,
        "distinct_wrong_labels": 1.5,
        "objective": 6.0,
        "adversarial_accuracy": 0.125,
        "kernel": 0.5,
        "seconds": 2.0,
    }
    return DiversityRow(sampler=sampler, num_particles=num_particles, seed=seed, **{**values, **changes})


def save_particles(folder, *, num_particles=3, num_images=2, channels=1, size=8, **changes):
    draw = np.random.default_rng(0)
    x = draw.uniform(0.1, 0.9, (num_images, channels, size, size)).astype("float32")
    arrays = {
        "x": x,
        "x_adv": x + draw.uniform(-0.1, 0.1, (num_particles, *x.shape)).astype("float32"),
        "labels": np.arange(num_images),
        "predictions": np.full((num_particles, num_images), 1),
        "class_names": np.array(["zero", "one", "two", "three", "four", "five", "six", "seven"]),
    }
    arrays.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "particles.npz", **{name: array for name, array in arrays.items() if array is not None})


@pytest.fixture
def make_record():
    return made_up_record


@pytest.fixture
def make_evaluation():
    return made_up_evaluation


@pytest.fixture
def make_row():
    return made_up_row


@pytest.fixture
def make_particles():
    return save_particles
