"""Two streams: labelled groups and gapless unlabelled orders that the seed and the step alone decide."""

from __future__ import annotations

import pytest
import torch

from aureole.core.errors import InputError
from aureole.data.scans import CropAugment, Phantoms, ScanBatch, ScanBatches, ScanData, SliceAugment

DATA = ScanData(num_labelled=1, phantoms=Phantoms(num_train=3, num_validation=1, num_test=1, size=20))
SCANS = DATA.train_and_validation().train
LABELLED, UNLABELLED = SCANS.num_labelled, len(SCANS) - SCANS.num_labelled
AUGMENT = SliceAugment(patch_size=(16, 16))


def batches(labelled=4, unlabelled=6, **settings):
    settings = {"seed": 0, "augment": AUGMENT, **settings}
    return ScanBatches(SCANS, labelled_batch_size=labelled, unlabelled_batch_size=unlabelled, **settings)


def tensors(batch):
    other = batch.unlabelled
    return [batch.x, batch.y, batch.index, batch.streams.keys, *other.views, other.index, other.streams.keys]


def same(one, other):
    equal = all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
    return equal and (one.epoch, one.step) == (other.epoch, other.step)


def steps(loader, count):
    found = []
    while len(found) < count:
        found += list(loader)
    return found[:count]


def test_an_epoch_is_one_pass_over_the_labelled():
    first = list(batches())
    assert len(first) == len(batches()) == LABELLED // 4
    index = torch.cat([batch.index for batch in first])
    assert len(index.unique()) == len(index)
    assert index.max() < LABELLED
    batch = first[0]
    assert isinstance(batch, ScanBatch)
    assert batch.everything.shape == (10, 1, 16, 16)
    assert torch.equal(batch.everything[:4], batch.x)
    assert torch.equal(batch.all_streams.keys, torch.cat([batch.streams.keys, batch.unlabelled.streams.keys]))


def test_the_unlabelled_come_in_gapless_orders():
    found = steps(batches(), 40)
    index = torch.cat([batch.unlabelled.index for batch in found])
    assert index.min() == LABELLED
    cycles = index[: len(index) // UNLABELLED * UNLABELLED].view(-1, UNLABELLED)
    assert len(cycles) >= 4
    assert all(cycle.sort().values.tolist() == list(range(LABELLED, len(SCANS))) for cycle in cycles)
    assert len(cycles.unique(dim=0)) == len(cycles)
    keys = torch.cat([torch.cat([b.streams.keys, b.unlabelled.streams.keys]) for b in found])
    assert len(keys.unique()) == len(keys)


def test_epochs_are_nothing_but_a_count():
    by_pass, by_seven = steps(batches(), 14), steps(batches(steps_per_epoch=7), 14)
    assert [(batch.epoch, batch.step) for batch in by_seven] == [(e, s) for e in (0, 1) for s in range(7)]
    for one, other in zip(by_pass, by_seven, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def test_the_seed_decides_and_a_pass_can_be_taken_up_again():
    found = steps(batches(steps_per_epoch=5), 10)
    assert all(same(a, b) for a, b in zip(found, steps(batches(steps_per_epoch=5), 10), strict=True))
    assert not any(same(a, b) for a, b in zip(found, steps(batches(steps_per_epoch=5, seed=1), 10), strict=True))
    ours = batches(steps_per_epoch=5)
    list(ours)
    iterator = iter(ours)
    for _ in range(2):
        next(iterator)
    state, fresh = ours.state_dict(), batches(steps_per_epoch=5)
    assert state == {"epoch": 1, "step": 2}
    fresh.load_state_dict(state)
    assert all(same(a, b) for a, b in zip(list(fresh), found[7:], strict=True))


def test_processes_share_a_batch():
    whole = steps(batches(4, 6), 3)
    shares = [steps(batches(4, 6, rank=rank, world_size=2), 3) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        for part in (lambda b: b.x, lambda b: b.y, lambda b: b.unlabelled.views[0], lambda b: b.unlabelled.index):
            assert torch.equal(torch.cat([part(share[step]) for share in shares]), part(batch))


def test_a_patient_is_augmented_anew_in_each_pass():
    found = steps(batches(labelled=LABELLED, unlabelled=0), 2)
    assert all(batch.unlabelled is None and torch.equal(batch.everything, batch.x) for batch in found)
    assert found[0].all_streams is found[0].streams
    first, second = (batch.x[batch.index.argsort()] for batch in found)
    assert not torch.equal(first, second)


def test_volumes_come_as_crops_with_their_labels():
    data = ScanData(source="phantom-atrium", num_labelled=2, phantoms=DATA.phantoms)
    scans = data.train_and_validation().train
    loader = ScanBatches(
        scans,
        labelled_batch_size=2,
        unlabelled_batch_size=1,
        seed=0,
        augment=CropAugment(patch_size=(16, 16, 16)),
        steps_per_epoch=3,
    )
    for batch in loader:
        assert (batch.everything.shape, batch.y.shape) == ((3, 1, 16, 16, 16), (2, 16, 16, 16))
        inside = batch.x[:, 0][batch.y == 1].mean() - batch.x[:, 0][batch.y == 0].mean()
        assert inside > 1  # the atrium is bright: image and label were cut alike


def test_batches_that_cannot_be_filled():
    for wrong, match in (
        ({"labelled": LABELLED + 1}, f"labelled_batch_size must be at most {LABELLED}"),
        ({"unlabelled": UNLABELLED + 1}, f"unlabelled_batch_size must be at most {UNLABELLED}.*label fewer patients"),
        ({"unlabelled": 5, "world_size": 2}, "unlabelled_batch_size counts the images of all 2 processes"),
        ({"labelled": 0}, "labelled_batch_size counts"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
        ({"augment": CropAugment()}, "needs SliceAugment; got CropAugment"),
    ):
        with pytest.raises(InputError, match=match):
            batches(**wrong)
