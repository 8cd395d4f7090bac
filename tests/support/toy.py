"""A modality that is no image, and a source of it: the proof that nothing outside `modalities/` knows what a datum is.

Items are vectors of m bytes. Call `register_toy()`, then the whole tool runs on `--data toy`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from raectl import registry
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.modalities.base import Modality, Writer, gather
from raectl.progress import Progress
from raectl.storage.atomic import atomic_file


class VectorWriter(Writer):
    """Arrays, or lines of numbers."""

    suffixes = (".npz", ".txt")

    def write(self, out: Path, batches: Iterable[np.ndarray], total: int, names: Sequence[str] = ()) -> None:
        """An array `items` in a `.npz`, or a `.txt` with a vector a line."""
        self.check_out(out)
        self._write(out, items=gather(batches, total))

    def write_pairs(
        self, out: Path, originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """Arrays `items` and `originals` in a `.npz`, or a `.txt` with each reconstruction before its original."""
        self.check_out(out)
        self._write(out, items=reconstructions, originals=originals)

    def write_walks(self, out: Path, walks: np.ndarray) -> None:
        self.check_out(out)
        self._write(out, items=walks.reshape(-1, walks.shape[-1]))

    def write_rows(self, out: Path, labels: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        self.check_out(out)
        self._write(out, **dict(zip(labels, rows, strict=True)))

    def write_picture(self, out: Path, pairs: tuple[np.ndarray, np.ndarray], samples: np.ndarray | None) -> Path:
        out = out.with_suffix(".txt")
        self._write(out, originals=pairs[0], reconstructions=pairs[1])
        return out

    def _write(self, out: Path, **arrays: np.ndarray) -> None:
        with atomic_file(out) as temporary, open(temporary, "wb") as file:
            if out.suffix.lower() == ".npz":
                np.savez(file, **arrays)  # type: ignore[arg-type]
            else:
                np.savetxt(file, np.hstack(list(arrays.values())), fmt="%d")


class Vectors(Modality):
    """Vectors of m bytes, seen by the networks as (m,) in [0, 1]."""

    reconstructions = ("l2", "l1")
    metrics = ("mse",)
    extractors = ()
    writer = VectorWriter()

    def default_architecture(self, item_shape: tuple[int, ...]) -> str:
        return "mlp"

    def default_latent_dim(self, item_shape: tuple[int, ...]) -> int:
        return 2

    def item_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        return stored

    def to_tensor(self, items: torch.Tensor) -> torch.Tensor:
        return items.float() / 255

    def to_items(self, x_hat: torch.Tensor) -> np.ndarray:
        return (x_hat.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).contiguous().cpu().numpy()


def surface(n: int = 200, m: int = 12, seed: int = 0) -> np.ndarray:
    """Points on a curved two-dimensional surface, with a little noise: (n, m) uint8."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1, 1, (n, 2))
    waves = np.sin(place @ rng.normal(size=(2, m)) + rng.uniform(0, 2 * np.pi, m))
    return np.clip(127.5 + 100 * waves + rng.normal(0, 2, (n, m)), 0, 255).round().astype(np.uint8)


class ToySource(Source):
    """200 vectors of 12 bytes, under the name `toy`."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == "toy"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        return Dataset(items=surface(), modality="vectors", source="toy", options=options)


def register_toy() -> None:
    """Make the modality and the source known to this process."""
    registry.register("modality", "vectors", f"{__name__}:Vectors")
    registry.register("source", "toy", f"{__name__}:ToySource")
