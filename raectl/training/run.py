"""Train a model into a checkpoint directory: begin, save, be interrupted, go on to the same bits."""

import errno
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint, load
from raectl.checkpoint.directory import Directory
from raectl.checkpoint.items import difference, digests_of, write_items
from raectl.checkpoint.sharpened import PLAIN
from raectl.checkpoint.summary import DataSummary
from raectl.config import Config, SourceOptions, options_of, text_of
from raectl.data import DataOptions, Dataset, open_dataset
from raectl.densities.gaussian import Gaussian
from raectl.device import flushing_denormals
from raectl.errors import Interrupted, RaectlError, UsageError, command
from raectl.model.reconstructions import for_modality
from raectl.model.resolve import check, resolve
from raectl.progress import Progress
from raectl.storage.arrays import Arrays
from raectl.storage.atomic import (
    atomic_directory,
    describing_os_errors,
    recover,
    remove_temporaries,
    remove_temporaries_of,
    staying,
    write_text,
)
from raectl.storage.lock import Lock
from raectl.storage.records import RESTORE
from raectl.training import model_card
from raectl.training.loop import Loop
from raectl.training.loss_curve import write_loss_curve
from raectl.training.resuming import resumed
from raectl.training.sharpening.run import sharpen_after_training
from raectl.training.signals import Signals
from raectl.training.starting import Origin, Start
from raectl.training.state import TrainingState

_REPORT_SECONDS = 0.5  # between looks at the running means, each of which waits for the device
_SAVE_SECONDS = 300.0  # between saves within an epoch
_FEW_STEPS = 300  # in a whole run; fewer leave a blur
_PICTURE_PAIRS = 16
_PICTURE_LATENTS = 1000  # held-out codes that the picture's Gaussian is fitted to


def train(
    config: Config,
    source: str | Path | np.ndarray | Dataset | None = None,
    out: str | Path = "ckpt",
    *,
    start: str | Path | Start | None = None,
    resume: bool = False,
    overwrite: bool = False,
    parents: bool = True,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train an autoencoder and leave a checkpoint directory.

    Arguments:
        config: the options; when resuming, what differs from the defaults must be as it was, see `resumed`.
        source: the data: a path, `digits`, or an array (N, H, W, C); a data set opened with these options; None for
            `digits`, or what is resumed.
        out: the directory to make.
        start: the checkpoint directory of another run, whose weights this one begins with; options of `config` that
            are the defaults are then that run's, but for those that follow from the data and the length.
            As the command line has it, with the options that were typed: a `Start`.
        resume: go on in `out`, up to `config.epochs` in all.
        overwrite: put the run in the place of a checkpoint directory that exists.
        parents: make the directories that `out` is in, where they are missing.
        progress: receives progress.

    Returns:
        The checkpoint, with the weights of the best validation loss; of the last epoch if the run ends while its
        reconstruction term changes.

    Raises:
        UsageError: an option is wrong, or `out` exists.
        RaectlError: the data cannot be used, the loss diverged, another process writes to `out`, or the disk refused.
        Interrupted: SIGINT or SIGTERM came; the state was saved.

    Example:
        >>> checkpoint = raectl.train(raectl.Config(reg="tikhonov", epochs=2), "digits", out="ckpt")  # doctest: +SKIP
    """
    progress = progress or Progress()
    directory = Directory(Path(out))
    with Lock(directory.path.resolve(), progress.note) as lock, flushing_denormals():
        if resume and overwrite:
            raise UsageError("--resume and --overwrite exclude each other")
        if start is not None and resume:
            raise UsageError("--from is for a new run, --resume goes on with one", "omit one of them")
        recover(directory.path)
        if (resume or overwrite) and directory.is_recognised():
            lock.acquire()
        if isinstance(start, str | Path):
            typed = _typed(config)
            start = Start.read(Path(start), typed, {*typed})
        if resume:
            config = resumed(directory, vars(config) if config.is_resolved else _typed(config))
        else:
            config = config if start is None else start.config_for(directory)
            check(config)
            check_out(directory, overwrite=overwrite)
        recorded = directory if resume and source is None else None
        dataset = _open(recorded, source, data_options(config, start.bits if start else None), progress)
        for note in dataset.notes:
            progress.note(note)
        if not resume:
            config = resolve(config, dataset) if start is None else start.resolved(dataset, progress)
        origin = start.origin if start else Origin.recorded(directory) if resume else Origin()
        run = Run(config, dataset, directory, progress, origin)
        if start is not None:
            run.begin(start.arrays)
        if resume:
            run.restore()
        else:
            run.create(lock, overwrite=overwrite, parents=parents)
        run.go()
        del run  # its weights and the optimizer's moments
        if config.sharpen:
            sharpen_after_training(load(directory.path, config.device, PLAIN), dataset, progress)
    checkpoint = load(directory.path, config.device)
    checkpoint.training_data = dataset
    return checkpoint


def _typed(config: Config) -> dict[str, Any]:
    """The options that differ from the defaults."""
    default = vars(Config())
    return {name: value for name, value in vars(config).items() if value != default[name]}


def _open(
    recorded: Directory | None,
    source: str | Path | np.ndarray | Dataset | None,
    options: DataOptions,
    progress: Progress,
) -> Dataset:
    """The data of a run: `source`, or those that are recorded in the directory that it resumes in."""
    if isinstance(source, Dataset):
        return source
    if recorded is None:
        return open_dataset("digits" if source is None else source, options, progress)
    try:
        return open_dataset(recorded.read_config().data.recorded(), options, progress)
    except RaectlError as error:
        again = command("raectl", "train", "--resume", "--out", recorded.path, "--data", "SOURCE")
        raise RaectlError(
            f"the data of {recorded.path} cannot be opened: {error.message}", f"if they moved: {again}"
        ) from error


def data_options(config: Config, bits: int | None = None) -> DataOptions:
    """How the data are to be opened for a configuration; in the bits of the weights at the start, if it has any."""
    given = {name: getattr(config, name) for name in options_of(SourceOptions)}
    return DataOptions(**given, bits=bits, bands=config.bands)


def check_out(directory: Directory, *, overwrite: bool) -> None:
    """Raise unless a new run may be created at `directory`; `overwrite` lets it replace another run, nothing else."""
    path = directory.path
    if path.resolve() == Path.cwd():  # it would be moved away under the process
        raise UsageError(f"--out {path} is the working directory", "name a directory in it: --out ckpt")
    recover(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    is_ours = path.is_dir() and directory.is_recognised()
    if not overwrite:
        ways = "go on with it: --resume; replace it: --overwrite; or " if is_ours else ""
        raise UsageError(f"{path} exists", f"{ways}choose another --out")
    if not is_ours:
        raise RaectlError(f"{path} is no checkpoint directory, so it is not removed", "choose another --out")


class Run:
    """One run: the loop, the directory it is saved to, and who is told of it."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        directory: Directory,
        progress: Progress,
        origin: Origin = Origin(),  # noqa: B008  # frozen
    ) -> None:
        self.config, self.dataset, self.directory, self.progress = config, dataset, directory, progress
        self.summary, self.origin = DataSummary.of(dataset), origin
        self.digests = digests_of(dataset, origin.trained_on, origin.held_out) if origin.lineage else None
        rows = self.digests.split(config) if self.digests else None
        self.loop = Loop(config, dataset, directory.path, rows, is_settled=origin.is_settled)
        self.saved = time.monotonic()

    # -- beginning and saving --------------------------------------------------------------------------------------

    def begin(self, weights: Arrays) -> None:
        """Take up another run's weights."""
        assert self.digests is not None, "there is a lineage"
        if np.isin(self.digests.contents[self.loop.val_rows], self.origin.trained_on).any():
            self.progress.note(
                f"all items of {self.dataset.source} were trained on by {self.origin.lineage[-1].checkpoint}: the "
                "held-out ones are not new to the model, and their loss is too low"
            )
        self.loop.begin(weights)

    def create(self, lock: Lock, *, overwrite: bool, parents: bool) -> None:
        """Create the directory with the initial state in one step, already locked; `overwrite` replaces an old one."""
        target = self.directory.path.resolve()  # a link is not replaced, but what it points to
        if parents:
            with describing_os_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            lock.acquire()  # another process may have made it while the data were opened
        try:
            with atomic_directory(target, replace=overwrite) as temporary:
                lock.acquire(temporary)
                write_items(Directory(temporary).items, self.digests or digests_of(self.dataset))
                self._write_into(Directory(temporary))
        except RaectlError as error:
            if getattr(error.__cause__, "errno", None) in (errno.ENOTEMPTY, errno.EEXIST):
                lock.acquire()  # raises if the process that made it meanwhile goes on
                check_out(self.directory, overwrite=overwrite)
            raise

    def restore(self) -> None:
        """Take up the state in the directory.

        Raises:
            RaectlError: it is damaged, or the data are not those of the run.
        """
        record = self.directory.read_config()
        summary = record.data
        if summary.fingerprint != self.summary.fingerprint:
            raise self._other_data(summary)
        remove_temporaries_of(self.directory.path.resolve())
        for path in (self.directory.path, self.directory.samples):
            remove_temporaries(path)
        layout = TrainingState.layout_of(self.config, self.loop.model, len(self.loop.loss.terms))
        state = TrainingState.read(self.directory.training, layout)
        position, batches = state.position, self.loop.batches
        if position.batch > batches or position.step != position.epoch * batches + position.batch:
            raise RaectlError(f"{self.directory.training} is damaged: an epoch has {batches} batches", RESTORE)
        if position.best_epoch > position.epoch:
            raise RaectlError(f"{self.directory.training} is damaged: its best epoch is to come", RESTORE)
        self.loop.restore(state)
        self.directory.cut_log(position.epoch)
        self._note_threads(record.environment.threads)
        if (
            self.directory.read_weights(record)[1] != position.best_epoch
            or record.resolved.sharpen != self.config.sharpen
        ):
            self.save()  # killed after the state was written and before the weights for use were; or asked for more
        if position.epoch >= self.loop.epochs and not self.config.sharpen:
            self.progress.note(f"{self.directory.path} has its {position.epoch} epochs; --epochs N asks for more")

    def _note_threads(self, before: int) -> None:
        """Say if the CPU works with another number of threads than before: sums are rounded in another order."""
        now = torch.get_num_threads()
        if self.loop.device.type == "cpu" and before != now:
            self.progress.note(
                f"{self.directory.path} was trained with {before} threads, now there are {now}: sums are rounded in "
                f"another order, and the weights will differ a little; OMP_NUM_THREADS={before} keeps them to the bit"
            )

    def _other_data(self, summary: DataSummary) -> RaectlError:
        """The error for data that are not those that the run began with."""
        path = self.directory.path
        try:
            how = difference(self.directory.items, self.dataset)
        except RaectlError:  # the file is damaged: the counts must do
            how = f"{self.summary.n:,} items, where there were {summary.n:,}"
        where = "" if self.summary.source == summary.source else f" ({summary.source})"
        anew = command("raectl", "train", "--data", self.dataset.source, "--out", "NEW")
        return RaectlError(
            f"{self.dataset.source} is not the data that {path} was trained on: {how}",
            f"a run goes on with its own data{where}; for a new model of these: {anew}",
        )

    def save(self) -> None:
        """Write the state to the directory, in one rename, and the best weights after it."""
        with staying(self.directory.path):
            self._write_into(self.directory)
        self.saved = time.monotonic()

    def _write_into(self, directory: Directory) -> None:
        loop = self.loop
        loop.state().write(directory.training)
        lineage, epoch, threads = self.origin.lineage, loop.position.best_epoch, torch.get_num_threads()
        directory.publish(self.config, self.summary, loop.best, epoch, threads, lineage)
        card = model_card.text(self.config, self.summary, loop.position, len(loop.val_rows), lineage)
        write_text(directory.model_card, card)

    # -- going on --------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Train until the last epoch is done or a signal comes; saves at every epoch's end."""
        loop = self.loop
        if not loop.is_over:
            self._note_length()
        with Signals() as signals:
            while not loop.is_over:
                self._epoch(signals)
        if loop.is_stale and loop.position.epoch < loop.epochs:
            self.progress.note(
                f"ended after {loop.position.epoch} of {loop.epochs} epochs: none since epoch "
                f"{loop.position.best_epoch} had a better loss; --patience N waits longer"
            )

    def _note_length(self) -> None:
        """Say if the run is too short to learn much, or for its reconstruction term, or so long that it augments."""
        loop = self.loop
        if self.config.augment != "off":
            names = " and ".join(self.config.augment.split(","))
            self.progress.note(
                f"images are changed at random in training ({names}), as each is seen up to {loop.epochs:,} times; "
                "--augment off leaves them as they are"
            )
        steps = loop.batches * loop.epochs
        if steps < _FEW_STEPS:
            n, largest = len(loop.train_rows), int(np.diff(loop.edges).max())
            self.progress.note(
                f"{n:,} items in batches of {largest} make only {steps:,} steps in "
                "all, where thousands are usual: more --epochs, or a smaller --batch-size"
            )
        if not loop.is_comparable(steps):
            term = text_of(**for_modality(self.config.reconstruction, loop.modality))
            until = loop.loss.reconstruction.constant_from
            self.progress.note(
                f"--reconstruction {term} changes until step {until:,}, and the run has {steps:,} steps: "
                "it ends with the last epoch's weights, not the best one's; more --epochs, or an earlier end"
            )

    def _epoch(self, signals: Signals) -> None:
        loop = self.loop
        began, reported, first = time.monotonic(), 0.0, loop.position.batch
        for _ in loop.epoch():
            now = time.monotonic()
            due = now - self.saved > _SAVE_SECONDS
            if due or signals.received or now - reported > _REPORT_SECONDS:
                reported = now
                self._tell((loop.position.batch - first) / (now - began))
                if due or signals.received:
                    self.save()
            if signals.received:
                raise self._interrupted(signals.received)
        seconds, items = time.monotonic() - began, int(loop.edges[-1] - loop.edges[first])
        rate = round(items / seconds, 1) if items else None
        self._end_epoch({**loop.end_epoch(), "seconds": round(seconds, 3), "items_per_second": rate})

    def _tell(self, batches_per_second: float) -> None:
        loop = self.loop
        self.progress.step(
            loop.position.epoch + 1,
            loop.position.batch,
            loop.batches,
            loop.loss.weighted(loop.means()),
            batches_per_second * len(loop.train_rows) / loop.batches,
            loop.steps_left / batches_per_second,
        )

    def _interrupted(self, signum: int) -> Interrupted:
        position = self.loop.position
        done = f"epoch {position.epoch + 1}, step {position.batch} of {self.loop.batches}"
        again = command("raectl", "train", "--resume", "--out", self.directory.path)
        return Interrupted(f"interrupted in {done}; saved", again, signum=signum)

    def _end_epoch(self, record: dict[str, Any]) -> None:
        self.directory.append_log(record)
        self.save()
        self.progress.epoch(record)
        epoch, epochs = self.loop.position.epoch, self.loop.epochs
        if epoch == 1 or self.loop.is_over or epoch % max(1, epochs // 10) == 0:
            self._draw()

    @torch.no_grad()
    def _draw(self) -> None:
        """Reconstructions of held-out items, samples from a Gaussian over held-out codes, and the losses so far."""
        loop = self.loop
        rows = loop.val_rows if len(loop.val_rows) else loop.train_rows
        rows = rows[rng.permutation(self.config.seed, "pictures", len(rows))[:_PICTURE_LATENTS]]  # of all classes
        originals = self.dataset.items[rows[:_PICTURE_PAIRS]]
        parts = np.split(rows, range(loop.batch_size, len(rows), loop.batch_size))
        with loop.averaged():
            loop.model.eval()
            codes = torch.cat([loop.model.encode(loop.tensor(part)) for part in parts])
            pairs = loop.modality.to_items(loop.model.decode(codes[: len(originals)]))
            z = Gaussian().fit(codes.cpu()).sample(2 * _PICTURE_PAIRS, self.config.seed).to(loop.device)
            samples = loop.modality.to_items(loop.model.decode(z))
        out = self.directory.samples / f"epoch-{loop.position.epoch:04d}"
        with self.directory.drawing():
            loop.modality.writer.write_picture(out, (originals, pairs), samples)
            write_loss_curve(self.directory.samples / "loss.png", self.directory.read_log())
