"""The error on MNIST's test images, by the processor's seconds of training: pythae's RAE-L2, and raectl's RAE.

    python benchmarks/peers/time_to_quality.py --data mnist --out benchmarks/peers/results/time-to-quality

Runs in pythae's virtual environment, see README.md beside it. Each column is a process of one thread, and they run in
turns of a few seconds, so that all of them meet the machine in the same state. The nets, their initial weights, images,
split and batches are the same; seconds are those of training steps alone, for raectl with one measurement of batch
norm's statistics for each figure. Writes OUT.json, OUT.md and, with matplotlib, OUT.png.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl import Config, open_dataset
from raectl.data import split
from raectl.modalities.images import Images
from raectl.model.resolve import resolve
from raectl.training.loop import Loop

TURN = 4.0  # seconds
COLUMNS = {"pythae": {}, "raectl, adam": {"optimizer": "adam", "average": 0.0}, "raectl": {}}
LOOKS = (*range(50, 500, 50), *range(500, 2501, 250))  # steps after which raectl's error is measured


def tensor(path: Path) -> Tensor:
    """MNIST's images as the networks see them."""
    from pythae_run import DATA

    return Images().to_tensor(torch.from_numpy(np.array(open_dataset(path, DATA).items)))


def error(decoded: Any, x: Tensor) -> float:
    """Mean squared error a value."""
    with torch.no_grad():
        return sum(float((decoded(block) - block).square().sum()) for block in x.split(500)) / x.numel()


def say(step: int, seconds: float, mse: float) -> None:
    """A figure of this process's column."""
    print(json.dumps({"step": step, "seconds": round(seconds, 2), "mse": mse}), flush=True)


def run_pythae(data: Path, test: Tensor, epochs: int, seed: int, out: Path) -> None:
    """pythae's own pipeline; a figure an epoch."""
    from pythae.pipelines import TrainingPipeline
    from pythae_run import VAL_FRACTION, Log, make, training

    class Looking(Log):
        def on_log(self, training_config: Any, logs: dict[str, float], **_: Any) -> None:
            self.epochs.append({"cpu_seconds": self.took[1]})
            model.eval()
            mse = error(lambda block: model.predict(block).recon_x, test)
            say(len(self.epochs) * -(-len(train) // 100), sum(e["cpu_seconds"] for e in self.epochs), mse)

    x = tensor(data)
    train, val = (x[rows].contiguous() for rows in split(len(x), VAL_FRACTION, seed))
    model = make("rae-l2", seed)
    pipeline = TrainingPipeline(model, training("rae-l2", epochs, seed, out / "pythae.npz"))
    pipeline(train, val, callbacks=[Looking()])


def run_raectl(data: Path, test: Tensor, epochs: int, seed: int, options: dict[str, Any]) -> None:
    """raectl's loop; a figure at each of `LOOKS`."""
    from pythae_run import BATCH, DATA, LATENT_DIM, VAL_FRACTION, WIDTH

    dataset = open_dataset(data, DATA)
    config = Config(
        reg="tikhonov", arch="conv32", latent_dim=LATENT_DIM, width=WIDTH, batch_size=BATCH,
        val_fraction=VAL_FRACTION, seed=seed,
        image_size=32, fit="pad", background="black", device="cpu", precision="fp32", epochs=epochs, **options,
    )  # fmt: skip
    loop = Loop(resolve(config, dataset), dataset, Path("ckpt"))
    spent = 0.0
    for _ in range(epochs):
        began = time.process_time()
        for _ in loop.epoch():
            spent += time.process_time() - began
            if loop.position.step in LOOKS:
                began = time.process_time()
                with loop.averaged():
                    measured = time.process_time() - began
                    loop.model.eval()
                    mse = error(lambda block: loop.model.decode(loop.model.encode(block)), test)
                say(loop.position.step, spent + measured, mse)
                loop.model.train()
            began = time.process_time()
        loop.end_epoch()


def in_turns(commands: dict[str, list[str]]) -> dict[str, list[dict[str, float]]]:
    """The figures that processes print, of which only one runs at a time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    running = {
        name: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        for name, command in commands.items()
    }
    for process in running.values():
        process.send_signal(signal.SIGSTOP)
    waiting = dict(running)
    while waiting:
        for name, process in list(waiting.items()):
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(TURN)
                del waiting[name]
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGSTOP)
    found = {}
    for name, process in running.items():
        assert process.stdout
        lines = process.stdout.read().decode().splitlines()
        found[name] = [json.loads(line) for line in lines if line.startswith('{"step"')]
        if process.returncode or not found[name]:
            raise SystemExit(f"{name} failed")
    return found


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """The seconds until pythae's last error, as a Markdown table."""
    last = found["pythae"][-1]
    lines = ["| | steps | seconds | over pythae's | error on test images |", "|---|---|---|---|---|"]
    for name, figures in found.items():
        reached = next((figure for figure in figures if figure["mse"] <= last["mse"]), None)
        for what, figure in (("", figures[-1]), (f", at {last['mse']:.5f}", reached if name != "pythae" else None)):
            if figure:
                share = figure["seconds"] / last["seconds"]
                cells = (f"{name}{what}", f"{figure['step']:,}", f"{figure['seconds']:.1f}", f"{share:.2f}")
                lines.append(f"| {' | '.join(cells)} | {figure['mse']:.5f} |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """The curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="processor's seconds of training", ylabel="squared error, test images")
    for name, figures in found.items():
        axes.plot([f["seconds"] for f in figures], [f["mse"] for f in figures], marker=".", label=name)
    axes.set_yscale("log")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run a column, or all of them in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--column", choices=COLUMNS)
    given = parser.parse_args()
    if given.column:
        test = tensor(given.data / "t10k-images-idx3-ubyte.gz")
        if given.column == "pythae":
            run_pythae(given.data, test, given.epochs, given.seed, given.out.parent)
        else:
            run_raectl(given.data, test, given.epochs, given.seed, COLUMNS[given.column])
        return
    own = [sys.executable, __file__, *sys.argv[1:]]
    found = in_turns({name: [*own, "--column", name] for name in COLUMNS})
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(table(found))
    print(table(found))
    draw(found, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
