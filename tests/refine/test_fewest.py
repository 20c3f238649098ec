"""The fewest pixels, by bisection and by trying all; and rankings without a network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import nn

from aureole.attacks import PGD
from aureole.core.balls import Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.refine import at_random, by_gradient, by_size, fewest_pixels, refined, top_pixels


@pytest.fixture
def attacked(victim: Any) -> Any:
    x, y = victim.x, victim.y
    x_source = PGD(ball=Linf(0.3), num_steps=10, step_size=0.1)(
        victim.model, x, y, generator=Streams.of(0, torch.arange(len(x)))
    )
    return victim.model, x, x_source, y


def test_one_pixel_fewer_does_not_suffice(attacked: Any) -> None:
    model, x, x_source, y = attacked
    ranking = at_random(x, Streams.of(1, torch.arange(len(x))))
    found = fewest_pixels(model, x, x_source, ranking, y)
    with torch.no_grad():
        wanted = model(x_source).argmax(-1) != y
        assert torch.equal(found.fooled, wanted)
        assert 5 < int(wanted.sum()) < len(x) + 1
        natural = model(x).argmax(-1) != y
        for row in range(len(x)):
            if not found.fooled[row]:
                assert int(found.count[row]) == 64
                continue
            count, one = int(found.count[row]), slice(row, row + 1)
            if natural[row]:
                assert count == 0
                assert torch.equal(found.x_adv[one], x[one])
                continue
            enough = refined(x[one], x_source[one], top_pixels(ranking[one], count))
            assert torch.equal(found.x_adv[one], enough)
            assert int(model(enough).argmax(-1)) != int(y[row])
            if count > 1:
                fewer = refined(x[one], x_source[one], top_pixels(ranking[one], count - 1))
                assert int(model(fewer).argmax(-1)) == int(y[row])


def test_it_does_not_depend_on_the_batch(attacked: Any) -> None:
    model, x, x_source, y = attacked
    ranking = by_size(x, x_source)
    together = fewest_pixels(model, x, x_source, ranking, y).count
    alone = torch.cat(
        [fewest_pixels(model, *(t[i : i + 1] for t in (x, x_source, ranking, y))).count for i in range(8)]
    )
    assert torch.equal(together[:8], alone)


def test_labels_default_to_the_predictions(attacked: Any) -> None:
    model, x, x_source, _ = attacked
    ranking = by_size(x, x_source)
    with torch.no_grad():
        own = model(x).argmax(-1)
    assert torch.equal(
        fewest_pixels(model, x, x_source, ranking).count, fewest_pixels(model, x, x_source, ranking, own).count
    )


def test_a_targeted_search_counts_up_to_the_target() -> None:
    """Class k wins where the first k pixels of four are taken."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model[1].weight.data = torch.tensor([[0.0] * 4, [1.0] * 4, [3.0] * 4])
    model[1].bias.data = torch.tensor([1.5, 0.0, -5.0])  # 0: below 1.5 pixels, 1: below 2.5, 2: above
    x, x_source = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    ranking = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    assert fewest_pixels(model, x, x_source, ranking, torch.tensor([0])).count.tolist() == [2]
    assert fewest_pixels(model, x, x_source, ranking, torch.tensor([2]), targeted=True).count.tolist() == [3]
    failed = fewest_pixels(model, x, x_source, ranking, torch.tensor([1]), targeted=True)
    assert (failed.fooled.tolist(), failed.count.tolist()) == ([False], [4])
    assert torch.equal(failed.x_adv, x_source)


def test_what_is_missing_is_said() -> None:
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(1, 1, 2, 2)
    config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match="expected a ranking of shape"):
            fewest_pixels(model, x, x, torch.rand(1, 3, 2))
    finally:
        config.update("jaxtyping_disable", False)
    with pytest.raises(InputError, match="needs y"):
        fewest_pixels(model, x, x, torch.rand(1, 2, 2), targeted=True)


def test_the_gradient_ranks_by_what_a_pixel_contributes() -> None:
    """On a linear victim the scores add up to the change of the margin."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    x, x_source, y = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    scores = by_gradient(model, x, x_source, y)
    with torch.no_grad():
        before, after = model(x), model(x_source)
    wrong = after.scatter(1, y[:, None], -torch.inf).argmax(-1)
    rows = torch.arange(5)
    wanted = (after[rows, wrong] - after[rows, y]) - (before[rows, wrong] - before[rows, y])
    torch.testing.assert_close(scores.sum((1, 2)), wanted, atol=1e-5, rtol=1e-4)


def test_many_points_integrate_the_gradient(attacked: Any) -> None:
    model, x, x_source, y = attacked
    with torch.no_grad():
        before, after = model(x), model(x_source)
    wrong = after.scatter(1, y[:, None], -torch.inf).argmax(-1)
    rows = torch.arange(len(x))
    wanted = (after[rows, wrong] - after[rows, y]) - (before[rows, wrong] - before[rows, y])
    one, many = (by_gradient(model, x, x_source, y, num_points=n).sum((1, 2)) - wanted for n in (1, 200))
    assert float(many.abs().mean()) < 0.2 * float(one.abs().mean())
    assert float(many.abs().max()) < 0.1


def test_sizes_are_lengths_over_the_channels() -> None:
    x, x_source = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(by_size(x, x_source), ((x_source - x) ** 2).sum(1).sqrt())
