"""How fast and lean is the Gaussian mixture beside scikit-learn's, and do both find the same?

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/densities.py

Every row is kept in `results/densities.jsonl` as soon as it is measured, so that a run that was stopped goes on where
it stopped, and `--seconds 100` stops after the row that is running then; the tables are in `results/densities.md`.
Delete the former to measure anew.

Both fit 10 components with full covariances to the same float32 latents, their own starts included, until an iteration
changes the mean log-likelihood per latent by less than 1e-3 nats or 200 iterations have passed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import __version__ as sklearn_version
from sklearn.mixture import GaussianMixture
from timing import RESULTS, paired, publish, ratio

from raectl.densities import GMM
from raectl.densities.covariance import COVARIANCES
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.em import e_step, in_units, m_step, run_em
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.densities.mixtures.start import start_mixture

COMMAND = "OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/densities.py"
SIZES = {(60_000, 16): (3.5, 6.0), (200_000, 64): (2.8, 5.0), (60_000, 128): (2.0, 4.0)}  # floor and goal of the ratio
ROUNDS, K, TOL, MAX_ITER, RIDGE = 7, 10, 1e-3, 200, 1e-6
# Of clouds of 10 normals: distance of the means, the widest and the narrowest standard deviation, least weight.
CLOUDS = {
    "separated": (3, 1, 1, 0.03),
    "overlapping": (1, 2, 0.5, 0.03),
    "unequal": (1.5, 2, 0.5, 0.01),
    "elongated": (0.5, 3, 0.1, 0.03),
}
CLOUD_SEEDS, FASTER, NEAR = 6, 3.0, 0.05  # floor of the ratio; nats below the best optimum known
RECORDS = RESULTS / "densities.jsonl"
CHILD = """
import sys
from pathlib import Path
import torch
from raectl.densities import GMM
if len(sys.argv) > 1:
    import numpy as np
    GMM(components=10).fit(np.load(sys.argv[1]))
# Not getrusage: its peak is the parent's until exec.
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


def latents(n: int, d: int, seed: int = 0) -> np.ndarray:
    """A mixture of 12 normals that overlap, their axes turned and their deviations 0.3 to 3: (n, d) float32."""
    rng = np.random.default_rng(seed)
    z = np.empty((n, d), np.float32)
    component = rng.choice(12, n, p=rng.dirichlet(np.full(12, 5.0)))
    for k in range(12):
        rows = np.flatnonzero(component == k)
        axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
        noise = rng.normal(size=(len(rows), d)) * np.geomspace(3, 0.3, d)
        z[rows] = 0.4 * rng.normal(size=d) + noise @ axes.T
    return z


def cloud(name: str, n: int, d: int) -> tuple[np.ndarray, GaussianMixture]:
    """Latents of a cloud, (n, d) float32, and EM that has still to start at its true parameters."""
    distance, widest, narrowest, least = CLOUDS[name]
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(K, 1.0 if name == "unequal" else 5.0)).clip(least)
    weights /= weights.sum()
    component = rng.choice(K, n, p=weights)
    z, means, precisions = np.empty((n, d), np.float32), np.empty((K, d)), np.empty((K, d, d))
    for k in range(K):
        axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
        root = axes * np.geomspace(widest, narrowest, d) * rng.uniform(0.5, 1.5)
        means[k], precisions[k] = distance * rng.normal(size=d), np.linalg.inv(root @ root.T)
        rows = np.flatnonzero(component == k)
        z[rows] = means[k] + rng.normal(size=(len(rows), d)) @ root.T
    return z, GaussianMixture(
        K, tol=TOL, max_iter=MAX_ITER, weights_init=weights, means_init=means, precisions_init=precisions
    )


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def fits(n: int, d: int, seed: int) -> dict[str, Any]:
    """One pair of whole fits, the first of them by turns."""
    z = latents(n, d)
    works: dict[str, Callable[[], Any]] = {
        "ours": lambda: GMM(components=K, tol=TOL, max_iter=MAX_ITER).fit(z, seed=seed),
        "theirs": lambda: GaussianMixture(K, tol=TOL, max_iter=MAX_ITER, random_state=seed).fit(z),
    }
    for work in (GMM(components=K, max_iter=2).fit, GaussianMixture(K, max_iter=2).fit):
        work(z[:4000])  # what is slow once: imports, threads
    done = {name: clocked(works[name]) for name in sorted(works, reverse=bool(seed % 2))}
    ours, theirs = done["ours"][1], done["theirs"][1]
    return {
        "seconds": [done["ours"][0], done["theirs"][0]],
        "iterations": [ours.stats["iterations"], int(theirs.n_iter_)],
        "on_parts": ours.stats["iterations_on_parts"],
        "converged": [ours.stats["converged"], bool(theirs.converged_)],
        "bounds": [ours.stats["log_likelihood"], float(theirs.lower_bound_)],
    }


def optima(n: int, d: int, seed: int) -> dict[str, Any]:
    """Of each cloud, seconds and log-likelihoods of a pair of fits, and the log-likelihood of EM from the truth."""
    found: dict[str, Any] = {}
    for name in CLOUDS:
        z, truth = cloud(name, n, d)
        works: dict[str, Callable[[], Any]] = {
            "ours": lambda z=z: GMM(components=K, tol=TOL, max_iter=MAX_ITER).fit(z, seed=seed),
            "theirs": lambda z=z: GaussianMixture(K, tol=TOL, max_iter=MAX_ITER, random_state=seed).fit(z),
        }
        for work in works.values():
            work(z[:4000])  # what is slow once
        done = {key: clocked(works[key]) for key in sorted(works, reverse=bool(seed % 2))}
        ours, theirs = done["ours"][1], done["theirs"][1]
        found[name] = {
            "seconds": [done["ours"][0], done["theirs"][0]],
            "bounds": [ours.stats["log_likelihood"], float(theirs.lower_bound_)],
            "from_truth": float(truth.fit(z).lower_bound_),
        }
    return found


def same_start(n: int, d: int, seed: int) -> dict[str, Any]:
    """EM alone, on all rows, from one start: seconds an iteration, and where each ends."""
    z = torch.from_numpy(latents(n, d))
    standardizer, kind = Standardizer.fit(z), COVARIANCES["full"]
    start = start_mixture(z[: n // 8], standardizer, kind, K, seed=seed, ridge=RIDGE)

    def step(rows: torch.Tensor, mixture: MixtureParameters) -> tuple[float, MixtureParameters]:
        sums = e_step(rows, standardizer, mixture)
        return sums.log_likelihood / len(rows), m_step(mixture, sums, RIDGE)

    natural = in_units(start, standardizer, z.dtype)
    other = GaussianMixture(
        K, tol=TOL, max_iter=MAX_ITER, weights_init=start.weights.numpy(), means_init=natural.means.numpy(),
        precisions_init=np.linalg.inv(natural.covariances.numpy()), reg_covar=RIDGE,
    )  # fmt: skip
    seconds, ours = clocked(lambda: run_em(z, step, start, max_iter=MAX_ITER, tol=TOL))
    their_seconds, theirs = clocked(lambda: other.fit(z.numpy()))
    iterations = [len(ours.history) - 1, int(theirs.n_iter_)]
    return {
        "iterations": iterations,
        "seconds_each": [seconds / iterations[0], their_seconds / iterations[1]],
        "bounds": [ours.history[-1], float(theirs.lower_bound_)],
    }


def memory(n: int, d: int, seed: int) -> dict[str, Any]:
    """Peak of a process that loads latents and fits, beyond one that imports the same, in MB; latents taken off."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "latents.npy"
        np.save(file, latents(n, d, seed))
        idle, busy = (int(subprocess.check_output([sys.executable, "-c", CHILD, *more])) for more in ([], [str(file)]))
    return {"beyond_mb": (busy - idle) * 1024 / 1e6 - 4 * n * d / 1e6}


def use(n: int, d: int, seed: int) -> dict[str, Any]:
    """Rows a second of `log_prob` and `sample`, and the paired ratios to scikit-learn's."""
    z = latents(n, d, seed)
    ours, theirs = GMM(components=K, max_iter=3).fit(z), GaussianMixture(K, max_iter=3, random_state=0).fit(z)
    rows: dict[str, Any] = {}
    for name, a, b in (
        ("log_prob", lambda: theirs.score_samples(z), lambda: ours.log_prob(z)),
        ("sample", lambda: theirs.sample(n), lambda: ours.sample(n)),
    ):
        their_seconds, seconds, times = paired(a, b, ROUNDS)
        rows[name] = [n / seconds, n / their_seconds, str(times)]
    return rows


def linear(n: int, d: int, seed: int) -> dict[str, Any]:
    """Nanoseconds a row and iteration of EM over all rows, and microseconds a row of a whole fit of 5 iterations."""
    z = torch.from_numpy(latents(n, d, seed))
    standardizer, kind = Standardizer.fit(z), COVARIANCES["full"]
    start = start_mixture(z[:4096], standardizer, kind, K, seed=seed, ridge=RIDGE)
    each, whole = [], []
    for _ in range(3):
        each.append(clocked(lambda: [e_step(z, standardizer, start) for _ in range(5)])[0] / 5 / n * 1e9)
        whole.append(clocked(lambda: GMM(components=K, max_iter=5, tol=1e-12).fit(z, seed=seed))[0] / n * 1e6)
    return {"sweep_ns": statistics.median(each), "fit_us": statistics.median(whole)}


def planned() -> Iterator[tuple[Callable[[int, int, int], dict[str, Any]], int, int, int]]:
    """Every row to measure: how, rows, dimensions, seed."""
    yield from ((fits, *size, 0) for size in SIZES)
    yield from ((optima, 60_000, 16, seed) for seed in range(CLOUD_SEEDS))
    yield from ((use, n, d, 0) for n, d in ((60_000, 16), (40_000, 64), (20_000, 128)))
    yield from ((fits, *size, seed) for size in sorted(SIZES) for seed in range(1, ROUNDS))
    yield from ((memory, *size, 0) for size in SIZES)
    yield from ((same_start, *size, 0) for size in SIZES)
    yield from ((linear, n, 16, 0) for n in (10_000, 100_000, 1_000_000))


def of(records: list[dict[str, Any]], measure: Callable[..., Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """The records of one measurement by size."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for record in records:
        if record["set-metric"] == measure.__name__:
            found.setdefault((record["n"], record["d"]), []).append(record)
    return found


def columns(rows: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Ours and theirs."""
    return [row[name][0] for row in rows], [row[name][1] for row in rows]


def table(*heads: str) -> str:
    """The head of a Markdown table."""
    return f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}"


def fit_rows(records: list[dict[str, Any]]) -> Iterator[str]:
    """Whole fits, from each one's own k-means."""
    median = statistics.median
    yield table(
        "latents", "pairs", "fit, s", "scikit-learn, s", "times as fast, median (95 %)", "floor, goal",
        "iterations (before, on parts)", "scikit-learn's", "log-likelihood, median", "scikit-learn's",
    )  # fmt: skip
    for (n, d), rows in of(records, fits).items():
        ours, theirs = columns(rows, "seconds")
        (its, their_its), (bounds, their_bounds) = columns(rows, "iterations"), columns(rows, "bounds")
        floor, goal = SIZES[n, d]
        yield (
            f"| {n:,} x {d} | {len(rows)} | {median(ours):.2f} | {median(theirs):.2f} | {ratio(theirs, ours)} "
            f"| {floor}, {goal} | {median(its):.0f} ({median(row['on_parts'] for row in rows):.0f}) "
            f"| {median(their_its):.0f} | {median(bounds):.3f} | {median(their_bounds):.3f} |"
        )


def cloud_rows(records: list[dict[str, Any]]) -> Iterator[str]:
    """How far below the best optimum that is known each fit of a cloud ends."""
    yield table(
        "60,000 x 16", "seeds", "fit, s", "scikit-learn, s", "times as fast, median (95 %)", "floor",
        f"within {NEAR} nats of the best", "worst below it, nats", "scikit-learn's within", "worst",
    )  # fmt: skip
    (rows,) = of(records, optima).values()
    for name in CLOUDS:
        of_cloud = [row[name] for row in rows]
        (ours, theirs), (a, b) = columns(of_cloud, "seconds"), columns(of_cloud, "bounds")
        best = max(*a, *b, *(row["from_truth"] for row in of_cloud))
        near, their_near = (sum(bound > best - NEAR for bound in bounds) for bounds in (a, b))
        yield (
            f"| {name} | {len(rows)} | {statistics.median(ours):.2f} | {statistics.median(theirs):.2f} "
            f"| {ratio(theirs, ours)} | {FASTER} | {near} | {best - min(a):.3f} | {their_near} | {best - min(b):.3f} |"
        )


def pages(records: list[dict[str, Any]]) -> Iterator[str]:
    """All tables, as Markdown."""
    yield from fit_rows(records)
    if of(records, optima):
        yield from cloud_rows(records)
    yield table(
        "latents", "EM iteration, s", "scikit-learn, s", "iterations from one start", "scikit-learn's",
        "bounds differ by, relative", "peak beyond idle and latents, MB",
    )  # fmt: skip
    peaks = of(records, memory)
    for size, (row, *_) in of(records, same_start).items():
        (each, their_each), (its, their_its), (a, b) = row["seconds_each"], row["iterations"], row["bounds"]
        peak = f"{peaks[size][0]['beyond_mb']:.0f}" if size in peaks else "-"
        gap = f"{abs(a - b) / abs(b):.1e}"
        yield f"| {size[0]:,} x {size[1]} | {each:.3f} | {their_each:.3f} | {its} | {their_its} | {gap} | {peak} |"
    yield table("latents", "of", "rows a second", "scikit-learn", "times as fast, median (95 %)")
    for (n, d), (row, *_) in of(records, use).items():
        for name in ("log_prob", "sample"):
            ours_rate, their_rate, shown = row[name]
            yield f"| {n:,} x {d} | `{name}` | {ours_rate:,.0f} | {their_rate:,.0f} | {shown} |"
    yield table("rows, d = 16", "a row and iteration, ns", "a row of a fit of 5 iterations, us")
    for (n, _), (row, *_) in of(records, linear).items():
        yield f"| {n:,} | {row['sweep_ns']:.0f} | {row['fit_us']:.2f} |"
    yield (
        "\nThe latents are `latents(n, d, seed=0)` of the script, and its clouds; pair i has seed i for both. The best "
        f"optimum is that of all fits and of EM from the true parameters. {ROUNDS} rounds of `log_prob` and `sample`; "
        f"medians of 3 in the last table. scikit-learn {sklearn_version} on NumPy "
        f"{np.__version__}, in float64, its default."
    )


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after the row that is running then")
    limit = time.perf_counter() + parser.parse_args().seconds
    warnings.simplefilter("ignore")  # scikit-learn says that 3 iterations do not converge
    RESULTS.mkdir(exist_ok=True)
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    done = {(record["set-metric"], record["n"], record["d"], record["seed"]) for record in records}
    for measure, n, d, seed in planned():
        if (measure.__name__, n, d, seed) in done or time.perf_counter() > limit:
            continue
        records.append({"set-metric": measure.__name__, "n": n, "d": d, "seed": seed, **measure(n, d, seed)})
        with RECORDS.open("a") as file:
            file.write(json.dumps(records[-1]) + "\n")
    publish("densities", COMMAND, "\n".join(pages(records)))


if __name__ == "__main__":
    main()
