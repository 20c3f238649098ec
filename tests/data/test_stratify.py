"""Choices are balanced, nested and fixed by their seed."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aureole.data.stratify import balanced, stratified

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(LABELS, st.integers(0, 60), st.integers(0, 2**31))
def test_a_balanced_choice_is_as_equal_as_the_classes_allow(labels, count, seed):
    labels = torch.tensor(labels)
    count = min(count, len(labels))
    chosen, rest = balanced(labels, count, seed)
    assert torch.cat([chosen, rest]).sort().values.tolist() == list(range(len(labels)))
    assert len(chosen) == count
    assert (chosen.diff() > 0).all()
    got, there = labels[chosen].bincount(minlength=5), labels.bincount(minlength=5)
    most = int(got.max()) if count else 0
    assert all(g == t or g >= most - 1 for g, t in zip(got.tolist(), there.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(LABELS, st.data())
def test_a_smaller_balanced_choice_is_part_of_a_larger_one(labels, data):
    labels = torch.tensor(labels)
    few = data.draw(st.integers(0, len(labels)))
    many = data.draw(st.integers(few, len(labels)))
    assert set(balanced(labels, few, 0)[0].tolist()) <= set(balanced(labels, many, 0)[0].tolist())


def test_a_stratified_choice_keeps_the_shares_and_a_balanced_one_does_not():
    labels = torch.tensor([0] * 90 + [1] * 30)
    assert labels[stratified(labels, 40, 0)[0]].bincount().tolist() == [30, 10]
    assert labels[balanced(labels, 40, 0)[0]].bincount().tolist() == [20, 20]
    assert not torch.equal(balanced(labels, 40, 0)[0], balanced(labels, 40, 1)[0])
