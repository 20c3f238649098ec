"""Streams: good numbers, which belong to the example, and no trace on any global state."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams, mix_seed, streams_for

Draw = Callable[..., Tensor]
both_draws = pytest.mark.parametrize("draw", [Streams.uniform, Streams.normal])


def of(*indices: int, seed: int = 0) -> Streams:
    return Streams.of(seed, torch.tensor(indices))


@both_draws
def test_numbers_belong_to_the_example_not_to_its_place(draw: Draw) -> None:
    together, order = of(*range(6)), torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, parts = Streams.of(0, order), (of(0, 1), of(2, 3, 4, 5))
    for shape in ((2, 3), (5,)):
        numbers = draw(together, (6, *shape))
        assert torch.equal(draw(shuffled, (6, *shape)), numbers[order])
        assert torch.equal(torch.cat([draw(part, (len(part), *shape)) for part in parts]), numbers)


@both_draws
def test_the_batch_dimension_may_be_anywhere_and_more_particles_extend_fewer(draw: Draw) -> None:
    first = draw(of(0, 1, 2), (4, 3, 5), batch_dim=1)
    assert first.shape == (4, 3, 5)
    assert torch.equal(first.transpose(0, 1), draw(of(0, 1, 2), (3, 4, 5)))
    assert torch.equal(draw(of(0, 1, 2), (2, 3, 5), batch_dim=1), first[:2])


@both_draws
def test_draws_seeds_and_examples_differ(draw: Draw) -> None:
    streams = of(0, 1)
    numbers = torch.stack([*draw(streams, (2, 50)), *draw(streams, (2, 50)), *draw(of(0, 1, seed=1), (2, 50))])
    different = (numbers[:, None] != numbers[None]).float().mean(-1)
    assert different[~torch.eye(6, dtype=torch.bool)].min() > 0.95


def test_uniform_numbers_are_uniform() -> None:
    u = of(*range(200)).uniform((200, 1000)).double().flatten()
    assert u.min() >= 0
    assert u.max() < 1
    for power in (1, 2, 3, 4):
        assert (u**power).mean() == pytest.approx(1 / (power + 1), abs=4 / math.sqrt(len(u)))
    counts = torch.histc(u, 64, 0, 1)
    chi_squared = ((counts - len(u) / 64) ** 2 / (len(u) / 64)).sum()
    assert 63 - 4.5 * math.sqrt(126) < chi_squared < 63 + 4.5 * math.sqrt(126)
    bits = (u * 2**24).long()
    for bit in range(24):  # every bit that the hash delivers is fair
        assert ((bits >> bit) & 1).double().mean() == pytest.approx(0.5, abs=2.5 / math.sqrt(len(u)))


def test_normal_numbers_are_normal() -> None:
    z = of(*range(200)).normal((200, 1000)).double().flatten()
    assert z.isfinite().all()
    assert z.abs().max() < 6
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = math.sqrt(math.prod(range(1, 2 * power, 2)) / len(z))
        assert (z**power).mean() == pytest.approx(moment, abs=4.5 * spread)
    assert (z.abs() < 1).double().mean() == pytest.approx(0.682689, abs=0.005)


@both_draws
def test_streams_and_draws_are_uncorrelated(draw: Draw) -> None:
    streams, count = of(*range(30)), 4000
    rows = torch.cat([draw(streams, (30, count)), draw(streams, (30, count)), draw(of(0, seed=1), (1, count))]).double()
    correlation = torch.corrcoef(rows) - torch.eye(61)
    assert correlation.abs().max() < 5 / math.sqrt(count)
    lagged = [torch.corrcoef(torch.stack([r[:-1], r[1:]]))[0, 1] for r in rows]
    assert torch.stack(lagged).abs().max() < 5 / math.sqrt(count)


def test_selected_streams_go_on_from_the_same_point() -> None:
    streams = of(3, 4, 5)
    streams.uniform((3, 7))
    some = streams.select(torch.tensor([False, True, True]))
    assert len(some) == 2
    assert torch.equal(some.uniform((2, 7)), streams.uniform((3, 7))[1:])


def test_a_wrong_number_of_examples_is_refused() -> None:
    with pytest.raises(InputError, match="expected 2 examples"):
        of(0, 1).uniform((3, 4))
    with pytest.raises(InputError, match="one random stream an example, 3; got 2"):
        streams_for(torch.rand(3, 4), of(0, 1))


def test_mix_seed_separates_parts_and_fits_63_bits() -> None:
    seeds = {mix_seed(*parts) for parts in [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (-1,), (2**62,)]}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert abs(sum(mix_seed(7, i).bit_count() for i in range(1000)) / 1000 - 31.5) < 0.5


def test_a_generator_gives_streams_and_moves_on() -> None:
    x, generator = torch.rand(3, 2), torch.Generator().manual_seed(5)
    first, second = (streams_for(x, generator).uniform((3, 9)) for _ in range(2))
    assert (first == second).float().mean() < 0.1
    assert torch.equal(streams_for(x, torch.Generator().manual_seed(5)).uniform((3, 9)), first)
    given = of(0, 1, 2)
    assert streams_for(x, given) is given


def test_no_generator_leaves_the_global_state_alone() -> None:
    x = torch.rand(3, 2)
    state = torch.get_rng_state()
    first, second = (streams_for(x, None).uniform((3, 9)) for _ in range(2))
    assert (first == second).float().mean() < 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_of_torch_makes_a_fresh_process_repeatable() -> None:
    code = (
        "import sys, torch; torch.manual_seed(int(sys.argv[1])); torch.rand(int(sys.argv[2]))\n"
        "from aureole.core.random import streams_for\n"
        "print([streams_for(torch.zeros(2, 1), None).uniform((2, 3)).tolist() for _ in range(2)])"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, *a], stdout=subprocess.PIPE) for a in ("11", "12", "21")]
    first, same, other = (run.communicate()[0] for run in runs)
    assert len(first) > 100
    assert first == same
    assert first != other
