"""DeepFool and Carlini-Wagner beside foolbox (Rauber et al. 2020), JSMA beside ART (Nicolae et al. 2018)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole.attacks.carlini_wagner import CarliniWagner
from aureole.attacks.deepfool import DeepFool
from aureole.attacks.sparse import JSMA
from aureole.core.balls import L2, Ball, Linf

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def images(victim: Any) -> tuple[Tensor, Tensor]:
    right = victim.model(victim.x).argmax(-1) == victim.y
    return victim.x[right], victim.y[right]


def foolbox_attack(model: nn.Module, attack: str, x: Tensor, y: Tensor, **fields: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    theirs = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    found = getattr(foolbox.attacks, attack)(**fields).run(theirs, x, foolbox.criteria.Misclassification(y))
    fooled = model(found).argmax(-1) != y
    assert fooled.all()
    return found


@pytest.mark.parametrize(
    ("ball", "name"), [(L2(1.0), "L2DeepFoolAttack"), (Linf(1.0), "LinfDeepFoolAttack")], ids=["L2", "Linf"]
)
def test_deepfool_is_foolboxs(victim: Any, images: Any, ball: Ball, name: str) -> None:
    """Image by image: foolbox adds 1e-4 to each step's length, we do not, and no more differs."""
    x, y = images
    expected = foolbox_attack(victim.model, name, x, y)
    found = DeepFool(ball=ball).minimize(victim.model, x, y)
    assert (victim.model(found).argmax(-1) != y).all()
    theirs, ours = ball.distance(expected, x), ball.distance(found, x)
    assert ((ours - theirs).abs() <= 2e-3 + 0.01 * theirs).float().mean() > 0.9
    assert ours.mean() < 1.01 * theirs.mean()


def test_carlini_wagner_is_as_near_as_foolboxs(victim: Any, images: Any) -> None:
    x, y = images[0][:16], images[1][:16]
    fields = {"steps": 150, "binary_search_steps": 5, "initial_const": 0.03, "stepsize": 0.02}
    expected = foolbox_attack(victim.model, "L2CarliniWagnerAttack", x, y, abort_early=False, **fields)
    attack = CarliniWagner(num_steps=150, num_searches=5, initial_constant=0.03, step_size=0.02, abort_early=False)
    found = attack.minimize(victim.model, x, y)
    assert (victim.model(found).argmax(-1) != y).all()
    theirs, ours = L2(1.0).distance(expected, x), L2(1.0).distance(found, x)
    assert (ours / theirs).median() < 1.005
    assert ours.mean() < 1.03 * theirs.mean()


@pytest.mark.parametrize("theta", [0.25, -0.25])
def test_jsma_is_arts_where_one_class_loses_what_the_other_gains(victim: Any, theta: float) -> None:
    """ART takes the two largest gradients of the target; with two opposite logits that is the best pair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evasion = pytest.importorskip("art.attacks.evasion", reason="ART is not installed")
        from art.estimators.classification import PyTorchClassifier

    opposite = nn.Linear(4, 2, bias=False)
    opposite.weight.data = torch.tensor([[1.0, 1, -1, -1], [-1, -1, 1, 1]])
    model = nn.Sequential(victim.model, opposite).eval()
    x = victim.x[:10]
    y = model(x).argmax(-1)
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=2, clip_values=(0.0, 1.0), device_type="cpu"
    )
    theirs = evasion.SaliencyMapMethod(classifier, theta=theta, gamma=1.0, batch_size=10, verbose=False)
    expected = torch.from_numpy(theirs.generate(x.numpy(), np.eye(2)[1 - y.numpy()]))
    found = JSMA(theta=theta, gamma=1.0, num_targets=1)(model, x, y)
    fooled = model(found).argmax(-1) != y
    assert fooled.sum() >= 5
    torch.testing.assert_close(found[fooled], expected[fooled], rtol=0, atol=1e-5)
