"""Looks at held-out images that change or end the second phase; none of them chooses the best decoder.

mean C(real) - C(fake) above 6           gamma times 3: the critic runs away
sharpness of samples above 1.15          w / 2: the decoder draws grain
held-out error above twice the plain's   the end: it invents; twice the least squared error is what a decoder with
                                         the right distribution has (half of it is the data's variance given z)
copied above .5, and above the plain     the end: it draws training images
decoder's, by 4 standard errors
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from raectl import rng
from raectl.checkpoint.sharpened import PLAIN
from raectl.extractors.edges import Edges
from raectl.extractors.pixels import Pixels
from raectl.metrics.copying import copied
from raectl.metrics.reconstruction import mse
from raectl.metrics.reference import Measured, Reference
from raectl.metrics.sharpness import sharpness
from raectl.training.sharpening.loop import SharpeningLoop

_FEWEST = 2  # for measures of sets
_BLOCK = 64  # images decoded at a time
_GAP, _GAMMA = 6.0, 3.0
_SHARPEST, _WEIGHT = 1.15, 0.5
_ERROR = 2.0
_COPIED = 4.0  # standard errors


@dataclass(frozen=True)
class Look:
    """What held-out images say of a decoder; a measure is None where there are too few images for it.

    Arguments:
        error: mean squared error of their reconstructions.
        sharpness, copied: of samples, see `raectl.metrics`.
        copied_se: standard error of `copied`.
    """

    error: float
    sharpness: float | None = None
    copied: float | None = None
    copied_se: float | None = None

    def numbers(self) -> dict[str, float]:
        """Those that were measured, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class HeldOut:
    """Held-out images, their latents, and latents of samples, with which every decoder is looked at.

    Arguments:
        loop: begun, so that there is a mixture to draw from.
    """

    def __init__(self, loop: SharpeningLoop) -> None:
        self.modality, self.device = loop.modality, loop.device
        order = rng.permutation(loop.options.seed, "held-out images of guards", len(loop.held_out_rows))
        chosen = np.sort(order[: loop.looked_at])  # the first ones may be of one class
        rows = loop.held_out_rows[chosen]
        self.items = np.array(loop.dataset.items[rows])
        self.z = torch.from_numpy(loop.held_out_latents[chosen]).to(self.device)
        self.z_samples = loop.mixture.sample(len(rows), loop.look_seed).to(self.device)
        self.edges, self.pixels = Edges(), Pixels()
        self.sets_are_measured = len(rows) >= _FEWEST
        if self.sets_are_measured:
            training = np.sort(loop.first_rows(len(rows)))
            training_pixels = self.pixels(np.array(loop.dataset.items[training]))
            self.edges_of_real = Reference(self.edges(self.modality.shown(self.items)))
            self.pixels_of_real = Reference(self.pixels(self.items), training_sample=lambda: training_pixels)
        self.plain = self.look(loop.checkpoint.decoders[PLAIN])

    def look(self, decoder: nn.Module) -> Look:
        """Measure a decoder, in evaluation mode."""
        errors = [
            mse(self.modality.to_tensor(torch.from_numpy(items).to(self.device)), x_hat)
            for items, x_hat in zip(_blocks(self.items), self._decoded(decoder, self.z), strict=True)
        ]
        error = float(torch.cat(errors).mean())
        if not self.sets_are_measured:
            return Look(error)
        samples = np.concatenate([self.modality.to_items(x_hat) for x_hat in self._decoded(decoder, self.z_samples)])
        sharp = sharpness(self.edges_of_real, self.edges(self.modality.shown(samples))).get("sharpness", Measured(1.0))
        share = copied(self.pixels_of_real, self.pixels(samples))["copied"]
        return Look(error, sharp.value, share.value, share.se)

    @torch.no_grad()
    def _decoded(self, decoder: nn.Module, z: Tensor) -> Iterator[Tensor]:
        for block in torch.split(z, _BLOCK):
            yield decoder(block).float()


def _blocks(items: np.ndarray) -> Iterator[np.ndarray]:
    return (items[start : start + _BLOCK] for start in range(0, len(items), _BLOCK))


def end(look: Look, plain: Look) -> str | None:
    """Why the phase must end, in a sentence; None if it need not."""
    if not look.error <= _ERROR * plain.error:
        return (
            f"the held-out error is {look.error:.4g}, more than twice that of the plain decoder, {plain.error:.4g}: "
            "it would invent what is not in the images"
        )
    if look.copied is None or look.copied_se is None or plain.copied is None:
        return None
    if look.copied > max(plain.copied, 0.5) + _COPIED * look.copied_se:
        return f"{look.copied:.0%} of samples are nearer to training images than to held-out ones: it would copy them"
    return None


def adapt(loop: SharpeningLoop, look: Look, gap: float) -> list[str]:
    """Change the critic's penalty and the weight where a guard says so; what was changed, in sentences."""
    said, position = [], loop.position
    if gap > _GAP:
        position.gamma *= _GAMMA
        said.append(f"the critic is {gap:.1f} ahead: its gradient penalty is now {position.gamma:g} times as large")
    if look.sharpness is not None and look.sharpness > _SHARPEST:
        position.weight *= _WEIGHT
        said.append(f"samples are sharper than images, {look.sharpness:.2f}: the weight is halved")
    return said
