"""Run a page's commands: every line of its `console` blocks, in order, in one directory with small data.

    python .ci/readme.py README.md DIRECTORY

The data stand in for the reader's own under the names that the pages use, so that commands run as printed:
`imgs/` and `new-imgs/` are photographs cut from scikit-learn's two, `mnist/` holds IDX files of its digits,
`formulas.txt` the shortest expressions, `molecules.smi` alcohols, amines and the like.
The two installation lines are run by `.ci/run`, each in a fresh environment.
"""

import gzip
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

_INSTALLATION = "pip install"


def photographs(folder: Path, seed: int) -> None:
    """50 pieces of different sizes and shapes, rotated."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(50):
        photo = Image.fromarray(load_sample_images().images[number % 2])
        width, height = rng.integers(60, 300, 2)
        left, top = rng.integers(0, photo.width - width), rng.integers(0, photo.height - height)
        piece = photo.crop((left, top, left + width, top + height)).rotate(90 * rng.integers(4), expand=True)
        piece.save(folder / f"{number:03}.jpg")


def idx(folder: Path, name: str, images: np.ndarray) -> None:
    """28x28 digits as MNIST has them."""
    folder.mkdir(exist_ok=True)
    padded = np.pad(np.kron(images, np.ones((1, 3, 3), np.uint8)), ((0, 0), (2, 2), (2, 2)))
    header = struct.pack(">IIII", 0x803, *padded.shape)
    (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + padded.tobytes()))


def commands(readme: str) -> list[str]:
    """The lines of the `console` blocks, without the installation."""
    blocks = re.findall(r"^```console\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", _INSTALLATION))]


def main(readme: Path, directory: Path) -> None:
    """Prepare the data, run the commands, stop at the first that fails."""
    lines = commands(readme.read_text(encoding="utf-8"))
    if not lines:
        return
    directory.mkdir(parents=True)
    photographs(directory / "imgs", 0)
    photographs(directory / "new-imgs", 1)
    digits = (load_digits().images * 255 / 16).astype(np.uint8)
    idx(directory / "mnist", "train", digits[:400])
    idx(directory / "mnist", "t10k", digits[400:500])
    np.save(directory / "latents.npy", np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32))
    formulas = (f"{a}{operator}{b}\n" for a in "x123" for operator in "+*/" for b in ("x", "1", "sin(x)", "exp(x+2)"))
    (directory / "formulas.txt").write_text("".join(formulas))
    chains = (
        f"{'C' * a}C({end}){'C' * b} {end}\n" for a in range(6) for b in range(6) for end in ("O", "N", "Cl", "=O")
    )
    (directory / "molecules.smi").write_text("".join(chains))
    for line in lines:
        began = time.monotonic()
        print(f"$ {line}", flush=True)
        subprocess.run(["bash", "-c", line], cwd=directory, check=True)
        print(f"  ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
