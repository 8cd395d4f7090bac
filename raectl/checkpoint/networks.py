"""The networks of a checkpoint directory: encode, decode, reconstruct."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from raectl.checkpoint.contents import Contents
from raectl.checkpoint.directory import encoder_digest
from raectl.checkpoint.sharpened import PLAIN, SHARP, Sharpened
from raectl.densities import Density
from raectl.device import padded_blocks, resolve_device
from raectl.errors import RaectlError
from raectl.metrics.anomaly import Measures
from raectl.modalities.base import modality_of
from raectl.model.build import build, build_sharp_decoder
from raectl.model.weights import load_module
from raectl.storage.arrays import Arrays

_MEASURED = 1024  # rows in memory at a time where only numbers are kept of them
BLOCK = 64  # rows that the networks run on at a time; see `padded_blocks`
N = TypeVar("N", bound=torch.nn.Module)


class Networks:
    """A trained encoder and its decoders. They run in float32, whatever the training's precision was.

    Arguments:
        contents: of a checkpoint directory.
        device: where the networks run; `auto` takes the best at hand.

    Attributes:
        decoders: decoders by name, in evaluation mode: (B, d) => (B, *item_shape).
        decoder_name: which of them makes the items.
        sharpened, sharp_weights: how the sharp one was made, and SHA-256 of its file; None where it is not in use.
        weights: SHA-256 of the weights for use.
        encoder: SHA-256 of what latents come from, see `encoder_digest`.
        lineage: the runs that its weights at the start come from.
    """

    def __init__(self, contents: Contents, device: str = "auto") -> None:
        self.directory, self.item_shape = contents.directory, contents.item_shape
        self.config, self.data = contents.record.resolved, contents.record.data
        self.epoch, self.weights, self.lineage = contents.epoch, contents.weights, contents.record.lineage
        self.encoder = encoder_digest(contents.arrays)
        self.device = torch.device(resolve_device(device))
        self.modality = modality_of(self.data.modality, self.data.options)
        self._model = self._ready(build(self.config, self.item_shape)[0], contents.arrays)
        self.decoders: dict[str, torch.nn.Module] = {PLAIN: self._model.decoder}
        self.sharpened: Sharpened | None = None
        self.sharp_weights: str | None = None
        if contents.sharp is not None:
            arrays, self.sharpened, self.sharp_weights = contents.sharp
            self.decoders[SHARP] = self._ready(build_sharp_decoder(self.config, self.item_shape), arrays)
        self.decoder_name = [*self.decoders][-1]

    def _ready(self, network: N, arrays: Arrays) -> N:
        load_module(network, arrays)
        return network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    @property
    def latent_dim(self) -> int:
        """d."""
        return self._model.latent_dim

    @property
    def decoder(self) -> torch.nn.Module:
        """The decoder that makes the items, in evaluation mode: (B, d) => (B, *item_shape)."""
        return self.decoders[self.decoder_name]

    def encode(self, items: np.ndarray | Tensor) -> Tensor:
        """The codes that stand for items, their mean where the code is stochastic.

        Arguments:
            items: as stored, (N, *stored shape) uint8 or uint16, or as the networks see them, (N, *item_shape) in
                [0, 1].

        Returns:
            (N, d) float32.
        """
        return torch.cat(list(self.encode_blocks(items)))

    def encode_blocks(self, items: np.ndarray | Tensor) -> Iterator[Tensor]:
        """`encode`, a block of rows at a time, so that memory does not grow with the data."""
        for block, rows in padded_blocks(items, BLOCK):
            x = self._to_tensor(block)
            with torch.inference_mode():
                yield self._model.encode(x)[:rows]

    def decode(self, z: np.ndarray | Tensor, decoder: str | None = None) -> Tensor:
        """(N, d) => (N, *item_shape) float32 in [0, 1], by the decoder that makes the items or another one."""
        return torch.cat(list(self.decode_blocks(z, decoder)))

    def decode_blocks(self, z: np.ndarray | Tensor, decoder: str | None = None) -> Iterator[Tensor]:
        """`decode`, a block of rows at a time."""
        network = self.decoders[decoder or self.decoder_name]
        for block, rows in padded_blocks(z, BLOCK):
            with torch.inference_mode():
                yield network(torch.as_tensor(block).to(self.device, torch.float32))[:rows]

    def reconstruct(self, items: np.ndarray) -> np.ndarray:
        """The items that items are decoded to, of the same type: (N, *stored shape) => the same; grey also (N, H, W).

        Images may be as stored, `Dataset.items`, or of another type than that: then bytes, or the values of the
        source's own type and units, such as float32.

        For the decoder's own values, `decode(encode(items))`.
        """
        stored = self.modality.from_source(items)
        blocks = self.decode_blocks(self.encode(stored))
        found = np.concatenate([self.modality.to_items(block) for block in blocks])
        found = found if stored is items else self.modality.to_source(found, items.dtype)
        return found[..., 0] if (*items.shape[1:], 1) == self.data.shape else found

    def measure_blocks(self, items: np.ndarray, density: Density, rows: np.ndarray | None = None) -> Iterator[Measures]:
        """What the anomaly scores of items are made of, some blocks of rows at a time; the decoder is the plain one.

        Arguments:
            items: (N, *stored shape).
            density: of the codes.
            rows: indices of those to measure; None for all.
        """
        n = len(items) if rows is None else len(rows)
        for start in range(0, n, _MEASURED):
            chosen = slice(start, start + _MEASURED)
            found = [
                self._deviation(*block)
                for block in padded_blocks(items[chosen if rows is None else rows[chosen]], BLOCK)
            ]
            z, deviation, energy = (torch.cat(part).cpu() for part in zip(*found, strict=True))
            yield Measures(deviation.double().numpy(), energy.double().numpy(), density.log_prob(z).double().numpy())

    def _deviation(self, block: np.ndarray, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, deviations and energies of the first rows of a block."""
        x = self._to_tensor(block)
        with torch.inference_mode():
            z = self._model.encode(x)
            deviation, energy = self.modality.deviation(x, self._model.decode(z))
        return z[:rows], deviation[:rows], energy[:rows]

    def _to_tensor(self, items: np.ndarray | Tensor) -> Tensor:
        tensor = torch.as_tensor(items).to(self.device)
        is_stored = tensor.dtype in (torch.uint8, torch.uint16)
        if is_stored and (*tensor.shape[1:], 1) == self.data.shape:  # grey images as (N, H, W)
            tensor = tensor[..., None]
        x = self.modality.to_tensor(tensor) if is_stored else tensor.float()
        if tuple(x.shape[1:]) != self.item_shape:
            form = f"{self.data.shape} {self.data.options.stored}"
            message = f"{tuple(items.shape[1:])} {items.dtype} is no item of this model, {form}"
            raise RaectlError(message, "raectl.open_dataset(items, checkpoint.data.options).items converts images")
        return x
