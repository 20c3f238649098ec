"""The loader's order and random numbers depend on seed, epoch and example alone; a pass can be resumed anywhere."""

from __future__ import annotations

import pytest
import torch

from aureole.core.errors import InputError
from aureole.core.random import Streams, mix_seed
from aureole.data import BatchLoader, RandomCrop, RandomHorizontalFlip, Streamed

AUGMENT = (RandomCrop(padding=2), RandomHorizontalFlip())


def loader(images, batch_size=8, seed=0, **settings):
    return BatchLoader(images, batch_size=batch_size, seed=seed, **settings)


def indices(batches) -> list[int]:
    return [i for batch in batches for i in batch.index.tolist()]


def same(one, other) -> bool:
    tensors = all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("x", "y", "index"))
    streams = torch.equal(one.streams.keys, other.streams.keys) and one.streams.draws == other.streams.draws
    return tensors and streams and (one.epoch, one.step) == (other.epoch, other.step)


def all_same(some, others) -> bool:
    return all(same(a, b) for a, b in zip(some, others, strict=True))


def test_every_example_comes_once_an_epoch(images):
    batches = list(loader(images))
    assert sorted(indices(batches)) == list(range(50))
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert len(loader(images)) == 7
    assert [batch.step for batch in batches] == list(range(7))
    assert {batch.epoch for batch in batches} == {0}


def test_a_batch_holds_the_pixels_and_labels_of_its_indices(images):
    for batch in loader(images):
        assert batch.x.dtype == torch.float32
        assert torch.equal(batch.x, images.images[batch.index] / 255)
        assert torch.equal(batch.y, images.labels[batch.index])
        assert torch.equal(batch.streams.keys, Streams.of(mix_seed(0, 1, batch.epoch), batch.index).keys)


def test_epochs_and_seeds_have_their_own_order(images):
    ours = loader(images)
    first, second = indices(ours), indices(ours)
    assert first != second
    assert sorted(first) == sorted(second)
    assert first == indices(loader(images))
    assert first != indices(loader(images, seed=1))


def test_without_shuffling_the_order_is_that_of_the_set(images):
    assert indices(loader(images, shuffle=False)) == list(range(50))


@pytest.mark.parametrize("augment", [(), AUGMENT])
def test_shares_of_two_processes_make_the_global_batch(images, augment):
    whole = loader(images, augment=augment)
    shares = [loader(images, augment=augment, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(2):
        for batch, *parts in zip(whole, *shares, strict=True):
            for name in ("x", "y", "index"):
                assert torch.equal(getattr(batch, name), torch.cat([getattr(part, name) for part in parts]))
            assert torch.equal(batch.streams.keys, torch.cat([part.streams.keys for part in parts]))


def test_a_last_batch_that_cannot_be_split_evenly_is_left_out(images):
    assert len(loader(images, 16, world_size=4)) == 3
    assert [len(batch) for batch in loader(images, 16, world_size=4)] == [4] * 3
    assert len(loader(images, 16, world_size=2)) == 4
    assert len(loader(images, drop_last=True)) == len(list(loader(images, drop_last=True))) == 6


@pytest.mark.parametrize("stop", [0, 1, 4, 6, 7, 10, 14])
def test_a_resumed_loader_gives_the_remaining_batches_exactly(images, stop):
    uninterrupted = loader(images, augment=AUGMENT)
    batches = [batch for _ in range(4) for batch in uninterrupted]
    first = loader(images, augment=AUGMENT)
    taken = 0
    while taken < stop:
        for batch in first:
            assert same(batch, batches[taken])
            taken += 1
            if taken == stop:
                break
    state = first.state_dict()
    assert state == {"epoch": stop // 7, "step": stop % 7}
    second = loader(images, augment=AUGMENT)
    second.load_state_dict(state)
    assert second.state_dict() == state
    rest = list(second)
    assert all_same(rest, batches[stop : (stop // 7 + 1) * 7])
    assert all_same(list(second), batches[(stop // 7 + 1) * 7 :][:7])


def test_the_epoch_is_read_at_the_first_next(images):
    ours = loader(images)
    batches = iter(ours)
    ours.load_state_dict({"epoch": 5, "step": 3})
    first = next(batches)
    assert (first.epoch, first.step) == (5, 3)


def test_the_epoch_moves_on_with_the_last_batch(images):
    ours = loader(images)
    batches = iter(ours)
    for _ in range(len(ours)):
        next(batches)
    assert ours.state_dict() == {"epoch": 1, "step": 0}
    assert next(iter(ours)).epoch == 1


def test_a_pass_given_up_begins_again_unless_the_epoch_is_set(images):
    ours = loader(images)
    first = next(iter(ours))
    assert same(next(iter(ours)), first)
    ours.set_epoch(1)
    assert ours.state_dict() == {"epoch": 1, "step": 0}
    assert next(iter(ours)).epoch == 1


def test_setting_the_current_epoch_keeps_the_place(images):
    ours = loader(images)
    ours.load_state_dict({"epoch": 2, "step": 4})
    ours.set_epoch(2)
    assert next(iter(ours)).step == 4


@pytest.mark.parametrize("step", [-1, 7])
def test_a_state_of_another_set_is_refused(images, step):
    with pytest.raises(InputError, match="step must be 0 to 6"):
        loader(images).load_state_dict({"epoch": 0, "step": step})


def test_augmentation_does_not_depend_on_the_batch(images):
    def by_index(batch_size, shuffle):
        batches = list(loader(images, batch_size, shuffle=shuffle, augment=AUGMENT))
        x = torch.cat([batch.x for batch in batches])
        return x[torch.tensor(indices(batches)).argsort()]

    expected = by_index(8, True)
    assert torch.equal(by_index(50, True), expected)
    assert torch.equal(by_index(7, False), expected)
    assert not torch.equal(expected, images.images / 255)


def test_augmentation_differs_between_epochs(images):
    ours = loader(images, 50, shuffle=False, augment=AUGMENT)
    assert not torch.equal(next(iter(ours)).x, next(iter(ours)).x)


def test_channels_last(images):
    batch = next(iter(loader(images, memory_format=torch.channels_last)))
    assert batch.x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.x, next(iter(loader(images))).x)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_size": 6, "world_size": 4}, "must be a multiple of it; got 6"),
        ({"batch_size": 0}, "got 0"),
        ({"batch_size": 51, "drop_last": True}, "batch_size must be at most 50, the images of fifty"),
        ({"world_size": 2, "rank": 2}, "rank must be 0 to world_size - 1; got rank 2 of 2"),
    ],
)
def test_impossible_settings_are_refused(images, settings, match):
    with pytest.raises(InputError, match=match):
        loader(images, **settings)


@pytest.fixture
def streamed(images) -> Streamed:
    """Return the fixture's images as a data set whose rows are decoded on demand."""
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature
    from PIL import Image

    pictures = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in images.images]
    table = Dataset.from_dict({"image": pictures}, features=Features({"image": ImageFeature()}))
    table = table.cast_column("image", ImageFeature(decode=False))
    rows = torch.arange(50)
    return Streamed(table, "image", rows, images.labels, images.class_names, "RGB", images.image_shape, "fifty")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streamed_batches_equal_those_in_memory(images, streamed, num_workers):
    ours = loader(streamed, augment=AUGMENT, num_workers=num_workers)
    expected = loader(images, augment=AUGMENT)
    assert all_same(list(ours), list(expected))
    ours.load_state_dict({"epoch": 1, "step": 5})
    expected.load_state_dict({"epoch": 1, "step": 5})
    assert all_same(list(ours), list(expected))


def test_an_unreadable_image_is_reported_in_one_line_from_a_worker(images, streamed):
    broken = Streamed(
        streamed.dataset, "image", streamed.rows, images.labels, images.class_names, "RGB", (3, 9, 9), "fifty"
    )
    with pytest.raises(InputError, match="must be 9x9 pixels like the first; row") as caught:
        list(loader(broken, num_workers=1))
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_batches_on_an_accelerator_equal_those_on_the_processor(images):
    here, there = loader(images, augment=AUGMENT), loader(images, augment=AUGMENT, device="cuda")
    for one, other in zip(here, there, strict=True):
        assert other.x.device.type == other.y.device.type == other.index.device.type == "cuda"
        torch.testing.assert_close(other.x.cpu(), one.x, rtol=0, atol=1e-7)
        assert torch.equal(other.index.cpu(), one.index)
