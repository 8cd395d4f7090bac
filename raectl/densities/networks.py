"""Densities that are neural networks: the one loop that fits them, their weights as arrays, and blocks of rows.

They are fitted in float32 by Adam; a tenth of the latents is set aside, and the weights under which these have the
lowest loss are kept.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from raectl.densities.base import Arrays
from raectl.device import padded_blocks
from raectl.errors import RaectlError
from raectl.model.plateau import Plateau, Schedule
from raectl.model.weights import to_array
from raectl.progress import Progress
from raectl.rng import permutation, torch_generator

BLOCK = 256  # rows that a network runs on at a time; see `padded_blocks`
_HELD_OUT = 10  # one in so many latents is set aside
_ROWS = 1024  # latents whose loss is taken at once, where no gradient is
_STEPS = 50  # steps from one report to the next

Loss = Callable[[Tensor, torch.Generator], Tensor]  # (B, d) float32 and random numbers => (), a mean over the rows


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted.

    Arguments:
        epochs: at most this many.
        batch_size: latents a step; of an epoch's last ones, fewer than that are left out unless they are all.
        lr: Adam's learning rate at first.
        patience: after so many epochs whose loss is not lower by `gain` than the lowest before, the rate is halved.
        gain: in the units of the loss.
        halvings: the fit ends where the rate would be halved once more than this; None for never.
        clip: longest gradient, in the Euclidean norm over all weights; longer ones are scaled to it.
        average: how much of their running average the weights that are judged and kept retain at each step; 0 for
            the weights as they are.
    """

    epochs: int
    batch_size: int
    lr: float
    patience: int
    gain: float
    halvings: int | None = None
    clip: float = math.inf
    average: float = 0.0


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Initial weights drawn inside come from the seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "density weights", 0).initial_seed())
        yield


def set_aside(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to fit to, and a tenth to judge by, at least one; a single row serves as both."""
    order = torch.from_numpy(permutation(seed, "density held out", len(x)))
    aside = max(1, len(x) // _HELD_OUT)
    return x[order[aside:]] if len(x) > 1 else x, x[order[:aside]]


def fit_network(
    module: nn.Module, loss: Loss, x: Tensor, held_out: Tensor, recipe: Recipe, seed: int, progress: Progress
) -> dict[str, float | int]:
    """Fit the weights of a module, in place, to rows x: (N, d) float32.

    Returns:
        What a density reports: epochs, best_epoch (0 for the initial weights), and the loss of the rows that were
        fitted to and of those set aside, both under the weights that are kept.

    Raises:
        RaectlError: the loss of the rows set aside is not finite any more.
    """
    fit = _Fit(module, loss, recipe, seed, progress)
    fit.judge(0, held_out)
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        terms = {"loss": fit.epoch(epoch, x)}
        fit.judge(epoch, held_out)
        seconds = time.perf_counter() - start
        progress.epoch(
            {
                "epoch": epoch,
                "epochs": recipe.epochs,
                "train": terms,
                "validation": {"loss": fit.latest},
                "items_per_second": round(len(x) / seconds, 1),
                "seconds": seconds,
                "best": fit.best_epoch == epoch,
            }
        )
        if recipe.halvings is not None and fit.halvings > recipe.halvings:
            break
    with torch.no_grad():
        for parameter, best in zip(module.parameters(), fit.best, strict=True):
            parameter.copy_(best)
    return {"epochs": epoch, "best_epoch": fit.best_epoch, "loss": fit.mean(x), "held_out_loss": fit.lowest}


class _Fit:
    """A module in the course of its fit: the optimizer, the schedule, and the best weights so far."""

    def __init__(self, module: nn.Module, loss: Loss, recipe: Recipe, seed: int, progress: Progress) -> None:
        self._loss, self._recipe, self._seed, self._progress = loss, recipe, seed, progress
        self._weights: list[Tensor] = list(module.parameters())
        self._averages = [weight.detach().clone() for weight in self._weights]
        self._adam, self._steps = torch.optim.Adam(self._weights, lr=recipe.lr, fused=True), 0
        self._schedule, self._plateau = Schedule(recipe.lr), Plateau(recipe.gain, recipe.patience)
        self.halvings = 0
        self.best: list[Tensor] = []
        self.best_epoch, self.lowest, self.latest = 0, math.inf, math.inf

    def epoch(self, epoch: int, x: Tensor) -> float:
        """One pass over the rows in an order of its own; the mean loss of its steps."""
        order = torch.from_numpy(permutation(self._seed, "density order", len(x), epoch))
        size = min(self._recipe.batch_size, len(x))
        batches = len(x) // size
        generator = torch_generator(self._seed, "density", epoch)
        start, total = time.perf_counter(), 0.0
        for batch in range(batches):
            with torch.enable_grad():
                loss = self._loss(x[order[batch * size : (batch + 1) * size]], generator)
                self._adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            if math.isfinite(self._recipe.clip):
                nn.utils.clip_grad_norm_(self._weights, self._recipe.clip)
            self._adam.step()
            self._add_to_averages()
            total += float(loss.detach())
            if batch % _STEPS == _STEPS - 1:
                rate = (batch + 1) * size / (time.perf_counter() - start)
                left = ((self._recipe.epochs - epoch + 1) * batches - batch - 1) * size / rate
                self._progress.step(epoch, batch + 1, batches, {"loss": total / (batch + 1)}, rate, left)
        return total / batches

    def _add_to_averages(self) -> None:
        self._steps += 1
        retained = min(self._recipe.average, self._steps / (self._steps + 10))  # less at first, to forget the start
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, 1 - retained)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The module has the averages for its weights inside."""
        own = [weight.data for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.data = average
        yield
        for weight, data in zip(self._weights, own, strict=True):
            weight.data = data

    def mean(self, x: Tensor) -> float:
        """The mean loss of rows, with the same random numbers every time."""
        generator = torch_generator(self._seed, "density held out", 0)
        with torch.no_grad():
            return math.fsum(len(part) * float(self._loss(part, generator)) for part in torch.split(x, _ROWS)) / len(x)

    def judge(self, epoch: int, held_out: Tensor) -> None:
        """Keep the weights if they are the best so far, and halve the rate if it is time."""
        with self._averaged():
            self.latest = self.mean(held_out)
        if not math.isfinite(self.latest):
            raise RaectlError(f"the fit diverged in epoch {epoch}: its loss is not finite", "--option lr=..., smaller")
        if self.latest < self.lowest:
            self.lowest, self.best_epoch = self.latest, epoch
            self.best = [average.clone() for average in self._averages]
        if self._plateau.update(self._schedule, self.latest):
            self.halvings += 1
            for group in self._adam.param_groups:
                group["lr"] = self._schedule.lr


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    """A module's parameters by name, as float32 arrays of their own."""
    return {name: to_array(parameter.float()) for name, parameter in module.named_parameters()}


def adopt_weights(arrays: Arrays, module: nn.Module) -> None:
    """Take a module's parameters, which may be on the meta device, from a file's arrays."""
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    taken = {name: torch.from_numpy(np.array(arrays.take(name, shape, np.float32))) for name, shape in shapes.items()}
    module.load_state_dict(taken, strict=False, assign=True)


def in_blocks(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`network(rows)` without gradients, run on BLOCK rows at a time."""
    with torch.no_grad():
        return torch.cat([network(block)[:count] for block, count in padded_blocks(rows, BLOCK)])


class Draws:
    """Rows of the endless table of samples of each seed, made a block at a time.

    Arguments:
        make: (seed, start, n) => (n, d), called for whole blocks.
    """

    def __init__(self, make: Callable[[int, int, int], np.ndarray]) -> None:
        self._make = make
        self._latest: tuple[tuple[int, int], np.ndarray] | None = None  # whoever wants few rows will want the next

    def rows(self, seed: int, start: int, n: int) -> np.ndarray:
        """Rows start, ..., start + n - 1: (n, d)."""
        first = start // BLOCK * BLOCK
        blocks = [self._block(seed, row) for row in range(first, start + n, BLOCK)]
        rows: np.ndarray = np.concatenate(blocks)[start - first :][:n]
        return rows

    def _block(self, seed: int, start: int) -> np.ndarray:
        if self._latest is None or self._latest[0] != (seed, start):
            self._latest = (seed, start), self._make(seed, start, BLOCK)
        return self._latest[1]
