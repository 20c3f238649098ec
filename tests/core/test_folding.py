"""A folded network computes what the original does, without its batch normalisations; the original stays."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.folding import folded, keep_memory
from aureole.explain import ExplainedStudent, ExplainerUNet, own_map
from aureole.models import FourBlocks, ResNet

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def lived(network: nn.Module) -> nn.Module:
    """Give each normalisation statistics and weights of its own, some of them negative."""
    for module in network.modules():
        if isinstance(module, NORMS) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return network


def explained() -> ExplainedStudent:
    network = lived(ExplainedStudent(ExplainerUNet(3), FourBlocks((2, 4, 8, 16))))
    assert isinstance(network, ExplainedStudent)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in network.modules())


def test_the_map_and_the_logits_stay():
    network = explained().train()
    fast, x = folded(network), torch.rand(3, 3, 48, 33)
    torch.testing.assert_close(own_map(fast, x), own_map(network, x), rtol=0, atol=1e-5)
    torch.testing.assert_close(fast(x), network.eval()(x), rtol=0, atol=1e-5)
    assert own_map(network, x).std() > 1e-3
    assert (norms(network), norms(fast)) == (22, 0)
    assert isinstance(fast, ExplainedStudent)
    assert [name for name, _ in fast.named_modules()] == [name for name, _ in network.named_modules()]


def test_the_original_is_left_alone_and_the_copy_shares_nothing(trace):
    network = explained().train()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    kept = trace(network)
    fast = folded(network)
    assert not any(module.training for module in fast.modules())
    assert all(not p.requires_grad and p.grad is None for p in fast.parameters())
    for value in fast.state_dict().values():
        value.zero_()
    kept.check()
    assert not any(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))
    assert not {p.data_ptr() for p in fast.parameters()} & {p.data_ptr() for p in network.parameters()}


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


class Own(nn.Sequential):
    """Not a plain chain: the first layer runs alone too."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self[0](input)


class Twice(nn.Module):
    """A convolution that runs in a chain and alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.chain = nn.Sequential(self.conv, nn.BatchNorm2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.chain(x) + self.conv(x)


def watched() -> nn.Module:
    network = chain(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    network.get_submodule("0").register_forward_hook(lambda module, args, output: output.relu())
    return network


KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "no bias": (lambda: chain(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)), (2, 8, 8), 0),
    "groups, stride, padding": (
        lambda: chain(nn.Conv2d(2, 4, 3, 2, 1, groups=2, padding_mode="reflect"), nn.BatchNorm2d(4), nn.ReLU()),
        (2, 8, 8),
        0,
    ),
    "not affine": (lambda: chain(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Tanh()), (2, 8, 8), 0),
    "one dimension": (lambda: chain(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU()), (2, 8), 0),
    "three dimensions": (lambda: chain(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)), (2, 4, 4, 4), 0),
    "double": (lambda: chain(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).double(), (2, 8, 8), 0),
    "norm first": (lambda: chain(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 4, 3)), (2, 8, 8), 1),
    "of the batch": (
        lambda: chain(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        (2, 8, 8),
        1,
    ),
    "two in a row": (lambda: chain(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), (2, 8, 8), 1),
    "own forward": (lambda: Own(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)), (2, 8, 8), 1),
    "shared": (Twice, (2, 8, 8), 1),
    "watched": (watched, (2, 8, 8), 1),
    "weight norm": (
        lambda: chain(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3)), nn.BatchNorm2d(4), nn.ReLU()),
        (2, 8, 8),
        1,
    ),
    "residual": (lambda: ResNet.cifar(8, in_channels=2), (2, 8, 8), 7),
    "none": (lambda: chain(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()), (2, 8, 8), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_network_computes_the_same(kind):
    build, shape, left = KINDS[kind]
    network = lived(build()).eval()
    x = torch.randn(3, *shape, dtype=next(network.parameters()).dtype)
    before, fast = x.clone(), folded(network)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), network(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)
    assert norms(fast) == left


def test_no_relu_overwrites_what_it_does_not_own():
    inputs, x = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval(), torch.randn(1, 2, 4, 4)
    before = x.clone()
    folded(inputs)(x)
    assert torch.equal(x, before)


FAULTS = """
import resource, torch
from aureole.core.folding import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(12 * 2**20, dtype=torch.uint8) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
without = faults()
keep_memory()
faults()
print(without, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc")
def test_kept_memory_is_not_fetched_again():
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    without, kept = map(int, done.stdout.split())
    assert kept < without / 10


@pytest.mark.parametrize("megabytes", [0, 32])
def test_what_can_be_kept(megabytes):
    with pytest.raises(InputError, match=rf"\Amegabytes must be from 1 to 31.*; got {megabytes}\Z"):
        keep_memory(megabytes)
