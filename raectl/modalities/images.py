"""Images: stored as (H, W, C) uint8 or uint16, given to the networks as (C, H, W) float32 in [0, 1]."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from raectl.data import DataOptions
from raectl.data.images.units import Units, from_bytes, to_bytes
from raectl.data.values import STORED, top_of
from raectl.errors import UsageError
from raectl.modalities import pictures
from raectl.modalities.base import Modality, Writer, gather
from raectl.modalities.naming import file_names, in_folders
from raectl.storage.atomic import atomic_directory, atomic_file

_AROUND = 5  # pixels that a heat map's value is a mean over, either way
_PALE, _RED = 0.5, (220, 0, 0)  # how much of an image is left under its heat, and the hottest colour
_LEAST_HEAT = 1 / 255  # of the hottest colour


class ImageWriter(Writer):
    """Writes images as a grid, an array or a directory of PNG files.

    Arguments:
        shown: what pictures show of images: (N, H, W, C) => (N, H, W, 1 or 3) uint8.
        to_source: what arrays have of them: their values in the source's own type and units.
    """

    suffixes = (*pictures.SUFFIXES, ".npz", ".npy", *pictures.TIFF)
    picture_suffixes = pictures.SUFFIXES
    writes_directories = True

    def __init__(
        self,
        shown: Callable[[np.ndarray], np.ndarray] = np.asarray,
        to_source: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ) -> None:
        self._shown, self._to_source = shown, to_source

    def write(
        self,
        out: Path,
        batches: Iterable[np.ndarray],
        total: int,
        names: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        """A grid (image suffixes), an array of all, or a directory with a PNG per image.

        An array is a `.npz` with `images` (N, H, W, C), a `.npy` of them, or a `.tif` with a page per image. Labels are
        an array `labels` of the `.npz`, or folders in the directory: a source with classes, both.
        """
        self.check_out(out)
        if not self._names_file(out):
            _write_directory(out, map(self._shown, batches), in_folders(labels, file_names(names, total, ".png")))
        elif self.is_picture(out):
            _write_image(out, _grid(map(self._shown, batches), total))
        else:
            known = {"labels": np.array(labels)} if labels else {}
            _write_arrays(out, images=gather(map(self._to_source, batches), total), **known)

    def write_pairs(
        self, out: Path, originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """A grid of pairs, a `.npz` with `images` (reconstructions) and `originals`, or the former alone.

        Alone they are in a `.npy` or a `.tif`, or in a directory with a PNG per reconstruction.
        """
        self.check_out(out)
        if not self._names_file(out):
            _write_directory(out, (self._shown(reconstructions),), file_names(names, len(originals), ".png"))
        elif self.is_picture(out):
            _write_image(out, pictures.pair_grid(self._shown(originals), self._shown(reconstructions)))
        else:
            _write_arrays(out, images=self._to_source(reconstructions), originals=self._to_source(originals))

    def write_walks(self, out: Path, walks: np.ndarray) -> None:
        """A row per walk, a `.gif` of all walks, an array of `images` (P, S, H, W, C), or a PNG per step."""
        self.check_out(out)
        pairs, steps = walks.shape[:2]
        if not self._names_file(out):
            names = [f"walk-{pair:03}-step-{step:03}.png" for pair in range(pairs) for step in range(steps)]
            _write_directory(out, (self._shown(walks.reshape(-1, *walks.shape[2:])),), names)
        elif not self.is_picture(out):
            _write_arrays(out, images=self._to_source(walks))
        elif out.suffix.lower() == ".gif":
            with atomic_file(out) as temporary:
                frames = self._shown(walks).swapaxes(0, 1)
                pictures.save_animation(temporary, [pictures.grid(frame) for frame in frames])
        else:
            _write_image(out, pictures.rows(self._shown(walks)))

    def write_rows(self, out: Path, labels: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        """A labelled row of images each; image suffixes only."""
        self.check_out(out)
        if not self.is_picture(out):
            raise UsageError(f"{out}: rows can only be written to a picture", f"-o {out.stem}.png")
        _write_image(out, pictures.labelled_rows(labels, np.stack([self._shown(row) for row in rows])))

    def write_picture(self, out: Path, pairs: tuple[np.ndarray, np.ndarray], samples: np.ndarray | None) -> Path:
        """A PNG: originals above their reconstructions, and the samples below."""
        out = out.with_suffix(".png")
        originals, reconstructions = map(self._shown, pairs)
        below = None if samples is None else self._shown(samples)
        _write_image(out, pictures.progress(originals, reconstructions, below))
        return out


class Images(Modality):
    """Images of any number of channels, 1 (grey) and 3 (colour) among them."""

    reconstructions = ("l2", "l1")
    metrics = ("mse", "psnr", "ssim")
    extractors = ("efficientnet-lite0", "inception", "pixels")
    always_measured: ClassVar = {"edges": ("sharpness",), "pixels": ("copied",)}
    noun, values = "image", "pixels"
    can_be_sharpened = True
    can_be_augmented = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        known = DataOptions(**options)
        self.units = Units.of(known)
        self.top = top_of(self.units.bits)  # the greatest stored value
        self.bands = [int(number) - 1 for number in known.bands.split(",")] if known.bands else []
        self.writer = ImageWriter(self.shown, self.units.to_source)

    def default_architecture(self, item_shape: tuple[int, ...]) -> str:
        return "linear-conv"

    def default_latent_dim(self, item_shape: tuple[int, ...]) -> int:
        return 16 if item_shape[0] == 1 else 64

    def item_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        h, w, c = stored
        return c, h, w

    def to_tensor(self, items: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) => (B, C, H, W) float32 in [0, 1], in PyTorch's channels_last order.

        Exactly v / 255 of uint8, v / 65535 of uint16.
        """
        top = 65535.0 if items.dtype == torch.uint16 else 255.0
        # By a tensor: for a Python number, a GPU multiplies by 1 / top, which rounds differently.
        return items.permute(0, 3, 1, 2).float().div_(torch.full((), top, device=items.device))

    def heat(self, x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
        """Root mean square error over channels and over 5 x 5 pixels: 2 x (B, C, H, W) => (B, H, W)."""
        errors = (x - x_hat).square().mean(dim=1, keepdim=True)
        return avg_pool2d(errors, _AROUND, 1, _AROUND // 2, count_include_pad=False)[:, 0].sqrt()

    def with_heat(self, items: np.ndarray, heat: np.ndarray, hottest: float) -> np.ndarray:
        """The image in pale grey, and red over it where it is hot."""
        grey = 255 - (255 - self.shown(items).mean(axis=3, keepdims=True)) * _PALE
        share = np.clip(heat / max(hottest, _LEAST_HEAT), 0, 1)[..., None]
        mixed: np.ndarray = (1 - share) * grey + share * np.array(_RED)
        return mixed.round().astype(np.uint8)

    def to_items(self, x_hat: torch.Tensor) -> np.ndarray:
        """(B, C, H, W) => (B, H, W, C) of the stored type, contiguous."""
        scaled = x_hat.detach().float().clamp(0, 1).mul_(self.top).round_()
        if self.units.bits == 8:
            return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        # NumPy converts: PyTorch has hardly any operators of uint16.
        return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy().astype(np.uint16)

    def shown(self, items: np.ndarray) -> np.ndarray:
        """Images as pictures and networks of others take them: (..., H, W, C) => (..., H, W, 1 or 3) uint8.

        Of channels that are chosen, or the first three; of two the first.
        """
        channels = items.shape[-1]
        chosen = self.bands or ([0, 1, 2] if channels > 3 else [0])
        return to_bytes(items if channels in (1, 3) and not self.bands else items[..., chosen])

    @property
    def key(self) -> str:
        """Cache key of `shown`."""
        return f"bands {self.bands} " if self.bands else ""

    def from_source(self, items: np.ndarray) -> np.ndarray:
        """As stored, from bytes where 16 bits are stored, or from the source's own type and units."""
        if items.dtype == STORED[self.units.bits]:
            return items
        if items.dtype == np.uint8:
            return from_bytes(items, self.units.bits)
        return self.units.to_stored(items) if items.dtype == self.units.dtype else items

    def to_source(self, items: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
        """In the source's own type and units, or as bytes."""
        return self.units.to_source(items) if dtype in (None, self.units.dtype) else to_bytes(items)

    @property
    def picture_writer(self) -> ImageWriter:
        """Writes pictures as they are."""
        return ImageWriter()

    def pictured(self, items: np.ndarray) -> np.ndarray:
        """The same, for `picture_writer`."""
        return self.shown(items)


def _grid(batches: Iterator[np.ndarray], total: int) -> np.ndarray:
    first = next(batches)
    pictures.grid_size(total, *first.shape[1:3])  # raises before the other batches are made
    return pictures.grid(gather(itertools.chain((first,), batches), total))


def _write_image(out: Path, pixels: np.ndarray) -> None:
    with atomic_file(out) as temporary:
        pictures.save(temporary, pixels)


def _write_arrays(out: Path, images: np.ndarray, **others: np.ndarray) -> None:
    """`.npz` with all, `.npy` or `.tif` with `images` alone."""
    # An open file, because NumPy would append `.npz` to a name that ends in `.NPZ`.
    with atomic_file(out) as temporary, open(temporary, "wb") as file:
        suffix = out.suffix.lower()
        if suffix in pictures.TIFF:
            pictures.save_pages(file, images)
        elif suffix == ".npy":
            np.save(file, images)
        else:
            np.savez(file, images=images, **others)  # type: ignore[arg-type]


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
