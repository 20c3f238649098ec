"""One table over the attacks that look for the nearest or sparsest adversarial image: what holds for every one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.carlini_wagner import CarliniWagner
from aureole.attacks.deepfool import DeepFool
from aureole.attacks.minimal import MinimalAttack
from aureole.attacks.sparse import JSMA, CornerSearch, SparseFool, whole_box
from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams


def attacks(**fields: Any) -> dict[str, MinimalAttack]:
    return {
        "jsma": JSMA(theta=0.5, gamma=0.1, num_targets=3, **fields),
        "sparsefool": SparseFool(num_steps=5, **fields),
        "cornersearch": CornerSearch(**{"max_pixels": 4, "num_samples": 10, "num_best": 20, **fields}),
        "sigma": CornerSearch(**{"max_pixels": 4, "kappa": 2.0, "num_samples": 10, "num_best": 20, **fields}),
        "deepfool-l2": DeepFool(ball=L2(0.4), num_steps=10, **fields),
        "deepfool-linf": DeepFool(ball=Linf(0.02), num_steps=10, num_bisections=3, **fields),
        "cw": CarliniWagner(ball=L2(0.4), num_steps=20, num_searches=3, initial_constant=0.1, **fields),
    }


every = pytest.mark.parametrize("name", attacks())


@pytest.fixture
def colour() -> tuple[nn.Module, Tensor, Tensor]:
    """A network of 12 classes, and images that are higher than wide; two labels are wrong."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 12)).eval()
        x = torch.rand(7, 3, 10, 7)
        y = model(x).argmax(-1)
    y[[2, 5]] = (y[[2, 5]] + 1) % 12
    return model, x, y


@every
def test_it_fools_inside_the_ball_and_leaves_wrong_images_alone(colour: Any, name: str) -> None:
    model, x, y = colour
    attack = attacks()[name]
    x_adv = attack(model, x, y)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert attack.ball.contains(x_adv, x).all()
    assert torch.equal(x_adv[[2, 5]], x[[2, 5]])
    fooled = model(x_adv).argmax(-1) != y
    assert fooled[[0, 1, 3, 4, 6]].any()
    nearest = attack.minimize(model, x, y)
    assert torch.equal(nearest.clamp(0, 1), nearest)
    logits = model(nearest)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    still = logits.gather(1, y[:, None])[:, 0] > others + 1e-6  # by more than a rounding: it may lie on the boundary
    assert torch.equal(nearest[still], x[still])


@every
def test_an_image_has_its_own_result(colour: Any, name: str) -> None:
    model, x, y = colour
    whole = attacks()[name].minimize(model, x, y, generator=Streams.of(0, torch.arange(7)))
    order = torch.tensor([4, 0, 6, 3, 1, 5, 2])
    parts = []
    for i in (order[:1], order[1:4], order[4:]):
        parts.append(attacks()[name].minimize(model, x[i], y[i], generator=Streams.of(0, i)))
    torch.testing.assert_close(torch.cat(parts), whole[order], rtol=0, atol=1e-4)
    split = attacks(max_batch=3)[name].minimize(model, x, y, generator=Streams.of(0, torch.arange(7)))
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-4)
    assert not torch.equal(whole, x)


@every
def test_no_trace_is_left(stateful: nn.Module, trace: Any, name: str) -> None:
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    attack, x_before = attacks()[name], x.clone()
    before = trace(stateful)
    attack(stateful, x, y)
    before.check()
    assert torch.equal(x, x_before)
    with pytest.raises(InputError, match="labels must be from 0 to 3"):
        attack(stateful, x, y + 1)
    before.check()
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyError

    hook = stateful[-1].register_forward_hook(fail)
    with pytest.raises(KeyError):
        attack(stateful, x)
    hook.remove()
    before.check()


@every
def test_labels_precision_and_inference_mode(colour: Any, name: str) -> None:
    model, x, _ = colour
    attack, y = attacks()[name], model(x).argmax(-1)
    given = attack(model, x, y.int(), generator=Streams.of(0, torch.arange(7)))
    with torch.inference_mode():
        own = attack(model, x.clone(), generator=Streams.of(0, torch.arange(7)))
    assert torch.equal(own, given)
    model, x = model.double(), x.double()
    assert attack(model, x, y).dtype == torch.float64
    model.float()


@every
def test_misuse(colour: Any, name: str) -> None:
    model, x, y = colour
    attack = attacks()[name]
    for images, labels, message in (
        (255 * x, y, "must lie in the bounds"),
        (x, y + 12, "labels must be from 0 to 11"),
        (x[:0], y[:0], "not be empty"),
    ):
        with pytest.raises(InputError, match=message):
            attack(model, images, labels)
    with pytest.raises(InputError, match="max_batch must be an integer of at least 1; got -2"):
        attacks(max_batch=-2)


def test_the_whole_box_of_the_data() -> None:
    assert whole_box((0.0, 1.0)) == Linf(1.0)
    assert whole_box((-2.0, 1.0)) == Linf(3.0, (-2.0, 1.0))
    assert whole_box(((0.0, -1.0), (0.5, 2.0))).radius == 3.0
    with pytest.raises(InputError, match="needs bounded data"):
        whole_box(None)
