"""Inference against the published loops, written here one slice or window at a time; and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import config
from scipy.ndimage import zoom
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.segment.inference import keep_largest_component, slice_wise, sliding_window, window_probabilities


@pytest.fixture
def unchecked() -> Iterator[None]:
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


class Padded(nn.Module):
    """A small network whose output depends on where the borders of its input are, and on its mode."""

    def __init__(self, num_axes: int, num_classes: int = 2, channels: int = 1) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if num_axes == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.net = nn.Sequential(
            conv(channels, 4, 3, padding=1), norm(4), nn.Tanh(), nn.Dropout(0.5), conv(4, num_classes, 3, padding=1)
        )
        self.sizes: list[int] = []
        for parameter in self.net[-1].parameters():
            parameter.data *= 5

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.net(x)


def published_windows(model: nn.Module, image: np.ndarray, patch: Any, stride: Any) -> tuple[np.ndarray, np.ndarray]:
    """One window at a time: means of the probabilities, and of class 1 above one half (the channel axis is first)."""
    pads = [max(p - n, 0) for p, n in zip(patch, image.shape[1:], strict=True)]
    padded = np.pad(image, [(0, 0), *[(pad // 2, pad - pad // 2) for pad in pads]])
    size = padded.shape[1:]
    counts = [math.ceil((n - p) / s) + 1 for n, p, s in zip(size, patch, stride, strict=True)]
    total, seen = None, np.zeros(size, dtype=np.float32)
    for place in np.ndindex(*counts):
        start = [min(s * k, n - p) for s, k, n, p in zip(stride, place, size, patch, strict=True)]
        window = tuple(slice(a, a + p) for a, p in zip(start, patch, strict=True))
        with torch.no_grad():
            probabilities = model(torch.from_numpy(padded[(slice(None), *window)][None])).softmax(1)[0].numpy()
        total = np.zeros((len(probabilities), *size), dtype=np.float32) if total is None else total
        total[(slice(None), *window)] += probabilities
        seen[window] += 1
    assert total is not None
    crop = tuple(slice(pad // 2, pad // 2 + n) for pad, n in zip(pads, image.shape[1:], strict=True))
    mean = (total / seen)[(slice(None), *crop)]
    return mean, (mean[1] > 0.5).astype(np.int64)


SCANS = [
    ((20, 17, 13), (8, 8, 8), (3, 3, 2)),
    ((11, 13, 13), (6, 9, 10), (2, 3, 2)),  # MONAI's own rounding would take 1 off each of these strides
    ((18, 9, 10), (6, 9, 10), (6, 3, 2)),  # two axes as long as the patch; windows side by side
    ((5, 20, 7), (8, 8, 8), (3, 5, 4)),  # two axes shorter: padded 1 + 2 and 0 + 1
    ((3, 4, 2), (8, 8, 8), (3, 3, 3)),  # all axes shorter
]


@pytest.mark.parametrize(("size", "patch", "stride"), SCANS)
@pytest.mark.parametrize("windows_per_call", [1, 5])
def test_windows_are_those_of_the_published_loop(size: Any, patch: Any, stride: Any, windows_per_call: int) -> None:
    model, scan = Padded(3).eval(), torch.randn(size)
    mean, mask = published_windows(model, scan.numpy()[None], patch, stride)
    num_windows = len(model.sizes)
    model.sizes.clear()
    found = window_probabilities(model, scan, patch, stride, windows_per_call=windows_per_call)
    assert np.abs(found.numpy() - mean).max() < 1e-6
    assert sum(model.sizes) == num_windows
    assert max(model.sizes) == min(windows_per_call, num_windows)
    labels = sliding_window(model, scan, patch, stride, windows_per_call=windows_per_call)
    sure = np.abs(mean[1] - 0.5) > 1e-6
    assert sure.mean() > 0.99
    assert np.array_equal(labels.numpy()[sure], mask[sure])
    assert 0 < labels.sum() < labels.numel()


class Rounded(nn.Module):
    """Probabilities that are exact in float32, so that sums and means are the same in any order of the voxels."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.where(x > 0, 100.0, -100.0)
        logits[..., 0, :, :] = 100.0  # what it says depends on the place in the window
        return torch.cat([-logits, logits], 1)


def test_windows_are_those_of_the_published_loop_bit_for_bit() -> None:
    scan = torch.randn(14, 11, 9)
    mean, mask = published_windows(Rounded(), scan.numpy()[None], (6, 5, 4), (3, 2, 2))
    assert np.array_equal(window_probabilities(Rounded(), scan, (6, 5, 4), (3, 2, 2)).numpy(), mean)
    assert np.array_equal(sliding_window(Rounded(), scan, (6, 5, 4), (3, 2, 2)).numpy(), mask)
    assert len(np.unique(mean)) >= 5


def test_the_published_windows_of_an_atrium() -> None:
    class Count(nn.Module):
        windows = 0

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2:] == (112, 112, 80)
            self.windows += len(x)
            return x.expand(-1, 2, -1, -1, -1)

    model = Count()
    window_probabilities(model, torch.zeros(148, 132, 88))
    assert model.windows == 3 * 3 * 3  # ceil(36 / 18) + 1, ceil(20 / 18) + 1, ceil(8 / 4) + 1


def test_channels_and_more_classes() -> None:
    model, scan = Padded(3, num_classes=4, channels=3).eval(), torch.randn(3, 11, 10, 9)
    mean, _ = published_windows(model, scan.numpy(), (6, 6, 6), (4, 4, 4))
    labels = sliding_window(model, scan, (6, 6, 6), (4, 4, 4))
    assert np.array_equal(labels.numpy(), mean.argmax(0))
    assert len(labels.unique()) > 2


def published_slices(model: nn.Module, volume: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    found = np.zeros(volume.shape, dtype=np.int64)
    for place, one in enumerate(volume):
        height, width = one.shape
        small = zoom(one, (size[0] / height, size[1] / width), order=0)
        with torch.no_grad():
            classes = model(torch.from_numpy(small)[None, None]).softmax(1).argmax(1)[0].numpy()
        found[place] = zoom(classes, (height / size[0], width / size[1]), order=0)
    return found


@pytest.mark.parametrize("shape", [(5, 40, 52), (1, 31, 17), (9, 32, 32), (3, 70, 23)])
@pytest.mark.parametrize("slices_per_call", [1, 4])
def test_slices_are_those_of_the_published_loop(shape: tuple[int, int, int], slices_per_call: int) -> None:
    model, volume = Padded(2, num_classes=4).eval(), torch.rand(shape)
    labels = slice_wise(model, volume, (32, 32), slices_per_call=slices_per_call)
    assert np.array_equal(labels.numpy(), published_slices(model, volume.numpy(), (32, 32)))
    assert len(labels.unique()) > 1


def test_the_last_row_is_lost_where_scipy_loses_it() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([-torch.ones_like(x), torch.ones_like(x)], 1)

    volume = torch.rand(1, 216, 256)
    labels = slice_wise(One(), volume)
    assert np.array_equal(labels.numpy(), published_slices(One(), volume.numpy(), (256, 256)))
    assert int((labels == 0).sum()) == 256
    assert int(labels[0, -1].sum()) == 0


@pytest.mark.parametrize("num_axes", [2, 3])
def test_the_model_is_left_as_it_was(num_axes: int) -> None:
    model = Padded(num_axes).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    places = [(p.data_ptr(), p.stride()) for p in model.parameters()]
    scan = torch.rand(6, 8, 8)
    state = torch.get_rng_state()

    def run() -> Tensor:
        return slice_wise(model, scan, (8, 8)) if num_axes == 2 else sliding_window(model, scan, (6, 6, 6), (3, 3, 3))

    assert torch.equal(run(), run()), "no dropout"
    model.net[-1].register_forward_hook(lambda *_: torch.zeros(1))
    with pytest.raises(InputError, match="expected logits"):
        run()
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [(p.data_ptr(), p.stride()) for p in model.parameters()] == places
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_lower_precision_and_plain_weights_are_choices() -> None:
    model, scan = Padded(3).eval(), torch.randn(9, 9, 9)
    plain = window_probabilities(model, scan, (6, 6, 6), (3, 3, 3), channels_last=False)
    exact = window_probabilities(model, scan, (6, 6, 6), (3, 3, 3))
    rough = window_probabilities(model, scan, (6, 6, 6), (3, 3, 3), autocast=torch.bfloat16)
    assert float((plain - exact).abs().max()) < 1e-6 < float((rough - exact).abs().max()) < 0.05
    assert rough.dtype == torch.float32
    doubled = window_probabilities(model, (scan * 8).round().long(), (6, 6, 6), (3, 3, 3))
    assert torch.equal(doubled, window_probabilities(model, (scan * 8).round(), (6, 6, 6), (3, 3, 3)))


def test_the_largest_component_of_each_class_stays() -> None:
    labels = torch.zeros(6, 6, 6, dtype=torch.int64)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[1, 1, 2] = 1  # joined by a corner: three voxels
    labels[4, 4, 4:] = 1
    labels[5, 0, 0], labels[3, 5, :2] = 2, 2
    kept = keep_largest_component(labels)
    expected = labels.clone()
    expected[4, 4, 4:], expected[5, 0, 0] = 0, 0
    assert torch.equal(kept, expected)
    assert int(labels[5, 0, 0]) == 2, "the input stays"
    assert torch.equal(keep_largest_component(labels * 0), labels * 0)
    assert keep_largest_component(labels.to(torch.uint8)).dtype == torch.uint8


def test_the_largest_component_is_an_option_of_both() -> None:
    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([0.5 - x, x - 0.5], 1)

    scan = torch.zeros(6, 8, 8)
    scan[1:4, 1:4, 1:4], scan[5, 7, 7] = 1.0, 1.0
    for whole, largest in (
        (slice_wise(Bright(), scan, (8, 8)), slice_wise(Bright(), scan, (8, 8), largest_component=True)),
        (
            sliding_window(Bright(), scan, (4, 4, 4), (2, 2, 2)),
            sliding_window(Bright(), scan, (4, 4, 4), (2, 2, 2), largest_component=True),
        ),
    ):
        assert torch.equal(whole, scan.long())
        assert int(largest.sum()) == 27
    nothing = sliding_window(Bright(), torch.zeros(6, 8, 8), (4, 4, 4), (2, 2, 2), largest_component=True)
    assert int(nothing.sum()) == 0


class Wrong(nn.Module):
    """A model that returns what ``made`` makes of its input."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made
        self.conv = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Any:
        return self.made(self.conv(x))


SCAN, PATCH, STEP = torch.zeros(8, 8, 8), (4, 4, 4), (2, 2, 2)
TWO: Any = (4, 4)
HOLES = torch.where(torch.arange(512).view(8, 8, 8) < 3, torch.nan, 0.0)
MISUSE = [
    (lambda: sliding_window(nn.Identity(), HOLES, PATCH, STEP), "must be finite; 3 of 512"),
    (lambda: slice_wise(nn.Identity(), HOLES), "must be finite; 3 of 512"),
    (lambda: sliding_window(nn.Identity(), SCAN[0], PATCH, STEP), r"\(d1, d2, d3\) or .* got \(8, 8\)"),
    (lambda: sliding_window(nn.Identity(), SCAN[None, None], PATCH, STEP), r"got \(1, 1, 8, 8, 8\)"),
    (lambda: sliding_window(nn.Identity(), SCAN[:0], PATCH, STEP), "not be empty"),
    (lambda: slice_wise(nn.Identity(), SCAN[None]), r"\(slices, height, width\) .* got \(1, 8, 8, 8\)"),
    (lambda: slice_wise(nn.Identity(), SCAN, (0, 8)), "size must be 2 whole numbers"),
    (lambda: slice_wise(nn.Identity(), SCAN, slices_per_call=0), "slices_per_call must be a whole number .* got 0"),
    (lambda: sliding_window(nn.Identity(), SCAN, TWO, STEP), "patch must be 3 whole numbers"),
    (lambda: sliding_window(nn.Identity(), SCAN, PATCH, (2, 2, 0)), "stride must be 3 whole numbers"),
    (lambda: sliding_window(nn.Identity(), SCAN, PATCH, (2, 2, 5)), "a stride above the patch leaves voxels out"),
    (lambda: sliding_window(nn.Identity(), SCAN, PATCH, STEP, windows_per_call=0), "windows_per_call must be"),
    (lambda: sliding_window(Wrong(lambda y: y[..., ::2]), SCAN, PATCH, STEP), r"\(4, classes >= 2, 4, 4, 4\); got"),
    (lambda: sliding_window(Wrong(lambda y: y[:, :1]), SCAN, PATCH, STEP), r"got \(4, 1, 4, 4, 4\)"),
    (lambda: sliding_window(Wrong(lambda y: y.mean((2, 3, 4))), SCAN, PATCH, STEP), r"got \(4, 4\)"),
    (lambda: sliding_window(Wrong(lambda y: (y, y)), SCAN, PATCH, STEP), "it returned a tuple: wrap it"),
    (lambda: sliding_window(Wrong(lambda y: y.view(4, -1).view_as(y)), SCAN, PATCH, STEP), "pass channels_last=False"),
]


@pytest.mark.parametrize("case", range(len(MISUSE)))
@pytest.mark.usefixtures("unchecked")
def test_misuse_is_one_clear_line(case: int) -> None:
    call, message = MISUSE[case]
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_failure_of_the_model_itself_passes_through() -> None:
    model = Wrong(lambda y: y @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        sliding_window(model, SCAN, PATCH, STEP)
    assert model.training


def test_an_object_with_logits_will_do() -> None:
    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    assert sliding_window(Wrong(Output), SCAN, PATCH, STEP).shape == SCAN.shape


def test_without_monai_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "monai.inferers.utils", None)
    with pytest.raises(InputError, match=r"pip install 'aureole\[medical\]'"):
        sliding_window(Wrong(lambda y: y), SCAN, PATCH, STEP)
