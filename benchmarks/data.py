"""How fast are images packed, and read back, beside the shortest loop over Pillow?

    OMP_NUM_THREADS=2 python benchmarks/data.py --emoji emoji64.zip

Packs a zip of small PNGs (left out without `--emoji`) and 12 synthetic photographs of 12 megapixels, each time into an
empty cache; the loop opens, converts and resizes one image after the other, keeps them in memory and writes nothing.
Then epochs over the packed array and over a tensor in memory: gathering batches alone, and training steps. All runs are
interleaved. Writes results/data.md.
"""

import argparse
import io
import os
import shutil
import statistics
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timing import interleaved, publish, ratio

import raectl
from raectl.checkpoint.directory import Directory
from raectl.data import Dataset
from raectl.data.images import decode
from raectl.modalities.base import modality_of
from raectl.model.resolve import resolve
from raectl.progress import Progress
from raectl.training.run import Run

SIZE, BATCH, PHOTOGRAPHS = 64, 100, 12
TRAINED = 1000  # images of an epoch of training
Row = tuple[str, int, list[float], list[float]]  # what, n, seconds of ours, of the other


def loop(files: Callable[[], list[bytes]]) -> np.ndarray:
    """Open, convert, resize; transparency is dropped, where raectl puts a background behind it."""
    pictures = []
    for data in files():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        pictures.append(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)))
    return np.stack(pictures)


def zip_files(path: Path) -> list[bytes]:
    """The images in a zip, one read after the other."""
    with zipfile.ZipFile(path) as archive:
        return [archive.read(info) for info in archive.infolist() if not info.is_dir()]


def photographs(folder: Path) -> Path:
    """12 JPEGs of 4000x3000: scikit-learn's two photographs, enlarged, with noise as a camera's."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PHOTOGRAPHS):
        photograph = Image.fromarray(load_sample_images().images[number % 2]).resize((4000, 3000))
        noisy = np.asarray(photograph) + rng.normal(0, 6, (3000, 4000, 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.jpg", quality=90)
    return folder


def packed(source: Path) -> Dataset:
    """A source, opened with an empty cache, which is removed again; the mapped array stays readable."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RAECTL_CACHE"] = cache
        return raectl.open_dataset(source, raectl.DataOptions(image_size=SIZE, fit="stretch"))


def again(source: Path) -> None:
    """A second open decodes nothing."""
    original = decode.row
    decode.row = lambda *_: sys.exit("decoded again")  # type: ignore[assignment]
    raectl.open_dataset(source, raectl.DataOptions(image_size=SIZE, fit="stretch"))
    decode.row = original


def ingestion(name: str, source: Path, files: Callable[[], list[bytes]], rounds: int) -> Row:
    """Packing against the loop."""
    times = interleaved({"ours": lambda: packed(source), "loop": lambda: loop(files)}, rounds)
    return name, len(files()), times["ours"], times["loop"]


def epoch(dataset: Dataset) -> Callable[[], None]:
    """Batches in the order of training, as tensors from 0 to 1."""
    modality, order = modality_of(dataset.modality), np.random.default_rng(0).permutation(len(dataset))

    def gather() -> None:
        for start in range(0, len(order) - BATCH + 1, BATCH):
            modality.to_tensor(torch.from_numpy(dataset.items[order[start : start + BATCH]]))

    return gather


def tensor_epoch(dataset: Dataset) -> Callable[[], None]:
    """The same from a tensor of bytes in memory."""
    modality, order = modality_of(dataset.modality), np.random.default_rng(0).permutation(len(dataset))
    rows = torch.from_numpy(order)
    items = torch.from_numpy(np.array(dataset.items))

    def gather() -> None:
        for start in range(0, len(order) - BATCH + 1, BATCH):
            modality.to_tensor(items[rows[start : start + BATCH]])

    return gather


def steps(dataset: Dataset) -> Callable[[], None]:
    """An epoch of raectl's trainer at width 8, without its end."""
    options = {"width": 8, "precision": "fp32", "batch_size": BATCH, "val_fraction": 0, "augment": "off"}
    config = raectl.Config(reg="tikhonov", device="cpu", **options)
    run = Run(resolve(config, dataset), dataset, Directory(Path("unused")), Progress())
    run.loop.model.train()

    def train() -> None:
        for start in range(0, len(dataset) - BATCH + 1, BATCH):
            run.loop.step(run.loop.train_rows[start : start + BATCH])

    return train


def epochs(source: Path, rounds: int, training: int) -> list[Row]:
    """Over the packed array and over memory."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RAECTL_CACHE"] = cache
        options = raectl.DataOptions(image_size=SIZE, fit="stretch")
        mapped = raectl.open_dataset(source, options)
        again(source)
        some = replace(mapped, items=mapped.items[:TRAINED])
        in_memory = replace(some, items=np.array(some.items))
        gathered = interleaved({"ours": epoch(mapped), "tensor": tensor_epoch(mapped)}, rounds)
        trained = interleaved({"ours": steps(some), "array": steps(in_memory)}, training)
    return [
        ("epoch of batches, from a tensor in memory", len(mapped), gathered["ours"], gathered["tensor"]),
        ("epoch of training at width 8, from an array in memory", len(some), trained["ours"], trained["array"]),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--emoji", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--training", type=int, default=7, help="rounds of training epochs")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    home = Path(tempfile.mkdtemp())
    photos = photographs(home / "photographs")
    files = sorted(photos.iterdir())
    rows = [ingestion("12 JPEGs of 4000 x 3000", photos, lambda: [path.read_bytes() for path in files], 7)]
    if arguments.emoji:
        emoji = arguments.emoji
        rows.append(ingestion("PNGs of 64 x 64 in a zip", emoji, lambda: zip_files(emoji), arguments.rounds))
        rows += epochs(emoji, arguments.rounds, arguments.training)
    table = [
        "| what | images | runs | raectl, median s | other, median s | other over raectl (95 % CI) |",
        "|" + "---|" * 6,
    ]
    for name, n, ours, other in rows:
        medians = f"{statistics.median(ours):.3f} | {statistics.median(other):.3f}"
        table.append(f"| {name} | {n:,} | {len(ours)} | {medians} | {ratio(other, ours)} |")
    command = "OMP_NUM_THREADS=2 python benchmarks/data.py" + (" --emoji emoji64.zip" if arguments.emoji else "")
    publish("data", command, "\n".join([*table, "", f"To {SIZE} x {SIZE} pixels; Pillow {PIL.__version__}."]))
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
