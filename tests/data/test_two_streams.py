"""Two streams: each goes through its set in its own order; a batch depends on seed, epoch and step, and on no split."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aureole.core.errors import InputError
from aureole.data import Images, RandomHorizontalFlip, Streamed, TwoStreams, view


def made(count, seed=0, size=8, channels=3):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(count) % 4, tuple("abcd"), f"set of {count}")


LABELLED, UNLABELLED = made(10), made(37, seed=1)


def loader(batch_size=6, unlabelled_batch_size=8, **settings):
    settings = {"seed": 0, "views": ("weak", "strong"), **settings}
    return TwoStreams(
        LABELLED, UNLABELLED, batch_size=batch_size, unlabelled_batch_size=unlabelled_batch_size, **settings
    )


def tensors(batch):
    found = [batch.x, batch.y, batch.index, batch.streams.keys]
    other = batch.unlabelled
    return found if other is None else [*found, *other.views, other.index, other.streams.keys]


def same(one, other) -> bool:
    equal = all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
    return equal and (one.epoch, one.step, one.streams.draws) == (other.epoch, other.step, other.streams.draws)


def all_same(some, others) -> bool:
    return all(same(a, b) for a, b in zip(some, others, strict=True))


def joined(batches, part=lambda batch: batch.index):
    return torch.cat([part(batch) for batch in batches])


def of_unlabelled(batch):
    return batch.unlabelled.index


def test_an_epoch_is_one_pass_over_the_unlabelled_images():
    batches = list(loader())
    assert len(loader()) == len(batches) == 4
    assert [len(batch) for batch in batches] == [6] * 4
    assert [len(batch.unlabelled) for batch in batches] == [8] * 4
    assert len(joined(batches, of_unlabelled).unique()) == 32
    assert [(batch.epoch, batch.step) for batch in batches] == [(0, step) for step in range(4)]


def test_each_stream_uses_its_images_equally_often_in_a_new_order_each_cycle():
    batches = list(loader(steps_per_epoch=12))
    labelled, unlabelled = joined(batches), joined(batches, of_unlabelled)
    cycles = labelled[:70].view(7, 10)
    assert all(cycle.sort().values.tolist() == list(range(10)) for cycle in cycles)
    assert len(cycles.unique(dim=0)) == 7
    assert unlabelled.bincount(minlength=37).tolist().count(3) == 96 - 2 * 37
    assert unlabelled.bincount(minlength=37).min() == 2


def test_epochs_and_seeds_have_their_own_order_and_streams_are_told_apart():
    ours = loader(steps_per_epoch=5)
    first, second = list(ours), list(ours)
    assert not torch.equal(joined(first), joined(second))
    assert not torch.equal(joined(first, of_unlabelled), joined(second, of_unlabelled))
    assert all_same(first, list(loader(steps_per_epoch=5)))
    assert not torch.equal(joined(first), joined(list(loader(steps_per_epoch=5, seed=1))))
    keys = torch.cat([joined(first, lambda b: b.streams.keys), joined(first, lambda b: b.unlabelled.streams.keys)])
    assert len(keys.unique()) == len(keys) == 5 * 14


def test_plain_batches_hold_the_pixels_and_labels_of_their_indices():
    for batch in loader(views=("plain", "plain"), labelled_view="plain", steps_per_epoch=9):
        assert batch.x.dtype == torch.float32
        assert torch.equal(batch.x, LABELLED.images[batch.index] / 255)
        assert torch.equal(batch.y, LABELLED.labels[batch.index])
        for x in batch.unlabelled.views:
            assert torch.equal(x, UNLABELLED.images[batch.unlabelled.index] / 255)


def test_a_view_is_its_chain_with_numbers_of_its_own():
    ours = loader(views=("weak", "weak", "strong", "mirror"), kind={**views("photos"), "mirror": mirror()})
    for batch in ours:
        first, second, strong, mirrored = batch.unlabelled.views
        assert not torch.equal(first, second)
        assert not torch.equal(first, strong)
        assert torch.equal(mirrored, UNLABELLED.images[batch.unlabelled.index].flip(3) / 255)
        assert all(x.min() >= 0 and x.max() <= 1 for x in batch.unlabelled.views)


def views(kind):
    return {name: view(name, kind) for name in ("weak", "strong")}


def mirror():
    return (RandomHorizontalFlip(1.0),)


def test_views_of_an_image_differ_between_cycles_and_epochs():
    ours = loader(steps_per_epoch=10)
    batches = [batch for _ in range(2) for batch in ours]
    x = joined(batches, lambda b: b.unlabelled.views[1])[joined(batches, of_unlabelled) == 3]
    assert len(x) >= 4
    assert len(x.unique(dim=0)) == len(x)


def test_the_labelled_batches_are_the_same_for_methods_with_other_views():
    ours, alone = list(loader()), list(loader(views=(), steps_per_epoch=4))
    other = list(loader(views=("weak",), unlabelled_batch_size=4, steps_per_epoch=4))
    assert all(batch.unlabelled is None for batch in alone)
    for a, b, c in zip(ours, alone, other, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.x, c.x)
        assert torch.equal(a.streams.keys, c.streams.keys)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 10), st.integers(3, 37), st.integers(0, 3))
def test_an_image_does_not_depend_on_the_batch_sizes(batch_size, unlabelled_batch_size, epoch):
    def pass_of(*sizes):
        ours = loader(*sizes, steps_per_epoch=13, views=("weak", "weak"))
        ours.set_epoch(epoch)
        return list(ours)

    ours, expected = pass_of(batch_size, unlabelled_batch_size), pass_of(6, 8)
    for place, (one, other) in enumerate(zip(*(map(joined_tensors, (ours, expected))), strict=True)):
        count = 13 * (min(batch_size, 6) if place < 4 else min(unlabelled_batch_size, 8))
        assert torch.equal(one[:count], other[:count])


def joined_tensors(batches):
    return [torch.cat(parts) for parts in zip(*map(tensors, batches), strict=True)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_shares_of_the_processes_make_the_global_batch(world_size):
    whole = loader(8, 8)
    shares = [loader(8, 8, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {4}
    for _ in range(2):
        for batch, *parts in zip(whole, *shares, strict=True):
            for tensor, *pieces in zip(tensors(batch), *map(tensors, parts), strict=True):
                assert torch.equal(tensor, torch.cat(pieces))


@pytest.fixture(scope="module")
def uninterrupted():
    ours = loader(steps_per_epoch=5)
    return [batch for _ in range(4) for batch in ours]


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 8])
def test_a_resumed_loader_gives_the_remaining_batches_exactly(uninterrupted, stop):
    first, taken = loader(steps_per_epoch=5), 0
    while taken < stop:
        for batch in first:
            assert same(batch, uninterrupted[taken])
            taken += 1
            if taken == stop:
                break
    state = first.state_dict()
    assert state == {"epoch": stop // 5, "step": stop % 5}
    second = loader(steps_per_epoch=5)
    second.load_state_dict(state)
    assert second.state_dict() == state
    end = (stop // 5 + 1) * 5
    assert all_same(list(second), uninterrupted[stop:end])
    assert all_same(list(second), uninterrupted[end : end + 5])


def test_the_global_random_state_and_the_images_stay_as_they_are():
    state, pixels = torch.get_rng_state(), UNLABELLED.images.clone()
    list(loader())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(UNLABELLED.images, pixels)


def test_channels_last():
    batch, expected = next(iter(loader(memory_format=torch.channels_last))), next(iter(loader()))
    for x in (batch.x, *batch.unlabelled.views):
        assert x.is_contiguous(memory_format=torch.channels_last)
    assert same(batch, expected)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_size": 11}, "batch_size must be at most 10, the labelled images of set of 10; got 11"),
        ({"unlabelled_batch_size": 38}, "unlabelled_batch_size must be at most 37, the unlabelled images of"),
        ({"batch_size": 5, "world_size": 2}, "batch_size counts the images of all 2 processes .* got 5"),
        ({"unlabelled_batch_size": 7, "world_size": 2}, "unlabelled_batch_size counts the images of all 2 .* got 7"),
        ({"world_size": 2, "rank": 2}, "rank must be 0 to world_size - 1; got rank 2 of 2"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1; got 0"),
        ({"views": ("weak", "stong")}, "unknown view 'stong': did you mean 'strong'"),
        ({"labelled_view": "none"}, "unknown view 'none'"),
        ({"kind": "digit"}, "unknown kind of picture 'digit': did you mean 'digits'"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings, match):
    with pytest.raises(InputError, match=match) as caught:
        loader(**settings)
    assert "\n" not in str(caught.value)


def test_unlabelled_images_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"one shape; set of 10 has \(3, 8, 8\) and set of 5 \(3, 9, 9\)"):
        TwoStreams(LABELLED, made(5, size=9), batch_size=2, unlabelled_batch_size=2, seed=0)


def test_a_state_of_another_loader_is_refused():
    with pytest.raises(InputError, match="step must be 0 to 3, as an epoch has 4 batches; got 4"):
        loader().load_state_dict({"epoch": 0, "step": 4})


def test_grey_digits():
    grey = made(20, channels=1)
    ours = TwoStreams(
        grey, grey, batch_size=4, unlabelled_batch_size=10, seed=0, views=("weak", "strong"), kind="digits"
    )
    assert [batch.unlabelled.views[1].shape for batch in ours] == [(10, 1, 8, 8)] * 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_streamed_batches_equal_those_in_memory(num_workers):
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature
    from PIL import Image

    pictures = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in UNLABELLED.images]
    table = Dataset.from_dict({"image": pictures}, features=Features({"image": ImageFeature()}))
    table = table.cast_column("image", ImageFeature(decode=False))
    rows = torch.arange(37)
    streamed = Streamed(table, "image", rows, UNLABELLED.labels, UNLABELLED.class_names, "RGB", (3, 8, 8), "stream")
    sizes = {"batch_size": 6, "unlabelled_batch_size": 8, "seed": 0, "views": ("weak", "strong")}
    ours, expected = TwoStreams(LABELLED, streamed, num_workers=num_workers, **sizes), loader()
    ours.set_epoch(1)
    expected.set_epoch(1)
    assert all_same(list(ours), list(expected))


@pytest.mark.gpu
def test_batches_on_an_accelerator_equal_those_on_the_processor():
    here, there = loader(views=("weak", "weak")), loader(views=("weak", "weak"), device="cuda")
    for one, other in zip(here, there, strict=True):
        for a, b in zip(tensors(one), tensors(other), strict=True):
            assert b.device.type == "cuda"
            torch.testing.assert_close(b.cpu(), a, rtol=0, atol=1e-7)


def test_the_two_orders_have_nothing_to_do_with_each_other():
    ours = TwoStreams(UNLABELLED, UNLABELLED, batch_size=37, unlabelled_batch_size=37, seed=0, views=("plain",))
    batch = next(iter(ours))
    assert not torch.equal(batch.index, batch.unlabelled.index)
    assert len(torch.cat([batch.streams.keys, batch.unlabelled.streams.keys]).unique()) == 74
