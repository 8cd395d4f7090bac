"""How fast is a training step: raectl's own, a bare loop's, and pythae's?

    OMP_NUM_THREADS=2 PYTHONPATH=. peers-env/bin/python benchmarks/training_step.py

RAE-L2 on the paper's 32 x 32 net, grey images, batch 100, all from the same initial weights, each with its own data
loading and in a process of its own. Blocks of steps are interleaved. Runs without pythae too, then without its rows;
README.md in peers/ says how its environment is made. Writes results/training-step.md.
"""

import argparse
import logging
import os
import statistics
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import in_process, interleaved, publish, ratio
from torch import Tensor, nn

import raectl
from raectl.checkpoint.directory import Directory
from raectl.cli.main import keep_freed_memory
from raectl.device import has_bf16
from raectl.modalities.images import Images
from raectl.model.build import build
from raectl.model.resolve import resolve
from raectl.progress import Progress
from raectl.training.run import Run

BATCH, LATENT_DIM, SHAPE, LR = 100, 16, (1, 32, 32), 1e-3
WEIGHT = 1e-4
SIDE = 1536  # of the matrices
Column = Callable[[], object]


def config(width: int, precision: str) -> raectl.Config:
    """RAE-L2, by Adam as all columns."""
    reg = {"tikhonov": {"weight": WEIGHT}}
    return raectl.Config(
        reg=reg, width=width, precision=precision, device="cpu", val_fraction=0, batch_size=BATCH,
        optimizer="adam", average=0.0, augment="off", arch="conv32",
    )  # fmt: skip


def images(steps: int) -> np.ndarray:
    """(N, 32, 32, 1) uint8 for an epoch of so many steps."""
    return np.random.default_rng(0).integers(0, 256, (steps * BATCH, 32, 32, 1), dtype=np.uint8)


def tensors(steps: int) -> Tensor:
    """The same as floats, (N, 1, 32, 32)."""
    return Images().to_tensor(torch.from_numpy(images(steps))).contiguous()


def ours(steps: int, width: int, precision: str) -> Column:
    """An epoch of raectl's trainer, without its end."""
    dataset = raectl.open_dataset(images(steps))
    run = Run(resolve(config(width, precision), dataset), dataset, Directory(Path("unused")), Progress())
    run.loop.model.train()

    def epoch() -> None:
        for start in range(0, len(dataset), BATCH):
            run.loop.step(run.loop.train_rows[start : start + BATCH])

    return epoch


def bare(steps: int, width: int, precision: str, tuned: bool) -> Column:
    """A loop by hand over batches of a float tensor; tuned: channels last, a fused optimizer, freed memory kept."""
    x = tensors(steps)
    resolved = config(width, "fp32").replace(latent_dim=LATENT_DIM)
    model, _ = build(resolved, SHAPE)
    if tuned:
        keep_freed_memory()
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=tuned)
    kernels = [layer.weight for layer in model.decoder if isinstance(layer, nn.Linear | nn.ConvTranspose2d)]

    def epoch() -> None:
        model.train()
        for batch in x[torch.randperm(len(x))].split(BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                z = model.encode(batch)
                x_hat = model.decode(z)
            error = (x_hat.float() - batch).square().sum(dim=(1, 2, 3)).mean()
            prior = z.float().square().sum(dim=1).mean() / 2
            loss = error + 0.0128 * prior + WEIGHT * sum(kernel.square().sum() for kernel in kernels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def pythae(steps: int, width: int, coupled: bool) -> Column:
    """pythae's RAE-L2; the penalty is weight decay, in the coupled trainer only."""
    from pythae.models import RAE_L2, RAE_L2_Config
    from pythae.trainers import BaseTrainer, BaseTrainerConfig, CoupledOptimizerTrainer, CoupledOptimizerTrainerConfig

    given = RAE_L2_Config(input_dim=SHAPE, latent_dim=LATENT_DIM, embedding_weight=0.0128, reg_weight=WEIGHT)
    if coupled:
        return pythae_epoch(steps, width, RAE_L2, given, CoupledOptimizerTrainer, CoupledOptimizerTrainerConfig)
    return pythae_epoch(steps, width, RAE_L2, given, BaseTrainer, BaseTrainerConfig)


def pythae_epoch(steps: int, width: int, model: Any, given: Any, trainer: Any, options: Any) -> Column:
    """An epoch of one of pythae's trainers with one of its models, around raectl's nets."""
    from peers.pythae_run import Decoder, Encoder
    from pythae.data.datasets import BaseDataset

    logging.disable(logging.INFO)
    nets, _ = build(config(width, "fp32").replace(latent_dim=LATENT_DIM), SHAPE)
    peer = model(given, encoder=Encoder(nets.encoder, nets.code), decoder=Decoder(nets.decoder))
    common = {"output_dir": tempfile.gettempdir(), "per_device_train_batch_size": BATCH, "no_cuda": True}
    x = tensors(steps)
    training = trainer(peer, BaseDataset(x, torch.zeros(len(x))), training_config=options(**common))
    training.prepare_training()
    return lambda: training.train_step(1)


def gigaflops(width: int, seconds: float) -> float:
    """Of multiplications and additions in the convolutions and dense layers of a step, forward and backward, a second.

    The last layer's positions, (35 or 32)^2, are counted as 32^2.
    """
    taps, one = 16, 2 * BATCH * width**2
    encoder = taps * (256 / width + 64 * 2 + 16 * 8 + 4 * 32)
    decoder = taps * (64 * 32 + 256 * 8 + 1024 * 2 / width) + LATENT_DIM * 8 * 64 / width + 4 * 8 * LATENT_DIM / width
    return 3 * one * (encoder + decoder) / seconds / 1e9


def peak(precision: str) -> Column:
    """A product of two square matrices: what the library can do at best."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    return lambda: (a @ b, None)[1]


def main() -> None:
    """Parse the command line, time, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="of a block")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    common = (options.steps, options.width)
    precisions = ("fp32", "bf16") if has_bf16("cpu") else ("fp32",)
    columns = {"bare loop, fp32": in_process(bare, *common, "fp32", False)}
    for precision in precisions:
        columns[f"raectl, {precision}"] = in_process(ours, *common, precision)
        columns[f"tuned bare loop, {precision}"] = in_process(bare, *common, precision, True)
        columns[f"product of matrices, {precision}"] = in_process(peak, precision)
    if find_spec("pythae"):
        columns["pythae, BaseTrainer"] = in_process(pythae, *common, False)
        columns["pythae, CoupledOptimizerTrainer"] = in_process(pythae, *common, True)
    times = interleaved(columns, options.rounds)
    peaks = {p: 2 * SIDE**3 / statistics.median(times.pop(f"product of matrices, {p}")) / 1e9 for p in precisions}
    lines = ["| | images/s, median | GFLOP/s | raectl in fp32 is faster by (95 %) |", "|---|---|---|---|"]
    for name, seconds in sorted(times.items(), key=lambda row: statistics.median(row[1])):
        step = statistics.median(seconds) / options.steps
        faster = ratio(seconds, times["raectl, fp32"])
        lines.append(f"| {name} | {BATCH / step:.0f} | {gigaflops(options.width, step):.0f} | {faster} |")
    shown = ", ".join(f"{value:.0f} in {precision}" for precision, value in peaks.items())
    lines.append(
        f"\nWidth {options.width}, {options.rounds} interleaved rounds of {options.steps} steps, each row in a"
    )
    lines.append(f"process of its own. Products of {SIDE} x {SIDE} matrices reach {shown} GFLOP/s.")
    command = "OMP_NUM_THREADS=2 PYTHONPATH=. peers-env/bin/python benchmarks/training_step.py"
    publish("training-step", command, "\n".join(lines))


if __name__ == "__main__":
    main()
