"""Before and after: the same images and the same latents by the plain and by the sharpened decoder, in rows.

python benchmarks/sharpening/picture.py CKPT TEST OUT.png
"""

import argparse
from pathlib import Path

import numpy as np

import raectl
from raectl import rng

N = 12


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("test", help="images that the model has not seen")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    plain, sharp = (raectl.load(asked.ckpt, "cpu", decoder) for decoder in ("plain", "sharp"))
    items = plain.open_data(asked.test).items
    real = np.array(items[rng.choose(asked.seed, "before and after", len(items), N)])
    rows = {
        "real": real,
        "reconstruction, before": plain.reconstruct(real),
        "reconstruction, after": sharp.reconstruct(real),
        "samples, before": plain.sample(N, asked.seed),
        "samples, after": sharp.sample(N, asked.seed),
    }
    plain.modality.writer.write_rows(asked.out, list(rows), list(rows.values()))


if __name__ == "__main__":
    main()
