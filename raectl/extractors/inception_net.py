"""Inception-v3 as in TensorFlow's graph of 2015-12-05. Differences from the paper and from torchvision:

average pooling excludes the padding, the last block uses max pooling, there are 1008 classes, and no auxiliary
classifier. Module names are the names of the ported weights.

References: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR
2016, table 1 and figures 5 to 7; Seitzer, pytorch-fid, 2020 (the port, Apache 2.0).
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

# A row is one convolution: its name, its input ("x" the block's input, "pool" its pooled input, or another row), its
# channels, and its kernel. Outputs that are no row's input are concatenated, in this order.
_Row = tuple[str, str, int, int | tuple[int, int]]


def _a(pooled: int) -> tuple[_Row, ...]:
    return (
        ("branch1x1", "x", 64, 1),
        ("branch5x5_1", "x", 48, 1),
        ("branch5x5_2", "branch5x5_1", 64, 5),
        ("branch3x3dbl_1", "x", 64, 1),
        ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3),
        ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3),
        ("branch_pool", "pool", pooled, 1),
    )


def _c(width: int) -> tuple[_Row, ...]:
    return (
        ("branch1x1", "x", 192, 1),
        ("branch7x7_1", "x", width, 1),
        ("branch7x7_2", "branch7x7_1", width, (1, 7)),
        ("branch7x7_3", "branch7x7_2", 192, (7, 1)),
        ("branch7x7dbl_1", "x", width, 1),
        ("branch7x7dbl_2", "branch7x7dbl_1", width, (7, 1)),
        ("branch7x7dbl_3", "branch7x7dbl_2", width, (1, 7)),
        ("branch7x7dbl_4", "branch7x7dbl_3", width, (7, 1)),
        ("branch7x7dbl_5", "branch7x7dbl_4", 192, (1, 7)),
        ("branch_pool", "pool", 192, 1),
    )


_B: tuple[_Row, ...] = (
    ("branch3x3", "x", 384, 3),
    ("branch3x3dbl_1", "x", 64, 1),
    ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3),
    ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3),
)
_D: tuple[_Row, ...] = (
    ("branch3x3_1", "x", 192, 1),
    ("branch3x3_2", "branch3x3_1", 320, 3),
    ("branch7x7x3_1", "x", 192, 1),
    ("branch7x7x3_2", "branch7x7x3_1", 192, (1, 7)),
    ("branch7x7x3_3", "branch7x7x3_2", 192, (7, 1)),
    ("branch7x7x3_4", "branch7x7x3_3", 192, 3),
)
_E: tuple[_Row, ...] = (
    ("branch1x1", "x", 320, 1),
    ("branch3x3_1", "x", 384, 1),
    ("branch3x3_2a", "branch3x3_1", 384, (1, 3)),
    ("branch3x3_2b", "branch3x3_1", 384, (3, 1)),
    ("branch3x3dbl_1", "x", 448, 1),
    ("branch3x3dbl_2", "branch3x3dbl_1", 384, 3),
    ("branch3x3dbl_3a", "branch3x3dbl_2", 384, (1, 3)),
    ("branch3x3dbl_3b", "branch3x3dbl_2", 384, (3, 1)),
    ("branch_pool", "pool", 192, 1),
)

_average = partial(avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_maximum = partial(max_pool2d, kernel_size=3, stride=1, padding=1)
_halve = partial(max_pool2d, kernel_size=3, stride=2)


class FIDInception(nn.Module):
    """(B, 3, 299, 299) in [-1, 1] => (B, 2048), the input of the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _convolution(32, 64, 3, padding="same")
        self.Conv2d_3b_1x1 = _convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _convolution(80, 192, 3)
        self.Mixed_5b = _Block(192, _a(32), _average)
        self.Mixed_5c = _Block(256, _a(64), _average)
        self.Mixed_5d = _Block(288, _a(64), _average)
        self.Mixed_6a = _Block(288, _B, _halve)
        self.Mixed_6b = _Block(768, _c(128), _average)
        self.Mixed_6c = _Block(768, _c(160), _average)
        self.Mixed_6d = _Block(768, _c(160), _average)
        self.Mixed_6e = _Block(768, _c(192), _average)
        self.Mixed_7a = _Block(768, _D, _halve)
        self.Mixed_7b = _Block(1280, _E, _average)
        self.Mixed_7c = _Block(2048, _E, _maximum)  # in the graph, though the paper averages here too
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # => (B, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halve(x)))  # => (B, 192, 71, 71)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(_halve(x))))  # => (B, 288, 35, 35)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # => (B, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # => (B, 2048, 8, 8)
        return x.mean(dim=(2, 3))


def _convolution(
    c_in: int, c_out: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | str = 0
) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out, eps=0.001), relu=nn.ReLU(inplace=True)))


class _Block(nn.Module):
    """Parallel branches. If `pool` is `_halve`, the last convolution of each branch has stride 2."""

    def __init__(self, c_in: int, rows: tuple[_Row, ...], pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.reads = {name: source for name, source, *_ in rows}
        self.ends = [name for name in (*self.reads, "pool") if name not in self.reads.values()]
        channels = {"x": c_in, "pool": c_in}
        for name, source, c_out, kernel in rows:
            halves = pool is _halve and name in self.ends
            step = _convolution(channels[source], c_out, kernel, 2 if halves else 1, 0 if halves else "same")
            self.add_module(name, step)
            channels[name] = c_out

    def forward(self, x: Tensor) -> Tensor:
        values = {"x": x, "pool": self.pool(x)}
        for name, source in self.reads.items():
            values[name] = self.get_submodule(name)(values[source])
        return torch.cat([values[name] for name in self.ends], dim=1)
