"""Samples whose decoder gives a distribution, such as strings: each latent is decoded several times at random."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.densities import Density
from raectl.errors import RaectlError, UsageError
from raectl.registry import resolve

MODE = "mode"  # random stream of the draws from a decoder's distributions
MOST_DRAWS = 10_000


def modes(checkpoint: Checkpoint, n: int, seed: int, density: str | Density | None, draws: int) -> Iterator[np.ndarray]:
    """Like `Checkpoint.sample`, but decode each latent `draws` times and yield the most frequent valid item.

    Each array is (1, *stored shape). The modality's first extractor decides what is valid; for molecules, what RDKit
    can parse. Item i depends on the seed and i alone.

    Raises:
        UsageError, RaectlError: as `check_draws`.
    """
    is_valid = _validity(checkpoint)
    blocks = checkpoint.sample_blocks(n, seed, density)
    for index, x_hat in enumerate(x_hat for block in blocks for x_hat in block.float().cpu()):
        generator = rng.torch_generator(seed, MODE, index)
        yield checkpoint.modality.mode(x_hat, draws, generator, is_valid)[None]


def check_draws(checkpoint: Checkpoint, draws: int | None) -> None:
    """Raise, before any work is done, unless `modes` can make so many draws; None is always accepted.

    Raises:
        UsageError: they are out of range, or the decoder's output for these items is not a distribution.
        RaectlError: the package that tells valid items apart is not installed.
    """
    if draws is None:
        return
    if type(draws) is not int or not 1 <= draws <= MOST_DRAWS:
        raise UsageError(f"--draws {draws} is out of range: 1 to {MOST_DRAWS:,}")
    if not checkpoint.modality.is_drawn:
        message = f"--draws {draws} is for strings; {checkpoint.data.modality} are decoded in one way"
        raise UsageError(message, "omit --draws")
    _validity(checkpoint)


def _validity(checkpoint: Checkpoint) -> Callable[[Any], bool]:
    try:
        is_valid: Callable[[Any], bool] = resolve("extractor", checkpoint.modality.extractors[0])().is_valid
    except RaectlError as error:
        raise RaectlError(f"--draws: {error.message}", f"{error.hint}, or omit --draws") from error
    return is_valid
