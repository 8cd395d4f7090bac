"""What a configuration says its files of weights hold: compared with their headers before anything that large is made.

Two numbers in a config.json suffice to ask for a model of a hundred gigabytes.
"""

from dataclasses import dataclass

from raectl.checkpoint.directory import Directory
from raectl.checkpoint.summary import DataSummary
from raectl.config import Config
from raectl.errors import RaectlError
from raectl.modalities.base import modality_of
from raectl.model import build
from raectl.model.autoencoder import Autoencoder
from raectl.model.reconstructions import for_modality
from raectl.model.weights import require_shapes
from raectl.storage.arrays import read_shapes


@dataclass(frozen=True)
class ModelShapes:
    """The shape of an item as the networks see it, and the model without its numbers."""

    directory: Directory
    item_shape: tuple[int, ...]
    outline: Autoencoder

    @classmethod
    def of(cls, directory: Directory, config: Config, data: DataSummary) -> "ModelShapes":
        """The layout that a stored configuration has.

        Raises:
            RaectlError: there is no such model, or no such reconstruction term for its items.
        """
        try:
            modality = modality_of(data.modality, data.options)
            for_modality(config.reconstruction, modality)
            item_shape = modality.item_shape(data.shape)
            return cls(directory, item_shape, build.outline(config, item_shape))
        except (ValueError, RuntimeError, RaectlError) as error:  # RuntimeError: more numbers than 64 bits can count
            why = getattr(error, "message", error)
            raise RaectlError(f"{directory.config} is damaged: {why}", "restore it from a copy") from error

    def require_weights(self) -> None:
        """Raise unless the weights for use are of this layout, by their header."""
        path = self.directory.model
        require_shapes(self.outline, read_shapes(path), str(path))
