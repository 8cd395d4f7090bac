"""The Inception-v3 network that defines the FID (TensorFlow, 2015-12-05), with weights from a file of the user."""

from pathlib import Path

import torch
from torch import Tensor, nn

from raectl.errors import UsageError
from raectl.extractors.inception_net import FIDInception
from raectl.extractors.network import NetworkExtractor

_PUBLISHED = "6726825d"  # first digits of the published file's SHA-256


class Inception(NetworkExtractor):
    """The pooled features of the FID's Inception-v3: D = 2048.

    The weights are the file `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid or
    `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity. Images of any shape are stretched to 299 x 299 as by
    TensorFlow 1 and torch-fidelity: bilinear without antialiasing, pixel i at i. (pytorch-fid has pixel i at i + 1/2,
    so its FID differs a little.) Then (x - 128) / 128; a grey channel is used three times.

    References: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update Rule
    Converge to a Local Nash Equilibrium", NeurIPS 2017; Obukhov et al., torch-fidelity, 2020, Zenodo 4957738.
    """

    name = "inception"
    frechet_name = "fid"
    block = 16  # the first feature maps are large
    size = 299
    version = 1
    dim = 2048

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        if not self.digest.startswith(_PUBLISHED):
            self.notes = (
                f"{weights} is not the published file (its SHA-256 starts with {self.digest[:8]}, not {_PUBLISHED}): "
                "the values are FIDs only if its weights are the published ones",
            )

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

    Output pixel i is the input at i H / size, linearly interpolated between the two nearest pixels.

    Example:
        >>> resize_tf1(torch.tensor([[[[0.0, 8.0]]]]), 4)[0, 0, 0]
        tensor([0., 4., 8., 8.])
    """
    for axis in (3, 2):
        n = x.shape[axis]
        position = torch.arange(size, dtype=torch.float32) * torch.tensor(n / size, dtype=torch.float32)
        low = position.long()
        fraction = (position - low).to(x.device)
        before, after = (x.index_select(axis, i.to(x.device)) for i in (low, (low + 1).clamp_max(n - 1)))
        x = before + (after - before) * (fraction if axis == 3 else fraction[:, None])
    return x
