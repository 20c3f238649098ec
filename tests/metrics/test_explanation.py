"""Post-hoc figures against scikit-learn, IoU and pointing against loops, insertion and deletion by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import Tensor, nn

from aureole.core.errors import InputError, UntrustedResult
from aureole.metrics import (
    THESIS_COUNTS,
    Deletion,
    Insertion,
    PostHoc,
    PostHocAgreement,
    TopIoU,
    box_masks,
    iou,
    iou_at_top,
    pointing_game,
    post_hoc,
    thesis_iou_at_top,
    top_mask,
)
from aureole.metrics.explanation import confusion_counts

MAP = torch.tensor([[[0.1, 0.5, 0.5], [0.9, 0.5, 0.0]]])
LESION = torch.tensor([[[True, False, False], [True, True, False]]])


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As a user runs it, without the check of shapes."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


class Linear(nn.Module):
    """Two classes: logit s * (the sum of weights * x) against 0."""

    def __init__(self, weights: Tensor, seen: list[int] | None = None) -> None:
        super().__init__()
        self.weights, self.seen = nn.Parameter(weights), [] if seen is None else seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        score = (x * self.weights).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def figures(found: PostHoc) -> list[float]:
    return [found.accuracy, found.precision, found.recall, found.f1]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_post_hoc_is_that_of_scikit_learn(classes: int, seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    student, teacher = torch.randint(classes, (2, 30), generator=torch.Generator().manual_seed(seed))
    for positive in (None, 0, 1):
        if positive is None:
            wanted = metrics.precision_recall_fscore_support(teacher, student, average="macro", zero_division=0)
        else:
            wanted = metrics.precision_recall_fscore_support(teacher == positive, student == positive, average="binary")
        found = figures(post_hoc(student, teacher, positive))
        assert found[0] == metrics.accuracy_score(teacher, student)
        assert found[1:] == pytest.approx(wanted[:3], abs=1e-12)


@pytest.mark.parametrize("positive", [None, 1])
def test_divisions_by_zero_count_as_scikit_learn_counts_them_and_are_said(positive: int | None) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    average = "macro" if positive is None else "binary"
    for student, teacher, said in (
        ([0, 0, 2, 0], [0, 2, 2, 0], []) if positive is None else ([0, 0], [0, 0], ["precision", "recall"]),
        ([0, 0, 0, 0], [0, 1, 1, 0], ["precision"]),
        ([0, 1, 1, 0], [0, 0, 0, 0], ["recall"]),
    ):
        wanted = metrics.precision_recall_fscore_support(teacher, student, average=average, zero_division=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = post_hoc(torch.tensor(student), torch.tensor(teacher), positive)
        assert figures(found)[1:] == pytest.approx(wanted[:3], abs=1e-12)
        assert [w.category for w in caught] == [UntrustedResult] * len(said)
        assert all(word in str(w.message) for word, w in zip(said, caught, strict=True))


def test_post_hoc_by_hand() -> None:
    student, teacher = torch.tensor([1, 1, 1, 0, 0, 2]), torch.tensor([1, 1, 0, 1, 0, 2])
    assert confusion_counts(student, teacher, 3).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 1]]
    assert figures(post_hoc(student, teacher)) == pytest.approx([4 / 6, 2 / 3, 2 / 3, 2 / 3])
    assert post_hoc(student, teacher, None).f1 == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert post_hoc(student, teacher).num_examples == 6


def test_post_hoc_over_batches() -> None:
    student, teacher = torch.randint(3, (2, 50))
    for positive in (None, 2):
        metric = PostHocAgreement(3, positive)
        for part in (slice(0, 7), slice(7, 50)):
            metric.update(student[part], teacher[part])
        assert [float(v) for v in metric.compute().values()] == pytest.approx(
            figures(post_hoc(student, teacher, positive))
        )
    with pytest.raises(InputError, match="positive below it"):
        PostHocAgreement(2, 2)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("student", "teacher", "positive", "why"),
    [
        (torch.zeros(0).long(), torch.zeros(0).long(), 1, "at least one prediction"),
        (torch.zeros(3).long(), torch.zeros(2).long(), 1, "as many predictions of the student"),
        (torch.zeros(3), torch.zeros(3).long(), 1, "argmax"),
        (torch.zeros(3, 2).long(), torch.zeros(3, 2).long(), 1, "one class number a point"),
        (torch.tensor([0, -1]), torch.tensor([0, 1]), 1, "labels must be from 0"),
        (torch.tensor([0, 1]), torch.tensor([0, 1]), -1, "the positive class must be"),
    ],
)
def test_unusable_predictions(student: Tensor, teacher: Tensor, positive: int, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        post_hoc(student, teacher, positive)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_exactly_k_pixels_ties_in_reading_order(dtype: torch.dtype) -> None:
    maps = torch.randint(-3, 3, (4, 5, 7)).to(dtype)
    maps[0] = 0.0
    maps[0, 2, 3:] = -0.0
    counts = torch.tensor([1, 9, 34, 35])
    for count in (1, 2, 17, 35, counts):
        mask = top_mask(maps, count)
        for i, scores in enumerate(maps.flatten(1).tolist()):
            k = int(counts[i]) if isinstance(count, Tensor) else count
            wanted = set(sorted(range(35), key=lambda place: (-scores[place], place))[:k])
            assert set(mask[i].flatten().nonzero().flatten().tolist()) == wanted


def test_iou_by_hand() -> None:
    assert iou_at_top(MAP, LESION, 1).tolist() == pytest.approx([1 / 3])  # the pixel of 0.9
    assert iou_at_top(MAP, LESION, 2).tolist() == pytest.approx([1 / 4])  # and the first of 0.5
    assert iou_at_top(MAP, LESION).tolist() == pytest.approx([1 / 5])  # and the second
    assert iou_at_top(MAP, LESION, 6).tolist() == pytest.approx([3 / 6])
    assert thesis_iou_at_top(MAP, LESION, 2).tolist() == pytest.approx([2 / 4])
    assert thesis_iou_at_top(LESION.float(), LESION).tolist() == [2.0]
    assert iou(LESION, LESION).tolist() == [1.0]
    assert iou(~LESION, LESION).tolist() == [0.0]
    assert THESIS_COUNTS == (1024, 2048, 3072, 4096, 5120, 6144)


def test_iou_against_sets_and_over_batches() -> None:
    maps, masks = torch.rand(6, 40, 40), torch.rand(6, 40, 40) < torch.linspace(0.05, 0.9, 6).view(-1, 1, 1)
    for count in (1024, None):
        wanted = []
        for scores, mask in zip(maps.flatten(1).tolist(), masks.flatten(1), strict=True):
            lesion = set(mask.nonzero().flatten().tolist())
            top = set(sorted(range(1600), key=lambda place: -scores[place])[: count or len(lesion)])
            wanted.append(len(top & lesion) / len(top | lesion))
        assert iou_at_top(maps, masks, count).tolist() == pytest.approx(wanted)
        metric = TopIoU(count)
        metric.update(maps[:1], masks[:1])
        metric.update(maps[1:], masks[1:])
        mean = sum(wanted) / 6
        assert {k: float(v) for k, v in metric.compute().items()} == pytest.approx(
            {"iou": mean, "thesis_iou": 2 * mean}
        )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("maps", "masks", "count", "why"),
    [
        (MAP, LESION, 7, "K must be from 1 to 6, the pixels of a map of 2 x 3; got 7"),
        (MAP, LESION, 0, "K must be from 1"),
        (MAP, LESION, 1.5, "whole number"),
        (MAP, LESION, torch.tensor([2, 2]), "one for each of 1 maps"),
        (MAP, LESION[:, :1], 1, r"its size, \(1, 2, 3\); got \(1, 1, 3\)"),
        (MAP, LESION & False, None, "masks must not be empty; 1 of 1"),
        (MAP, LESION.float(), 1, "masks must be boolean"),
        (MAP.where(MAP > 0, math.nan), LESION, 1, "maps must be finite; 1 of 6"),
        (MAP.where(MAP > 0, -math.inf), LESION, 1, "maps must be finite"),
        (MAP.long(), LESION, 1, "floating-point scores"),
        (MAP[0], LESION, 1, "floating-point scores"),
    ],
)
def test_unusable_maps_masks_and_counts(maps: Tensor, masks: Tensor, count: Any, why: str) -> None:
    for measure in (iou_at_top, thesis_iou_at_top):
        with pytest.raises(InputError, match=why) as caught:
            measure(maps, masks, count)
        assert "\n" not in str(caught.value)
    if isinstance(count, int) and count == 1:
        with pytest.raises(InputError, match=why):
            pointing_game(maps, masks)


def test_boxes_hold_their_corners_and_are_cut_at_the_edge() -> None:
    masks = box_masks(torch.tensor([[1, 0, 2, 1], [3, 2, 9, 9], [-4, 0, 0, 0]]), 4, 5)
    wanted = [{(0, 1), (0, 2), (1, 1), (1, 2)}, {(2, 3), (2, 4), (3, 3), (3, 4)}, {(0, 0)}]
    for mask, pixels in zip(masks, wanted, strict=True):
        assert {tuple(place) for place in mask.nonzero().tolist()} == pixels
    assert torch.equal(box_masks(torch.tensor([[0.5, 0.0, 2.5, 1.0]]), 4, 5), masks[:1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("boxes", [[[2, 0, 1, 1]], [[5, 0, 7, 1]], [[0, 0, 1]], [[0, 0, math.nan, 1]]])
def test_unusable_boxes(boxes: list[list[float]]) -> None:
    with pytest.raises(InputError, match=r"\(left, top, right, bottom\)"):
        box_masks(torch.tensor(boxes), 4, 5)


def test_the_pointing_game_against_loops() -> None:
    maps, masks = torch.rand(20, 6, 9), torch.rand(20, 6, 9) < 0.04
    masks[:, 0, 0] |= ~masks.flatten(1).any(1)
    hits = []
    for tolerance in (0, 1, 2, 3, 12):
        wanted = []
        for scores, mask in zip(maps, masks, strict=True):
            row, column = max(((r, c) for r in range(6) for c in range(9)), key=lambda at: float(scores[at]))
            near = min(math.hypot(r - row, c - column) for r, c in mask.nonzero().tolist())
            wanted.append(near <= tolerance)
        assert pointing_game(maps, masks, tolerance).tolist() == wanted
        hits.append(sum(wanted))
    assert hits[0] < hits[2] < hits[4] == 20


def test_the_pointing_game_takes_boxes_and_the_first_of_equal_scores() -> None:
    maps = torch.zeros(2, 4, 4)
    maps[:, 1, 2] = maps[:, 3, 3] = 1.0
    assert pointing_game(maps, torch.tensor([[2, 1, 2, 1], [3, 3, 3, 3]])).tolist() == [True, False]
    with pytest.raises(InputError, match="at least 0 pixels; got -1"):
        pointing_game(maps, maps > 0, -1)


def test_curves_by_hand() -> None:
    x = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
    maps = torch.tensor([[[0.3, 0.9], [0.3, 0.1]]])  # the second pixel, the first, the third, the fourth
    model = Linear(torch.ones(1, 2, 2))
    for curve, sums in (
        (Deletion(num_steps=4), [10, 8, 7, 4, 0]),
        (Insertion(num_steps=4, baseline="zero"), [0, 2, 3, 6, 10]),
        (Deletion(num_steps=4, baseline="mean"), [10, 10.5, 12, 11.5, 10]),
        (Deletion(num_steps=3), [10, 8, 7, 0]),  # after one, two and all four pixels
        (Deletion(num_steps=1), [10, 0]),
    ):
        found = curve(model, x, maps, torch.tensor([1]))
        wanted = (torch.tensor(sums) / 10).sigmoid()
        assert torch.allclose(found.probabilities, wanted[None])
        if len(sums) == 5:
            area = float((wanted[:-1] + wanted[1:]).sum()) / 8
            assert found.area.item() == pytest.approx(area)
            against = curve(model, x, maps, torch.tensor([0]))
            assert against.area.item() == pytest.approx(1 - area)
    shares = Deletion(num_steps=3)(model, x, maps).shares
    assert shares.tolist() == [0.0, 0.25, 0.5, 1.0]


def test_a_good_map_falls_fast_and_rises_fast() -> None:
    weights = torch.zeros(3, 8, 8)
    weights[:, 2:4, 2:4] = 1.0
    x, good = torch.rand(5, 3, 8, 8), weights[0].expand(5, 8, 8)
    fall, rise = Deletion(num_steps=16), Insertion(num_steps=16, baseline="zero")
    model = Linear(weights)
    assert bool((fall(model, x, good).area < fall(model, x, 1 - good).area).all())
    assert bool((rise(model, x, good).area > rise(model, x, 1 - good).area).all())
    assert torch.allclose(fall(model, x, good).probabilities, rise(model, x, 1 - good).probabilities.flip(1))


def test_the_blur_is_a_gaussian_of_the_image() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    seen: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :2]

    Insertion(num_steps=1, sigma=2.0)(Look(), x, torch.rand(2, 9, 11))
    blurred = ndimage.gaussian_filter(x.numpy(), sigma=2.0, axes=(2, 3), mode="nearest", radius=6)
    assert torch.allclose(seen[-1][0], torch.from_numpy(blurred[0]))
    assert torch.equal(seen[-1][1], x[0])


def test_batches_are_filled_over_steps_and_do_not_matter(stateful: nn.Module, trace: Any) -> None:
    x, maps = torch.rand(3, 1, 8, 8), torch.rand(3, 8, 8)
    seen: list[int] = []
    Deletion(num_steps=10, max_batch=12)(Linear(torch.rand(1, 8, 8), seen), x, maps)
    assert seen == [3, 12, 12, 9]
    before = trace(stateful)
    whole = Insertion(num_steps=7, max_batch=100)(stateful, x, maps)
    parts = Insertion(num_steps=7, max_batch=5)(stateful, x, maps)
    alone = Insertion(num_steps=7)(stateful, x[1:2], maps[1:2])
    before.check()
    assert torch.allclose(whole.probabilities, parts.probabilities, atol=1e-6)
    assert torch.allclose(whole.probabilities[1:2], alone.probabilities, atol=1e-6)
    last = stateful.eval()(x).softmax(-1).amax(-1)
    assert torch.allclose(whole.probabilities[:, -1], last, atol=1e-6)


PLAIN, IMAGE, FLAT = Linear(torch.ones(1, 2, 3)), torch.rand(1, 1, 2, 3), torch.rand(1, 2, 3)
ANYTHING: Any = abs
BLURR: Any = "blurr"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: Deletion(num_steps=7)(PLAIN, IMAGE, FLAT), "at most 6, the pixels of an image; got 7"),
        (lambda: Deletion(num_steps=0), "num_steps must be at least 1"),
        (lambda: Deletion(max_batch=0), "max_batch must be at least 1"),
        (lambda: Deletion(sigma=0.0), "sigma must be positive"),
        (lambda: Insertion(baseline=BLURR), "did you mean 'blur'"),
        (lambda: Deletion(num_steps=2)(PLAIN, IMAGE, FLAT[:, :1]), r"of its size, \(1, 2, 3\)"),
        (lambda: Deletion(num_steps=2)(PLAIN, IMAGE, FLAT * math.nan), "maps must be finite; 6 of 6"),
        (lambda: Deletion(num_steps=2)(PLAIN, IMAGE * math.nan, FLAT), "images must be finite"),
        (lambda: Deletion(num_steps=2)(PLAIN, IMAGE[0], FLAT), "images must be finite"),
        (lambda: Deletion(num_steps=2)(PLAIN, IMAGE, FLAT, torch.tensor([2])), "labels must be from 0 to 1"),
        (lambda: Deletion(num_steps=2)(PLAIN, IMAGE, FLAT, torch.tensor([1, 1])), "one label an image"),
        (lambda: Deletion(num_steps=2)(Linear(torch.tensor(math.nan)), IMAGE, FLAT), "the model's outputs must be"),
        (lambda: Deletion(num_steps=2)(nn.Identity(), IMAGE, FLAT), "logits"),
        (lambda: Deletion(num_steps=2)(ANYTHING, IMAGE, FLAT), "torch.nn.Module"),
    ],
)
def test_unusable_curves(call: Callable[[], object], why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        call()
    assert "\n" not in str(caught.value)
