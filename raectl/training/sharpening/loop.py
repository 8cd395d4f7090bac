"""The steps of the second phase, each a function of the options, the data, the weights and the step's number.

    z_r = E(x) + 0.1 s n                         s the latents' standard deviations, n ~ N(0, I)
    z_s ~ 10 Gaussians fitted once to the training latents
    g   = 2 (x_hat - x) [reconstructions only] + w u r d/dx_hat sum softplus(C(x) - C(x_hat))
    r   = |2 (x_hat - x)| / |that derivative| over the reconstructions, at most 1e4

Half of a batch are reconstructions D(z_r), each paired with its own image, half are samples D(z_s), each paired with
another one. g is the decoder's gradient at its images; u is 0 while the critic learns alone, then rises to 1: an
untaught critic puts grain on everything. The error is squared whatever the first phase's is: the derivative of the
absolute one is as long where the fit is good as where it is bad, and so would be the critic's. The decoder is in
evaluation mode, so that a sample is decoded alike in training and after it. The result is an average of its weights.
"""

import functools
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.densities.mixtures.gmm import GMM
from raectl.errors import RaectlError, command
from raectl.model.build import build_decoder, build_sharp_decoder, constraints
from raectl.model.levels import SharpDecoder, are_valid
from raectl.model.weights import (
    adam_arrays,
    adam_layout,
    load_adam,
    load_module,
    module_arrays,
    module_layout,
    to_array,
)
from raectl.storage.arrays import Spec, grouped, joined, read_arrays, write_arrays
from raectl.training.sharpening.adversarial import mean, pairing, squared_gradient
from raectl.training.sharpening.critic import Critic, augmented
from raectl.training.sharpening.options import Options
from raectl.training.sharpening.state import HINT, Position, SharpeningState

TERMS = ("critic", "gap", "squared_gradient", "error")  # means over a step's batch
_GROUPS = ("last", "average", "kept", "critic", "decoder-adam", "critic-adam", "mixture", "sums")
_COMPONENTS, _LATENTS_EACH = 10, 10  # Gaussians, and latents for each of them at least
_NOISE = 0.1  # of reconstructions' latents, in standard deviations
_GAMMA = 0.1  # of the critic's gradient penalty at 32 x 32 pixels; proportional to their number
_RATE, _BETAS, _LAST_RATE = 5e-4, (0.5, 0.99), 0.1  # Adam's; the decoder's rate falls to a tenth by a cosine
_WARMUP, _RAMP = 50, 0.1  # steps in which the critic learns alone; share of the steps in which u rises
_AVERAGE = 0.995  # largest decay of the average
_LARGEST_RATIO = 1e4  # r
_LOOKED_AT, _VALUES = 1000, 2**25  # images to look at, and values in them: at most
_FEWEST = 16
_FEW_IMAGES = 10_000  # below them the critic sees augmented images


class SharpeningLoop:
    """Decoder, critic, optimizers and data of the second phase, and where they stand.

    Arguments:
        checkpoint: opened with its plain decoder.
        dataset: what it was trained on.
        options: number of steps, weight and seed.
    """

    def __init__(self, checkpoint: Checkpoint, dataset: Dataset, options: Options) -> None:
        self.checkpoint, self.dataset, self.options = checkpoint, dataset, options
        self.device, self.modality = checkpoint.device, checkpoint.modality
        self.rows, self.held_out_rows = checkpoint.split(dataset.items)
        latents = checkpoint.latents(dataset)
        self.latents, self.held_out_latents = latents[self.rows], latents[self.held_out_rows]
        self.scale = torch.from_numpy(self.latents.std(axis=0)).to(self.device)
        self.decoder = build_decoder(checkpoint.config, checkpoint.item_shape)
        load_module(self.decoder, module_arrays(checkpoint.decoders[PLAIN]))
        self.decoder.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        _keep_power_iterating(self.decoder)
        channels, height, width = checkpoint.item_shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.torch_generator(options.seed, "critic", 0).initial_seed())
            critic = Critic(channels, height, width, options.filters)
        self.critic = critic.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The parameters' own order, by name, is that of the optimizers' moments.
        self.optimizer = torch.optim.Adam(self.decoder.parameters(), lr=_RATE, betas=_BETAS, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=_RATE, betas=_BETAS, fused=True)
        self.average = {name: value.detach().clone() for name, value in self.decoder.named_parameters()}
        self.kept = module_arrays(self._sharp_decoder())
        self.mixture = GMM(components=max(1, min(_COMPONENTS, len(self.latents) // _LATENTS_EACH)))
        self.position = Position()
        precise = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = torch.zeros(len(TERMS) + 1, dtype=precise, device=self.device)  # and the number of steps
        self.looked_at = min(_LOOKED_AT, max(_FEWEST, _VALUES // math.prod(checkpoint.item_shape)))
        self.gamma = _GAMMA * (height * width / 32**2)
        self.augments = len(self.rows) < _FEW_IMAGES
        self.batch_size = max(2, min(checkpoint.config.batch_size or 2, len(self.rows)) // 2 * 2)
        self.warmup = min(_WARMUP, options.steps // 4)
        n = len(self.rows)
        self._order = functools.lru_cache(2)(lambda turn: rng.permutation(options.seed, "sharpening order", n, turn))
        # Not the run's own seed: samples that are drawn later must not be those that were trained on.
        self.latent_seed, self.look_seed = (
            rng.torch_generator(options.seed, stream, 0).initial_seed() for stream in ("z of sharpening", "z of guards")
        )

    def begin(self) -> None:
        """Fit the mixture that latents are drawn from."""
        self.mixture.fit(self.latents, self.options.seed)

    # -- a step ----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One step of the critic and, after the warm-up, of the decoder."""
        position, share = self.position, self._share()
        generator = rng.torch_generator(self.options.seed, "sharpening", position.step, self.device)
        chosen = self._chosen()
        z, x = self._latents(chosen, generator), self._images(chosen)
        with torch.set_grad_enabled(share > 0), parametrize.cached(), self._autocast():
            x_hat = self.decoder(z).float()
        fake = x_hat.detach().requires_grad_(share > 0)
        eyes = (fake, x) if not self.augments else augmented((fake, x), generator)
        scores_fake, scores_real = map(self.critic, eyes)
        loss = pairing(scores_real, scores_fake).mean()
        slopes = sum(
            squared_gradient(self.critic, images.detach(), scores, generator).mean()
            for images, scores in zip(eyes, (scores_fake, scores_real), strict=True)
        )
        gamma = self.gamma * position.gamma
        gradients = torch.autograd.grad(
            loss + gamma / 2 * slopes, list(self.critic.parameters()), retain_graph=share > 0
        )
        error = x_hat.detach() - x
        if share > 0:
            (direction,) = torch.autograd.grad(pairing(scores_fake, [s.detach() for s in scores_real]).sum(), fake)
            self._move_decoder(x_hat, error, direction, share)
        for parameter, gradient in zip(self.critic.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.critic_optimizer.step()
        gap = (mean(scores_real) - mean(scores_fake)).mean()
        values = [loss, gap, slopes, error[: len(error) // 2].square().mean(), loss.new_ones(())]
        self.sums += torch.stack([value.detach() for value in values])
        position.step += 1

    def _share(self) -> float:
        """u: 0 while the critic learns alone, then rising to 1."""
        after = self.position.step - self.warmup
        return 0.0 if after < 0 else min(1.0, (after + 1) / max(1.0, _RAMP * self.options.steps))

    def _latents(self, chosen: np.ndarray, generator: torch.Generator) -> Tensor:
        """z_r of the first half of the batch's images, then as many z_s: (B, d)."""
        half, step = self.batch_size // 2, self.position.step
        z = torch.from_numpy(self.latents[chosen[:half]]).to(self.device)
        noise = torch.randn(z.shape, generator=generator, device=self.device)
        drawn = self.mixture.sample(half, self.latent_seed, step * half).to(self.device)
        return torch.cat([z + _NOISE * self.scale * noise, drawn])

    def _images(self, chosen: np.ndarray) -> Tensor:
        items = torch.from_numpy(self.dataset.items[self.rows[chosen]])
        return self.modality.to_tensor(items.to(self.device, non_blocking=True))

    def _chosen(self) -> np.ndarray:
        """The step's training images, (B,): consecutive ones of an endless row of permutations."""
        first = self.position.step * self.batch_size
        turns, places = np.divmod(np.arange(first, first + self.batch_size), len(self.rows))
        chosen: np.ndarray = np.concatenate(
            [self._order(turn)[places[turns == turn]] for turn in np.unique(turns).tolist()]
        )
        return chosen

    def first_rows(self, n: int) -> np.ndarray:
        """n training images, or all if they are fewer, as indices into the data: always the same."""
        rows: np.ndarray = self.rows[self._order(0)[:n]]
        return rows

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.checkpoint.config.precision == "bf16")

    def _move_decoder(self, x_hat: Tensor, error: Tensor, direction: Tensor, share: float) -> None:
        """One step along g, and of the average."""
        half, position = len(x_hat) // 2, self.position
        gradient = 2 * error
        gradient[half:] = 0
        least = torch.finfo(torch.float32).tiny
        ratio = (gradient[:half].norm() / direction[:half].norm().clamp_min(least)).clamp_max(_LARGEST_RATIO)
        gradient += self.options.weight * position.weight * share * ratio * direction
        x_hat.backward(gradient / len(x_hat))  # type: ignore[no-untyped-call]
        done = (position.step - self.warmup) / max(1, self.options.steps - self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = _RATE * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        t = position.step - self.warmup
        decay = min(_AVERAGE, (1 + t) / (10 + t))
        with torch.no_grad():
            for name, value in self.decoder.named_parameters():
                self.average[name].lerp_(value, 1 - decay)

    # -- where it stands -------------------------------------------------------------------------------------------

    def means(self) -> dict[str, float]:
        """Means of the terms over the steps since they were last asked for.

        Raises:
            RaectlError: one is not finite: the phase diverged.
        """
        *sums, steps = self.sums.tolist()
        self.sums.zero_()
        if not all(map(math.isfinite, sums)):
            raise self._diverged()
        return {name: value / max(1.0, steps) for name, value in zip(TERMS, sums, strict=True)}

    @torch.no_grad()
    def averaged(self) -> SharpDecoder:
        """A decoder with the averaged weights, in evaluation mode; its constraints hold, its levels are fitted."""
        sharp = self._sharp_decoder()
        load_module(sharp.decoder, module_arrays(self.decoder))
        for name, value in sharp.decoder.named_parameters():
            value.copy_(self.average[name])
        for constraint in constraints(self.checkpoint.config):
            constraint.converge(sharp.decoder)
        chosen = self._order(0)[: self.looked_at]
        z = torch.from_numpy(self.latents[chosen]).to(self.device)
        decoded = [self.modality.to_items(sharp(part)) for part in torch.split(z, self.batch_size)]
        sharp.levels.fit(np.concatenate(decoded), self.dataset.items[self.rows[chosen]])
        return sharp

    def keep(self, decoder: SharpDecoder) -> None:
        """Keep a decoder, made by `averaged`, as the result so far."""
        self.kept, self.position.kept = module_arrays(decoder), self.position.step

    def kept_decoder(self) -> SharpDecoder:
        """The decoder that is kept, in evaluation mode."""
        sharp = self._sharp_decoder()
        load_module(sharp, self.kept)
        return sharp

    def _diverged(self) -> RaectlError:
        message = f"sharpening diverged before step {self.position.step:,}; the plain decoder is as it was"
        again = command("raectl", "sharpen", self.checkpoint.directory.path, "--overwrite", "--weight")
        return RaectlError(message, f"{again} below {self.options.weight:g}")

    @property
    def state(self) -> SharpeningState:
        """Where the phase is."""
        return SharpeningState(self.options, self.position, self.checkpoint.weights)

    @property
    def is_done(self) -> bool:
        """Whether no step is left."""
        return self.state.is_done

    def write(self, path: Path) -> None:
        """Write everything that decides how the phase goes on as one file, in one rename.

        Raises:
            RaectlError: a number is not finite: the phase diverged.
        """
        groups = {
            "last": module_arrays(self.decoder),
            "average": {name: to_array(value) for name, value in self.average.items()},
            "kept": self.kept,
            "critic": module_arrays(self.critic),
            "decoder-adam": adam_arrays(self.optimizer),
            "critic-adam": adam_arrays(self.critic_optimizer),
            "mixture": self.mixture.to_arrays(),
            "sums": {"sums": self.sums.cpu().double().numpy()},
        }
        arrays = joined(groups)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise self._diverged()  # the state that was saved last stays
        write_arrays(path, arrays, self.state)

    def _layout(self, names: Collection[str]) -> dict[str, Spec | None]:
        present = grouped(dict.fromkeys(names), _GROUPS)
        decoder = module_layout(self.decoder)
        return joined(
            {
                "last": decoder,
                "average": {name: decoder[name] for name in self.average},
                "kept": module_layout(self._sharp_decoder()),
                "critic": module_layout(self.critic),
                "decoder-adam": adam_layout(self.decoder.parameters(), present["decoder-adam"]),
                "critic-adam": adam_layout(self.critic.parameters(), present["critic-adam"]),
                "mixture": present["mixture"],  # which checks them itself
                "sums": {"sums": ((len(self.sums),), "float64")},
            }
        )

    def restore(self, path: Path) -> None:
        """The inverse of `write`.

        Raises:
            RaectlError: the file is damaged, or not of this model.
        """
        arrays, state = read_arrays(path, SharpeningState, self._layout, HINT)
        groups = grouped(arrays, _GROUPS)
        try:
            self.mixture = GMM.from_arrays(groups["mixture"], **self.mixture.settings)
        except RaectlError as error:
            raise RaectlError(f"{path} is damaged: {error.message}", HINT) from error
        if self.mixture.dim != self.latents.shape[1]:
            raise RaectlError(f"{path} is damaged: its mixture has {self.mixture.dim} dimensions", HINT)
        if not are_valid(groups["kept"]["levels.points"]):
            raise RaectlError(f"{path} is damaged: its levels are out of range", HINT)
        load_module(self.decoder, groups["last"])
        load_module(self.critic, groups["critic"])
        load_adam(self.optimizer, groups["decoder-adam"])
        load_adam(self.critic_optimizer, groups["critic-adam"])
        for name, value in self.average.items():
            value.copy_(torch.from_numpy(groups["average"][name]))
        self.sums.copy_(torch.from_numpy(groups["sums"]["sums"]))
        self.kept, self.position = groups["kept"], state.position

    def _sharp_decoder(self) -> SharpDecoder:
        sharp = build_sharp_decoder(self.checkpoint.config, self.checkpoint.item_shape).eval()
        return sharp.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _keep_power_iterating(decoder: nn.Module) -> None:
    """Let reparametrizations such as spectral normalization go on as in training, in a decoder in evaluation mode."""
    for module in decoder.modules():
        if isinstance(module, parametrize.ParametrizationList):
            module.train()
