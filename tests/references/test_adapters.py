"""Adapters with real objects of foolbox and the Adversarial Robustness Toolbox: the same images as called directly."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole.attacks import FGSM, PGD
from aureole.attacks.adapters import ARTAttack, FoolboxAttack, FoolboxMinimalAttack, as_art, as_foolbox, wrap_attack
from aureole.attacks.base import Attack
from aureole.core.balls import L1, L2, Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams, mix_seed
from aureole.metrics import attack_success

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    evasion = pytest.importorskip("art.attacks.evasion", reason="adversarial-robustness-toolbox is not installed")
    from art.estimators.classification import PyTorchClassifier

fb = foolbox.attacks
RADIUS = {Linf: 0.12, L2: 0.8, L1: 5.0}
# foolbox and art warn of numpy's and torch's deprecations in their own code
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def few(victim: Any) -> Any:
    """Eight images that the model gets right, away from the bounds."""
    x = (0.2 + 0.6 * victim.x)[:12]
    right = victim.model(x).argmax(-1) == victim.y[:12]
    return type(victim)(victim.model, x[right][:8], victim.y[:12][right][:8])


def streams(count: int = 8) -> Streams:
    return Streams.of(0, torch.arange(count))


def seed_globally() -> None:
    """Seed the global generators as the adapter seeds them for the first call with these streams."""
    seed = mix_seed(int(streams().keys[0]), 0)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


BOUNDED = {
    "LinfPGD": (Linf, fb.LinfPGD(steps=8, abs_stepsize=0.03)),
    "L2PGD": (L2, fb.L2PGD(steps=8)),
    "L1PGD": (L1, fb.L1PGD(steps=8)),
    "LinfBIM": (Linf, fb.LinfBasicIterativeAttack(steps=5)),
    "repeated": (Linf, fb.LinfPGD(steps=8, abs_stepsize=0.03).repeat(2)),
    "FGM": (L2, fb.FGM(random_start=True)),
}
MINIMAL = {
    "L2DeepFool": (L2, fb.L2DeepFoolAttack(steps=20)),
    "LinfDeepFool": (Linf, fb.LinfDeepFoolAttack(steps=20)),
    "CarliniWagner": (L2, fb.L2CarliniWagnerAttack(binary_search_steps=3, steps=40, stepsize=0.05)),
    "FMN": (L1, fb.L1FMNAttack(steps=30)),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_attacks_of_foolbox(few: Any, name: str) -> None:
    kind, theirs = BOUNDED[name]
    attack = wrap_attack(theirs, kind(RADIUS[kind]))
    assert isinstance(attack, FoolboxAttack)
    x_adv = attack(few.model, few.x, few.y, generator=streams())
    assert attack.ball.distance(x_adv, few.x).max() <= RADIUS[kind] + 1e-6
    assert few.accuracy(few.x) == 1
    assert few.accuracy(x_adv) <= 0.5
    seed_globally()
    network = foolbox.PyTorchModel(few.model, bounds=(0, 1), device="cpu")
    expected = theirs(network, few.x, few.y, epsilons=RADIUS[kind])[1]
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", MINIMAL)
def test_minimisation_attacks_of_foolbox(few: Any, name: str) -> None:
    kind, theirs = MINIMAL[name]
    attack = wrap_attack(theirs, kind(RADIUS[kind]))
    assert isinstance(attack, FoolboxMinimalAttack)
    nearest = attack.minimize(few.model, few.x, few.y, generator=streams())
    seed_globally()
    network = foolbox.PyTorchModel(few.model, bounds=(0, 1), device="cpu")
    expected, _, fooled = theirs(network, few.x, few.y, epsilons=None)
    assert fooled.float().mean() > 0.8
    torch.testing.assert_close(nearest[fooled], expected[fooled], rtol=0, atol=2e-6)
    assert torch.equal(few.model(nearest).argmax(-1) != few.y, fooled)
    x_adv = attack(few.model, few.x, few.y, generator=streams())
    assert attack.ball.contains(x_adv, few.x).all()
    near = attack.ball.distance(nearest, few.x) <= RADIUS[kind]
    assert near.any()
    assert torch.equal(x_adv[near], nearest[near])


def test_targeted_attacks_of_foolbox(few: Any) -> None:
    target = (few.y + 1) % 4
    for theirs in (fb.LinfPGD(steps=20, abs_stepsize=0.03), fb.L2CarliniWagnerAttack(binary_search_steps=3, steps=40)):
        ball = Linf(0.4)
        x_adv = FoolboxAttack(attack=theirs, ball=ball, targeted=True)(few.model, few.x, target)
        assert (few.model(x_adv).argmax(-1) == target).float().mean() >= 0.75
        assert ball.contains(x_adv, few.x).all()
    with pytest.raises(InputError, match="a targeted attack needs y"):
        FoolboxAttack(attack=theirs, ball=ball, targeted=True)(few.model, few.x)
    with pytest.raises(
        InputError, match=r"GenAttack of foolbox .* does not work with targeted=False: use FoolboxAttack"
    ):
        wrap_attack(fb.GenAttack(), ball)(few.model, few.x, few.y)


def test_foolbox_and_the_ball_must_agree(few: Any) -> None:
    with pytest.raises(InputError, match=r"LinfP.* of foolbox 3\.\S+ measures .*, and the ball is L2"):
        wrap_attack(fb.LinfPGD(), L2(1.0))
    with pytest.raises(
        InputError, match=r"SpatialAttack of foolbox 3\.\S+ has run\(model, inputs, criterion, kwargs\)"
    ):
        wrap_attack(fb.SpatialAttack(), Linf(0.1))
    whole = wrap_attack(fb.L2DeepFoolAttack(steps=20), Linf(1.0))  # a minimisation attack may have another norm
    assert few.accuracy(whole(few.model, few.x, few.y)) < 0.2


def classifier(model: nn.Module, **fields: Any) -> Any:
    fields = {"clip_values": (0.0, 1.0), "device_type": "cpu"} | fields
    return PyTorchClassifier(model=model, loss=nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=4, **fields)


def made(name: str, estimator: Any) -> tuple[Any, Any]:
    quiet, pgd = {"verbose": False}, evasion.ProjectedGradientDescent
    return {
        "FGSM": lambda: (Linf(0.12), evasion.FastGradientMethod(estimator, eps=0.12)),
        "PGD": lambda: (Linf(0.12), pgd(estimator, eps=0.12, eps_step=0.03, max_iter=8, num_random_init=1, **quiet)),
        "PGD-L2": lambda: (L2(0.8), pgd(estimator, norm=2, eps=0.8, eps_step=0.2, max_iter=8, **quiet)),
        "DeepFool": lambda: (L2(1.5), evasion.DeepFool(estimator, max_iter=20, **quiet)),
        "APGD": lambda: (
            Linf(0.12),
            evasion.AutoProjectedGradientDescent(
                estimator, eps=0.12, eps_step=0.06, max_iter=8, nb_random_init=1, loss_type="cross_entropy", **quiet
            ),
        ),
    }[name]()


def art_success(model: nn.Module, name: str, x: Tensor, y: Tensor) -> Tensor:
    seed_globally()
    theirs = made(name, classifier(model))[1]
    return torch.from_numpy(theirs.generate(x=x.numpy(), y=nn.functional.one_hot(y, 4).float().numpy()))


@pytest.mark.parametrize("name", ["FGSM", "PGD", "PGD-L2", "DeepFool", "APGD"])
def test_attacks_of_art(few: Any, name: str) -> None:
    """The object is made for another network, and attacks that of the call all the same."""
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    ball, theirs = made(name, classifier(other))
    attack = wrap_attack(theirs, ball)
    assert isinstance(attack, ARTAttack)
    x_adv = attack(few.model, few.x, few.y, generator=streams())
    assert ball.distance(x_adv, few.x).max() <= ball.radius + 1e-6
    assert few.accuracy(x_adv) <= 0.5
    assert theirs.estimator.model is other
    assert theirs.estimator.clip_values.tolist() == [0, 1]
    assert len(theirs.estimator.preprocessing_operations) == 1
    expected = art_success(few.model, name, few.x, few.y)
    torch.testing.assert_close(x_adv, ball.project(expected, few.x), rtol=0, atol=2e-6)
    assert attack_success(few.model, attack, few.x, few.y).robust.float().mean() <= 0.5


def test_attacks_of_art_whose_labels_are_always_targets(few: Any) -> None:
    attack = wrap_attack(evasion.SaliencyMapMethod(classifier(few.model), theta=0.3, verbose=False), Linf(1.0))
    assert few.accuracy(attack(few.model, few.x, few.y)) < 0.3


def test_an_attack_of_art_in_a_geometry_of_its_own(few: Any) -> None:
    with pytest.raises(InputError, match=r"Wasserstein of art .* has the norm wasserstein, and the ball is L2"):
        wrap_attack(evasion.Wasserstein(classifier(few.model), verbose=False), L2(0.1))


def real(kind: str, model: nn.Module) -> Attack:
    if kind == "foolbox":
        return wrap_attack(fb.LinfPGD(steps=3), Linf(0.1))
    if kind == "foolbox minimal":
        return wrap_attack(fb.LinfDeepFoolAttack(steps=3), Linf(0.1))
    theirs = evasion.ProjectedGradientDescent(
        classifier(model), eps=0.1, eps_step=0.05, max_iter=3, num_random_init=1, verbose=False
    )
    return wrap_attack(theirs, Linf(0.1))


@pytest.mark.parametrize("kind", ["foolbox", "foolbox minimal", "art"])
def test_real_attacks_leave_no_trace(stateful: nn.Module, trace: Any, kind: str) -> None:
    x, y = torch.rand(5, 1, 8, 8), torch.arange(5) % 4
    attack, before, numpy_state = real(kind, stateful), trace(stateful), str(np.random.get_state())  # noqa: NPY002
    first, again = (attack(stateful, x, y, generator=streams(5)) for _ in range(2))
    before.check()
    assert torch.equal(first, again)
    with pytest.raises(InputError, match="labels must be from 0 to 3"):
        attack(stateful, x, y + 1)

    def fail(*_: Any) -> None:
        if torch.is_grad_enabled():
            raise KeyError

    hook = stateful[-1].register_forward_hook(fail)
    with pytest.raises(KeyError):
        attack(stateful, x, stateful.eval()(x).argmax(-1))
    hook.remove()
    stateful.train()
    stateful[3].eval()
    before.check()
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002


class Object(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return type("Output", (), {"logits": self.network(x)})()


@pytest.mark.parametrize("kind", ["foolbox", "foolbox minimal", "art"])
def test_models_that_return_objects(few: Any, kind: str) -> None:
    attack = real(kind, few.model)
    expected = attack(few.model, few.x, generator=streams())
    assert torch.equal(attack(Object(few.model), few.x, generator=streams()), expected)
    assert (expected != few.x).any()


def test_ours_called_as_foolbox_calls(few: Any) -> None:
    import eagerpy

    ours = PGD(ball=Linf(0.3), num_steps=5, step_size=0.04)
    network = foolbox.PyTorchModel(few.model, bounds=(0, 1), device="cpu")
    seeded = lambda: torch.Generator().manual_seed(4)  # noqa: E731
    expected = PGD(ball=Linf(0.1), num_steps=5, step_size=0.04)(few.model, few.x, few.y, generator=seeded())
    assert torch.equal(as_foolbox(ours, generator=seeded()).run(network, few.x, few.y, epsilon=0.1), expected)
    criterion = foolbox.Misclassification(few.y)
    x, y = eagerpy.astensor(few.x), eagerpy.astensor(few.y)
    for labels in (y, criterion):
        raw, clipped, success = as_foolbox(ours, generator=seeded())(network, x, labels, epsilons=[0.1, 0.2])
        assert type(clipped[0]) is type(success) is type(x)
        assert torch.equal(raw[0].raw, expected)
        assert torch.equal(clipped[0].raw, expected)
        assert success.shape == (2, 8)
        fooled = [few.model(images.raw).argmax(-1) != few.y for images in clipped]
        assert torch.equal(success.raw, torch.stack(fooled))
    with pytest.raises(InputError, match="expected TargetedMisclassification as the criterion of a targeted attack"):
        as_foolbox(FGSM(targeted=True)).run(network, few.x, few.y)
    with pytest.raises(InputError, match="expected labels or Misclassification as the criterion of an untargeted"):
        as_foolbox(FGSM()).run(network, few.x, foolbox.TargetedMisclassification(few.y))
    target = (few.y + 1) % 4
    towards = PGD(ball=Linf(0.3), num_steps=10, step_size=0.05, targeted=True)
    _, _, hit = as_foolbox(towards)(network, few.x, foolbox.TargetedMisclassification(target), epsilons=0.3)
    assert hit.float().mean() > 0.7


def test_foolbox_puts_ours_to_work(few: Any) -> None:
    """Ours inside an attack of foolbox; and there and back again."""
    ours = PGD(ball=Linf(0.3), num_steps=5, step_size=0.04)
    network = foolbox.PyTorchModel(few.model, bounds=(0, 1), device="cpu")
    repeated = fb.base.Repeated(as_foolbox(ours), 2)
    _, clipped, success = repeated(network, few.x, few.y, epsilons=[0.05, 0.12])
    assert few.accuracy(clipped[1]) == 1 - success[1].float().mean() <= 0.5
    assert Linf(0.05).contains(clipped[0], few.x).all()
    back = wrap_attack(as_foolbox(FGSM()), Linf(0.1))
    assert torch.equal(back(few.model, few.x, few.y), FGSM(ball=Linf(0.1))(few.model, few.x, few.y))


def test_ours_leaves_no_trace_in_a_foolbox_model(stateful: nn.Module, trace: Any) -> None:
    with warnings.catch_warnings(record=True):  # foolbox warns of a model in training mode
        network = foolbox.PyTorchModel(stateful, bounds=(0, 1), device="cpu")
    x, y, before = torch.rand(5, 1, 8, 8), torch.arange(5) % 4, trace(stateful)
    as_foolbox(PGD(num_steps=2))(network, x, y, epsilons=0.1)
    before.check()


def test_ours_called_as_art_calls(few: Any) -> None:
    ours, estimator = PGD(ball=Linf(0.1), num_steps=5, step_size=0.04), classifier(few.model)
    seeded = lambda: torch.Generator().manual_seed(4)  # noqa: E731
    expected = ours(few.model, few.x, few.y, generator=seeded())
    for labels in (few.y, nn.functional.one_hot(few.y, 4)):
        found = as_art(ours, estimator, generator=seeded()).generate(x=few.x.numpy(), y=labels.numpy())
        np.testing.assert_array_equal(found, expected.numpy())
    predicted = estimator.predict(as_art(ours, estimator).generate(few.x.numpy())).argmax(1)
    assert (predicted != few.y.numpy()).mean() >= 0.5
    with pytest.raises(InputError, match=r"changes images or predictions outside the model"):
        as_art(ours, classifier(few.model, preprocessing=(0.5, 0.5)))
