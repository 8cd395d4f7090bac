"""How fast is a training step: raectl's own, a bare loop's, and pythae's?

    OMP_NUM_THREADS=2 PYTHONPATH=. peers-env/bin/python benchmarks/training_step.py

RAE-L2 on the paper's 32 x 32 net, grey images, batch 100, all from the same initial weights and each with its own data
loading. Blocks of steps of all subjects are interleaved. Runs without pythae too, then without its rows; README.md in
peers/ says how its environment is made. Writes results/training-step.md.
"""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from timing import interleaved, publish, ratio
from torch import Tensor, nn

import raectl
from raectl.build import build, has_bf16, resolve
from raectl.data import Dataset
from raectl.directory import Directory
from raectl.modalities.images import Images
from raectl.reporting import Report
from raectl.trainer import Run

BATCH, LATENT_DIM, SHAPE, LR = 100, 16, (1, 32, 32), 1e-3
WEIGHT = 1e-4
Subject = Callable[[], object]


def config(width: int, precision: str) -> raectl.Config:
    """RAE-L2."""
    reg = {"tikhonov": {"weight": WEIGHT}}
    return raectl.Config(reg=reg, width=width, precision=precision, device="cpu", val_fraction=0, batch_size=BATCH)


def ours(dataset: Dataset, width: int, precision: str) -> Subject:
    """An epoch of raectl's trainer, without its end."""
    run = Run(resolve(config(width, precision), dataset), dataset, Directory(Path("unused")), Report())
    run.model.train()

    def epoch() -> None:
        for start in range(0, len(dataset), BATCH):
            run._step(run.train_rows[start : start + BATCH])

    return epoch


def bare(x: Tensor, width: int, *, tuned: bool, bf16: bool = False) -> Subject:
    """A loop by hand over batches of a float tensor; tuned: channels last and a fused optimizer."""
    resolved = config(width, "fp32").replace(latent_dim=LATENT_DIM, arch="conv32")
    model, _ = build(resolved, SHAPE)
    if tuned:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=tuned)
    kernels = [layer.weight for layer in model.decoder if isinstance(layer, nn.Linear | nn.ConvTranspose2d)]

    def epoch() -> None:
        model.train()
        for batch in x[torch.randperm(len(x))].split(BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                z = model.encode(batch)
                x_hat = model.decode(z)
            error = (x_hat.float() - batch).square().sum(dim=(1, 2, 3)).mean()
            prior = z.float().square().sum(dim=1).mean() / 2
            loss = error + 0.0128 * prior + WEIGHT * sum(kernel.square().sum() for kernel in kernels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def pythae(x: Tensor, width: int, folder: str, *, coupled: bool) -> Subject:
    """An epoch of one of pythae's trainers; its RAE-L2 has the penalty as weight decay, in the coupled one only."""
    from peers.pythae_run import Decoder, Encoder
    from pythae.data.datasets import BaseDataset
    from pythae.models import RAE_L2, RAE_L2_Config
    from pythae.trainers import (
        BaseTrainer,
        BaseTrainerConfig,
        CoupledOptimizerTrainer,
        CoupledOptimizerTrainerConfig,
    )

    nets, _ = build(config(width, "fp32").replace(latent_dim=LATENT_DIM, arch="conv32"), SHAPE)
    model = RAE_L2(
        RAE_L2_Config(input_dim=SHAPE, latent_dim=LATENT_DIM, embedding_weight=0.0128, reg_weight=WEIGHT),
        encoder=Encoder(nets.encoder, nets.code),
        decoder=Decoder(nets.decoder),
    )
    make, options = (
        (CoupledOptimizerTrainer, CoupledOptimizerTrainerConfig) if coupled else (BaseTrainer, BaseTrainerConfig)
    )
    given = {"output_dir": folder, "per_device_train_batch_size": BATCH, "no_cuda": True}
    trainer = make(model, BaseDataset(x, torch.zeros(len(x))), training_config=options(**given))
    trainer.prepare_training()
    return lambda: trainer.train_step(1)


def main() -> None:
    """Parse the command line, time, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5, help="of a block")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    images = np.random.default_rng(0).integers(0, 256, (options.steps * BATCH, 32, 32, 1), dtype=np.uint8)
    dataset, x = raectl.open_dataset(images), Images().to_tensor(torch.from_numpy(images)).contiguous()
    precisions = ("fp32", "bf16") if has_bf16("cpu") else ("fp32",)
    subjects = {f"raectl, {precision}": ours(dataset, options.width, precision) for precision in precisions}
    subjects["bare loop, fp32"] = bare(x, options.width, tuned=False)
    for precision in precisions:
        subjects[f"tuned bare loop, {precision}"] = bare(x, options.width, tuned=True, bf16=precision == "bf16")
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("pythae"):
            subjects["pythae, BaseTrainer"] = pythae(x, options.width, folder, coupled=False)
            subjects["pythae, CoupledOptimizerTrainer"] = pythae(x, options.width, folder, coupled=True)
        times = interleaved(subjects, options.rounds)
    lines = ["| | images/s, median | raectl fp32 is faster by (95 %) |", "|---|---|---|"]
    for name, seconds in times.items():
        faster = ratio(seconds, times["raectl, fp32"])
        lines.append(f"| {name} | {len(x) / statistics.median(seconds):.0f} | {faster} |")
    lines.append(f"\nWidth {options.width}, {options.rounds} interleaved rounds of {options.steps} steps.")
    command = "OMP_NUM_THREADS=2 PYTHONPATH=. peers-env/bin/python benchmarks/training_step.py"
    publish("training-step", command, "\n".join(lines))


if __name__ == "__main__":
    main()
