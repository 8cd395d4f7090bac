"""Counter-based random numbers: functions of (seed, stream, index), independent of what else is drawn.

The generator is Philox (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), whose k-th
block of four 64-bit words is a keyed bijection of the counter k, so that any row can be computed without those before
it. A stream is the name of a purpose, such as "split"; streams are independent.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from raectl.errors import UsageError

if TYPE_CHECKING:
    import torch

_WORDS = 4  # 64-bit words per Philox counter
SEEDS = 2**64


def _philox(seed: int, stream: str, step: int = 0) -> np.random.Philox:
    """The generator of a stream. Steps do not overlap: the step is the high half of the counter."""
    key = [check_seed(seed), int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")]
    return np.random.Philox(key=np.array(key, np.uint64), counter=np.array([0, 0, step, 0], np.uint64))


def check_seed(seed: int) -> int:
    """Return `seed` as an int if it is a whole number in [0, 2**64), else raise a `UsageError`.

    Example:
        >>> check_seed(7)
        7
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < SEEDS:
        raise UsageError(f"seed must be a whole number from 0 to 2**64 - 1, not {seed!r}")
    return int(seed)


def uniforms(seed: int, start: int, n: int, m: int, stream: str = "samples") -> np.ndarray:
    """Rows start, ..., start + n - 1 of an infinite table of independent uniform numbers.

    u = (floor(word / 2^12) + 1/2) / 2^52, which is symmetric and never 0 or 1.

    Arguments:
        seed, stream: select the table; the seed is from 0 to 2**64 - 1.
        m: numbers per row. Tables of one seed and different m are not independent of each other.

    Returns:
        (n, m) float64 in the open interval (0, 1).

    Raises:
        UsageError: `seed` is out of range, or `start`, `n` or `m` is negative.

    Example:
        >>> bool((uniforms(0, 0, 8, 3)[5:] == uniforms(0, 5, 3, 3)).all())
        True
    """
    if start < 0 or n < 0 or m < 1:
        raise UsageError(f"rows {start} to {start + n} of {m} numbers: start and n must be at least 0, m at least 1")
    counters = -(-m // _WORDS)
    words = _philox(seed, stream).advance(start * counters).random_raw(n * counters * _WORDS)
    # 52 bits: with 53, the largest would round to 1.
    u: np.ndarray = ((words.reshape(n, counters * _WORDS)[:, :m] >> np.uint64(12)) + 0.5) * 2.0**-52
    return u


def to_normal(u: np.ndarray) -> np.ndarray:
    """Standard normal numbers from uniform ones, by the inverse of the normal distribution function.

    Example:
        >>> float(to_normal(np.array([0.5]))[0])
        0.0
    """
    import torch

    e: np.ndarray = torch.special.ndtri(torch.from_numpy(np.ascontiguousarray(u))).numpy()
    return e


def normals(seed: int, start: int, n: int, m: int, stream: str = "samples") -> np.ndarray:
    """Rows start, ..., start + n - 1 of an infinite table of standard normal numbers: `to_normal` of `uniforms`.

    Returns:
        (n, m) float64.

    Example:
        >>> normals(0, 0, 2, 3).shape
        (2, 3)
    """
    return to_normal(uniforms(seed, start, n, m, stream))


def permutation(seed: int, stream: str, n: int, step: int = 0) -> np.ndarray:
    """A random permutation of n items, (n,) int64: the stable order of n random 64-bit words; a new one each step.

    Example:
        >>> sorted(permutation(0, "order", 5, step=3).tolist())
        [0, 1, 2, 3, 4]
    """
    return np.argsort(_philox(seed, stream, step).random_raw(n), kind="stable")


def choose(seed: int, stream: str, n: int, count: int) -> np.ndarray:
    """At most `count` of n items, in their order: sorted indices; of a source sorted by class, some of every class.

    Example:
        >>> choose(0, "shown", 3, count=5).tolist()
        [0, 1, 2]
    """
    return np.sort(permutation(seed, stream, n)[:count])


def torch_generator(seed: int, stream: str, step: int, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """A torch generator for a purpose and a training step, a function of (seed, stream, step).

    The three are hashed, since torch's CPU generator uses only the low 32 bits of its seed. Devices draw different
    numbers from the same seed.

    Example:
        >>> import torch
        >>> a, b = (torch.rand(2, generator=torch_generator(0, "code", 5)) for _ in range(2))
        >>> bool((a == b).all())
        True
    """
    import torch

    digest = hashlib.sha256(f"{check_seed(seed)}/{step}/{stream}".encode()).digest()
    generator = torch.Generator(device=device)
    generator.manual_seed(int.from_bytes(digest[:8], "little"))
    return generator
