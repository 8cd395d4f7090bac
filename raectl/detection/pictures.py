"""Pictures of where items are odd: their reconstructions, and heat maps of the error."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.errors import UsageError
from raectl.progress import Progress

_SHOWN = 10  # items of each kind
_BLOCK = 1024  # items at a time
_SAMPLE, _HOTTEST = 256, 0.995  # items, and the share of their pixels that are less hot than the strongest colour


class Pictures:
    """Pictures of a data set's items, decoded by the models that scored them.

    Arguments:
        models: checkpoints, with the indices of the items that each scored.
    """

    def __init__(
        self, dataset: Dataset, models: Sequence[tuple[Checkpoint, np.ndarray]], progress: Progress | None = None
    ) -> None:
        self.dataset, self.models, self.progress = dataset, models, progress or Progress()
        self.modality = models[0][0].modality

    def write_oddest(self, out: Path, score: np.ndarray) -> None:
        """The oddest and the most typical items, with their reconstructions, and where they are odd.

        Arguments:
            score: of all items, (N,).
        """
        order = np.argsort(-score, kind="stable")
        count = min(_SHOWN, len(order))
        labels: list[str] = []
        rows: list[np.ndarray] = []
        for name, chosen in (("oddest", order[:count]), ("most typical", order[::-1][:count])):
            items, decoded, heat = self._decoded(chosen)
            pictured = map(self.modality.pictured, (items, self.modality.to_items(decoded)))
            shown = dict(zip((name, "reconstruction"), pictured, strict=True))
            if heat is not None:
                shown["where"] = self.modality.with_heat(items, heat, self._hottest())
            labels += shown
            rows += shown.values()
        if rows[0].shape[1:] != rows[-1].shape[1:]:  # grey beside coloured heat
            rows = [np.broadcast_to(row, (*row.shape[:-1], rows[-1].shape[-1])) for row in rows]
        self.modality.picture_writer.write_rows(out, labels, rows)

    def write_heatmaps(self, out: Path) -> None:
        """A heat map of each item, in a directory."""
        n, hottest = len(self.dataset), self._hottest()

        def batches() -> Iterator[np.ndarray]:
            for start in range(0, n, _BLOCK):
                items, _, heat = self._decoded(np.arange(start, min(start + _BLOCK, n)))
                assert heat is not None
                yield self.modality.with_heat(items, heat, hottest)
                self.progress.update("drawing heat maps", min(start + _BLOCK, n), n)

        self.modality.picture_writer.write(out, batches(), n, self.dataset.names)

    def _decoded(self, rows: np.ndarray) -> tuple[np.ndarray, Tensor, np.ndarray | None]:
        """Items of some rows, what they are decoded to, and the heat between, in the order of the rows."""
        items = np.array(self.dataset.items[rows])
        decoded = torch.empty(len(rows), *self.models[0][0].item_shape)
        for model, own in self.models:
            at = np.flatnonzero(np.isin(rows, own))
            if len(at):
                decoded[at] = model.decode(model.encode(items[at]), PLAIN).float().cpu()
        heat = self.modality.heat(self.modality.to_tensor(torch.from_numpy(items)), decoded)
        return items, decoded, None if heat is None else heat.numpy()

    def _hottest(self) -> float:
        """The heat of the strongest colour: what hardly any pixel of some items has."""
        _, _, heat = self._decoded(rng.choose(0, "heat", len(self.dataset), _SAMPLE))
        return 0.0 if heat is None else float(np.quantile(heat, _HOTTEST))


def check_heatmaps(checkpoint: Checkpoint, out: Path) -> None:
    """Raise unless a model's items have heat maps, and `out` can be their directory."""
    x = torch.zeros(1, *checkpoint.item_shape)
    if checkpoint.modality.heat(x, x) is None:
        raise UsageError(f"--heatmaps is for images, and these are {checkpoint.data.modality}", "omit --heatmaps")
    if out.suffix.lower() in checkpoint.modality.writer.suffixes:
        raise UsageError(f"--heatmaps {out} is to be a directory", f"--heatmaps {out.with_suffix('')}")
    checkpoint.modality.writer.check_out(out)
