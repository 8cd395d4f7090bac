"""Photographs to train and to judge on: 64 x 64 cuts of those that Debian's packages hold, split by photograph.

    python benchmarks/sharpening/photographs.py photos

downloads 199 MB of packages by `apt-get download` (of Debian 12, or a later one that still has these files), unpacks
them without installing anything, and writes `photos/train.npz` and `photos/test.npz`, each with `images`,
(N, 64, 64, 3) uint8, and a sheet of cuts of each to look at. A second run takes the packages from the cache.

What counts as a photograph is the list below: of everything in these packages that is at least 512 pixels high and
wide, what a camera took. Drawings, renderings, gradients, collages, textures and logos were left out by eye. Of a
picture in several sizes the largest is taken. Each is reduced to 512 pixels on its shorter side, and 7 x 7 squares of
128 pixels, evenly spaced from edge to edge, are reduced to cuts of 64 pixels. Neighbouring squares overlap, by half
along the shorter side. All cuts are kept, dark and empty ones too: skies and blurred backgrounds are part of
photographs.

One photograph in five is held out with all of its cuts, so that no test cut shows what a training cut shows. To make
both parts alike in detail, photographs are sorted by their edge energy, and one of each five that follow each other is
chosen by the seed.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from raectl.extractors.edges import Edges

PHOTOGRAPHS = {
    "plasma-workspace-wallpapers": "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite "
    "OneStandsOut Path summer_1am",
    "mate-backgrounds": "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood "
    "YellowFlower",
    "lomiri-wallpapers-16.04": "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace "
    "Picture_1A_by_freespace Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich "
    "friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi "
    "picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi",
    "lomiri-wallpapers-20.04": "Kleiber_by_Lukas_Baubkus",
    "lxqt-themes": "Butterfly-Kenneth-Wimer Valendas after-the-rain appleflower beam butterfly cloud drop flowers fog "
    "this-is-not-windows",
    "palapeli-data": "castle-maintenon cincinnati-bridge citrus-fruits european-honey-bee panther-chameleon-female",
    "gnome-control-center-data": "bicycle book calculator cat coffee2 flower2 gamepad guitar2 headphones hummingbird "
    "mountain plane surfer tomatoes tree",
}
SUFFIXES = (".jpg", ".png")
SIDE, SQUARE, CUT = 512, 128, 64  # pixels
ROW = 7  # cuts along either side of a photograph
HELD_OUT = 5  # one photograph in so many


def unpacked(package: str, cache: Path) -> Path:
    """The directory with a package's files, downloaded and unpacked unless that was done before."""
    directory = cache / package
    if not directory.is_dir():
        subprocess.run(["apt-get", "download", package], cwd=cache, check=True)
        (archive,) = cache.glob(f"{package}_*.deb")
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            subprocess.run(["dpkg-deb", "-x", archive, temporary], check=True)
            Path(temporary).rename(directory)
            Path(temporary).mkdir()  # for the context manager to remove
    return directory


def largest(name: str, directory: Path) -> Image.Image:
    """A photograph of this name: a file `name.jpg`, or the largest one in a directory `name`, upright, in colour.

    Raises:
        FileNotFoundError: the package, of another release perhaps, has none.
    """
    found = [
        path
        for path in sorted(directory.rglob("*"))
        if path.suffix in SUFFIXES and not path.is_symlink() and (path.stem == name or name in path.parts)
    ]
    if not found:
        raise FileNotFoundError(f"no photograph {name} in {directory}")
    images = [Image.open(path) for path in found]
    return ImageOps.exif_transpose(max(images, key=lambda image: image.width * image.height)).convert("RGB")


def cuts(photograph: Image.Image) -> np.ndarray:
    """(49, 64, 64, 3) uint8, row by row."""
    scale = SIDE / min(photograph.size)
    width, height = (round(scale * side) for side in photograph.size)
    reduced = photograph.resize((width, height), Image.Resampling.LANCZOS)
    lefts, tops = (np.linspace(0, side - SQUARE, ROW).round().astype(int) for side in (width, height))
    squares = [reduced.crop((left, top, left + SQUARE, top + SQUARE)) for top in tops for left in lefts]
    return np.stack([np.asarray(square.resize((CUT, CUT), Image.Resampling.BOX)) for square in squares])


def held_out(photographs: Sequence[np.ndarray], seed: int) -> list[int]:
    """Indices of the test photographs: one of each group of about five with similar edge energy, by the seed."""
    energies = [float(Edges()(pixels).mean()) for pixels in photographs]
    groups = np.array_split(np.argsort(energies), round(len(photographs) / HELD_OUT))
    draws = np.random.default_rng(seed)
    return [int(draws.choice(group)) for group in groups]


def sheet(images: np.ndarray, seed: int, side: int = 20) -> Image.Image:
    """Cuts chosen by the seed, in a square."""
    chosen = np.random.default_rng(seed).permutation(len(images))[: side**2]
    square = images[chosen].reshape(side, side, CUT, CUT, 3).swapaxes(1, 2)
    return Image.fromarray(square.reshape(side * CUT, side * CUT, 3))


def main() -> None:
    """Download, cut, split and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory for train.npz, test.npz and their sheets")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "raectl-photographs")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    options = parser.parse_args()
    for directory in (options.cache, options.out):
        directory.mkdir(parents=True, exist_ok=True)
    photographs = {}
    for package, names in PHOTOGRAPHS.items():
        directory = unpacked(package, options.cache.resolve())
        photographs |= {name: cuts(largest(name, directory)) for name in names.split()}
    names = [*photographs]
    test = {names[index] for index in held_out([*photographs.values()], options.seed)}
    for part, chosen in (("train", [name for name in names if name not in test]), ("test", sorted(test))):
        images = np.concatenate([photographs[name] for name in chosen])
        np.savez(options.out / f"{part}.npz", images=images)
        sheet(images, options.seed).save(options.out / f"{part}.png")
        energy = float(Edges()(images).mean())
        print(f"{part}: {len(images):,} cuts, edge energy {energy:.5f}, of {len(chosen)}: {', '.join(chosen)}")


if __name__ == "__main__":
    main()
