"""Error and kernel distance on MNIST by the processor's seconds of training: pythae's RAE-L2, and raectl's RAE.

    python benchmarks/peers/time_to_quality.py --data mnist --out benchmarks/peers/results/time-to-quality

Runs in pythae's virtual environment, see README.md beside it. Each column is a process of one thread, and they run in
turns of a few seconds, so that all of them meet the machine in the same state. Images, split and batches are the same,
and in `conv32` the net and its initial weights; seconds are those of training steps alone, for raectl with one
measurement of batch norm's statistics for each figure. Samples are 2,000 of each side's own mixture of 10 Gaussians,
compared with all test images in the features of EfficientNet-Lite0. Writes OUT.json, OUT.md and, with matplotlib,
OUT.png; samples go to OUT/.
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
from raectl.densities.fitting import fit
from raectl.extractors.efficientnet_lite0 import EfficientNetLite0
from raectl.metrics.kernel import kernel_distance
from raectl.metrics.reference import Reference
from raectl.modalities.images import Images
from raectl.model.resolve import resolve
from raectl.training.loop import Loop

TURN = 4.0  # seconds
NETS = ("conv32", "linear-conv")
LOOKS = (*range(50, 500, 50), *range(500, 1251, 250))  # steps after which raectl is measured
SAMPLES = 2000
Figures = dict[str, list[dict[str, float]]]


def tensor(path: Path) -> Tensor:
    """MNIST's images as the networks see them."""
    from pythae_run import DATA

    return Images().to_tensor(torch.from_numpy(np.array(open_dataset(path, DATA).items)))


def error(decoded: Any, x: Tensor) -> float:
    """Mean squared error a value."""
    with torch.no_grad():
        return sum(float((decoded(block) - block).square().sum()) for block in x.split(500)) / x.numel()


def say(step: int, seconds: float, mse: float, samples: np.ndarray, out: Path) -> None:
    """A figure of this process's column, and its samples, to be judged later."""
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / f"{step}.npy", samples)
    print(json.dumps({"step": step, "seconds": round(seconds, 2), "mse": mse}), flush=True)


def run_pythae(data: Path, test: Tensor, epochs: int, seed: int, out: Path) -> None:
    """pythae's own pipeline and sampler; a figure an epoch."""
    from pythae.pipelines import TrainingPipeline
    from pythae.samplers import GaussianMixtureSampler, GaussianMixtureSamplerConfig
    from pythae_run import VAL_FRACTION, Log, make, training

    class Looking(Log):
        def on_log(self, training_config: Any, logs: dict[str, float], **_: Any) -> None:
            self.epochs.append({"cpu_seconds": self.took[1]})
            model.eval()
            mse = error(lambda block: model.predict(block).recon_x, test)
            sampler = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=10))
            sampler.fit(train)
            samples = Images().to_items(sampler.sample(SAMPLES, batch_size=500, return_gen=True))
            spent = sum(epoch["cpu_seconds"] for epoch in self.epochs)
            say(len(self.epochs) * -(-len(train) // 100), spent, mse, samples, out)

    x = tensor(data)
    train, val = (x[rows].contiguous() for rows in split(len(x), VAL_FRACTION, seed))
    model = make("rae-l2", seed)
    pipeline = TrainingPipeline(model, training("rae-l2", epochs, seed, out / "pythae.npz"))
    pipeline(train, val, callbacks=[Looking()])


def run_raectl(data: Path, test: Tensor, seed: int, arch: str, out: Path) -> None:
    """raectl's loop and mixture; a figure at each of `LOOKS`."""
    from pythae_run import BATCH, DATA, LATENT_DIM, VAL_FRACTION, WIDTH

    dataset = open_dataset(data, DATA)
    config = Config(
        reg="tikhonov", arch=arch, latent_dim=LATENT_DIM, width=WIDTH, batch_size=BATCH, val_fraction=VAL_FRACTION,
        seed=seed, image_size=32, fit="pad", background="black", device="cpu", precision="fp32",
    )  # fmt: skip
    loop = Loop(resolve(config, dataset), dataset, Path("ckpt"))
    rows, _ = split(len(dataset), VAL_FRACTION, seed)
    train, spent = tensor(data)[rows], 0.0
    while True:
        began = time.process_time()
        for _ in loop.epoch():
            spent += time.process_time() - began
            if loop.position.step in LOOKS:
                began = time.process_time()
                with loop.averaged():
                    measured = time.process_time() - began
                    loop.model.eval()
                    mse = error(lambda block: loop.model.decode(loop.model.encode(block)), test)
                    samples = sampled(loop.model, train, seed)
                say(loop.position.step, spent + measured, mse, samples, out)
                if loop.position.step == LOOKS[-1]:
                    return
                loop.model.train()
            began = time.process_time()
        loop.end_epoch()


@torch.no_grad()
def sampled(model: Any, train: Tensor, seed: int) -> np.ndarray:
    """Samples of a model's 10 Gaussians."""
    z = torch.cat([model.encode(block) for block in train.split(500)]).numpy()
    z = fit("gmm", z, z[:0], seed=seed, components=10).density.sample(SAMPLES, seed)
    return np.concatenate([Images().to_items(model.decode(block)) for block in z.split(500)])


def in_turns(commands: dict[str, list[str]]) -> Figures:
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


def judge(found: Figures, test: Tensor, out: Path) -> None:
    """Add the samples' kernel distances to the figures."""
    extractor = EfficientNetLite0()
    reference = Reference(extractor(Images().to_items(test)))
    for name, figures in found.items():
        for figure in figures:
            distance = kernel_distance(reference, extractor(np.load(out / name / f"{figure['step']}.npy")))
            figure["kernel"], figure["kernel_se"] = 1000 * distance.value, 1000 * float(distance.se or 0)


def table(found: Figures) -> str:
    """The seconds until pythae's last error and its last kernel distance, as a Markdown table."""
    last = found["pythae"][-1]
    lines = ["| | until | steps | seconds | over pythae's | error | kernel distance x 1000 |", "|" + "---|" * 7]
    for name, figures in found.items():
        looks = {"the last look": figures[-1]}
        if name != "pythae":
            looks |= {
                f"pythae's {what}": next((figure for figure in figures if figure[key] <= last[key]), None)
                for what, key in (("error", "mse"), ("kernel distance", "kernel"))
            }
        for until, figure in looks.items():
            if figure is None:
                lines.append(f"| {name} | {until} | not reached | | | | |")
                continue
            share = f"{figure['seconds'] / last['seconds']:.2f}"
            measured = f"{figure['mse']:.5f} | {figure['kernel']:.0f} ± {figure['kernel_se']:.0f}"
            lines.append(f"| {name} | {until} | {figure['step']:,} | {figure['seconds']:.1f} | {share} | {measured} |")
    return "\n".join(lines) + "\n"


def draw(found: Figures, path: Path) -> None:
    """The curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.5), layout="constrained")
    colours = {name: f"C{i}" for i, name in enumerate(("pythae", *NETS))}
    for i, (key, what) in enumerate((("mse", "squared error, test images"), ("kernel", "kernel distance x 1000"))):
        axes = figure.add_subplot(1, 2, i + 1, xlabel="processor's seconds of training", ylabel=what)
        for name, figures in found.items():
            style = {"color": colours[name.rpartition("-")[0] or name], "label": name, "marker": "."}
            axes.plot([f["seconds"] for f in figures], [f[key] for f in figures], **style)
        axes.set_yscale("log")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run a column, or all of them in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5, help="of pythae")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of raectl; pythae's is 0")
    parser.add_argument("--column")
    given = parser.parse_args()
    test = tensor(given.data / "t10k-images-idx3-ubyte.gz")
    if given.column == "pythae":
        return run_pythae(given.data, test, given.epochs, 0, given.out / given.column)
    if given.column:
        arch, _, seed = given.column.rpartition("-")
        return run_raectl(given.data, test, int(seed), arch, given.out / given.column)
    own = [sys.executable, __file__, *sys.argv[1:]]
    columns = ["pythae", *(f"{arch}-{seed}" for arch in NETS for seed in given.seeds)]
    found = in_turns({name: [*own, "--column", name] for name in columns})
    judge(found, test, given.out)
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(table(found))
    print(table(found))
    return draw(found, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
