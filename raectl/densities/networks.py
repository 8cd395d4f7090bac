"""Densities that are neural networks: training, weights as arrays, and sampling block by block.

Networks are trained in float32 by Adam, with early stopping: a tenth of the latents is held out, and the weights with
the lowest held-out loss are kept.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raectl.densities.base import Arrays, Density
from raectl.densities.latents.oddities import find_far
from raectl.device import padded_blocks
from raectl.errors import RaectlError
from raectl.model.plateau import Plateau, Schedule
from raectl.progress import Progress
from raectl.rng import permutation, torch_generator

BLOCK = 256  # rows that a network runs on at a time; see `padded_blocks`
_HELD_OUT = 10  # one latent in so many is held out
_ROWS = 1024  # batch size where no gradient is needed
_SPREAD, _SPREAD_OF_ONE = 1.25, 2.0  # ratios of standard deviations that are reported: all dimensions', one's
_STEPS = 50  # steps between two calls of `Progress.step`

Loss = Callable[[Tensor, torch.Generator], Tensor]  # (B, d) float32 and random numbers => (), the mean over the batch


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a network's training."""

    epochs: int  # at most this many
    batch_size: int  # latents per step; an incomplete last batch is dropped, unless it is the only one
    lr: float  # Adam's initial learning rate
    patience: int  # the rate is halved after so many epochs without an improvement of the held-out loss by `gain`
    gain: float  # in the units of the loss
    halvings: int | None = None  # training ends when the rate would be halved once more than this; None for never
    clip: float = math.inf  # maximum Euclidean norm of the gradient over all weights
    # Decay of the exponential moving average of the weights, which is evaluated and kept; 0 for none.
    average: float = 0.0
    least_steps: int = 1  # in an epoch, which passes over few latents several times for it


class NetworkDensity(Density):
    """A density whose samples a network computes in blocks of BLOCK rows.

    After a fit, `underfits` says whether the network is far from the latents: see `_judge_spread`.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.underfits = False

    def _block_rows(self) -> int:
        return BLOCK

    def _judge_spread(self, samples: np.ndarray, z: Tensor, scale: Tensor) -> None:
        """Say that the density underfits if samples are far narrower or wider than latents z of this `scale`: (d,).

        All dimensions together, or one alone: a narrow and a wide one make up for each other. Not if some latents are
        far from the others: they decide the standard deviations, and few samples have them.
        """
        self.underfits = False
        if bool(find_far(z).any()):
            return
        ratios = samples.std(axis=0) / scale.numpy()
        odd = int(((ratios < 1 / _SPREAD_OF_ONE) | (ratios > _SPREAD_OF_ONE)).sum())
        ratio = float(np.sqrt(np.mean(np.square(ratios))))
        if not 1 / _SPREAD <= ratio <= _SPREAD:
            self.add_underfit(f"samples are {ratio:.2g} times as wide as the latents")
        elif odd:
            where = f"{odd} of {len(ratios)} dimensions"
            self.add_underfit(f"samples are less than half or more than twice as wide as the latents in {where}")

    def add_underfit(self, why: str) -> None:
        """Set `underfits`, with a notice of what shows it."""
        self.underfits = True
        self.notices.append(
            f"{why}: the density underfits; try more epochs (--density {self.name},epochs=...) or --density gaussian"
        )


@contextmanager
def seeded_initialization(seed: int) -> Iterator[None]:
    """Initial weights drawn inside are a function of the seed; the global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "density weights", 0).initial_seed())
        yield


def set_aside(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and a random tenth to hold out, at least one; a single row is used as both."""
    order = torch.from_numpy(permutation(seed, "density held out", len(x)))
    held_out = max(1, len(x) // _HELD_OUT)
    return x[order[held_out:]] if len(x) > 1 else x, x[order[:held_out]]


def fit_network(
    module: nn.Module, loss: Loss, x: Tensor, held_out: Tensor, recipe: Recipe, seed: int, progress: Progress
) -> dict[str, float | int]:
    """Train a module, in place, on rows x: (N, d) float32.

    Returns:
        For `Density.stats`: epochs, best_epoch (0 for the initial weights), and the loss of x and of the held-out rows
        under the weights that are kept.

    Raises:
        RaectlError: the held-out loss is not finite.
    """
    trainer = _Trainer(module, loss, recipe, seed, progress)
    passes = -(-recipe.least_steps // max(1, len(x) // recipe.batch_size))
    once, x = x, x.repeat(passes, 1) if passes > 1 else x
    trainer.validate(0, held_out)
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        terms = {"loss": trainer.epoch(epoch, x)}
        trainer.validate(epoch, held_out)
        seconds = time.perf_counter() - start
        progress.epoch(
            {
                "epoch": epoch,
                "epochs": recipe.epochs,
                "train": terms,
                "validation": {"loss": trainer.latest},
                "items_per_second": round(len(x) / seconds, 1),
                "seconds": seconds,
                "best": trainer.best_epoch == epoch,
            }
        )
        if recipe.halvings is not None and trainer.halvings > recipe.halvings:
            break
    with torch.no_grad():
        for parameter, best in zip(module.parameters(), trainer.best, strict=True):
            parameter.copy_(best)
    losses = {"loss": trainer.mean_loss(once), "held_out_loss": trainer.lowest}
    return {"epochs": epoch, "best_epoch": trainer.best_epoch, **losses}


class _Trainer:
    """The state of a module's training: the optimizer, the schedule, and the best weights so far."""

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
        """Train for one epoch, in a random order of the rows, and return the mean loss of its steps."""
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
            self._steps += 1
            # Smaller at first, to forget the initial weights.
            decay = min(self._recipe.average, self._steps / (self._steps + 10))
            with torch.no_grad():
                torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
            total += float(loss.detach())
            if batch % _STEPS == _STEPS - 1:
                rate = (batch + 1) * size / (time.perf_counter() - start)
                left = ((self._recipe.epochs - epoch + 1) * batches - batch - 1) * size / rate
                self._progress.step(epoch, batch + 1, batches, {"loss": total / (batch + 1)}, rate, left)
        return total / batches

    def mean_loss(self, x: Tensor) -> float:
        """The mean loss over rows, with the same random numbers at every call."""
        generator = torch_generator(self._seed, "density held out", 0)
        with torch.no_grad():
            return math.fsum(len(part) * float(self._loss(part, generator)) for part in torch.split(x, _ROWS)) / len(x)

    def validate(self, epoch: int, held_out: Tensor) -> None:
        """Compute the held-out loss, keep the weights if they are the best so far, and update the learning rate."""
        own = [weight.data for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.data = average
        self.latest = self.mean_loss(held_out)
        for weight, data in zip(self._weights, own, strict=True):
            weight.data = data
        if not math.isfinite(self.latest):
            raise RaectlError(
                f"the fit diverged in epoch {epoch}: its loss is not finite", "a smaller lr: --density NAME,lr=..."
            )
        if self.latest < self.lowest:
            self.lowest, self.best_epoch = self.latest, epoch
            self.best = [average.clone() for average in self._averages]
        if self._plateau.update(self._schedule, self.latest):
            self.halvings += 1
            for group in self._adam.param_groups:
                group["lr"] = self._schedule.lr


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters by name, float32."""
    return {name: parameter.float() for name, parameter in module.named_parameters()}


def adopt_weights(arrays: Arrays, module: nn.Module) -> None:
    """Set a module's parameters, which may be on the meta device, from arrays."""
    named = module.named_parameters()
    state = {name: arrays.take(name, tuple(parameter.shape), np.float32) for name, parameter in named}
    module.load_state_dict(state, strict=False, assign=True)


def in_blocks(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`network(rows)` without gradients, in blocks of BLOCK rows."""
    with torch.no_grad():
        return torch.cat([network(block)[:count] for block, count in padded_blocks(rows, BLOCK)])
