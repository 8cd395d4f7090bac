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


def _words(seed: int, stream: str, start: int, n: int, m: int, counters: int) -> np.ndarray:
    """Random words of rows start, ..., start + n - 1, of so many counters each, for m numbers a row: one array."""
    if start < 0 or n < 0 or m < 1:
        raise UsageError(f"rows {start} to {start + n} of {m} numbers: start and n must be at least 0, m at least 1")
    words: np.ndarray = _philox(seed, stream).advance(start * counters).random_raw(n * counters * _WORDS)
    return words


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
    counters = -(-m // _WORDS)
    words = _words(seed, stream, start, n, m, counters)
    # 52 bits: with 53, the largest would round to 1.
    u: np.ndarray = ((words.reshape(n, counters * _WORDS)[:, :m] >> np.uint64(12)) + 0.5) * 2.0**-52
    return u


def normals(seed: int, start: int, n: int, m: int, stream: str = "samples") -> np.ndarray:
    """Rows start, ..., start + n - 1 of an infinite table of independent standard normal numbers.

        e, e' = sqrt(-2 log u) cos(2 pi v), sqrt(-2 log u) sin(2 pi v),   u = (w + 1/2) / 2^32,   v = w' / 2^32

    in float32, with 32-bit words w and w'; |e| is at most 6.8, which one normal number in 10^11 exceeds.

    Reference: Box, Muller, "A Note on the Generation of Random Normal Deviates", Annals of Mathematical Statistics 29,
    1958.

    Returns:
        (n, m) float32. Tables of one seed and stream and different m are not independent of each other.

    Raises:
        UsageError: as `uniforms`.

    Example:
        >>> normals(0, 0, 2, 3).shape
        (2, 3)
    """
    counters = -(-m // (2 * _WORDS))
    words = _words(seed, stream, start, n, m, counters).astype("<u8", copy=False).view("<u4")
    halves = words.reshape(n, 2, counters * _WORDS)
    radius, angle = (np.ascontiguousarray(halves[:, i], dtype=np.float32) for i in range(2))
    # In place, with contiguous arrays: NumPy's fast loops.
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * np.pi * 2.0**-32)
    e = np.empty((n, 2, counters * _WORDS), np.float32)
    np.multiply(radius, np.cos(angle), out=e[:, 0])
    np.multiply(radius, np.sin(angle), out=e[:, 1])
    return e.reshape(n, 2 * counters * _WORDS)[:, :m]


def gammas(shape: np.ndarray, seed: int, start: int, stream: str = "gamma") -> np.ndarray:
    """Numbers start, ..., start + n - 1 of an infinite sequence that follow gamma distributions of scale 1.

    With c = a + 2/3 and v = (1 + x / (3 sqrt(c)))^3, the first pair of a normal x and a uniform u is taken for which
    v > 0 and log u < x^2 / 2 + c (1 - v + log v); then c v is a gamma number of shape a + 1, and c v u'^(1/a) one of
    shape a.

    Reference: Marsaglia, Tsang, "A Simple Method for Generating Gamma Variables", ACM Transactions on Mathematical
    Software 26, 2000.

    Arguments:
        shape: (n,), a > 0.

    Returns:
        (n,) float64; each is a function of the seed, its index and its shape alone.

    Example:
        >>> bool((gammas(np.full(8, 2.5), 0, 0)[5:] == gammas(np.full(3, 2.5), 0, 5)).all())
        True
    """
    n, c = len(shape), shape + 2 / 3
    v, left, tries = np.empty(n), np.arange(n), 0
    while len(left):
        if tries % _WORDS == 0:
            x = normals(seed, start, n, _WORDS, f"{stream}, normal {tries}").astype(np.float64)
            u = uniforms(seed, start, n, _WORDS, f"{stream}, uniform {tries}")
        x_now, c_now = x[left, tries % _WORDS], c[left]
        v[left] = cube = (1 + x_now / (3 * np.sqrt(c_now))) ** 3
        with np.errstate(invalid="ignore", divide="ignore"):  # comparisons with log of v <= 0 are false
            taken = np.log(u[left, tries % _WORDS]) < x_now**2 / 2 + c_now * (1 - cube + np.log(cube))
        left = left[~taken]
        tries += 1
    gamma: np.ndarray = c * v * uniforms(seed, start, n, 1, stream)[:, 0] ** (1 / shape)
    return gamma


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
