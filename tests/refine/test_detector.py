"""The detector: chance on equals, certainty on what differs plainly, judged on what it never saw, and no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from aureole.attacks import PGD
from aureole.core.balls import Linf
from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError
from aureole.core.features import activations
from aureole.refine import detector as module
from aureole.refine.density import log_density, non_maximal_entropy
from aureole.refine.detector import DetectionAUC, Detector, Reference, TooFewExamplesError, detection_auc

QUICK = Detector(num_bootstrap=50)


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw more of the pictures that the victim was trained on."""
    y = torch.arange(count) % 4
    line = torch.linspace(-1, 1, 8)
    patterns = torch.stack([line.expand(8, 8), -line.expand(8, 8), line.expand(8, 8).mT, -line.expand(8, 8).mT])
    noise = 0.12 * torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 0.1 * patterns[y][:, None] + noise).clamp(0, 1), y


def halves(count: int) -> Tensor:
    return torch.arange(count) < count // 2


def by_hand(natural: Tensor, adversarial: Tensor, first: Tensor) -> tuple[float, Tensor]:
    train = torch.cat([natural[first], adversarial[first]]).numpy()
    test = torch.cat([natural[~first], adversarial[~first]]).numpy()
    scaler = StandardScaler().fit(train)
    fitted = LogisticRegression(max_iter=1000).fit(
        scaler.transform(train), torch.arange(2).repeat_interleave(first.sum())
    )
    scores = fitted.predict_proba(scaler.transform(test))[:, 1]
    return float(roc_auc_score(torch.arange(2).repeat_interleave((~first).sum()), scores)), torch.as_tensor(
        fitted.coef_[0]
    )


def test_the_auc_is_that_of_scikit_learn_on_the_other_half() -> None:
    natural, adversarial = torch.randn(60, 3), torch.randn(60, 3) + torch.tensor([1.0, 0.3, 0.0])
    first = torch.rand(60) < 0.4
    found = detection_auc(natural, adversarial, first)
    auc, coefficients = by_hand(natural, adversarial, first)
    assert found.auc == pytest.approx(auc)
    torch.testing.assert_close(torch.tensor(found.coefficients, dtype=torch.float64), coefficients.double())
    assert (found.num_fit_pairs, found.num_pairs) == (int(first.sum()), int((~first).sum()))


def test_the_resampled_auc_counts_ties_one_half() -> None:
    scores = torch.randint(0, 6, (2, 40)).double()
    ranks = scores.flatten().unique(return_inverse=True)[1].chunk(2)
    wanted = roc_auc_score(torch.arange(2).repeat_interleave(40), scores.flatten())
    assert float(module._auc(*ranks)) == pytest.approx(wanted)


def test_the_interval_holds_the_auc_and_shrinks_with_the_pairs() -> None:
    widths = []
    for count in (60, 600, 6000):
        natural = torch.randn(count, 1)
        found = detection_auc(natural, torch.randn(count, 1) + 1, halves(count), num_bootstrap=200)
        assert found.low < found.auc < found.high
        assert found.auc == pytest.approx(0.760, abs=4 / count**0.5 / 2)  # Phi(1 / sqrt 2)
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_what_the_second_half_holds_does_not_reach_the_fit() -> None:
    natural, adversarial, first = torch.randn(40, 3), torch.randn(40, 3) + 1, halves(40)
    one = detection_auc(natural, adversarial, first)
    natural[~first], adversarial[~first] = adversarial[~first], 50 * natural[~first]
    other = detection_auc(natural, adversarial, first)
    assert other.coefficients == one.coefficients
    assert other.auc != one.auc


def test_features_without_information_give_chance_and_not_more() -> None:
    """A detector that was judged on what it was fitted on would reach 0.75 here."""
    aucs, leaked = [], []
    for _ in range(60):
        natural, adversarial = torch.randn(2, 20, 3)
        aucs.append(detection_auc(natural, adversarial, halves(20), num_bootstrap=1).auc)
        natural[10:], adversarial[10:] = natural[:10], adversarial[:10]
        leaked.append(detection_auc(natural, adversarial, halves(20), num_bootstrap=1).auc)
    assert abs(sum(aucs) / 60 - 0.5) < 0.05
    assert sum(leaked) / 60 > 0.62


def test_halves_are_disjoint_and_the_same_for_every_attack(victim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    plain = detection_auc
    monkeypatch.setattr(module, "detection_auc", lambda *a, **k: seen.append(a[2]) or plain(*a, **k))
    (x, y), reference = images(80, 1), QUICK.reference(victim.model, images(200, 2)[0])
    every = Detector(num_bootstrap=5, successful_only=False)
    for x_adv in (x.roll(1, 0), x.flip(3), 1 - x):
        every.judge(victim.model, x, x_adv, y, reference)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert int(seen[0].sum()) == 40
    Detector(num_bootstrap=5, successful_only=False, seed=1).judge(victim.model, x, 1 - x, y, reference)
    assert not torch.equal(seen[0], seen[3])


def test_images_of_the_same_kind_are_at_chance_and_noise_is_found(victim: Any) -> None:
    (x, y), (reference_x, reference_y) = images(800, 1), images(400, 2)
    same = QUICK.measure(victim.model, x, x.roll(1, 0), y, reference_x, reference_y)
    assert abs(same.auc - 0.5) < 0.07
    noise = torch.rand(800, 1, 8, 8, generator=torch.Generator().manual_seed(3)).round()
    found = QUICK.measure(victim.model, x, noise, y, reference_x, reference_y)
    assert found.auc > 0.9
    assert found.auc > found.low > 0.8
    assert found.coefficients[1] < 0  # a low density speaks for an adversarial image


def test_an_attack_is_found_by_features_as_the_formulas_say(victim: Any) -> None:
    model, (x, y), (reference_x, reference_y) = victim.model, images(160, 1), images(200, 2)
    x_adv = PGD(ball=Linf(0.08), num_steps=5, step_size=0.03)(model, x, y, generator=torch.Generator().manual_seed(0))
    found = QUICK.measure(model, x, x_adv, y, reference_x, reference_y)
    with torch.no_grad():
        used = (model(x).argmax(1) == y) & (model(x_adv).argmax(1) != y)
        hidden, predicted = model[:-1](reference_x), model(reference_x).argmax(1)
        rows = []
        for images_ in (x, x_adv):
            logits, z = model(images_), model[:-1](images_)
            density = torch.cat(
                [
                    log_density(
                        z[i : i + 1], hidden[(predicted == reference_y) & (predicted == label)], found.bandwidth
                    )
                    for i, label in enumerate(logits.argmax(1))
                ]
            )
            rows.append(
                torch.stack([logits.double().softmax(1).amax(1), density, non_maximal_entropy(logits)], 1)[used]
            )
    order = torch.randperm(160, generator=torch.Generator().manual_seed(module.mix_seed(0, module._HALVES)))
    first = torch.isin(torch.arange(160), order[:80])[used]
    auc, coefficients = by_hand(rows[0], rows[1], first)
    assert found.auc == pytest.approx(auc, abs=1e-4)
    torch.testing.assert_close(torch.tensor(found.coefficients).double(), coefficients.double(), rtol=1e-3, atol=1e-3)
    assert found.num_pairs + found.num_fit_pairs == int(used.sum()) < 160
    assert found.layer == "6:input"


def test_neither_batch_size_nor_state_matter(victim: Any, stateful: nn.Module, trace: Any) -> None:
    (x, y), (reference_x, reference_y) = images(120, 1), images(100, 2)
    one = Detector(successful_only=False).measure(victim.model, x, 1 - x, y, reference_x, reference_y)
    other = Detector(successful_only=False, batch_size=7).measure(victim.model, x, 1 - x, y, reference_x, reference_y)
    assert other.auc == pytest.approx(one.auc, abs=1e-3)
    assert other.bandwidth == pytest.approx(one.bandwidth, rel=1e-5)
    before = trace(stateful)
    everything = torch.cat([reference_x, x, 1 - x])
    Detector(successful_only=False, num_bootstrap=5).measure(stateful, x, 1 - x, y, everything)
    before.check()


def test_the_reference_is_drawn_at_random_and_by_the_predicted_class(victim: Any) -> None:
    x, y = images(400, 2)
    wrong = torch.where(torch.arange(400) < 200, (y + 1) % 4, y)
    reference = Detector(max_reference=30).reference(victim.model, x, wrong)
    assert [len(points) for points in reference.classes] == [30] * 4
    found = activations(victim.model, x)
    for label, points in enumerate(reference.classes):
        rows = (points[:, None] - found.hidden).abs().amax(2).argmin(1)
        assert (found.logits[rows].argmax(1) == label).all()
        assert (wrong[rows] == label).all()
        assert len(rows.unique()) == 30
        assert 250 < rows.float().mean() < 350
    again = Detector(max_reference=30, batch_size=9).reference(victim.model, x, wrong)
    other = Detector(max_reference=30, seed=1).reference(victim.model, x, wrong)
    torch.testing.assert_close(again.classes[0], reference.classes[0])
    assert not torch.allclose(other.classes[0], reference.classes[0])


def test_a_bandwidth_may_be_given(victim: Any) -> None:
    x = images(80, 2)[0]
    assert Detector(bandwidth=1.2).reference(victim.model, x).bandwidth == 1.2
    narrow, wide = (Detector(bandwidth=rule).reference(victim.model, x).bandwidth for rule in ("nearest", "median"))
    assert 0 < narrow < wide / 3
    assert from_values(to_values(Detector(bandwidth=0.26))) == Detector(bandwidth=0.26)


def refused(message: str, *arguments: Any, detector: Detector = QUICK, kind: type[InputError] = InputError) -> None:
    with pytest.raises(InputError, match=message) as caught:
        detector.measure(*arguments)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused_in_one_line(victim: Any) -> None:
    model, (x, y), (reference_x, reference_y) = victim.model, images(40, 1), images(80, 2)
    refused("2 usable pairs of images in each half; got 0 and 0", model, x, x, y, reference_x, kind=TooFewExamplesError)
    refused(r"attacked images of shape \(40, 1, 8, 8\); got \(39", model, x, x[1:], y, reference_x)
    refused("must be finite; 64 values", model, x, torch.cat([x[:-1], x[:1] * torch.nan]), y, reference_x)
    refused("one label an image", model, x, 1 - x, y[1:], reference_x)
    refused("labels must be from 0 to 3", model, x, 1 - x, y + 1, reference_x)
    few = torch.cat([reference_x[reference_y != 2], reference_x[reference_y == 2][:1]])
    labels = torch.cat([reference_y[reference_y != 2], torch.tensor([2])])
    refused(r"as class 2; got [01]: give more", model, x, x.roll(1, 0), y, few, labels, kind=TooFewExamplesError)
    same = reference_x[:1].expand(9, -1, -1, -1)
    refused("rule 'nearest' makes a bandwidth of 0.0", model, x, 1 - x, y, same)
    refused("rule 'nearest' makes a bandwidth of nan", model, x, 1 - x, y, reference_x[:1])
    broken = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    broken[1].bias.data[0] = torch.nan
    refused("logits and hidden layer '1:input' must be finite", broken, x, 1 - x, y, reference_x)
    refused("unknown layer", model, x, 1 - x, y, reference_x, detector=Detector(hidden_layer="fc"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bandwidth": 0.0}, "must be positive, or one of nearest, median; got 0.0"),
        ({"bandwidth": -1.0}, "got -1.0"),
        ({"bandwidth": float("nan")}, "got nan"),
        ({"max_reference": 1}, "max_reference must be at least 2; got 1"),
        ({"num_bootstrap": 0}, "num_bootstrap must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_fields_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detector(**fields)


def test_features_that_do_not_fit_are_refused() -> None:
    natural = torch.randn(6, 2)
    with pytest.raises(InputError, match=r"of one shape; got \(6, 2\) and \(6, 1\)"):
        detection_auc(natural, natural[:, :1], halves(6))
    with pytest.raises(InputError, match="must be finite"):
        detection_auc(natural, natural / 0, halves(6))
    with pytest.raises(TooFewExamplesError, match="in each half; got 1 and 5"):
        detection_auc(natural, natural, torch.arange(6) < 1)


def test_the_result_and_the_reference_are_frozen() -> None:
    with pytest.raises(AttributeError):
        DetectionAUC(0.5, 0.4, 0.6, 3, 3, (1.0,)).auc = 1.0
    with pytest.raises(AttributeError):
        Reference("fc", (torch.zeros(2, 1),), 1.0).layer = "x"
