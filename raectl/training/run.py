"""The one training loop: any model, regularizers, architecture and modality; stopped and resumed bit for bit.

What happens at a step is a function of the configuration, the data, the weights and the step's number: the order of
an epoch is a function of (seed, epoch), noise of (seed, step). So a run that is stopped anywhere and resumed gives the
weights of one that was not, on the same machine and thread count.
"""

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raectl import rng as noise
from raectl.allocator import keep_freed_memory
from raectl.checkpoint.checkpoint import Checkpoint, load
from raectl.checkpoint.directory import DataSummary, Directory
from raectl.config import Config
from raectl.data import DataOptions, Dataset, open_dataset, split
from raectl.densities.gaussian import Gaussian
from raectl.device import flushing_denormals
from raectl.errors import Interrupted, RaectlError, UsageError, command
from raectl.model.build import build, build_objective, check, modality_of, resolve
from raectl.progress import Report
from raectl.storage import files
from raectl.storage.lock import Lock
from raectl.training import model_card as card
from raectl.training.resuming import resumed
from raectl.training.schedule import plateau
from raectl.training.signals import Signals
from raectl.training.state import Position, TrainingState, adam_arrays, load_adam, load_module, module_arrays

_REPORT_SECONDS = 0.5  # between looks at the running means, each of which waits for the device
_SAVE_SECONDS = 300.0  # between saves within an epoch
_FEW_STEPS = 300  # in a whole run; fewer leave a blur
_PICTURE_PAIRS = 16
_PICTURE_LATENTS = 1000  # held-out codes that the picture's Gaussian is fitted to


def train(
    config: Config,
    source: str | Path | np.ndarray | None = None,
    out: str | Path = "ckpt",
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> Checkpoint:
    """Train an autoencoder and leave a checkpoint directory.

    Arguments:
        config: the options; when resuming, what differs from the defaults must be as it was, see `resumed`.
        source: the data: a path, `digits`, or an array (N, H, W, C); None for `digits`, or what is resumed.
        out: the directory to make.
        resume: go on in `out`, up to `config.epochs` in all.
        overwrite: put the run in the place of a checkpoint directory that exists.
        report: receives progress.

    Returns:
        The checkpoint, with the weights of the best validation loss.

    Raises:
        UsageError: an option is wrong, or `out` exists.
        RaectlError: the data cannot be used, the loss diverged, another process writes to `out`, or the disk refused.
        Interrupted: SIGINT or SIGTERM came; the state was saved.

    Example:
        >>> checkpoint = raectl.train(raectl.Config(reg="tikhonov", epochs=2), "digits", out="ckpt")  # doctest: +SKIP
    """
    report = report or Report()
    directory = Directory(Path(out))
    with Lock(directory.path.resolve(), report.note) as lock, flushing_denormals():
        if resume and overwrite:
            raise UsageError("--resume and --overwrite exclude each other")
        files.recover(directory.path)
        if (resume or overwrite) and directory.is_recognised():
            lock.take()
        if resume:
            default = vars(Config())
            full = None not in (config.latent_dim, config.arch, config.beta)  # from `resumed`: defaults were meant too
            given = {name: value for name, value in vars(config).items() if full or value != default[name]}
            config = resumed(directory, {**given, "epochs": config.epochs})
            source = directory.read_config()[1].recorded() if source is None else source
        else:
            check(config)
            check_out(directory, overwrite=overwrite)
        dataset = open_dataset("digits" if source is None else source, data_options(config), report.progress)
        for note in dataset.notes:
            report.note(note)
        run = Run(config if resume else resolve(config, dataset), dataset, directory, report)
        if resume:
            run.restore()
        else:
            run.create(lock, overwrite=overwrite)
        run.go()
    return load(directory.path, run.config.device)


def data_options(config: Config) -> DataOptions:
    """How the data are to be opened for a configuration."""
    return DataOptions(
        image_size=config.image_size,
        fit=config.fit,
        background=config.background,
        max_bad=config.max_bad,
        strict=config.strict,
        grammar=config.grammar,
        max_rules=config.max_rules,
    )


def check_out(directory: Directory, *, overwrite: bool) -> None:
    """Raise unless a new run may be put where `directory` is. What is not recognised is never removed."""
    path = directory.path
    if path.resolve() == Path.cwd():  # it would be moved away under the process
        raise UsageError(f"--out {path} is the working directory", "name a directory in it: --out ckpt")
    files.recover(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise UsageError(f"{path} exists", "go on with it: --resume; replace it: --overwrite; or choose another --out")
    if not path.is_dir() or not directory.is_recognised():
        raise RaectlError(f"{path} is no checkpoint directory, so it is not removed", "choose another --out")


class Run:
    """One run: model, optimizer, data and where they stand."""

    def __init__(self, config: Config, dataset: Dataset, directory: Directory, report: Report) -> None:
        keep_freed_memory()
        self.config, self.dataset, self.directory, self.report = config, dataset, directory, report
        self.summary = DataSummary.of(dataset)
        self.modality = modality_of(dataset.modality, dataset.options)
        self.device = torch.device(config.device)
        self.train_rows, self.val_rows = split(len(dataset), config.val_fraction, config.seed)
        if len(self.train_rows) < 2:
            message = f"{dataset.source}: {len(dataset)} item(s) are too few to train on"
            raise RaectlError(message, "two are needed, besides those that --val-fraction holds out")
        model, penalties = build(config, self.modality.item_shape(self.summary.shape))
        # oneDNN and cuDNN are fastest with the channels last, which is also how images are stored.
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = build_objective(config, self.modality, penalties)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, fused=True)
        self.position = Position(lr=config.lr)
        precise = torch.float32 if self.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        self.sums = torch.zeros(len(self.objective.terms), dtype=precise, device=self.device)
        self.best = module_arrays(self.model)
        self.batch_size = min(config.batch_size, len(self.train_rows))
        self.batches = len(self.train_rows) // self.batch_size  # the last partial one is dropped
        self.saved = time.monotonic()

    # -- beginning and saving --------------------------------------------------------------------------------------

    def create(self, lock: Lock, *, overwrite: bool) -> None:
        """Make the directory, whole, with the initial state, and locked from its first moment."""
        target = self.directory.path.resolve()  # a link is not replaced, but what it points to
        with files.describing_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            lock.take()  # another process may have made it while the data were opened
        with files.atomic_directory(target, replace=overwrite) as temporary:
            lock.take(temporary)
            self._write_into(Directory(temporary))

    def restore(self) -> None:
        """Take up the state in the directory.

        Raises:
            RaectlError: it is damaged, or the data are not those of the run.
        """
        _, summary, record = self.directory.read_config()
        if summary.fingerprint != self.summary.fingerprint:
            where = f"{self.dataset.source} is not the data that {self.directory.path} was trained on"
            raise RaectlError(where, "if they have moved: --data SOURCE")
        files.sweep_beside(self.directory.path.resolve())
        for path in (self.directory.path, self.directory.samples):
            files.sweep(path)
        state = TrainingState.read(self.directory.training)
        where = str(self.directory.training)
        if state.sums.shape != tuple(self.sums.shape):
            raise RaectlError(f"{where} is not of this objective", "restore it from a copy")
        load_module(self.model, state.best, where)
        load_module(self.model, state.last, where)
        load_adam(self.optimizer, state.adam)
        self.position, self.best = state.position, state.best
        self._set_rate()
        self.sums.copy_(torch.from_numpy(state.sums))
        self.directory.cut_log(self.position.epoch)
        if self.directory.read_weights(record)[1] != self.position.best_epoch:
            self.save()  # killed after the state was written and before the weights for use were
        if self.position.epoch >= self.config.epochs:
            self.report.note(f"{self.directory.path} has its {self.position.epoch} epochs; --epochs N asks for more")

    def save(self) -> None:
        """Write the state to the directory, in one rename, and the best weights after it."""
        try:
            self._write_into(self.directory)
        except RaectlError as error:
            if self.directory.path.is_dir():
                raise
            raise files.vanished(self.directory.path) from error
        self.saved = time.monotonic()

    def _write_into(self, directory: Directory) -> None:
        state = TrainingState(
            position=self.position,
            last=module_arrays(self.model),
            best=self.best,
            adam=adam_arrays(self.optimizer),
            sums=self.sums.cpu().double().numpy(),
        )
        state.write(directory.training)
        directory.publish(self.config, self.summary, self.best, self.position.best_epoch, torch.get_num_threads())
        files.write_text(directory.card, card.text(self.config, self.summary, self.position))

    # -- the loop --------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Train until the last epoch is done or a signal comes; saves at every epoch's end."""
        steps = self.batches * self.config.epochs
        if steps < _FEW_STEPS and self.position.epoch < self.config.epochs:
            self.report.note(
                f"{len(self.train_rows):,} items in batches of {self.batch_size} make only {steps:,} steps in all, "
                "where thousands are usual: more --epochs, or a smaller --batch-size"
            )
        with Signals() as signals:
            while self.position.epoch < self.config.epochs:
                self._epoch(signals)

    def _epoch(self, signals: Signals) -> None:
        self.model.train()
        order = self.train_rows[noise.permutation(self.config.seed, self.position.epoch, len(self.train_rows))]
        began, reported, first = time.monotonic(), 0.0, self.position.batch
        while self.position.batch < self.batches:
            start = self.position.batch * self.batch_size
            self._step(order[start : start + self.batch_size])
            now = time.monotonic()
            if now - reported > _REPORT_SECONDS or now - self.saved > _SAVE_SECONDS or signals.received:
                reported = now
                self._progress((self.position.batch - first) / (now - began))
                if signals.received or now - self.saved > _SAVE_SECONDS:
                    self.save()
            if signals.received:
                raise self._interrupted(signals.received)
        self._end_epoch(time.monotonic() - began, (self.position.batch - first) * self.batch_size)

    def _step(self, rows: np.ndarray) -> None:
        generator = noise.torch_generator(self.config.seed, "training", self.position.step, self.device)
        terms = self._terms(rows, generator)
        terms[0].backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.sums += terms.detach()
        self.position.batch += 1
        self.position.step += 1

    def _terms(self, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        x = self._tensor(rows)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.objective(self.model, x, generator)

    def _tensor(self, rows: np.ndarray) -> Tensor:
        items = torch.from_numpy(self.dataset.items[rows])
        return self.modality.to_tensor(items.to(self.device, non_blocking=True))

    def _means(self) -> dict[str, float]:
        means = (self.sums / max(1, self.position.batch)).tolist()
        if not all(map(math.isfinite, means)):
            raise self._diverged("loss is")
        return dict(zip(self.objective.terms, means, strict=True))

    def _diverged(self, what: str) -> RaectlError:
        return RaectlError(
            f"the {what} no longer finite at epoch {self.position.epoch + 1}, step {self.position.step}; "
            f"{self.directory.path} keeps the state last saved",
            f"train anew (--overwrite) with a lower --lr (now {self.position.lr:g}) or weight of --reg",
        )

    def _progress(self, batches_per_second: float) -> None:
        left = (self.config.epochs - self.position.epoch) * self.batches - self.position.batch
        self.report.step(
            self.position.epoch + 1,
            self.position.batch,
            self.batches,
            self._means(),
            batches_per_second * self.batch_size,
            left / batches_per_second,
        )

    def _interrupted(self, signum: int) -> Interrupted:
        path = self.directory.path
        done = f"epoch {self.position.epoch + 1}, step {self.position.batch} of {self.batches}"
        return Interrupted(
            f"interrupted in {done}; saved", command("raectl", "train", "--resume", "--out", path), signum=signum
        )

    # -- the end of an epoch ---------------------------------------------------------------------------------------

    def _end_epoch(self, seconds: float, items: int) -> None:
        means = self._means()
        self.model.settle()
        validation = self._validate() if len(self.val_rows) else means
        loss = validation["loss"]
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters()):
            raise self._diverged("weights are")
        if not math.isfinite(loss):
            raise self._diverged("validation loss is")
        lr = self.position.lr
        self.position.epoch += 1
        self.position.batch = 0
        self.sums.zero_()
        if self.position.best_loss is None or loss < self.position.best_loss:
            self.position.best_loss, self.position.best_epoch = loss, self.position.epoch
            self.best = module_arrays(self.model)
        config = self.config
        plateau(
            self.position,
            loss,
            config.plateau,
            config.plateau_gain,
            factor=config.plateau_factor,
            patience=config.plateau_patience,
            least=config.min_lr,
        )
        self._set_rate()
        record = {
            "epoch": self.position.epoch,
            "epochs": self.config.epochs,
            "step": self.position.step,
            "lr": lr,
            "train": means,
            "validation": validation if len(self.val_rows) else None,
            "best": self.position.best_epoch == self.position.epoch,
            "seconds": round(seconds, 3),
            "items_per_second": round(items / seconds, 1) if items else None,
        }
        self.directory.append_log(record)
        self.save()
        self.report.epoch(record)
        if self._is_pictured():
            self._picture()

    def _set_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.position.lr

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The objective's terms on the held-out items, with the same noise at every epoch."""
        self.model.eval()
        sums = torch.zeros_like(self.sums)
        for number, start in enumerate(range(0, len(self.val_rows), self.batch_size)):
            rows = self.val_rows[start : start + self.batch_size]
            generator = noise.torch_generator(self.config.seed, "validation", number, self.device)
            sums += self._terms(rows, generator) * len(rows)
        return dict(zip(self.objective.terms, (sums / len(self.val_rows)).tolist(), strict=True))

    def _is_pictured(self) -> bool:
        epoch, epochs = self.position.epoch, self.config.epochs
        return epoch in (1, epochs) or epoch % max(1, epochs // 10) == 0

    @torch.no_grad()
    def _picture(self) -> None:
        """Reconstructions of held-out items, and samples from a Gaussian over held-out codes."""
        self.model.eval()
        rows = (self.val_rows if len(self.val_rows) else self.train_rows)[:_PICTURE_LATENTS]
        originals = self.dataset.items[rows[:_PICTURE_PAIRS]]
        codes = torch.cat(
            [
                self.model.encode(self._tensor(rows[i : i + self.batch_size]))
                for i in range(0, len(rows), self.batch_size)
            ]
        )
        pairs = self.modality.to_items(self.model.decode(codes[: len(originals)]))
        z = Gaussian().fit(codes.cpu()).sample(2 * _PICTURE_PAIRS, self.config.seed).to(self.device)
        samples = self.modality.to_items(self.model.decode(z))
        with files.describing_os_errors(self.directory.samples):
            self.directory.samples.mkdir(exist_ok=True)
        out = self.directory.samples / f"epoch-{self.position.epoch:04d}"
        self.modality.write_picture(out, (originals, pairs), samples)
