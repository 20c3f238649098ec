"""Adapters by shape: objects that look like those of torchattacks, art and foolbox, well-behaved and not."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aureole.attacks import PGD
from aureole.attacks.adapters import ARTAttack, FoolboxAttack, TorchattacksAttack, as_art, as_torchattacks, wrap_attack
from aureole.core.balls import L2, Linf
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.random import Streams

BALL = Linf(0.1)


def signed_steps(model: nn.Module, x: Tensor, y: Tensor, eps: float, start: Tensor) -> Tensor:
    """Ascend the loss as the libraries do: by a full backward pass."""
    x_adv = x + start
    for _ in range(4):
        x_adv = x_adv.detach().requires_grad_(True)
        nn.functional.cross_entropy(model(x_adv), y, reduction="sum").backward()
        assert x_adv.grad is not None
        x_adv = (x + (x_adv + eps / 2 * x_adv.grad.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return x_adv.detach()


class Rude:
    """Shaped as a torchattacks attack, and with every bad habit: modes, gradients, global random states."""

    def __init__(self, model: nn.Module, eps: float = 0.1, noise: float = 1.0) -> None:
        self.model, self.eps, self.noise, self.device = model, eps, noise, torch.device("cpu")
        self.targeted, self.attack_mode, self.normalization_used = False, "default", None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.model.train()
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        draws = torch.rand_like(images) + np.random.rand() + random.random()  # noqa: NPY002 (as the libraries do)
        x_adv = signed_steps(self.model, images, labels, self.eps, self.noise * (draws / 3 - 0.5) * self.eps)
        self.model.zero_grad(set_to_none=False)
        images.zero_()  # what it was given belongs to it
        return x_adv

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.forward(images, labels)


class Many(Rude):
    """Made of others, as torchattacks' MultiAttack."""

    def __init__(self, attacks: list[Rude]) -> None:
        super().__init__(attacks[0].model)
        self.attacks = {"all": attacks}

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        assert len({id(attack.model) for attack in self.attacks["all"]} | {id(self.model)}) == 1
        return self.attacks["all"][-1](images, labels)


class Wrapper(nn.Module):
    """As art wraps a model: a list of outputs, the last one counts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self._model(x)]


class Estimator:
    """Shaped as art's PyTorchClassifier."""

    def __init__(self, model: nn.Module, **fields: Any) -> None:
        self._model, self._device, self._clip_values = Wrapper(model), torch.device("meta"), None
        self.nb_classes, self.input_shape, self.preprocessing_operations = 4, (1, 8, 8), ["not to be used"]
        self.preprocessing = SimpleNamespace(mean=np.zeros(()), std=np.ones(()))
        self.preprocessing_defences = self.postprocessing_defences = None
        vars(self).update(fields)

    @property
    def model(self) -> nn.Module:
        return self._model._model

    def predict(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self._model.eval()(torch.from_numpy(x).to(self._device))[-1].numpy()


class Generator:
    """Shaped as an evasion attack of art, which holds a second estimator in a part of its own."""

    def __init__(self, estimator: Any, eps: float = 0.1, norm: float | str = "inf") -> None:
        self.estimator, self.eps, self.norm, self.targeted = estimator, eps, norm, False
        self.parts = [SimpleNamespace(generate=print, estimator=Estimator(nn.Identity()))]

    def generate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        assert x.dtype == np.float32
        assert y.shape == (len(x), 4)
        inner = self.parts[0].estimator
        assert np.array_equal(inner.predict(x), self.estimator.predict(x))
        assert inner.preprocessing_operations == []
        wrapper = inner._model.train()
        labels, images = torch.from_numpy(y.argmax(1)), torch.from_numpy(x)
        noise = np.random.uniform(-self.eps, self.eps, x.shape)  # noqa: NPY002
        start = torch.from_numpy(noise.astype(np.float32))
        return signed_steps(lambda z: wrapper(z)[-1], images, labels, self.eps, start).numpy()  # type: ignore[arg-type]


def theirs(kind: str, model: nn.Module) -> Any:
    return Rude(model) if kind == "torchattacks" else Generator(Estimator(model))


both = pytest.mark.parametrize("kind", ["torchattacks", "art"])


@both
def test_the_model_of_the_call_is_attacked_and_the_object_is_as_before(victim: Any, kind: str) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    attack = wrap_attack(theirs(kind, other), BALL)
    own = attack.attack if kind == "torchattacks" else attack.attack.estimator
    before = vars(own).copy()
    x = victim.x.clone()
    x_adv = attack(victim.model, x, victim.y)
    assert torch.equal(x, victim.x)
    assert BALL.contains(x_adv, x).all()
    assert not x_adv.requires_grad
    assert victim.accuracy(x) > 0.9
    assert victim.accuracy(x_adv) < 0.2
    assert vars(own) == before
    assert own.model is other
    assert kind == "torchattacks" or own._model.training


def random_states() -> list[Any]:
    return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]  # noqa: NPY002


@both
def test_no_trace_even_of_a_rude_attack(stateful: nn.Module, trace: Any, kind: str) -> None:
    x, y = torch.rand(5, 1, 8, 8), torch.arange(5) % 4
    attack, before, states = wrap_attack(theirs(kind, stateful), BALL), trace(stateful), random_states()
    attack(stateful, x, y)
    with torch.inference_mode():
        attack(stateful, x, y)
    before.check()
    assert random_states() == states
    with pytest.raises(InputError, match="labels must be from 0 to 3"):
        attack(stateful, x, y + 1)

    def fail(*_: Any) -> None:
        if torch.is_grad_enabled():  # in the attack, after our own look at the clean images
            raise TypeError("the model takes 2 positional arguments but 3 were given")

    hook = stateful[-1].register_forward_hook(fail)
    with pytest.raises(TypeError, match="the model takes"):  # the model's own mistake is not the library's
        attack(stateful, x, y)
    hook.remove()
    before.check()
    assert random_states() == states


@both
def test_a_seed_repeats_and_another_differs(victim: Any, kind: str) -> None:
    attack = wrap_attack(theirs(kind, victim.model), BALL)
    streams = Streams.of(0, torch.arange(32))
    first, second = (attack(victim.model, victim.x, victim.y, generator=streams) for _ in range(2))
    again = attack(victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32)))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert torch.equal(attack(victim.model, victim.x, victim.y, generator=Streams.of(0, torch.arange(32))), first)


class WithLogits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.network(x))


@both
def test_objects_with_logits_other_types_and_no_labels(victim: Any, kind: str) -> None:
    x, y = victim.x[:6], victim.model(victim.x[:6]).argmax(-1)
    attack, streams = wrap_attack(theirs(kind, victim.model), BALL), lambda: Streams.of(0, torch.arange(6))
    expected = attack(victim.model, x, y, generator=streams())
    assert torch.equal(attack(WithLogits(victim.model), x, generator=streams()), expected)

    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return victim.model((x @ torch.eye(8).double()).float()).double()

    found = attack(Double(), x.double(), y, generator=streams())
    assert found.dtype == torch.float64
    assert ((victim.model(found.float()).argmax(-1) != y).float().mean()) > 0.5


@both
def test_its_own_radius_is_checked_against_the_ball(victim: Any, kind: str) -> None:
    with pytest.warns(UntrustedResult, match=r"eps of .* is 0.1 and the radius of the ball 0.05: .* moved inside"):
        attack = wrap_attack(theirs(kind, victim.model), Linf(0.05))
    x_adv = attack(victim.model, victim.x, victim.y)
    assert Linf(0.05).distance(x_adv, victim.x).max() <= 0.05 + 1e-6
    with pytest.warns(UntrustedResult, match="only in a part of the ball"):
        wrap_attack(theirs(kind, victim.model), Linf(0.2))


def test_attacks_made_of_attacks_are_aimed_as_a_whole(victim: Any) -> None:
    other = nn.Linear(2, 2)
    parts = [Rude(other), Rude(other, noise=0.0)]
    x_adv = wrap_attack(Many(parts), BALL)(victim.model, victim.x, victim.y)
    assert victim.accuracy(x_adv) < 0.2
    assert all(part.model is other for part in parts)
    expected = signed_steps(victim.model, victim.x, victim.y, 0.1, torch.zeros(()))
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-6)
    victim.model.zero_grad()


def returning(value: Any, kind: str, model: nn.Module) -> Any:
    attack = theirs(kind, model)
    if kind == "art":
        attack.generate = lambda x, y: value(torch.from_numpy(x)).numpy() if value else [x]
    else:
        attack.forward = lambda x, y: value(x) if value else [x]
    return attack


@both
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda x: x[:, :, :4],
            r"floating images of shape \(32, 1, 8, 8\); .* returned torch.float32 of shape \(32, 1",
        ),
        (lambda x: x.mul(255).byte(), "returned torch.uint8"),
        (None, "returned list"),
        (lambda x: x.where(x > 0.5, float("nan")), "NaN or infinite for 32 of 32 images"),
    ],
)
def test_what_comes_back_is_checked(victim: Any, kind: str, value: Any, message: str) -> None:
    attack = wrap_attack(returning(value, kind, victim.model), BALL)
    with pytest.raises(InputError, match=message):
        attack(victim.model, victim.x, victim.y)


@both
def test_what_leaves_the_ball_is_projected_and_the_rest_is_kept(victim: Any, kind: str) -> None:
    far = wrap_attack(returning(lambda x: x + 3, kind, victim.model), BALL)
    assert torch.equal(far(victim.model, victim.x, victim.y), (victim.x + 0.1).clamp(0, 1))
    near = wrap_attack(returning(lambda x: x * 0.95, kind, victim.model), BALL)
    assert torch.equal(near(victim.model, victim.x, victim.y), victim.x * 0.95)


class Positional(Rude):
    def __call__(self, images: Tensor) -> Tensor:  # type: ignore[override]
        return images


class Keyword(Generator):
    def generate(self, images: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return images


Positional.__module__, Keyword.__module__ = "torchattacks.attacks.next", "art.attacks.next"


def test_a_changed_call_is_one_clear_line(victim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "art", SimpleNamespace(__version__="9.1"))  # type: ignore[arg-type]
    for attack, call, version in [
        (Positional(victim.model), r"attack\(images, labels\) -> images", "Positional of torchattacks of an unknown"),
        (Keyword(Estimator(victim.model)), r"attack.generate\(x=array, y=array\)", r"Keyword of art 9.1 answered"),
    ]:
        with pytest.raises(
            InputError, match=f"expected an attack object with the call {call}.*{version}.*install"
        ) as e:
            wrap_attack(attack, BALL)(victim.model, victim.x, victim.y)
        assert "\n" not in str(e.value)
        assert e.value.__cause__ is not None
    assert "torchattacks" not in sys.modules


def test_misuse_of_torchattacks_objects(victim: Any) -> None:
    normalising = Rude(victim.model)
    normalising.normalization_used = {"mean": 0.5}  # type: ignore[assignment]
    with pytest.raises(InputError, match="put the normalisation into the model"):
        wrap_attack(normalising, BALL)
    for ball in (Linf(0.1, None), Linf(0.1, (-1.0, 1.0))):
        with pytest.raises(InputError, match=r"torchattacks works on images in \[0, 1\]"):
            wrap_attack(Rude(victim.model), ball)
    with pytest.raises(InputError, match=r"has no network as \.model"):
        TorchattacksAttack(attack=lambda images, labels: images, ball=BALL)
    targeted = Rude(victim.model)
    targeted.targeted, targeted.attack_mode = True, "targeted(label)"
    with pytest.raises(InputError, match="a targeted attack needs y"):
        wrap_attack(targeted, BALL)(victim.model, victim.x)
    targeted.attack_mode = "targeted(random)"  # it chooses the targets itself
    assert wrap_attack(targeted, BALL)(victim.model, victim.x).shape == victim.x.shape


def test_misuse_of_art_objects(victim: Any) -> None:
    scaled = SimpleNamespace(mean=np.full(1, 0.5), std=np.ones(1))
    for fields in ({"preprocessing": scaled}, {"preprocessing": object()}, {"postprocessing_defences": [print]}):
        with pytest.raises(InputError, match="changes images or predictions outside the model"):
            wrap_attack(Generator(Estimator(victim.model, **fields)), BALL)
        with pytest.raises(InputError, match="changes images or predictions outside the model"):
            as_art(PGD(ball=BALL), Estimator(victim.model, **fields))
    with pytest.raises(InputError, match="must be a PyTorchClassifier of art; got SimpleNamespace"):
        wrap_attack(Generator(SimpleNamespace(predict=print, model=print)), BALL)
    with pytest.raises(InputError, match="holds no estimator"):
        ARTAttack(attack=SimpleNamespace(generate=print), ball=BALL)
    with pytest.raises(InputError, match="has no generate"):
        ARTAttack(attack=Rude(victim.model), ball=BALL)
    with pytest.raises(InputError, match=r"has the norm 2, and the ball is Linf"):
        wrap_attack(Generator(Estimator(victim.model), norm=2), BALL)
    assert isinstance(wrap_attack(Generator(Estimator(victim.model), norm=2), L2(0.1)), ARTAttack)
    for fields in ({"nb_classes": 10}, {"input_shape": (1, 28, 28)}):
        with pytest.raises(InputError, match=r"is for .* the model has 4 and the images \(1, 8, 8\)"):
            wrap_attack(Generator(Estimator(victim.model, **fields)), BALL)(victim.model, victim.x, victim.y)


def test_clip_values_and_device_are_those_of_the_call(victim: Any) -> None:
    attack, seen = Generator(Estimator(victim.model)), []
    attack.generate = lambda x, y: seen.append(vars(attack.estimator).copy()) or x  # type: ignore[func-returns-value]
    for bounds in ((-1.0, 2.0), ((0.0,), (0.9,)), None):
        wrap_attack(attack, Linf(0.1, bounds))(victim.model, 0.9 * victim.x, victim.y)
        assert seen[-1]["_device"].type == "cpu"
    np.testing.assert_allclose(seen[0]["_clip_values"], [-1, 2])
    np.testing.assert_allclose(seen[1]["_clip_values"], np.reshape([0, 0.9], (2, 1, 1, 1)))
    assert seen[2]["_clip_values"] is None


def test_unknown_kinds_of_objects(victim: Any) -> None:
    for thing in (3, print, victim.model, SimpleNamespace(attack=print)):
        with pytest.raises(InputError, match="expected an attack object of foolbox, torchattacks or art; got"):
            wrap_attack(thing, BALL)
    with pytest.raises(InputError, match=r"got the class Rude: make one"):
        wrap_attack(Rude, BALL)
    assert wrap_attack(PGD(ball=Linf(0.3)), BALL) == PGD(ball=BALL)


class Foolish:
    """Shaped as a foolbox attack; ``run`` and the call are given."""

    def __init__(self, run: Any, call: Any = None) -> None:
        self.run, self.call = run, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


@pytest.mark.filterwarnings("ignore")
def test_foolbox_objects_with_other_calls(victim: Any) -> None:
    pytest.importorskip("foolbox", reason="foolbox is not installed")

    def bounded(model: Any, inputs: Any, criterion: Any, *, epsilon: float) -> None: ...

    with pytest.raises(InputError, match=r"run\(model, inputs, criterion, \*, epsilon\) or .* Foolish .* has run\(x\)"):
        wrap_attack(Foolish(lambda x: x), BALL)
    with pytest.raises(InputError, match="has no run"):
        FoolboxAttack(attack=SimpleNamespace(), ball=BALL)
    with pytest.raises(InputError, match="foolbox needs the bounds"):
        wrap_attack(Foolish(bounded), Linf(0.1, None))
    with pytest.raises(InputError, match=r"answered .*unexpected keyword argument 'epsilons'"):
        wrap_attack(Foolish(bounded, lambda model, x, y, epsilon: x), BALL)(victim.model, victim.x, victim.y)
    with pytest.raises(InputError, match="returned NoneType"):
        wrap_attack(Foolish(bounded, lambda *a, epsilons: None), BALL)(victim.model, victim.x, victim.y)
    ours = Foolish(bounded, lambda model, x, criterion, *, epsilons: (x + epsilons, None, None))
    x_adv = wrap_attack(ours, BALL)(victim.model, victim.x, victim.y)
    torch.testing.assert_close(x_adv, (victim.x + 0.1).clamp(0, 1))


def test_ours_called_as_theirs(victim: Any) -> None:
    seeded = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    attack = PGD(ball=BALL, num_steps=3, step_size=0.05)
    expected = attack(victim.model, victim.x, victim.y, generator=seeded())
    torchlike = as_torchattacks(attack, victim.model, generator=seeded())
    assert torch.equal(torchlike(victim.x, victim.y), expected)
    assert (torchlike.eps, torchlike.targeted, torchlike.device) == (0.1, False, torch.device("cpu"))
    estimator = Estimator(victim.model)
    for labels in (victim.y, victim.y[:, None], nn.functional.one_hot(victim.y, 4).float()):
        found = as_art(attack, estimator, generator=seeded()).generate(victim.x.numpy(), labels.numpy())
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected.numpy())
    narrow = Estimator(victim.model, clip_values=np.array([0.2, 0.8]))
    inside = victim.x.clamp(0.2, 0.8).numpy()
    assert as_art(attack, narrow).generate(x=inside).min() >= np.float32(0.2)
    with pytest.raises(InputError, match=r"images must lie in the bounds \(0.2, 0.8\)"):
        as_art(attack, narrow).generate(victim.x.numpy())
