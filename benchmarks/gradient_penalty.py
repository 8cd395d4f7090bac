"""Ways to estimate the gradient penalty ||J||_F^2: what a step costs, and how true the estimate is.

    OMP_NUM_THREADS=2 PYTHONPATH=. peers-env/bin/python benchmarks/gradient_penalty.py cost
    OMP_NUM_THREADS=2 python benchmarks/gradient_penalty.py train --data mnist --runs runs/gp
    OMP_NUM_THREADS=2 python benchmarks/gradient_penalty.py truth --data mnist/t10k-images-idx3-ubyte.gz --runs runs/gp

`cost` times steps of RAE-GP at width 32 beside the same step without a penalty, and beside pythae's RAE-GP, whose
penalty is another: the gradient of the summed output by the input image, through both nets. `train` makes a run of 5
epochs of each form, on MNIST at width 8. `truth` compares each form's estimates with the exact Jacobian on the run
without a penalty, and reports the runs. Each writes a page to results/.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import in_process, interleaved, publish, ratio
from torch import Tensor, nn
from training_step import BATCH, LATENT_DIM, SHAPE, Column, images, pythae_epoch

import raectl
from raectl import presets, registry
from raectl.checkpoint.directory import Directory
from raectl.model.regularizers.gradient_penalty import GradientPenalty
from raectl.model.resolve import resolve
from raectl.progress import Progress
from raectl.rng import choose
from raectl.training.run import Run

WEIGHT, CODES, DRAWS = 0.01, 2000, 2000


class DoubleBackward(GradientPenalty):
    """E ||J^T v||^2 over signs v of the output: a gradient, and its gradient."""

    def __init__(self) -> None:
        super().__init__(part=1)

    def _exact(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None) -> Tensor:
        with torch.enable_grad():
            if not (z.requires_grad and x_hat.requires_grad):
                z = z.detach().requires_grad_()
                x_hat = decoder(z)
            signs = torch.randint(0, 2, x_hat.shape, generator=generator).to(z.dtype).mul_(2).sub_(1)
            (gradient,) = torch.autograd.grad((x_hat * signs).sum(), z, create_graph=True)
        return gradient.square().sum(dim=1)


class EveryFourth(GradientPenalty):
    """The whole batch at every fourth step, counted four times."""

    def __init__(self) -> None:
        super().__init__(part=1)
        self.step = 0

    def penalty(self, decoder: nn.Module, z: Tensor, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """0 for three steps, then 4 times the penalty."""
        if not torch.is_grad_enabled():
            return super().penalty(decoder, z, x_hat, generator)
        self.step += 1
        return torch.zeros(len(z)) if self.step % 4 else 4 * super().penalty(decoder, z, x_hat, generator)


registry.register("regularizer", "double-backward", "gradient_penalty:DoubleBackward")
registry.register("regularizer", "every-fourth", "gradient_penalty:EveryFourth")
FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "no penalty": {},
    "double backward": {"double-backward": {"weight": WEIGHT}},
    "tangent, whole batch": {"gradient-penalty": {"weight": WEIGHT, "part": 1}},
    "tangent, half": {"gradient-penalty": {"weight": WEIGHT, "part": 0.5}},
    "tangent, a quarter (default)": {"gradient-penalty": {"weight": WEIGHT}},
    "tangent, every fourth step": {"every-fourth": {"weight": WEIGHT}},
    "released code's quantity": {"gradient-penalty": {"weight": WEIGHT, "form": "released"}},
}
TRAINED = [name for name in FORMS if "half" not in name and "released" not in name]


def steps_of(form: str, steps: int, width: int) -> Column:
    """An epoch of raectl's trainer with a form."""
    dataset = raectl.open_dataset(images(steps))
    config = raectl.Config(
        reg=FORMS[form], arch="conv32", width=width, device="cpu", val_fraction=0, batch_size=BATCH,
        optimizer="adam", average=0.0, augment="off",
    )  # fmt: skip
    run = Run(resolve(config, dataset), dataset, Directory(Path("unused")), Progress())
    run.loop.model.train()

    def epoch() -> None:
        for start in range(0, len(dataset), BATCH):
            run.loop.step(run.loop.train_rows[start : start + BATCH])

    return epoch


def pythae(steps: int, width: int) -> Column:
    """An epoch of pythae's trainer with its RAE-GP."""
    from pythae.models import RAE_GP, RAE_GP_Config
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    config = RAE_GP_Config(input_dim=SHAPE, latent_dim=LATENT_DIM, reg_weight=1e-6)
    return pythae_epoch(steps, width, RAE_GP, config, BaseTrainer, BaseTrainerConfig)


def cost(options: argparse.Namespace) -> None:
    """Time steps."""
    os.environ["TQDM_DISABLE"] = "1"
    columns = {form: in_process(steps_of, form, options.steps, options.width) for form in FORMS}
    if find_spec("pythae"):
        columns["pythae's RAE-GP, another quantity"] = in_process(pythae, options.steps, options.width)
    times = interleaved(columns, options.rounds)
    default = times["tangent, a quarter (default)"]
    lines = ["| | images/s, median | times the step without (95 %) | the default is faster by |", "|---|---|---|---|"]
    for name, seconds in times.items():
        speed = BATCH * options.steps / statistics.median(seconds)
        lines.append(f"| {name} | {speed:.0f} | {ratio(seconds, times['no penalty'])} | {ratio(seconds, default)} |")
    lines.append(
        f"\nWidth {options.width}, batch {BATCH}, {options.rounds} interleaved rounds of {options.steps} steps."
    )
    command = "OMP_NUM_THREADS=2 PYTHONPATH=. peers-env/bin/python benchmarks/gradient_penalty.py cost"
    publish("gradient-penalty-cost", command, "\n".join(lines))


def train(options: argparse.Namespace) -> None:
    """A run of every form that is not there yet; those that were interrupted go on."""
    for name in options.forms or TRAINED:
        out = options.runs / _folder(name)
        given = presets.options("mnist/rae-gp-frobenius")
        config = raectl.Config.from_dict(
            {**given, "reg": FORMS[name], "width": 8, "epochs": 5, "lr": 1e-3, "bn_momentum": 0.1, "device": "cpu"}
        )
        raectl.train(config, options.data, out, resume=out.exists())


def truth(options: argparse.Namespace) -> None:
    """Bias and spread of the estimates on one decoder, and what became of the runs."""
    runs = {name: path for name in TRAINED if (path := options.runs / _folder(name)).exists()}
    checkpoint = raectl.load(runs["no penalty"], "cpu")
    test = checkpoint.open_data(options.data)
    rows = choose(0, "benchmark codes", len(test), CODES)
    z = checkpoint.encode(test.items[rows]).clone()
    decoder = checkpoint.decoder
    exact = exact_norms(decoder, z)
    lines = [
        f"Squared Frobenius norm of the Jacobian, mean over {CODES} codes: {float(exact.mean()):.4f}.\n",
        "| | mean of the estimates over the exact value | off by | spread of one step |",
        "|---|---|---|---|",
    ]
    for name in FORMS:
        if name != "no penalty" and "released" not in name:
            lines.append(estimate_row(name, decoder, z, exact))
    lines += ["\n| run | squared error per test pixel | exact penalty on test codes |", "|---|---|---|"]
    for name, path in runs.items():
        run = raectl.load(path, "cpu")
        items = test.items
        codes = run.encode(items)
        x = torch.from_numpy(np.array(items)).permute(0, 3, 1, 2).float() / 255
        error = float((run.decode(codes) - x).square().mean())
        lines.append(f"| {name} | {error:.5f} | {float(exact_norms(run.decoder, codes[rows]).mean()):.3f} |")
    lines.append(f"\n{DRAWS} batches of {BATCH} codes; seed 0.")
    command = "OMP_NUM_THREADS=2 python benchmarks/gradient_penalty.py truth --data TEST --runs runs/gp"
    publish("gradient-penalty-truth", command, "\n".join(lines))


def _folder(name: str) -> str:
    return "-".join(name.replace(",", "").replace("(", "").replace(")", "").split())


def exact_norms(decoder: nn.Module, z: Tensor) -> Tensor:
    """||J||_F^2 of each code by PyTorch's forward mode, one unit vector after the other: (N, d) => (N,)."""
    total = torch.zeros(len(z))
    for unit in torch.eye(z.shape[1]):
        with torch.no_grad():
            _, column = torch.func.jvp(decoder, (z,), (unit.expand_as(z).contiguous(),))
        total += column.flatten(1).square().sum(dim=1)
    return total


def estimate_row(name: str, decoder: nn.Module, z: Tensor, exact: Tensor) -> str:
    """Estimates of one form over random batches, each beside the exact mean over all codes."""
    ((kind, given),) = FORMS[name].items()
    regularizer: GradientPenalty = registry.resolve("regularizer", kind)(
        **{key: value for key, value in given.items() if key != "weight"}
    )
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(DRAWS):
        batch = z[torch.randperm(len(z), generator=generator)[:BATCH]]
        values.append(regularizer.penalty(decoder, batch, decoder(batch), generator).mean().detach())
    ratios = torch.stack(values) / exact.mean()
    error = float(ratios.std()) / DRAWS**0.5
    off = (float(ratios.mean()) - 1) / error
    mean, spread = float(ratios.mean()), float(ratios.std())
    return f"| {name} | {mean:.4f} ± {error:.4f} | {off:+.1f} standard errors | {spread:.1%} |"


def main() -> None:
    """Parse the command line and run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts: dict[str, Callable[[argparse.Namespace], None]] = {"cost": cost, "train": train, "truth": truth}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--data", help="MNIST's training or test images")
    parser.add_argument("--runs", type=Path, default=Path("runs/gp"))
    parser.add_argument("--forms", nargs="+", choices=TRAINED, help="train these only")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="of a block")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    parts[options.part](options)


if __name__ == "__main__":
    main()
