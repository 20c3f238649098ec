"""Random numbers that belong to an example, not to its place in a batch.

Every example of a batch has its own stream. Its numbers are a hash (splitmix64: Steele, Lea and Flood 2014) of the
example's key, of how often the stream was drawn from, and of the element's position. So a result does not depend on
the batch size, on the order of the batch, on how a batch is split or over how many processes it is spread, nor on the
device; and no global random state is read or changed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aureole.core.errors import InputError

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = 2**64 - 1


def _signed(value: int) -> int:
    """Return the 64-bit pattern of ``value`` as the signed integer that torch stores."""
    value &= _MASK
    return value - 2**64 if value >= 2**63 else value


def _mix(z: Tensor) -> Tensor:
    """Finish splitmix64 in place: shifts are logical, products wrap modulo 2^64."""
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        z.bitwise_xor_((z >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(_signed(factor))
    return z.bitwise_xor_((z >> 31).bitwise_and_(2**33 - 1))


def mix_seed(*parts: int) -> int:
    """Return one 63-bit seed from several integers, so that (1, 2) and (2, 1) differ.

    Example:
        >>> mix_seed(1, 2) == mix_seed(1, 2), mix_seed(1, 2) == mix_seed(2, 1)
        (True, False)
    """
    state = 0
    for part in parts:
        z = (state + part + 1) * _GOLDEN & _MASK
        z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
        z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
        state = z ^ (z >> 31)
    return state >> 1


class Streams:
    """One random stream for each example of a batch.

    Like ``torch.Generator``, it is stateful: a draw moves every stream on by one.

    Args:
        keys: one integer an example, shape (batch,). Equal keys give equal numbers.

    Example:
        >>> streams = Streams.of(seed=0, indices=torch.tensor([7, 3]))
        >>> both = streams.uniform((2, 5))
        >>> alone = Streams.of(seed=0, indices=torch.tensor([3])).uniform((1, 5))
        >>> bool((both[1] == alone[0]).all())
        True
    """

    def __init__(self, keys: Int64[Tensor, " batch"]) -> None:
        self.keys = keys
        self.draws = 0

    @classmethod
    def of(cls, seed: int, indices: Int64[Tensor, " batch"]) -> Streams:
        """Return the streams of the examples with these indices of a data set, under ``seed``."""
        return cls(_mix(indices * _signed(_GOLDEN) + _signed(mix_seed(seed))))

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, index: Tensor | slice) -> Streams:
        """Return the streams of some examples, at the same point of each; the two move on separately."""
        chosen = Streams(self.keys[index])
        chosen.draws = self.draws
        return chosen

    def fork(self, label: int | Int64[Tensor, " batch"]) -> Streams:
        """Return new streams that these and a number (one for all, or one an example) decide; these stay as they are.

        Example:
            >>> streams = Streams.of(seed=0, indices=torch.tensor([7, 3]))
            >>> first, second = streams.fork(1), streams.fork(torch.tensor([1, 2]))
            >>> (first.keys == second.keys).tolist()
            [True, False]
        """
        labels = torch.as_tensor(label, dtype=torch.int64, device=self.keys.device)
        return Streams(_mix(self.keys ^ _mix(labels * _signed(_GOLDEN) + _signed(_MIX_1))))

    def uniform(self, shape: tuple[int, ...], batch_dim: int = 0) -> Float[Tensor, "..."]:
        """Draw numbers uniform in [0, 1), in float32.

        Args:
            shape: the shape of the result.
            batch_dim: which dimension of ``shape`` runs over the examples.

        Returns:
            A tensor of ``shape`` on the device of the keys.
        """
        if shape[batch_dim] != len(self):
            raise InputError(f"expected {len(self)} examples in dimension {batch_dim}; got the shape {shape}")
        event = shape[:batch_dim] + shape[batch_dim + 1 :]
        count = math.prod(event)
        counters = torch.arange(count, dtype=torch.int64, device=self.keys.device)
        counters += _signed(self.draws * 2**40)
        self.draws += 1
        bits = _mix(self.keys[:, None] + _mix(counters.mul_(_signed(_GOLDEN))))
        unit = ((bits >> 40).bitwise_and_(2**24 - 1)).float().mul_(2.0**-24)
        return unit.view(len(self), *event).movedim(0, batch_dim)

    def normal(self, shape: tuple[int, ...], batch_dim: int = 0) -> Float[Tensor, "..."]:
        """Draw standard normal numbers, in float32, by inversion; arguments as in :meth:`uniform`."""
        centred = self.uniform(shape, batch_dim).mul_(2).add_(2.0**-24 - 1)
        return torch.erfinv(centred).mul_(math.sqrt(2))


class _Default:
    """The generator used where a caller gives none: our own, started from ``torch.initial_seed()``."""

    generator: torch.Generator | None = None
    seed: int | None = None


def _default_generator() -> torch.Generator:
    if _Default.generator is None or _Default.seed != torch.initial_seed():
        _Default.seed = torch.initial_seed()
        _Default.generator = torch.Generator().manual_seed(_Default.seed)
    return _Default.generator


def streams_for(x: Float[Tensor, "batch *event"], generator: torch.Generator | Streams | None) -> Streams:
    """Return one stream an example of ``x``, on its device.

    Args:
        x: images of shape (batch, *event).
        generator: where the streams come from. A ``torch.Generator`` is asked for one key an example; ``Streams`` are
            taken as they are; ``None`` takes the library's own generator, which starts from ``torch.initial_seed()``:
            ``torch.manual_seed`` makes a script repeatable, and yet the global state is left alone.

    Returns:
        Streams of length ``batch``.

    Raises:
        InputError: the given streams are not one an example.
    """
    if isinstance(generator, Streams):
        if len(generator) != len(x):
            raise InputError(f"expected one random stream an example, {len(x)}; got {len(generator)}")
        generator.keys = generator.keys.to(x.device)
        return generator
    generator = generator or _default_generator()
    keys = torch.randint(-(2**63), 2**63 - 1, (len(x),), generator=generator, device=generator.device)
    return Streams(keys.to(x.device))
