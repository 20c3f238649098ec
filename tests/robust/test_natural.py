"""Natural training is the clean cross-entropy and nothing else."""

from __future__ import annotations

from aureole.robust.natural import Natural


def test_the_loss_is_the_clean_cross_entropy(net, x, y, batch, by_hand) -> None:
    by_hand.assert_loss_is(
        Natural(), net, batch, lambda model: {"clean": by_hand.cross_entropy(model(x), y).sum() / len(x)}
    )
