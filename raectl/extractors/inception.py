"""Inception as the FID is defined on: the network of 2015-12-05, for whoever has the file of its weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from raectl.errors import UsageError
from raectl.extractors.inception_net import FIDInception
from raectl.extractors.network import NetworkExtractor

_PUBLISHED = "6726825d"  # the published file's SHA-256 starts so, as its names say


class Inception(NetworkExtractor):
    """The pooled features of the FID's Inception-v3: D = 2048.

    The weights are a file of the user's, `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid or
    `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity. Images are brought to 299 x 299 as TensorFlow 1 does
    inside the network's graph, and as torch-fidelity does: bilinear without antialiasing, pixel i at i. pytorch-fid
    places it at i + 1/2, so its numbers differ a little. Then (x - 128) / 128; grey is taken for all three channels.

    References: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update Rule
    Converge to a Local Nash Equilibrium", NeurIPS 2017; Obukhov et al., torch-fidelity, 2020, Zenodo 4957738.
    """

    name = "inception"
    frechet_name = "fid"
    block = 16  # its first maps are large
    size = 299
    version = 1

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        if not self.digest.startswith(_PUBLISHED):
            self.notes = (
                f"{weights} is not the published file (its SHA-256 starts with {self.digest[:8]}, not {_PUBLISHED}): "
                "the numbers are FIDs only if the weights in it are the published ones",
            )

    @property
    def dim(self) -> int:
        return 2048

    def _open(self, weights: Path | None) -> tuple[nn.Module, Path]:
        if weights is None:
            needed = "the features inception need a file of weights, pt_inception-2015-12-05-6726825d.pth"
            raise UsageError(needed, "--weights FILE")
        return FIDInception(), weights

    def _preprocess(self, x: Tensor) -> Tensor:
        return (resize_tf1(x.to(self.device), self.size) - 128) / 128

    def _forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


def resize_tf1(x: Tensor, size: int) -> Tensor:
    """TensorFlow 1's `resize_bilinear`: (B, C, H, W) => (B, C, size, size).

    Output pixel i is taken at i H / size of the input, by linear interpolation between the two pixels next to it.

    Example:
        >>> resize_tf1(torch.tensor([[[[0.0, 8.0]]]]), 4)[0, 0, 0]
        tensor([0., 4., 8., 8.])
    """
    for axis in (3, 2):
        n = x.shape[axis]
        place = torch.arange(size, dtype=torch.float32) * torch.tensor(n / size, dtype=torch.float32)
        low = place.long()
        share = (place - low).to(x.device)
        before, after = (x.index_select(axis, i.to(x.device)) for i in (low, (low + 1).clamp_max(n - 1)))
        x = before + (after - before) * (share if axis == 3 else share[:, None])
    return x
