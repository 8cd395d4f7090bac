"""The built-in digits: 1,797 handwritten ones of 8x8 pixels that come with scikit-learn."""

from typing import ClassVar

import numpy as np

from raectl.data.base import Progress, Source
from raectl.data.dataset import Dataset
from raectl.data.images.array import Stack, open_uniform
from raectl.data.options import DataOptions


class Digits(Source):
    """The source of the name `digits`. (A folder of that name is `./digits`.)"""

    background: ClassVar[str] = "black"

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == "digits"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        from sklearn.datasets import load_digits

        loaded = load_digits()
        images = np.rint(loaded.images * (255 / 16)).astype(np.uint8)[..., None]  # 0 to 16 => 0 to 255
        classes = tuple(str(name) for name in loaded.target_names)
        labels = loaded.target.astype(np.int64)
        return open_uniform(Stack(images, spec, None, labels, classes), options, self.background, progress)
