"""Misuse as a user meets it, without the type checks of the tests: one line that says what came and what to do.

It runs in one fresh process, because the tests check types before the library sees a wrong one.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SETUP = """
import json, sys, torch
from torch import nn
import aureole as au
from aureole.core.model import frozen
from aureole.core.random import Streams
x, y = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
search, pgd = au.ParticleSearch(au.Linf(0.1), 2, 2), au.PGD(num_steps=2, num_restarts=2)
class Tuple(nn.Module):
    def forward(self, x): return x.flatten(1), x
def enter(mode):
    with frozen(model, mode): pass
def nan():
    z = x.clone(); z[0] = torch.nan; return z
"""
CASES = {
    "search(model, (x * 255).byte(), y)": "floating-point tensor; got torch.uint8",
    "search(model, x * 255, y)": "must lie in the bounds",
    "search(model, nan(), y)": "must be finite; 16 values",
    "search(model, x[:0], y[:0])": "not be empty",
    "search(model, x[0, 0, 0], y)": "shape (batch, *event)",
    "search(model, x, y.float())": "labels must be an int64 tensor of class numbers; got torch.float32",
    "search(model, x, [0, 1, 2, 0])": "got list",
    "search(model, x, y[:3])": "one label an image, shape (4,); got (3,)",
    "search(model, x, y + 1)": "labels must be from 0 to 2; they range from 1 to 3",
    "search(model, x, y - 1)": "they range from -1 to 1",
    "search(Tuple(), x, y)": "it returned a tuple of 2",
    "search(lambda x: model(x), x, y)": "must be a torch.nn.Module; got function",
    "search(model, x, y, generator=Streams.of(0, torch.arange(3)))": "one random stream an example, 4; got 3",
    "pgd(model, x * 255, y)": "must lie in the bounds",
    "pgd(model, x, y.float())": "class numbers; got torch.float32",
    "pgd(Tuple(), x, y)": "it returned a tuple of 2",
    "au.PGD(ball=8 / 255)": "ball must be an instance of Ball, such as Linf(8 / 255); got 0.03",
    "au.ParticleSearch(8 / 255)": "ball must be an instance of Ball",
    "au.ParticleSearch(au.Linf(0.1), objective=au.KL)": "objective must be an instance of Objective",
    "au.ParticleSearch(au.Linf(0.1), kernel='rbf')": "kernel must be a Kernel or None",
    "au.ParticleSearch(au.Linf(0.1), num_particles=2.5)": "num_particles must be an integer",
    "au.ParticleSearch(au.Linf(0.1), keep='lats')": "unknown keep 'lats': did you mean 'last'",
    "au.ParticleSearch(au.Linf(0.1), mode='train')": "unknown mode 'train'",
    "enter('train')": "unknown mode 'train'",
    "au.KL('forward')": "unknown direction 'forward'",
    "au.RBF(scope='bacth')": "unknown scope 'bacth': did you mean 'batch'?",
    "au.RBF(space='pixels')": "unknown space 'pixels'",
    "au.RBF('meidan')": "the bandwidth must be 'median', 'narrow', 'thesis' or a positive number; got 'meidan'",
    "au.Linf('0.1')": "positive finite number; got '0.1'",
    "au.Linf(None)": "positive finite number; got None",
    "au.Linf(0.1, bounds=1.0)": "bounds must be a pair (low, high), or None; got 1.0",
    "au.Linf(0.1, bounds=(0.0,))": "bounds must be a pair",
}


@pytest.fixture(scope="module")
def messages() -> dict[str, list[str]]:
    body = (
        "out = {}\nfor case in json.loads(sys.argv[1]):\n    out[case] = ['none', '']\n    try:\n        eval(case)\n"
        "    except Exception as error:\n        out[case] = [type(error).__name__, str(error)]\nprint(json.dumps(out))"
    )
    command = [sys.executable, "-W", "error", "-c", SETUP + body, json.dumps(list(CASES))]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


@pytest.mark.parametrize("case", CASES)
def test_misuse_is_one_clear_line(messages: dict[str, list[str]], case: str) -> None:
    kind, message = messages[case]
    assert kind == "InputError", message
    assert CASES[case] in message
    assert "\n" not in message
