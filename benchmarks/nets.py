"""Which net has the least held-out error after equal seconds of one core?

    OMP_NUM_THREADS=1 python benchmarks/nets.py emoji=emoji/train mnist=mnist photographs=p.npz --nets paper linear-conv

trains each net with raectl's own loop and default optimizer (RAE-L2, width 16, averaged weights), on images as they are
(`photographs+flip,shift=p.npz`: augmented), in one process, by turns of 5 seconds of steps: what else runs on the
machine slows all nets alike. Seconds are the process's CPU time inside steps. Errors are those of the averaged weights
on held-out images. Of photographs (49 cuts each, in order; see sharpening/photographs.py), whole ones are held out. No
test set is read: give training parts.

Rows are appended to `--rows`; what stands there is not run again, so seeds can be added later. The table of all rows
goes to results/nets.md. `paper` is the paper's net for the size: conv32 or conv64.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import publish

from raectl import Config
from raectl.cli.main import keep_freed_memory
from raectl.data import DataOptions, open_dataset
from raectl.model.resolve import resolve
from raectl.training.loop import Loop

sys.path.insert(0, str(Path(__file__).parent / "sharpening"))
from judges import grid_energy

TURN = 5.0  # seconds
CUTS = 49  # of a photograph
HELD_OUT = 6  # one photograph in so many
PAD: dict[str, Any] = {"image_size": 32, "fit": "pad"}
# Options of the configuration, and of the data.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "emoji": ({"latent_dim": 64, "batch_size": 50}, {}),
    "photographs": ({"latent_dim": 64, "batch_size": 50}, {}),
    "mnist": ({"latent_dim": 16, "batch_size": 100, "val_fraction": 1 / 6}, PAD),
}
OTHER: tuple[dict[str, Any], dict[str, Any]] = ({"latent_dim": 16, "batch_size": 100}, {})


@dataclass(frozen=True)
class Row:
    """What a net had reached after so many seconds; `error` is the mean squared error of held-out values."""

    data: str
    seed: int
    net: str
    budget: float
    seconds: float
    steps: int
    error: float
    grid: float | None


class Runner:
    """A net in training."""

    def __init__(self, net: str, data: str, source: str, seed: int) -> None:
        name, _, augment = data.partition("+")
        options, of_data = SETTINGS.get(name, OTHER)
        dataset = open_dataset(source, DataOptions(**of_data))
        arch = net if net != "paper" else "conv32" if max(dataset.items.shape[1:3]) <= 32 else "conv64"
        config = Config(
            arch=arch, reg="tikhonov", width=16, device="cpu", precision="fp32", seed=seed, epochs=100_000,
            augment=augment or "off",
            **options, **of_data,
        )  # fmt: skip
        self.net, self.seconds = net, 0.0
        self.loop = Loop(resolve(config, dataset), dataset, Path("unused"))
        if name == "photographs":
            hold_out_photographs(self.loop, seed)
        self._steps = self._forever()

    def _forever(self) -> Iterator[None]:
        position = self.loop.position
        while True:
            yield from self.loop.epoch()
            position.epoch += 1
            position.batch = 0
            self.loop.sums.zero_()

    def run(self, until: float) -> None:
        """Train, up to a turn, until so many seconds are spent."""
        end = min(until, self.seconds + TURN)
        while self.seconds < end:
            began = time.process_time()
            next(self._steps)
            self.seconds += time.process_time() - began

    def judge(self) -> tuple[float, float | None]:
        """Mean squared error and grid energy of reconstructions of the held-out images, 2,000 at most."""
        loop, errors, made = self.loop, [], []
        rows = np.random.default_rng(0).permutation(loop.val_rows)[:2000]
        with torch.no_grad(), loop.averaged():
            loop.model.eval()
            for part in np.array_split(rows, -(-len(rows) // 100)):
                x = loop.tensor(part)
                x_hat = loop.model.decode(loop.model.encode(x))
                errors += (x_hat - x).square().flatten(1).mean(dim=1).tolist()
                made.append(loop.modality.to_items(x_hat))
        loop.model.train()
        items = np.asarray(loop.dataset.items[rows])
        grid = grid_energy(items, np.concatenate(made)) if items.shape[1] % 4 == 0 and items.shape[1] >= 16 else None
        return statistics.mean(errors), grid


def hold_out_photographs(loop: Loop, seed: int) -> None:
    """Hold out every sixth photograph with all of its cuts, chosen by the seed, instead of single cuts."""
    photographs = len(loop.dataset) // CUTS
    chosen = np.random.default_rng(seed).permutation(photographs)[: photographs // HELD_OUT]
    held_out = np.isin(np.arange(len(loop.dataset)) // CUTS, chosen)
    loop.train_rows, loop.val_rows = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    n, size = len(loop.train_rows), loop.config.batch_size
    assert size is not None
    loop.batches = -(-n // size)
    loop.edges = np.arange(loop.batches + 1) * n // loop.batches


def race(data: str, source: str, seed: int, nets: Sequence[str], budgets: Sequence[float]) -> Iterator[Row]:
    """Train nets by turns, and judge them whenever all have spent one of the budgets."""
    runners = [Runner(net, data, source, seed) for net in nets]
    for budget in budgets:
        while any(runner.seconds < budget for runner in runners):
            for runner in runners:
                runner.run(budget)
        for runner in runners:
            error, grid = runner.judge()
            steps = runner.loop.position.step
            yield Row(data, seed, runner.net, budget, round(runner.seconds, 1), steps, error, grid)


def table(rows: Sequence[Row]) -> str:
    """A line for each run and budget, and one for the mean over the seeds that all nets have."""
    nets = [*dict.fromkeys(row.net for row in rows)]
    found = {(row.data, row.budget, row.seed, row.net): row for row in rows}
    lines = [
        "Held-out mean squared error x 10^4 (steps; grid energy of reconstructions), averaged weights:\n",
        f"| data | CPU seconds | seed | {' | '.join(nets)} | last / first |",
        f"|{'---|' * (4 + len(nets))}",
    ]
    for data, budget in dict.fromkeys((row.data, row.budget) for row in rows):
        seeds = sorted({row.seed for row in rows if (row.data, row.budget) == (data, budget)})
        groups = [[found[data, budget, seed, net] for net in nets] for seed in seeds]
        for seed, group in zip(seeds, groups, strict=True):
            cells = [f"{1e4 * r.error:.1f} ({r.steps}{'' if r.grid is None else f'; {r.grid:.2f}'})" for r in group]
            ratio = group[-1].error / group[0].error
            lines.append(f"| {data} | {budget:g} | {seed} | {' | '.join(cells)} | {ratio:.3f} |")
        if len(groups) > 1:
            means = [statistics.mean(group[i].error for group in groups) for i in range(len(nets))]
            cells = [f"**{1e4 * mean:.1f}**" for mean in means]
            lines.append(f"| {data} | {budget:g} | mean | {' | '.join(cells)} | **{means[-1] / means[0]:.3f}** |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, and publish all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=SOURCE", help="emoji=, photographs=, mnist= or another name")
    parser.add_argument("--nets", nargs="+", required=True, metavar="NET", help="names of --arch, and paper")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", nargs="+", type=float, default=[60.0, 240.0])
    parser.add_argument("--rows", type=Path, default=Path("nets.jsonl"), help="file that keeps the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command line does
    rows = [Row(**json.loads(line)) for line in options.rows.read_text().splitlines()] if options.rows.exists() else []
    for seed in options.seeds:
        for data, _, source in (spec.partition("=") for spec in options.data):
            if {row.budget for row in rows if (row.data, row.seed) == (data, seed)} >= {*options.seconds}:
                continue
            for row in race(data, source, seed, options.nets, sorted(options.seconds)):
                if row in rows:
                    continue
                rows.append(row)
                print(row, flush=True)
                with options.rows.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
    publish("nets", f"OMP_NUM_THREADS=1 python benchmarks/nets.py {' '.join(sys.argv[1:])}", table(rows))


if __name__ == "__main__":
    main()
