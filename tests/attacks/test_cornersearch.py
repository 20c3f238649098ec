"""CornerSearch: known weak pixels, the map sigma, the orders, the draws, and streams of scores."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.sparse import CornerSearch, sigma_map
from aureole.attacks.sparse.cornersearch import _Search
from aureole.core.balls import Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams


class Weak(nn.Module):
    """A model of colour images, 5 x 7, whose second class only a bright red at all of some pixels brings about."""

    def __init__(self, *pixels: tuple[int, int]) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        red = torch.stack([x[:, 0, i, j] - x[:, 1, i, j] for i, j in self.pixels], 1)
        second = red.mean(1) + 1e-3 * x.flatten(1).mean(1)
        return torch.stack([torch.full_like(second, 0.8), second, second - 2], 1)


@pytest.fixture
def grey() -> Tensor:
    return 0.4 + 0.2 * torch.rand(3, 1, 5, 7).expand(-1, 3, -1, -1)


def changed(x_adv: Tensor, x: Tensor) -> Tensor:
    return (x_adv != x).any(1)


def test_one_weak_pixel_is_found(grey: Tensor) -> None:
    x_adv = CornerSearch()(Weak((3, 6)), grey)
    assert changed(x_adv, grey).nonzero().tolist() == [[i, 3, 6] for i in range(3)]
    assert (x_adv[:, :2, 3, 6] == torch.tensor([1.0, 0.0])).all()


def test_two_weak_pixels_are_found(grey: Tensor) -> None:
    attack = CornerSearch(max_pixels=4, num_samples=200, num_best=10)
    model, x = Weak((0, 0), (4, 2)), grey
    x_adv = attack(model, x)
    assert (model(x_adv).argmax(1) == 1).all()
    assert (changed(x_adv, x).flatten(1).sum(1) <= 2).all()
    assert changed(x_adv, x)[:, 0, 0].all()
    assert changed(x_adv, x)[:, 4, 2].all()
    assert torch.equal(CornerSearch(max_pixels=1)(model, x), x)


def test_a_share_is_a_number_of_pixels(grey: Tensor) -> None:
    model = Weak((0, 0), (4, 2), (1, 1), (2, 5))
    fields = {"num_samples": 300, "num_best": 8}
    assert torch.equal(CornerSearch(max_pixels=0.08, **fields)(model, grey), grey)  # 3 pixels of 35
    found = CornerSearch(max_pixels=0.09, **fields)(model, grey)
    assert (changed(found, grey).flatten(1).sum(1) == 4).any()


def test_the_corners_are_those_of_the_box(grey: Tensor) -> None:
    for ball in (Linf(0.1), Linf(0.5), Linf(1.0), Linf(0.1, None)):
        found = CornerSearch(ball=ball).changes(grey)[:, 0, :, 2, 3].tolist()
        value, clip = grey[0, :, 2, 3], ball.clip
        ends = [(float(clip(v - ball.radius)), float(clip(v + ball.radius))) for v in value]
        assert sorted(map(tuple, found)) == sorted(itertools.product(*ends))


def test_the_map_sigma_by_hand() -> None:
    x = torch.rand(2, 3, 4, 6)
    found = sigma_map(x)
    assert found.shape == x.shape
    for i, j in itertools.product(range(4), range(6)):
        column = torch.stack([x[..., max(i - 1, 0), j], x[..., i, j], x[..., min(i + 1, 3), j]])
        row = torch.stack([x[..., i, max(j - 1, 0)], x[..., i, j], x[..., i, min(j + 1, 5)]])
        least = torch.minimum(column.std(0, correction=0), row.std(0, correction=0))
        torch.testing.assert_close(found[..., i, j], least.sqrt())


@pytest.mark.parametrize("channels", [1, 3])
def test_changes_along_sigma(channels: int) -> None:
    x = 0.3 + 0.4 * torch.rand(2, channels, 5, 7)
    width = 0.5 * sigma_map(x) * (x if channels == 3 else 1)
    found = CornerSearch(kappa=0.5).changes(x)
    torch.testing.assert_close(found, torch.stack([x - width, x + width]).clamp(0, 1))
    if channels == 3:  # the intensity of all channels moves one way
        assert ((found[0] <= x) & (found[1] >= x)).all()
    assert Linf(0.05).contains(CornerSearch(ball=Linf(0.05), kappa=9.0).changes(x)[1], x).all()


@pytest.mark.parametrize("kappa", [None, 3.0])
def test_it_fools_a_trained_model(victim: Any, kappa: float | None) -> None:
    attack = CornerSearch(max_pixels=0.3, kappa=kappa, num_samples=40, num_best=30)
    x, y = victim.x[:10], victim.y[:10]
    x_adv = attack(victim.model, x, y)
    fooled = victim.model(x_adv).argmax(-1) != y
    assert fooled.float().mean() > 0.7
    count = changed(x_adv, x).flatten(1).sum(1)
    assert count.max() <= 20  # ceil(0.3 * 64)
    assert ((count > 0) <= fooled).all()
    if kappa is not None:
        allowed = attack.changes(x)
        assert ((x_adv == x) | (x_adv == allowed[0]) | (x_adv == allowed[1])).all()


def search(victim: Any, **fields: Any) -> _Search:
    return _Search(CornerSearch(**fields), victim.model, victim.x[:1], int(victim.model(victim.x[:1]).argmax()))


@pytest.mark.parametrize("max_batch", [None, 9])
@pytest.mark.parametrize("num_candidates", [None, 2])
def test_the_streamed_orders_are_those_of_all_scores(
    victim: Any, max_batch: int | None, num_candidates: int | None
) -> None:
    found: list[Tensor] = []
    run = search(victim, max_batch=max_batch, num_best=20, num_candidates=num_candidates, ball=Linf(0.01))
    run._sets = lambda orders, streams: found.append(orders) or iter(())  # type: ignore[method-assign]
    with torch.no_grad():
        assert run.run(Streams.of(0, torch.arange(1))) is None
        clean, x = victim.model(victim.x[:1])[0], victim.x[0]
        ends = CornerSearch(ball=Linf(0.01)).changes(victim.x[:1])[:, 0]
        images = x.repeat(64, 2, 1, 1, 1)
        for pixel, kind in itertools.product(range(64), range(2)):
            images[pixel, kind].view(-1)[pixel] = ends[kind].view(-1)[pixel]
        logits = victim.model(images.flatten(0, 1))
    y = int(clean.argmax())
    others = [c for c in clean.argsort(descending=True).tolist() if c != y]
    gaps = logits[:, y, None] - logits
    expected = [gaps[:, others].amin(1)] + [gaps[:, c] for c in others[:num_candidates]]
    assert len(found[0]) == len(expected)
    for order, scores in zip(found[0], expected, strict=True):
        torch.testing.assert_close(scores[order], scores.sort().values[:20], rtol=0, atol=1e-5)


def test_better_changes_are_drawn_more_often(victim: Any) -> None:
    run = search(victim, max_pixels=2, num_samples=20000, num_best=5)
    (picks, *_) = run._sets(torch.arange(5)[None], Streams.of(3, torch.arange(1)))
    assert picks.shape == (1000, 2)
    run = search(victim, max_pixels=2, num_samples=20000, num_best=5, max_batch=None)
    (picks,) = run._sets(torch.arange(5)[None], Streams.of(3, torch.arange(1)))
    share = picks.flatten().bincount(minlength=5) / 40000
    torch.testing.assert_close(share, torch.tensor([9.0, 7, 5, 3, 1]) / 25, rtol=0, atol=0.01)


def test_the_later_of_two_changes_of_a_pixel_wins(victim: Any) -> None:
    run = search(victim)
    images = run._paint(torch.tensor([[10, 11], [11, 10], [12, 9]]))  # kinds 0 and 1 of pixel 5; pixels 6 and 4
    x = victim.x[0].flatten()
    for image, values in zip(images.flatten(1), ({5: 1.0}, {5: 0.0}, {6: 0.0, 4: 1.0}), strict=True):
        expected = x.clone()
        for pixel, value in values.items():
            expected[pixel] = value
        assert torch.equal(image, expected)


def test_passes_keep_to_max_batch_and_leave_the_result(victim: Any) -> None:
    sizes: list[int] = []
    hook = victim.model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    fields = {"max_pixels": 6, "num_samples": 25, "num_best": 12}
    runs = [CornerSearch(max_batch=m, **fields) for m in (None, 10)]
    whole = runs[0](victim.model, victim.x[:4], victim.y[:4], generator=Streams.of(0, torch.arange(4)))
    assert max(sizes) == 128
    sizes.clear()
    split = runs[1](victim.model, victim.x[:4], victim.y[:4], generator=Streams.of(0, torch.arange(4)))
    hook.remove()
    assert max(sizes) == 10
    assert torch.equal(whole, split)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_pixels": 0}, "max_pixels must be a positive"),
        ({"max_pixels": 1.5}, "max_pixels is an integer, or a share"),
        ({"kappa": 0.0}, "kappa must be a positive"),
        ({"num_samples": 0}, "num_samples must be"),
        ({"increment": 0}, "increment must be"),
    ],
)
def test_misuse(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CornerSearch(**fields)


def test_other_shapes_are_refused() -> None:
    flat = nn.Linear(12, 3)
    with pytest.raises(InputError, match=r"images \(batch, channels, height, width\)"):
        CornerSearch()(flat, torch.rand(2, 12))
    deep = nn.Sequential(nn.Flatten(), nn.Linear(9 * 4, 3))
    with pytest.raises(InputError, match="at most 8 channels"):
        CornerSearch()(deep, torch.rand(2, 9, 2, 2))
    CornerSearch(kappa=1.0, max_pixels=2, num_samples=3)(deep, torch.rand(2, 9, 2, 2))
