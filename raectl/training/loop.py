"""The one training loop's steps: any model, regularizers, architecture and modality.

What happens at a step is a function of the configuration, the data, the weights and the step's number: the order of an
epoch is a function of (seed, epoch), noise of (seed, step). So a run that is stopped anywhere and resumed gives the
weights of one that was not, on the same machine and thread count.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raectl import rng
from raectl.config import Config
from raectl.data import Dataset, split
from raectl.errors import RaectlError
from raectl.modalities.base import modality_of
from raectl.model.build import build, build_loss
from raectl.model.plateau import Plateau
from raectl.model.weights import load_module, module_arrays, to_array
from raectl.registry import resolve
from raectl.storage.arrays import Arrays
from raectl.training.augmentation import augmented
from raectl.training.optimizers import Optimizer
from raectl.training.state import Position, TrainingState

_STATISTICS = 20  # batches that batch norm's statistics are measured on


class Loop:
    """Model, loss, optimizer and data of a run, and where they stand.

    Arguments:
        config: resolved.
        dataset: its items are split into those trained on and those held out.
        out: where the state is saved, for messages.
        rows: indices of the items trained on, and of those held out; None for those of the configuration's split.
        is_settled: whether the reconstruction term begins in its last form, as with weights that had come to it.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        out: Path,
        rows: tuple[np.ndarray, np.ndarray] | None = None,
        is_settled: bool = False,
    ) -> None:
        assert config.batch_size and config.epochs and config.plateau_patience, "the configuration must be resolved"
        self.epochs, self.batch_size = config.epochs, config.batch_size
        self.config, self.dataset, self._out = config, dataset, out
        self.modality = modality_of(dataset.modality, dataset.options)
        self.device = torch.device(config.device)
        self.train_rows, self.val_rows = rows or split(len(dataset), config.val_fraction, config.seed, config.fold)
        if len(self.train_rows) < 2:
            items = f"{len(dataset)} item{' is' if len(dataset) == 1 else 's are'}"
            message = f"{dataset.source}: {items} too few to train on"
            raise RaectlError(message, "two are needed, besides those that --val-fraction holds out")
        model, penalties = build(config, self.modality.item_shape(tuple(dataset.items.shape[1:])))
        # oneDNN and cuDNN are fastest with the channels last, which is also how images are stored.
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = build_loss(config, self.modality, penalties)
        self._first_step = self.loss.reconstruction.constant_from if is_settled else 0
        self.optimizer: Optimizer = resolve("optimizer", config.optimizer)(self.model, config.lr)
        self.average = {name: value.detach().clone() for name, value in self.model.named_parameters() if config.average}
        self.plateau = Plateau(
            config.plateau_gain,
            config.plateau_patience,
            config.plateau_factor,
            config.min_lr,
            relative=config.plateau == "relative",
        )
        self.position = Position(lr=config.lr)
        precise = torch.float32 if self.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        self.sums = torch.zeros(len(self.loss.terms), dtype=precise, device=self.device)
        self.best = module_arrays(self.model)
        n = len(self.train_rows)
        # ceil(n / batch size) batches whose sizes differ by at most one, none of a single item: batch norm needs two.
        self.batches = min(-(-n // self.batch_size), n // 2)
        self.edges = np.arange(self.batches + 1) * n // self.batches

    def begin(self, weights: Arrays) -> None:
        """Take up another run's weights; they are the best until an epoch is better on what neither has seen."""
        load_module(self.model, weights)
        for name, value in self.model.named_parameters():
            if self.average:
                self.average[name].copy_(value.detach())
        self.best = module_arrays(self.model)
        if len(self.val_rows):
            self.position.best_loss = self.validate()["loss"]
            self.plateau.update(self.position, self.position.best_loss)

    @property
    def steps_left(self) -> int:
        """Steps to the end of the run."""
        return (self.epochs - self.position.epoch) * self.batches - self.position.batch

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or none was better than the best one for `patience` epochs."""
        return self.position.epoch >= self.epochs or self.is_stale

    @property
    def is_stale(self) -> bool:
        """Whether the last `patience` epochs brought no better loss."""
        position, patience = self.position, self.config.patience or 0
        waited = position.epoch - position.best_epoch
        return 0 < patience <= waited and position.best_loss is not None and position.batch == 0

    def epoch(self) -> Iterator[None]:
        """Make the steps that are left of the epoch, each when the next one is asked for."""
        self.model.train()
        order = rng.permutation(self.config.seed, "order", len(self.train_rows), self.position.epoch)
        while self.position.batch < self.batches:
            start, stop = self.edges[self.position.batch : self.position.batch + 2]
            self.step(self.train_rows[order[start:stop]])
            yield

    def step(self, rows: np.ndarray) -> None:
        """One step of the optimizer, on some of the items."""
        generator = rng.torch_generator(self.config.seed, "training", self.position.step, self.device)
        terms = self.terms(self._augmented(self.tensor(rows)), generator)
        terms[0].backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)
        if self.average:
            # Less at first, to forget the initial weights.
            decay = min(self.config.average, (1 + self.position.step) / (10 + self.position.step))
            weights = [value.detach() for value in self.model.parameters()]
            torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)
        self.sums += terms.detach() * len(rows)
        self.position.batch += 1
        self.position.step += 1

    def terms(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The loss and its terms, means over a batch: (B, *item_shape) => (len(loss.terms),)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.loss(self.model, x, generator, self._first_step + self.position.step)

    def _augmented(self, x: Tensor) -> Tensor:
        if self.config.augment == "off":
            return x
        generator = rng.torch_generator(self.config.seed, "augmentation", self.position.step, self.device)
        return augmented(x, self.config.augment, generator)

    def tensor(self, rows: np.ndarray) -> Tensor:
        """Some of the items as the networks see them: (B, *item_shape)."""
        items = torch.from_numpy(self.dataset.items[rows])
        return self.modality.to_tensor(items.to(self.device, non_blocking=True))

    def means(self) -> dict[str, float]:
        """Means of the terms over the epoch so far.

        Raises:
            RaectlError: one is not finite: the run diverged.
        """
        means = (self.sums / max(1, int(self.edges[self.position.batch]))).tolist()
        if not all(map(math.isfinite, means)):
            raise self._diverged("loss is")
        return dict(zip(self.loss.terms, means, strict=True))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Means of the terms over the held-out items, in the same batches, with the same noise, at every epoch.

        The batches are random: a term that compares all codes of a batch must not see those of one class alone.
        """
        self.model.eval()
        sums = torch.zeros_like(self.sums)
        order = rng.permutation(self.config.seed, "validation order", len(self.val_rows))
        for number, start in enumerate(range(0, len(self.val_rows), self.batch_size)):
            rows = self.val_rows[order[start : start + self.batch_size]]
            generator = rng.torch_generator(self.config.seed, "validation", number, self.device)
            sums += self.terms(self.tensor(rows), generator) * len(rows)
        return dict(zip(self.loss.terms, (sums / len(self.val_rows)).tolist(), strict=True))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the average weights, and their spectral norms and batch statistics."""
        if not self.average:
            yield
            return
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        try:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(self.average[name])
            self.model.converge()
            self._measure_statistics()
            yield
        finally:
            self.model.load_state_dict(own)

    @torch.no_grad()
    def _measure_statistics(self) -> None:
        """Set batch norm's statistics to their means over some batches."""
        norms = [module for module in self.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all batches
        self.model.train()
        order = rng.permutation(self.config.seed, "statistics", len(self.train_rows), self.position.epoch)
        try:
            for number in range(min(self.batches, _STATISTICS) if norms else 0):
                rows = self.train_rows[order[self.edges[number] : self.edges[number + 1]]]
                generator = rng.torch_generator(self.config.seed, "statistics", number, self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                    z = self.model.code(self.model.encoder(self.tensor(rows)), generator).z
                    self.model.decoder(self.model.perturb(z, generator))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum

    def is_comparable(self, step: int) -> bool:
        """Whether the loss of an epoch that ends at a step is by the reconstruction term that all later ones are by."""
        if not len(self.val_rows):  # the loss is a mean over the epoch's steps
            step -= self.batches
        return self._first_step + step >= self.loss.reconstruction.constant_from

    def end_epoch(self) -> dict[str, object]:
        """Validate, keep the weights if they are the best, and move the schedule; the epoch's line of the log.

        As long as the reconstruction term changes, every epoch's weights are kept and the schedule stands still.

        Raises:
            RaectlError: a loss or a weight is not finite: the run diverged.
        """
        means = self.means()
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            raise self._diverged("weights are")
        if not self.average:
            self.model.converge()
        with self.averaged():
            validation = self.validate() if len(self.val_rows) else None
            loss = (validation or means)["loss"]
            if not math.isfinite(loss):
                raise self._diverged("validation loss is")
            now = module_arrays(self.model)
        if not all(np.isfinite(array).all() for array in now.values()):
            raise self._diverged("average of the weights is")
        position, lr = self.position, self.position.lr
        position.epoch += 1
        position.batch = 0
        self.sums.zero_()
        comparable = self.is_comparable(position.step)
        best = comparable and (position.best_loss is None or loss < position.best_loss)
        if best or not comparable:
            position.best_loss, position.best_epoch = loss if best else None, position.epoch
            self.best = now
        if comparable:
            self.plateau.update(position, loss)
        self._set_rate()
        return {
            "epoch": position.epoch,
            "epochs": self.epochs,
            "step": position.step,
            "lr": lr,
            "train": means,
            "validation": validation,
            "weights": self.loss.weights,
            "best": best,
        }

    def state(self) -> TrainingState:
        """A copy of everything that decides how the run goes on.

        Raises:
            RaectlError: a number is not finite: the run diverged, and the state last saved is to stay.
        """
        state = TrainingState(
            position=self.position,
            last=module_arrays(self.model),
            best=self.best,
            average={name: to_array(value) for name, value in self.average.items()},
            optimizer=self.optimizer.to_arrays(),
            sums=self.sums.cpu().double().numpy(),
        )
        if not all(
            np.isfinite(array).all()
            for group in (state.last, state.average, state.optimizer)
            for array in group.values()
        ):
            raise self._diverged("weights are")
        return state

    def restore(self, state: TrainingState) -> None:
        """The inverse of `state`."""
        load_module(self.model, state.last)
        self.optimizer.load(state.optimizer)
        for name, value in self.average.items():
            value.copy_(torch.from_numpy(state.average[name]))
        self.position, self.best = state.position, state.best
        self._set_rate()
        self.sums.copy_(torch.from_numpy(state.sums))

    def _set_rate(self) -> None:
        self.optimizer.set_rate(self.position.lr)

    def _diverged(self, what: str) -> RaectlError:
        return RaectlError(
            f"the {what} no longer finite at epoch {self.position.epoch + 1}, step {self.position.step}; "
            f"{self._out} keeps the state last saved",
            f"train anew (--overwrite) with a lower --lr (now {self.position.lr:g}) or weight of --reg",
        )
