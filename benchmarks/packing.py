"""How fast are image files packed beside the shortest loop over Pillow, and what do kills cost?

    python benchmarks/packing.py                     whole processes, interleaved, an empty cache each time
    python benchmarks/packing.py --million 1000000   so many images of 8 x 8, undisturbed, then killed ten times

The images are made in a temporary folder. Writes results/packing.md or results/packing-kills.md.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from timing import publish, ratio

KILLS, SMALL, IN_FOLDER = 10, 8, 1000
DISTINCT = 12  # photographs, which take seconds to make; the others are copies
OURS = """
import sys
from raectl.data import DataOptions, open_dataset
open_dataset(sys.argv[1], DataOptions(image_size=64))
"""
LOOP = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
rows = []
for path in sorted(Path(sys.argv[1]).iterdir()):
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((64, 64), Image.Resampling.LANCZOS)
    rows.append(np.asarray(image))
np.stack(rows)
"""
WATCHED = """
import sys
from raectl.data import DataOptions, open_dataset
from raectl.progress import Progress
class Watched(Progress):
    def __init__(self):
        self.file = open(sys.argv[2], "wb", buffering=0)
    def update(self, description, done, total):
        self.file.seek(0)
        self.file.write(f"{description:20}{done:12}".encode())
open_dataset(sys.argv[1], progress=Watched())
"""


# -- beside the loop --------------------------------------------------------------------------------------------------


def smooth(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise, (height, width, 3) uint8."""
    small = rng.integers(0, 256, (cells, cells * width // height, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def photograph(rng: np.random.Generator) -> bytes:
    """A JPEG of 4000 x 3000: smooth noise, straight edges, and the noise of a camera."""
    picture = smooth(rng, 3000, 4000, 24).astype(np.int16)
    down, right = np.mgrid[-1500:1500, -2000:2000]
    for _ in range(6):
        a, b = rng.normal(size=2)
        picture[a * right + b * down > rng.uniform(-1500, 1500)] += rng.integers(-60, 60, 3, np.int16)
    picture += rng.integers(-8, 9, (3000, 4000, 1), np.int16)
    return saved(picture.clip(0, 255).astype(np.uint8), "JPEG", quality=90)


def saved(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def wide(rng: np.random.Generator) -> np.ndarray:
    """Grey values of 16 bits, (512, 512)."""
    return smooth(rng, 512, 512, 9)[..., 0].astype(np.uint16) * 200 + rng.integers(0, 200, (512, 512), np.uint16)


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values)
    return file.getvalue()


KINDS: dict[str, tuple[int, str, Callable[[np.random.Generator], bytes]]] = {
    "JPEG, 4000 x 3000": (60, "jpg", photograph),
    "PNG, 64 x 64": (8000, "png", lambda rng: saved(smooth(rng, 64, 64, 9), "PNG")),
    "PNG of 16 bits, 512 x 512": (300, "png", lambda rng: imagecodecs.png_encode(wide(rng))),
    "TIFF of 16 bits, 512 x 512": (300, "tif", lambda rng: tiff(wide(rng))),
}


def timed(program: str, folder: Path) -> tuple[float, float]:
    """Seconds of a process with an empty cache, and of the processors that it used, its children's too."""
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", program, folder],
            env={**os.environ, "RAECTL_CACHE": cache},
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        return time.perf_counter() - began, used.ru_utime + used.ru_stime


def beside_the_loop(home: Path, pairs: int) -> None:
    """Print and write the table."""
    lines = [
        "| files | n | pairs | raectl, s | loop, s | times as fast (95 %) | least, most | in processor time (95 %) |",
        "|" + "---|" * 8,
    ]
    for kind, (count, suffix, make) in KINDS.items():
        folder, rng = home / kind, np.random.default_rng(0)
        folder.mkdir()
        contents = [make(rng) for _ in range(min(count, DISTINCT if make is photograph else count))]
        for number in range(count):
            (folder / f"{number:05}.{suffix}").write_bytes(contents[number % len(contents)])
        runs: dict[str, list[tuple[float, float]]] = {OURS: [], LOOP: []}
        for number in range(pairs + 1):  # the first one is not kept
            for program in (OURS, LOOP) if number % 2 else (LOOP, OURS):
                runs[program].append(timed(program, folder))
        (ours, our_cores), (loop, loop_cores) = (zip(*runs[program][1:], strict=True) for program in (OURS, LOOP))
        ratios = [b / a for a, b in zip(ours, loop, strict=True)]
        lines.append(
            f"| {kind} | {count:,} | {pairs} | {statistics.median(ours):.2f} | {statistics.median(loop):.2f} | "
            f"{ratio(loop, ours)} | {min(ratios):.2f}, {max(ratios):.2f} | {ratio(loop_cores, our_cores)} |"
        )
        print(lines[-1], flush=True)
        shutil.rmtree(folder)
    publish("packing", "python benchmarks/packing.py", "\n".join(lines))


# -- killed -----------------------------------------------------------------------------------------------------------


def pixels(block: int) -> np.ndarray:
    """Those of a folder of images, (1000, 8, 8, 3) uint8."""
    return np.random.default_rng(block).integers(0, 256, (IN_FOLDER, SMALL, SMALL, 3), np.uint8)


def png(picture: np.ndarray) -> bytes:
    """Ten times as fast as by a library."""
    height, width, _ = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows.tobytes(), 0),
        b"IEND": b"",
    }
    chunks = (struct.pack(">I", len(data)) + name + data for name, data in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk + struct.pack(">I", zlib.crc32(chunk[4:])) for chunk in chunks)


@dataclass
class Run:
    """What was seen of a process that packed."""

    seconds: float
    memory: int  # bytes of it and its children together, at most
    killed: bool
    phase: str
    done: int
    phases: dict[str, float]  # when each began, in seconds


def memory(process: int) -> int:
    """Bytes of a process and its children that are in memory, those of mapped files not counted."""
    total = 0
    for pid in [process, *map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            total += int(line.split()[1]) * 1024 if line.startswith("RssAnon") else 0
    return total


def packing(home: Path, kill_at: tuple[str, float] | None = None) -> Run:
    """Pack home/images in a process of its own, which is killed when so many images of a phase are done."""
    seen, phases, most = home / "seen", dict[str, float](), 0
    seen.write_bytes(b"")
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", WATCHED, home / "images", seen])
    killed = False
    while process.poll() is None:
        now = time.monotonic() - began
        with contextlib.suppress(OSError):  # one has ended meanwhile
            most = max(most, memory(process.pid))
        phase, done = progress(seen)
        phases.setdefault(phase, now)
        if kill_at is not None and phase == kill_at[0] and done >= kill_at[1]:
            process.kill()
            killed = process.wait() < 0
        time.sleep(0.05)
    return Run(time.monotonic() - began, most, killed, *progress(seen), phases)


def progress(seen: Path) -> tuple[str, int]:
    """The phase that a process is in, and how many images are done."""
    text = seen.read_text()
    return text[:20].strip(), int(text[20:] or 0)


def kept(home: Path) -> int:
    """Items in complete pieces."""
    records = (home / "cache").glob("packed/*.partial/*.json")
    return sum(json.loads(path.read_bytes())["rows"] for path in records)


def check(home: Path, count: int) -> str:
    """Compare what was packed with the images; returns its digest."""
    (path,) = (home / "cache").glob("packed/*/items.npy")
    items = np.load(path, mmap_mode="r")
    assert items.shape == (count, SMALL, SMALL, 3)
    for block in range(count // IN_FOLDER):
        assert np.array_equal(items[block * IN_FOLDER :][:IN_FOLDER], pixels(block)), block
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_kills(home: Path, count: int) -> list[str]:
    """Rows of the table: an undisturbed packing, and one that is killed ten times."""
    for block in range(count // IN_FOLDER):
        folder = home / "images" / f"{block:06}"
        folder.mkdir(parents=True)
        for number, picture in enumerate(pixels(block)):
            (folder / f"{number:03}.png").write_bytes(png(picture))
    os.environ["RAECTL_CACHE"] = str(home / "cache")
    whole = packing(home)
    digest = check(home, count)
    shutil.rmtree(home / "cache")
    reading = whole.phases["decoding images"]
    rng, runs, lost = random.Random(0), list[Run](), list[int]()
    while sum(run.killed for run in runs) < KILLS:
        done = kept(home)
        at = done + rng.uniform(0, (count - done) / 2)
        in_reading = rng.random() < 0.3
        runs.append(packing(home, ("reading images", rng.uniform(0, count)) if in_reading else ("decoding images", at)))
        if not runs[-1].killed:  # it ended between two looks
            shutil.rmtree(home / "cache")
        elif runs[-1].phase == "decoding images":
            lost.append(runs[-1].done - kept(home))
    runs.append(packing(home))
    assert check(home, count) == digest
    killed = sum(run.killed for run in runs)
    most = max(run.memory for run in runs) / 2**20
    seconds = sum(run.seconds for run in runs)
    headers = sum(run.phases.get("decoding images", run.seconds) for run in runs)
    return [
        f"| {count:,} | undisturbed | {whole.seconds:.0f} | {reading:.0f} | {whole.memory / 2**20:.0f} | |",
        f"| {count:,} | killed {killed} times, {len(lost)} of them while decoding | {seconds:.0f} | {headers:.0f} | "
        f"{most:.0f} | {', '.join(f'{items:,}' for items in lost)} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--million", type=int, nargs="+", metavar="N", help="numbers of images, multiples of 1,000")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name).resolve()
        if not asked.million:
            beside_the_loop(home, asked.pairs)
            return
        lines = [
            "| images | | seconds | of these reading headers | most memory, MiB | decoded items lost by each kill |"
        ]
        lines.append("|" + "---|" * 6)
        for count in asked.million:
            (home / f"{count}").mkdir()
            lines += with_kills(home / f"{count}", count)
            print(*lines[-2:], sep="\n", flush=True)
            shutil.rmtree(home / f"{count}")
        command = f"python benchmarks/packing.py --million {' '.join(map(str, asked.million))}"
        publish("packing-kills", command, "\n".join([*lines, "", "The bytes were those of the images each time."]))


if __name__ == "__main__":
    main()
