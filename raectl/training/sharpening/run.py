"""The second phase in a checkpoint directory: begin, save, be interrupted, go on to the same bits, publish."""

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raectl import rng
from raectl.checkpoint import sharpened
from raectl.checkpoint.checkpoint import Checkpoint, load
from raectl.checkpoint.directory import SHARPENING, Directory
from raectl.checkpoint.sharpened import PLAIN, Sharpened
from raectl.data import Dataset
from raectl.device import flushing_denormals, has_bf16
from raectl.errors import Interrupted, RaectlError, UsageError, command
from raectl.progress import Progress
from raectl.storage.arrays import read_header
from raectl.storage.atomic import describing_os_errors, recover, remove_temporaries, staying
from raectl.storage.lock import Lock
from raectl.training.sharpening.guards import HeldOut, adapt, end
from raectl.training.sharpening.loop import SharpeningLoop
from raectl.training.sharpening.options import FILTERS, LEAST_STEPS, MOST_FILTERS, Options
from raectl.training.sharpening.state import HINT, SharpeningState
from raectl.training.signals import Signals

_REPORT_SECONDS = 0.5  # between updates of the progress bar
_SAVE_SECONDS = 300.0
_LOOKS = 8  # at held-out images, evenly over the steps
_LEAST_BETWEEN = 25  # steps between two of them
_PICTURES = 4  # over all steps
_PAIRS = 16  # in a picture
_OF_FIRST_PHASE = 4  # the first phase's steps over the second's


def sharpen(
    path: str | Path,
    *,
    steps: int | None = None,
    weight: float | None = None,
    seed: int | None = None,
    source: str | Path | np.ndarray | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Checkpoint:
    """Train the decoder of a checkpoint directory on, against a critic, and keep it beside the plain one.

    Latents and fitted densities stay valid, as the encoder is not touched.

    Arguments:
        path: the directory.
        steps: of the second phase; None for a quarter of the first one's, at least 300.
        weight: w, of the critic's gradient against the squared error's; None for 0.5.
        seed: of everything random; None for the training's.
        source: the data that it was trained on, if they moved.
        resume: go on with what was interrupted.
        overwrite: begin anew from the plain decoder.
        device: where to train.
        progress: receives progress.

    Returns:
        The checkpoint, whose items are now made by the sharpened decoder.

    Raises:
        UsageError: an option is wrong, the items are no images, or there is a sharpened decoder already.
        RaectlError: the data are not the training's, none are held out, or another process writes to the directory.
        Interrupted: SIGINT or SIGTERM came; the state was saved.

    Example:
        >>> checkpoint = raectl.sharpen("ckpt", steps=300)  # doctest: +SKIP
    """
    progress = progress or Progress()
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    given = {"steps": steps, "weight": weight, "seed": seed}
    recover(Path(path))
    with Lock(Path(path), progress.note) as lock, flushing_denormals():
        if Directory(Path(path)).is_recognised():
            lock.acquire()  # before the weights are read, which a running `train` may replace
        checkpoint = load(path, device, PLAIN)
        check_sharpenable(checkpoint)
        if checkpoint.config.precision == "bf16" and not has_bf16(checkpoint.device.type):
            raise UsageError(
                f"{path} was trained with --precision bf16, which is not available on this {checkpoint.device.type}",
                "sharpen it where it was trained",
            )
        begun = None if overwrite else _begun(checkpoint)
        if begun is None and resume:
            again = command("raectl", "sharpen", path)
            raise UsageError(f"{path} has no sharpening of these weights to go on with", again)
        if begun is not None and not resume:
            raise _is_begun(checkpoint.directory, begun)
        if begun is not None:
            _require_same(begun.options, given, path)
        options = begun.options if begun else resolve_options(checkpoint, steps, weight, seed)
        dataset = _training_data(checkpoint, source, progress)
        Sharpening(checkpoint, dataset, options, progress, "sharpen").go(begun)
    return load(path, device)


def sharpen_after_training(checkpoint: Checkpoint, dataset: Dataset, progress: Progress) -> None:
    """The second phase of `train --sharpen`, in a directory that is locked: begun, or gone on with where it stopped."""
    check_sharpenable(checkpoint)
    begun = _begun(checkpoint)
    options = begun.options if begun else resolve_options(checkpoint)
    Sharpening(checkpoint, dataset, options, progress, "train").go(begun)


def check_sharpenable(checkpoint: Checkpoint) -> None:
    """Raise unless the checkpoint's items can be judged by a critic, and it is trained."""
    if not checkpoint.modality.can_be_sharpened:
        raise UsageError(
            f"sharpening is for images: {checkpoint.directory.path} is a model of {checkpoint.data.modality}"
        )
    if not checkpoint.epoch and not checkpoint.lineage:
        again = command("raectl", "train", "--resume", "--out", checkpoint.directory.path)
        raise RaectlError(f"{checkpoint.directory.path} has no whole epoch yet: there is nothing to sharpen", again)
    if not checkpoint.config.val_fraction:
        raise RaectlError(
            "sharpening needs held-out images, to see when it must end, and --val-fraction 0 left none",
            "train with --val-fraction 0.1",
        )


def resolve_options(
    checkpoint: Checkpoint, steps: int | None = None, weight: float | None = None, seed: int | None = None
) -> Options:
    """Options with the defaults that depend on the checkpoint."""
    config = checkpoint.config
    epochs = max([line["epoch"] for line in checkpoint.directory.read_log()], default=checkpoint.epoch)
    batches = -(-round(checkpoint.data.n * (1 - config.val_fraction)) // (config.batch_size or 1))
    first = min(epochs, config.epochs or epochs) * batches
    return Options(
        steps=max(LEAST_STEPS, first // _OF_FIRST_PHASE) if steps is None else steps,
        weight=Options.weight if weight is None else weight,
        seed=config.seed if seed is None else seed,
        filters=FILTERS.get(checkpoint.device.type, MOST_FILTERS),
    )


def _begun(checkpoint: Checkpoint) -> SharpeningState | None:
    """Where a second phase of the present weights is, if there is one."""
    path = checkpoint.directory.sharpening
    state = read_header(path, SharpeningState, hint=HINT) if path.exists() else None
    return state if state and state.weights == checkpoint.weights else None


def _is_begun(directory: Directory, state: SharpeningState) -> UsageError:
    anew = command("raectl", "sharpen", directory.path, "--overwrite")
    is_done = state.is_done
    if is_done and not state.position.kept:
        return UsageError(
            f"sharpening {directory.path} kept nothing: {state.position.ended}", f"{anew} with a smaller --weight"
        )
    if is_done and directory.sharp_decoder.exists():
        return UsageError(f"{directory.path} is sharpened already", f"anew, from the plain decoder: {anew}")
    where = f"step {state.position.step:,} of {state.options.steps:,}"
    on = command("raectl", "sharpen", directory.path, "--resume")
    return UsageError(f"{directory.path} is being sharpened, {where}", f"go on: {on}; begin anew: --overwrite")


def _require_same(stored: Options, given: dict[str, Any], path: str | Path) -> None:
    for name, value in given.items():
        if value is not None and value != getattr(stored, name):
            was = getattr(stored, name)
            raise UsageError(
                f"--{name} {value} differs from the {was} with which sharpening {path} was begun",
                "a resumed run keeps its options; --overwrite begins anew",
            )


def _training_data(checkpoint: Checkpoint, source: str | Path | np.ndarray | None, progress: Progress) -> Dataset:
    dataset = checkpoint.open_data(source, progress)
    if dataset.fingerprint != checkpoint.data.fingerprint:
        raise RaectlError(
            f"{dataset.source} is not the data that {checkpoint.directory.path} was trained on",
            "sharpening goes on with the data of the training",
        )
    return dataset


class Sharpening:
    """One second phase: the loop, the looks at held-out images, and the directory that it is saved to.

    Arguments:
        checkpoint: opened with its plain decoder; its directory is locked.
        dataset: what it was trained on.
        options: of the phase.
        progress: receives progress.
        typed: the command that goes on with an interrupted phase, `sharpen` or `train`.
    """

    def __init__(
        self, checkpoint: Checkpoint, dataset: Dataset, options: Options, progress: Progress, typed: str
    ) -> None:
        self.directory, self.options, self.progress, self.typed = checkpoint.directory, options, progress, typed
        self.loop = SharpeningLoop(checkpoint, dataset, options)
        self.every = max(_LEAST_BETWEEN, -(-options.steps // _LOOKS))
        self.saved = self.began = time.monotonic()
        self.looked = 0.0

    def go(self, begun: SharpeningState | None) -> None:
        """Sharpen to the end, from the beginning or from a saved state, and publish the decoder."""
        loop = self.loop
        if begun is None:
            self.progress.note(f"sharpening the decoder: {self.options.steps:,} steps against a critic")
            loop.begin()
        else:
            loop.restore(self.directory.sharpening)
            for path in (self.directory.path, self.directory.samples):
                remove_temporaries(path)
        if begun is None:
            loop.write(self.directory.sharpening)
        self.directory.cut_log(steps=loop.position.step if begun else -1)
        self.held_out = HeldOut(loop)
        first = loop.position.step
        with Signals() as signals:
            while not loop.is_done:
                loop.step()
                self._after_step(first, signals)
        self._publish()

    def _after_step(self, first: int, signals: Signals) -> None:
        position, now = self.loop.position, time.monotonic()
        if position.step % self.every == 0 or position.step == self.options.steps:
            self._look()
        elif now - self.saved > _SAVE_SECONDS:
            self.save()
        if now - self.looked > _REPORT_SECONDS:
            self.looked = now
            left = (self.options.steps - position.step) * (now - self.began) / (position.step - first)
            self.progress.update(f"sharpening, {left:,.0f} s left", position.step, self.options.steps)
        if signals.received and not self.loop.is_done:
            self.save()
            raise self._interrupted(signals.received)

    def save(self) -> None:
        """Write the state, in one rename."""
        with staying(self.directory.path):
            self.loop.write(self.directory.sharpening)
        self.saved = time.monotonic()

    def _look(self) -> None:
        """Look at held-out images; keep the average if it passes, end the phase if it does not; log, save, draw."""
        loop, position = self.loop, self.loop.position
        means, decoder = loop.means(), loop.averaged()
        look = self.held_out.look(decoder)
        if position.step > loop.warmup:  # before that it is the plain decoder
            position.ended = end(look, self.held_out.plain)
            if position.ended is None:
                loop.keep(decoder)
                for sentence in () if loop.is_done else adapt(loop, look, means["gap"]):
                    self.progress.note(sentence)
            else:
                self.progress.note(f"sharpening ends at step {position.step:,}: {position.ended}")
        record = {
            "phase": SHARPENING,
            "step": position.step,
            "steps": self.options.steps,
            "train": means,
            "held_out": look.numbers(),
            "plain": self.held_out.plain.numbers(),
            "gamma": loop.gamma * position.gamma,
            "weight": self.options.weight * position.weight,
            "kept": position.kept == position.step,
        }
        self.directory.append_log(record)
        self.save()
        self.progress.sharpening(record)
        looks = -(-position.step // self.every)
        if loop.is_done or looks % max(1, _LOOKS // _PICTURES) == 0:
            self._draw(decoder)

    def _publish(self) -> None:
        """Write the decoder that was kept, unless it is there."""
        loop, position, there = self.loop, self.loop.position, None
        with contextlib.suppress(RaectlError):  # one that is damaged is written again
            there = sharpened.read(self.directory, loop.checkpoint.weights)
        if there and there[1].is_of(self.options.steps, position.kept, self.options.weight, self.options.seed):
            return
        if not position.kept:
            with describing_os_errors(self.directory.sharp_decoder):
                self.directory.sharp_decoder.unlink(missing_ok=True)  # of a sharpening before this one
            self.progress.note("no sharpened decoder was kept; the plain one makes the items: try a smaller --weight")
            return
        kept = self.held_out.look(loop.kept_decoder())
        record = Sharpened(
            weights=loop.checkpoint.weights,
            steps=self.options.steps,
            step=position.kept,
            weight=float(self.options.weight),
            seed=self.options.seed,
            ended=position.ended,
            held_out={**kept.numbers(), "plain_error": self.held_out.plain.error},
        )
        sharpened.write(self.directory, loop.kept, record)

    def _interrupted(self, signum: int) -> Interrupted:
        where = f"step {self.loop.position.step:,} of {self.options.steps:,}"
        path = self.directory.path
        again = {
            "train": command("raectl", "train", "--resume", "--out", path),
            "sharpen": command("raectl", "sharpen", path, "--resume"),
        }[self.typed]
        return Interrupted(f"interrupted in sharpening, {where}; saved", again, signum=signum)

    @torch.no_grad()
    def _draw(self, decoder: torch.nn.Module) -> None:
        """Reconstructions of held-out items and samples, by the averaged decoder."""
        held_out, modality = self.held_out, self.loop.modality
        rows = rng.permutation(self.options.seed, "pictures", len(held_out.z))[:_PAIRS]  # of all classes
        pairs = modality.to_items(decoder(held_out.z[rows]).float())
        samples = modality.to_items(decoder(held_out.z_samples[: 2 * _PAIRS]).float())
        out = self.directory.samples / f"sharpening-{self.loop.position.step:06d}"
        with self.directory.drawing():
            modality.writer.write_picture(out, (held_out.items[rows], pairs), samples)
