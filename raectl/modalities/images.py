"""Images: stored as (H, W, C) uint8, given to the networks as (C, H, W) float32 in [0, 1]."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from raectl.errors import UsageError
from raectl.modalities import pictures
from raectl.modalities.base import Modality, Writer, gather
from raectl.modalities.naming import file_names, in_folders
from raectl.storage.atomic import atomic_directory, atomic_file

_AROUND = 5  # pixels that a heat map's value is a mean over, either way
_PALE, _RED = 0.5, (220, 0, 0)  # how much of an image is left under its heat, and the hottest colour
_LEAST_HEAT = 1 / 255  # of the hottest colour


class ImageWriter(Writer):
    """Writes images as a grid, an array or a directory of PNG files."""

    suffixes = (*pictures.SUFFIXES, ".npz")
    picture_suffixes = pictures.SUFFIXES
    writes_directories = True

    def write(
        self,
        out: Path,
        batches: Iterable[np.ndarray],
        total: int,
        names: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        """A grid (image suffixes), a `.npz` with `images` (N, H, W, C), or a directory with a PNG per image.

        Labels are an array `labels` of the `.npz`, or folders in the directory: a source with classes, both.
        """
        self.check_out(out)
        if not self._names_file(out):
            _write_directory(out, batches, in_folders(labels, file_names(names, total, ".png")))
        elif out.suffix.lower() == ".npz":
            _write_npz(out, images=gather(batches, total), **({"labels": np.array(labels)} if labels else {}))
        else:
            _write_image(out, _grid(iter(batches), total))

    def write_pairs(
        self, out: Path, originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """A grid of pairs, a `.npz` with `images` (reconstructions) and `originals`, or a PNG per reconstruction."""
        self.check_out(out)
        if not self._names_file(out):
            _write_directory(out, (reconstructions,), file_names(names, len(originals), ".png"))
        elif out.suffix.lower() == ".npz":
            _write_npz(out, images=reconstructions, originals=originals)
        else:
            _write_image(out, pictures.pair_grid(originals, reconstructions))

    def write_walks(self, out: Path, walks: np.ndarray) -> None:
        """A row per walk, a `.gif` of all walks, a `.npz` with `images` (P, S, H, W, C), or a PNG per step."""
        self.check_out(out)
        pairs, steps = walks.shape[:2]
        if not self._names_file(out):
            names = [f"walk-{pair:03}-step-{step:03}.png" for pair in range(pairs) for step in range(steps)]
            _write_directory(out, (walks.reshape(-1, *walks.shape[2:]),), names)
        elif out.suffix.lower() == ".npz":
            _write_npz(out, images=walks)
        elif out.suffix.lower() == ".gif":
            with atomic_file(out) as temporary:
                pictures.save_animation(temporary, [pictures.grid(frame) for frame in walks.swapaxes(0, 1)])
        else:
            _write_image(out, pictures.rows(walks))

    def write_rows(self, out: Path, labels: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        """A labelled row of images each; image suffixes only."""
        self.check_out(out)
        if not self.is_picture(out):
            raise UsageError(f"{out}: rows can only be written to a picture", f"-o {out.stem}.png")
        _write_image(out, pictures.labelled_rows(labels, np.stack(rows)))

    def write_picture(self, out: Path, pairs: tuple[np.ndarray, np.ndarray], samples: np.ndarray | None) -> Path:
        """A PNG: originals above their reconstructions, and the samples below."""
        out = out.with_suffix(".png")
        _write_image(out, pictures.progress(*pairs, samples))
        return out


class Images(Modality):
    """Square or rectangular images with 1 (grey) or 3 (colour) channels."""

    reconstructions = ("l2", "l1")
    metrics = ("mse", "psnr", "ssim")
    extractors = ("efficientnet-lite0", "inception", "pixels")
    always_measured: ClassVar = {"edges": ("sharpness",), "pixels": ("copied",)}
    noun, values = "image", "pixels"
    writer = ImageWriter()
    can_be_sharpened = True
    can_be_augmented = True

    def default_architecture(self, item_shape: tuple[int, ...]) -> str:
        return "linear-conv"

    def default_latent_dim(self, item_shape: tuple[int, ...]) -> int:
        return 16 if item_shape[0] == 1 else 64

    def item_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        h, w, c = stored
        return c, h, w

    def to_tensor(self, items: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) uint8 => (B, C, H, W) float32 in [0, 1], exactly v / 255, in PyTorch's channels_last order."""
        # By a tensor: for a Python number, a GPU multiplies by 1/255, which rounds differently.
        return items.permute(0, 3, 1, 2).float().div_(torch.full((), 255.0, device=items.device))

    def heat(self, x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
        """Root mean square error over channels and over 5 x 5 pixels: 2 x (B, C, H, W) => (B, H, W)."""
        errors = (x - x_hat).square().mean(dim=1, keepdim=True)
        return avg_pool2d(errors, _AROUND, 1, _AROUND // 2, count_include_pad=False)[:, 0].sqrt()

    def with_heat(self, items: np.ndarray, heat: np.ndarray, hottest: float) -> np.ndarray:
        """The image in pale grey, and red over it where it is hot."""
        grey = 255 - (255 - items.mean(axis=3, keepdims=True)) * _PALE
        share = np.clip(heat / max(hottest, _LEAST_HEAT), 0, 1)[..., None]
        mixed: np.ndarray = (1 - share) * grey + share * np.array(_RED)
        return mixed.round().astype(np.uint8)

    def to_items(self, x_hat: torch.Tensor) -> np.ndarray:
        scaled = x_hat.detach().float().clamp(0, 1).mul_(255).round_()
        return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _grid(batches: Iterator[np.ndarray], total: int) -> np.ndarray:
    first = next(batches)
    pictures.grid_size(total, *first.shape[1:3])  # raises before the other batches are made
    return pictures.grid(gather(itertools.chain((first,), batches), total))


def _write_image(out: Path, pixels: np.ndarray) -> None:
    with atomic_file(out) as temporary:
        pictures.save(temporary, pixels)


def _write_npz(out: Path, **arrays: np.ndarray) -> None:
    # An open file, because NumPy would append `.npz` to a name that ends in `.NPZ`.
    with atomic_file(out) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _write_directory(out: Path, batches: Iterable[np.ndarray], names: Sequence[str]) -> None:
    remaining = iter(names)
    with atomic_directory(out) as directory, ThreadPoolExecutor() as pool:
        for batch in batches:
            paths = [directory / name for name in itertools.islice(remaining, len(batch))]
            for folder in {path.parent for path in paths}:
                folder.mkdir(exist_ok=True)
            # strict: more items than names are an error; list: raises the errors of the threads.
            list(pool.map(lambda pair: pictures.save(*pair), zip(paths, batch, strict=True)))
        if missing := len(list(remaining)):
            raise ValueError(f"{len(names) - missing} items instead of {len(names)}")
