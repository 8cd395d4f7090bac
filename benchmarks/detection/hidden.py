"""Odd images hidden in others: how far down the list must one look to find all of them?

    python benchmarks/detection/hidden.py photographs --data photographs --seeds 0 1 2
    python benchmarks/detection/hidden.py faces --data emoji64.zip --seeds 0 1 2
    python benchmarks/detection/hidden.py --report

20 pages of text among photographs (`photographs` is the folder that sharpening/photographs.py makes), 20 flags among
emoji of faces and people. `clean`: trained without them, new images and the 20 scored. `inside`: trained with the 20
among the others, and the very folder scored by `--cross-fit 5`; beside it what `score` says without it. The folders are
drawn by the seed. What is in RUNS/hidden.jsonl is not run again.
"""

import argparse
import csv
import json
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import publish

TRAIN = ("--reg", "tikhonov", "--width", "8", "--epochs", "60", "--device", "cpu", "--precision", "fp32")
ODD, TRAINED, NEW = 20, 600, 200
TEXT = (
    "regularized autoencoders replace the noise that a variational one injects into its decoder by an explicit penalty "
    "on how fast the decoder may change so that a simple density fitted afterwards to the latents of the data suffices"
)


def page(rng: np.random.Generator) -> np.ndarray:
    """A page of text, 512 pixels wide, reduced to 64."""
    paper, ink = int(rng.integers(215, 256)), int(rng.integers(0, 80))
    sheet = Image.new("RGB", (512, 512), (paper, paper, int(paper * rng.uniform(0.9, 1))))
    draw, size = ImageDraw.Draw(sheet), int(rng.integers(16, 30))
    font, top = ImageFont.load_default(size), int(rng.integers(10, 60))
    while top < 500:
        line = " ".join(rng.choice(TEXT.split(), 12))
        draw.text((30, top), line[: int(460 / (0.5 * size))], fill=(ink,) * 3, font=font)
        top += int(1.4 * size) * (1 + int(rng.random() < 0.1))
    turned = sheet.rotate(float(rng.normal(0, 2)), fillcolor=(paper,) * 3, resample=Image.Resampling.BILINEAR)
    return np.asarray(turned.resize((64, 64), Image.Resampling.LANCZOS))


def photographs(data: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photographs to train on, new ones, pages."""
    train, test = (np.load(data / f"{part}.npz")["images"] for part in ("train", "test"))
    return draw(train, TRAINED, rng), draw(test, NEW, rng), np.stack([page(rng) for _ in range(ODD)])


def faces(data: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Emoji of faces and people to train on, new ones, flags."""
    found = defaultdict(list)
    with zipfile.ZipFile(data) as archive:
        for name in sorted(archive.namelist()):
            image = Image.open(archive.open(name)).convert("RGBA")
            found[name.split("/")[-2]].append(
                np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image))[..., :3]
            )
    people = draw(np.stack(found["smileys-emotion"] + found["people-body"]), TRAINED + NEW, rng)
    return people[:TRAINED], people[TRAINED:], draw(np.stack(found["flags"]), ODD, rng)


def draw(items: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return items[rng.permutation(len(items))[:n]]


SETS: dict[str, Callable[..., Any]] = {"photographs": photographs, "faces": faces}


def write(folder: Path, items: np.ndarray, odd: np.ndarray | tuple[()] = ()) -> None:
    folder.mkdir(parents=True)
    for kind, images in (("item", items), ("odd", odd)):
        for number, image in enumerate(images):
            # Names that say nothing of the kind to who sorts by them.
            Image.fromarray(image).save(folder / f"{hash((number, len(kind))) % 10**6:06}-{kind}-{number}.png")


def run(*arguments: object) -> None:
    print("$ raectl", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "raectl", *map(str, arguments)], check=True)


def places(table: Path) -> list[int]:
    """The ranks of the odd items in a table, from 1."""
    with table.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row["score"]))
    return [rank for rank, row in enumerate(rows, 1) if "-odd-" in row["path"]]


def measure(name: str, data: Path, seed: int, runs: Path) -> dict[str, list[int]]:
    home = runs / f"{name}-{seed}"
    train, new, odd = SETS[name](data, np.random.default_rng(seed))
    if not home.exists():
        write(home / "clean", train)
        write(home / "new", new, odd)
        write(home / "inside", train, odd)
    found = {}
    for which in ("clean", "inside"):
        path = home / f"ckpt-{which}"
        if not path.exists():
            run("train", home / which, *TRAIN, "--seed", seed, "--out", path)
            run("fit-density", path, "--seed", seed)
    run("score", home / "ckpt-clean", "--data", home / "new", "-o", home / "clean.csv", "--picture", home / "clean.png")
    run("score", home / "ckpt-inside", "-o", home / "seen.csv")
    cross = ("--cross-fit", 5, "-o", home / "inside.csv", "--picture", home / "inside.png")
    run("score", home / "ckpt-inside", *cross)
    for what in ("clean", "inside", "seen"):
        found[what] = places(home / f"{what}.csv")
    return found


def main() -> None:
    """Parse the command line; run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=SETS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("hidden-runs"))
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    results = given.runs / "hidden.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if given.report:
        report(lines)
        return
    for seed in given.seeds:
        if not any((line["name"], line["seed"]) == (given.name, seed) for line in lines):
            line = {"name": given.name, "seed": seed, "places": measure(given.name, given.data, seed, given.runs)}
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def report(lines: list[dict[str, Any]]) -> None:
    """A row a set and a way: the place of the last of the 20, and how many are among the first 20."""
    ways = {
        "clean": f"trained without, {NEW} new ones and {ODD} scored",
        "inside": f"trained with the {ODD} among {TRAINED}, `--cross-fit 5`",
        "seen": "the same, without `--cross-fit`",
    }
    table = [f"| | | place of the last of {ODD}, by seed | of the first {ODD}, how many are odd |", "|---|---|---|---|"]
    for name in SETS:
        for way, told in ways.items():
            found = [
                line["places"][way] for line in sorted(lines, key=lambda line: line["seed"]) if line["name"] == name
            ]
            last, first = ([str(f(p)) for p in found] for f in (max, lambda p: sum(rank <= ODD for rank in p)))
            table.append(f"| {name} | {told} | {', '.join(last)} | {', '.join(first)} |")
    publish("hidden", "python benchmarks/detection/hidden.py --report", "\n".join(table))


if __name__ == "__main__":
    main()
