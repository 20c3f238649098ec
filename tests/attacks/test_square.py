"""Square: its schedule, its windows and moves by hand, what it accepts, and what it is told wrongly."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.square import Square, halvings, moves_of
from aureole.attacks.square_bumps import Bumps, SharpBumps, hill
from aureole.attacks.square_moves import Squares
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.core.objectives import KL, CrossEntropy, Margin
from aureole.core.random import Streams

SHARES = [0.8 / 2**count for count in range(10)]
BALLS = [Linf(0.04), L2(0.55), L1(3.0)]
every_ball = pytest.mark.parametrize("ball", BALLS, ids=str)


def margin(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return Margin()(model(x), labels=y)


def streams(count: int) -> Streams:
    return Streams.of(0, torch.arange(count))


class Recorder(nn.Module):
    """Keeps what a model was asked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return self.model(x)


def test_the_schedule_is_the_published_one() -> None:
    first = {0: 1, 11: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128, 6001: 256, 8001: 512}
    expected = list(itertools.accumulate((first.get(q, 0) for q in range(10_001)), max))
    assert [2**count for count in halvings(10_000)] == expected
    assert halvings(5000) == halvings(10_000)[:5001]
    assert halvings(100, rescaled=True) == halvings(10_000)[::100]


@pytest.mark.parametrize(
    ("moves", "shape", "sides"),
    [
        (Squares, (1, 28, 28), [25, 18, 13, 9, 6, 4, 3, 2, 2, 1]),
        (Squares, (3, 32, 32), [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]),
        (Squares, (3, 6, 9), [6, 5, 3, 2, 2, 1, 1, 1, 1, 1]),
        (Bumps, (1, 28, 28), [25, 19, 13, 9, 7, 5, 3, 3, 3, 3]),
        (SharpBumps, (3, 8, 8), [7, 5, 5, 3, 3, 3, 3, 3, 3, 3]),
        (Bumps, (1, 2, 2), [2] * 10),
    ],
)
def test_sides_of_the_windows(moves: Any, shape: tuple[int, ...], sides: list[int]) -> None:
    ball = next(b for b in BALLS if moves_of(b) is moves)
    assert moves(ball, torch.zeros(1, *shape), SHARES).windows == [(side, side) for side in sides]


def test_windows_in_linf_are_squares_of_one_colour_a_channel() -> None:
    x = torch.rand(40, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    moves, size = Squares(Linf(0.2, None), x, SHARES), torch.arange(40) % 10
    change = moves.move(x, x, size, streams(40)) - x
    torch.testing.assert_close(change.abs(), 0.2 * (change != 0).float(), rtol=0, atol=1e-6)
    for delta, k in zip(change, size, strict=True):
        side = moves.windows[k][0]
        lines, columns = (delta[0] != 0).any(1), (delta[0] != 0).any(0)
        assert int(lines.sum()) == int(columns.sum()) == side
        assert int(lines.nonzero().max() - lines.nonzero().min()) == side - 1
        assert int((delta[0] != 0).sum()) == side**2
        assert ((delta > 0).flatten(1).sum(1) % side**2 == 0).all()  # a channel's window is all up or all down
    bounded = Squares(Linf(0.2), x, SHARES).move(x, x, size, streams(40))
    torch.testing.assert_close(bounded, (x + change).clamp(0, 1))


def test_places_and_colours_are_uniform() -> None:
    x = torch.zeros(6000, 2, 7, 9)
    moves = Squares(Linf(0.1, None), x[:1], SHARES)
    delta = moves.move(x, x, torch.full((6000,), 3), streams(6000))  # sides of 3: 4 x 6 places, the last ones left out
    assert moves.windows[3] == (3, 3)
    assert not (delta[:, :, -1] != 0).any()
    assert not (delta[..., -1] != 0).any()
    inside = delta[:, 0] != 0
    place = inside.any(2).int().argmax(1) * 6 + inside.any(1).int().argmax(1)
    colour = (delta.sum((2, 3)) > 0).int() @ torch.tensor([1, 2], dtype=torch.int32)
    for values, kinds in ((place, 24), (colour, 4)):
        counts = torch.bincount(values, minlength=kinds)
        assert len(counts) == kinds
        assert float((counts - 6000 / kinds).square().sum() / (6000 / kinds)) < kinds - 1 + 3 * math.sqrt(2 * kinds)


def test_the_start_in_linf_is_vertical_stripes() -> None:
    x = torch.rand(30, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    delta = Squares(Linf(0.1, None), x, SHARES).start(x, streams(30)) - x
    torch.testing.assert_close(delta.abs(), torch.full_like(x, 0.1))
    assert ((delta > 0) == (delta[:, :, :1] > 0)).all()
    assert 0.4 < float((delta[:, :, 0] > 0).float().mean()) < 0.6


@pytest.mark.parametrize("ball", [L2(2.0, None), L1(1000.0, None)], ids=str)
@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 8, 8), (2, 13, 7), (1, 12, 24), (1, 3, 3)], ids=str)
def test_the_start_elsewhere_is_tiles_of_bumps(ball: Ball, shape: tuple[int, int, int]) -> None:
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    moves = moves_of(ball)(ball, x, SHARES)
    delta = moves.start(x, streams(6)) - x
    side = max(min(shape[1:]) // 5, 1)
    places = [range(length % side // 2, length - side + 1, side) for length in shape[1:]]
    options = torch.cat([moves.bump(side, side), -moves.bump(side, side)])
    if isinstance(ball, L2):  # as long as the radius; in L1, far inside it here, a bump has norm 1
        options = options * 2 / math.sqrt(len(places[0]) * len(places[1]) * shape[0])
    seen: set[int] = set()
    for line, column in itertools.product(*places):
        tile = delta[:, :, line : line + side, column : column + side]
        gap = (tile[:, :, None] - options).abs().amax((-1, -2))
        assert (gap.amin(2) < 1e-5).all()
        seen |= set(gap.argmin(2).flatten().tolist())
        tile.zero_()
    assert (delta == 0).all()
    assert len(seen) == (4 if side > 1 else 2)


@every_ball
def test_starts_and_moves_are_inside(ball: Ball) -> None:
    x = torch.rand(40, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    moves = moves_of(ball)(ball, x, SHARES)
    x_adv = moves.start(x, streams(40))
    for count in range(6):
        assert ball.contains(x_adv, x).all()
        assert ((x_adv - x).flatten(1).abs().amax(1) > 1e-3).all()
        x_adv = moves.move(x, x_adv, torch.arange(40) % 10, streams(40).fork(count))


def test_bumps_are_two_opposite_halves_of_norm_one() -> None:
    x = torch.zeros(1, 1, 12, 12)
    for ball, order, steep in ((L2(1.0), 2, 2), (L1(1.0), 1, 4)):
        upright, flat = moves_of(ball)(ball, x, SHARES).bump(5, 5)
        assert torch.equal(upright, flat.mT)
        halves = upright[:2], -upright[2:]
        for half, height in zip(halves, (2, 3), strict=True):
            torch.testing.assert_close(half / half.max(), hill(height, 5, steep) / hill(height, 5, steep).max())
            torch.testing.assert_close(half.norm(order), torch.tensor(0.5 ** (1 / order)))
    expected = torch.tensor([[1 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9], [1 / 9, 13 / 36, 13 / 36, 13 / 36, 1 / 9]])
    torch.testing.assert_close(hill(5, 5, 2)[:2], expected)
    torch.testing.assert_close(hill(5, 5, 2)[2, 2], torch.tensor(49 / 36))


@pytest.mark.parametrize("ball", [L2(0.7), L1(6.0), L2(0.7, None)], ids=str)
def test_a_move_in_l2_and_l1_is_that_of_the_paper(ball: Ball) -> None:
    """Row by row with slices, as the algorithm is written."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 3, 10, 12, generator=generator)
    q = 2 if isinstance(ball, L2) else 1
    moves, size = moves_of(ball)(ball, x, SHARES), torch.arange(40) % 10
    x_adv = moves.start(x, streams(40))
    x_adv[::4] = ball.project(x[::4] + 0.02 * torch.randn(10, 3, 10, 12, generator=generator), x[::4])
    found = moves.move(x, x_adv, size, streams(40))
    draws = streams(40).uniform((40, 8))
    for i in range(40):
        side = moves.windows[size[i]][0]
        (v1, h1, v2, h2), eps = (draws[i, :4] * torch.tensor([10 - side, 12 - side] * 2)).int().tolist(), ball.radius
        delta = x_adv[i] - x[i]
        one = (slice(None), slice(v1, v1 + side), slice(h1, h1 + side))
        two = (slice(None), slice(v2, v2 + side), slice(h2, h2 + side))
        either = torch.zeros(3, 10, 12)
        either[one] = either[two] = 1
        held = (delta * either).abs().pow(q).sum((1, 2)) + max(eps**q - float(delta.abs().pow(q).sum()), 0) / 3
        new = moves.bump(side, side)[int(draws[i, 4] < 0.5)] * (2 * (draws[i, 5:] >= 0.5).float() - 1)[:, None, None]
        new = new + delta[one] / (1e-12 + delta[one].norm(q, (1, 2), keepdim=True))
        new = new / new.norm(q, (1, 2), keepdim=True) * held.pow(1 / q)[:, None, None] * (1 if q == 2 else 3)
        delta[two] = 0
        delta[one] = new
        if q == 2:
            expected = ball.clip(x[i] + delta * eps / delta.norm())
        else:
            expected = ball.project((x[i] + delta)[None], x[i : i + 1])[0]
        torch.testing.assert_close(found[i], expected, rtol=0, atol=2e-5)
    assert ((found - x_adv).abs().flatten(1).amax(1) > 1e-3).all()


@every_ball
def test_each_query_starts_from_the_best_so_far(victim: Any, ball: Ball) -> None:
    model, x, y = Recorder(victim.model), victim.x[:1], victim.y[:1]
    small = type(ball)(ball.radius / 10)  # so that the point does not fall
    x_adv = Square(ball=small, num_queries=80)(model, x, y, generator=streams(1))
    start, *queries = (images for images in model.seen if not torch.equal(images, x))
    assert len(queries) == 80
    assert small.contains(torch.cat(model.seen), x.expand(82, -1, -1, -1)).all()
    best, rises, sides = start, 0, [Squares(Linf(0.1), x, SHARES).windows[count][0] for count in halvings(80)]
    for images, side in zip(queries, sides[:-1], strict=True):
        if isinstance(ball, Linf):  # a query changes one square of it
            changed = (images != best)[0, 0].nonzero()
            assert not len(changed) or int((changed.amax(0) - changed.amin(0)).max()) < side
        if margin(victim.model, images, y) > margin(victim.model, best, y):
            best, rises = images, rises + 1
    assert rises > 3
    torch.testing.assert_close(x_adv, best, rtol=0, atol=1e-6)


@every_ball
def test_it_fools_the_model_inside_the_ball(victim: Any, ball: Ball) -> None:
    x, y = victim.x, victim.y
    x_adv = Square(ball=ball, num_queries=150)(victim.model, x, y)
    few = Square(ball=ball, num_queries=1)(victim.model, x, y)
    assert ball.contains(x_adv, x).all()
    assert victim.accuracy(x_adv) < victim.accuracy(few) - 0.1
    before = margin(victim.model, x, y)
    assert (margin(victim.model, x_adv, y) > before)[before < 0].all()


def test_what_the_model_gets_wrong_already_is_returned_as_it_is(victim: Any) -> None:
    y = victim.model(victim.x).argmax(-1)
    y[::4] = (y[::4] + 1) % 4
    x_adv = Square(ball=Linf(0.04), num_queries=5)(victim.model, victim.x, y)
    assert (x_adv == victim.x).flatten(1).all(1).tolist() == [i % 4 == 0 for i in range(32)]


@every_ball
def test_the_result_depends_neither_on_the_batch_nor_on_the_order(victim: Any, ball: Ball) -> None:
    order = torch.randperm(32)
    attack = Square(ball=ball, num_queries=25, num_restarts=2)
    whole = attack(victim.model, victim.x, victim.y, generator=streams(32))
    for fields in ({"max_batch": 7}, {"max_batch": 64, "eager": True}):
        split = Square(ball=ball, num_queries=25, num_restarts=2, **fields)
        found = split(victim.model, victim.x[order], victim.y[order], generator=Streams.of(0, order))
        if "eager" in fields:  # another restart may be the first to fool
            found, expected = (victim.model(images).argmax(-1) for images in (found, whole[order]))
            assert torch.equal(found == victim.y[order], expected == victim.y[order])
        else:
            torch.testing.assert_close(found, whole[order], rtol=0, atol=1e-5)
    one = Square(ball=ball, num_queries=25)(victim.model, victim.x, victim.y, generator=streams(32))
    assert 0.2 < victim.accuracy(whole) < victim.accuracy(one) <= 0.95
    other = attack(victim.model, victim.x, victim.y, generator=Streams.of(1, torch.arange(32)))
    assert not torch.equal(other, whole)


def test_it_needs_no_gradient_and_leaves_no_trace(victim: Any, stateful: nn.Module, trace: Any) -> None:
    class Blunt(nn.Module):
        """What a model behind a service returns: rounded numbers without a graph."""

        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return torch.from_numpy(victim.model(x).numpy().round(1))

    x_adv = Square(ball=Linf(0.06), num_queries=100)(Blunt(), victim.x, victim.y)
    assert victim.accuracy(x_adv) < 0.6
    x = torch.rand(5, 1, 8, 8)
    kept, before = x.clone(), trace(stateful)
    Square(ball=L2(0.5), num_queries=5)(stateful, x, torch.arange(5) % 4)
    before.check()
    assert torch.equal(x, kept)


@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("shape", [(3, 5, 8), (2, 9, 4), (6, 5), (12,), (2,), (1, 1, 20), (2, 15, 1)], ids=str)
def test_images_of_every_shape(kind: type[Ball], shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3))
    x = 0.2 + 0.6 * torch.rand(20, *shape, dtype=torch.float32)
    y, ball = model(x).argmax(-1), kind({Linf: 0.1, L2: 0.3, L1: 0.6}[kind])
    few, many = (Square(ball=ball, num_queries=n, share_init=0.5)(model, x, y) for n in (1, 60))
    assert many.shape == x.shape
    assert ball.contains(many, x).all()
    clean, low, high = (margin(model, images, y).mean() for images in (x, few, many))
    assert high > clean
    assert high >= low


def test_wide_types_and_other_objectives(victim: Any) -> None:
    model = nn.Sequential(victim.model[3], nn.Linear(64, 4)).double()
    x = victim.x.double()
    y = model(x).argmax(-1)
    for ball in (Linf(0.1), L2(0.5), L1(2.0)):
        x_adv = Square(ball=ball, num_queries=30, objective=CrossEntropy(), rescaled=True)(model, x, y)
        assert x_adv.dtype == torch.float64
        assert ball.contains(x_adv, x).all()
        loss, clean = (nn.functional.cross_entropy(model(images), y) for images in (x_adv, x))
        assert loss > clean


def test_misuse_is_one_clear_line(victim: Any) -> None:
    class Other(Linf):
        pass

    class Unknown(Ball):
        def _nothing(self, *_: Any) -> Any: ...

        _shrink = _draw = sample_boundary = steepest = norm = _nothing

    cases: list[tuple[dict[str, Any], str]] = [
        ({"num_queries": 0}, "num_queries must be an integer of at least 1; got 0"),
        ({"num_restarts": 0}, "num_restarts must be"),
        ({"share_init": 0.0}, "share_init must be a positive"),
        ({"share_init": 1.5}, "at most 1; got 1.5"),
        ({"objective": KL()}, "needs clean logits"),
        ({"max_batch": 0}, "max_batch must be"),
        ({"ball": Unknown(0.1)}, "knows the balls Linf, L2 and L1; got"),
    ]
    for fields, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            Square(**fields)
        assert "\n" not in str(caught.value)
    assert moves_of(Other(0.1)) is Squares
    with pytest.raises(InputError, match="take a view of such a shape"):
        Square()(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), torch.rand(4, 1, 2, 2, 2))
