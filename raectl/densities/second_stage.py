"""A second-stage variational autoencoder (VAE), fitted to the latents of the model."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raectl.config import Option
from raectl.densities.base import LOG_2PI, Arrays
from raectl.densities.latents.checks import check_components
from raectl.densities.latents.oddities import too_few
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.linear_start import FEW_DIMENSIONS, linear_vae, make_constant, make_linear
from raectl.densities.mixtures.gmm import CompleteGMM
from raectl.densities.networks import (
    BLOCK,
    NetworkDensity,
    Recipe,
    adopt_weights,
    fit_network,
    in_blocks,
    seeded_initialization,
    set_aside,
    weights,
)
from raectl.errors import RaectlError
from raectl.model.autoencoder import glorot_uniform
from raectl.rng import normals

_LARGEST_LOG_SIGMA = 5.0
_PATIENCE, _GAIN = 3, 1e-4  # see `Recipe`; values of the paper's code
_LEAST_STEPS = 50
_DRAWS = 4  # samples of the code per latent for the bound: two and their negatives
_BOUND_SEED = 0


class _Networks(nn.Module):
    """Encoder and decoder, (B, d) => (B, d) each, with two hidden layers."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        layers = [nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        self.mean, self.spread = nn.Linear(hidden, dim), nn.Linear(hidden, dim)
        layers = [nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.Linear(hidden, dim))
        self.apply(glorot_uniform)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log sigma of the code."""
        h = self.encoder(x)
        return self.mean(h), _LARGEST_LOG_SIGMA * torch.tanh(self.spread(h))

    def start_linear(self, x: Tensor, variance: float, seed: int) -> None:
        """Make this the best linear VAE of the rows x, with a likelihood of that variance, see `linear_vae`."""
        encode, log_sigma, decode = linear_vae(x, variance)
        make_linear(self.encoder, self.mean, encode, seed, 0)
        make_constant(self.spread, log_sigma, _LARGEST_LOG_SIGMA)
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        make_linear(self.decoder[:-1], last, decode, seed, 1)


class SecondStageVAE(NetworkDensity):
    """p(z) = int p(u) N(x; D(u), s^2 I) du |dx/dz|, x the standardized z, with a VAE (encoder E, decoder D).

        loss = mean_j (x_j - D_j(u))^2 + beta KL(N(mu, sigma^2) || N(0, I)),  u = mu + sigma e,  (mu, log sigma) = E(x)

    which is beta times the negative ELBO of a Gaussian likelihood with variance s^2 = beta d / 2, up to a constant.

    `log_prob` is the ELBO: log p(z) >= E[log N(x; D(u), s^2 I)] - KL. The expectation over u is estimated from four
    fixed draws e, the same for every z: two and their negatives, scaled to variance 1 in each dimension, so that linear
    terms and squares of single dimensions have no error. `sample` gives D(u), u ~ p(u), without the likelihood's noise,
    as in the reference; samples have less variance than the density whose bound `log_prob` is. Training starts from
    random weights, or, in up to six dimensions, from the best linear VAE, see `linear_start`.

    References: Dai, Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, section 4. Ghosh et al., "From Variational
    to Deterministic Autoencoders", ICLR 2020 (2sVAE), whose released code gives the defaults.

    Adam's rate is halved after 3 epochs that gain less than 1e-4. An epoch has 50 steps at least, and passes over few
    latents several times.

    Example:
        >>> vae = SecondStageVAE(hidden=8, epochs=1).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> vae.decode(vae.encode([[0.0]])).shape
        torch.Size([1, 1])
    """

    name = "vae"
    log_prob_is_bound = True

    components: Option[int | None] = Option(
        None, "Gaussians of p(u), fitted to the codes' means.", low=1, high=1_000_000, shown="none: p(u) is N(0, I)"
    )
    hidden = Option(1024, "Units of each hidden layer.", low=1, high=10_000_000)
    beta = Option(1.5e-3, "Weight of the KL term.", above=0)
    epochs = Option(100, "Epochs, at most.", low=1, high=1_000_000)
    batch_size = Option(64, "Latents a step.", low=1, high=1_000_000)
    lr = Option(1e-4, "Adam's learning rate.", above=0)

    def encode(self, z: Any) -> Tensor:
        """Means of the codes: (N, d) => (N, free dimensions) float32."""
        return in_blocks(lambda x: self._networks.encode(x)[0], self._standardize(self._free(self._checked(z))))

    def decode(self, u: Any) -> Tensor:
        """Latents of codes: (N, free dimensions) => (N, d) float32."""
        return self._expand(self._decode(self._checked(u, self._d).float())).float()

    def _to_arrays(self) -> dict[str, Tensor]:
        prior = self._prior._to_arrays() if self._prior else {}
        codes = {f"gmm.{name}": tensor for name, tensor in prior.items()}
        return {"mean": self._mean, "scale": self._scale, **codes, **weights(self._networks)}

    def _standardize(self, z: Tensor) -> Tensor:
        x: Tensor = (z.double() - self._mean) / self._scale
        return x.float()

    def _decode(self, u: Tensor) -> Tensor:
        z: Tensor = in_blocks(self._networks.decoder, u).double() * self._scale + self._mean
        return z

    def _fit(self, z: Tensor, seed: int) -> None:
        n, d = z.shape
        check_components(self.components or 1, n)
        standardizer = Standardizer.fit(z)
        self._mean, self._scale = standardizer.centre, standardizer.scale
        with seeded_initialization(seed):
            self._networks = _Networks(d, self.hidden)
        x = self._standardize(z)
        if d <= FEW_DIMENSIONS:
            self._networks.start_linear(x, self.beta * d / 2, seed)
        recipe = Recipe(self.epochs, self.batch_size, self.lr, _PATIENCE, _GAIN, least_steps=_LEAST_STEPS)
        self.stats = dict(fit_network(self._networks, self._loss, *set_aside(x, seed), recipe, seed, self._progress))
        self.stats["parameters"] = sum(parameter.numel() for parameter in self._networks.parameters())
        self.notices = too_few(z)
        self._prior = None
        if self.components is not None:
            u = in_blocks(lambda rows: self._networks.encode(rows)[0], x)
            self._prior = CompleteGMM(components=self.components).fit(u, seed)
            self.notices += [f"mixture of the codes: {notice}" for notice in self._prior.notices]
        self._judge_spread(self._draw(seed, 0, 4 * BLOCK), z, self._scale)

    def _loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        mu, log_sigma = self._networks.encode(x)
        u = mu + log_sigma.exp() * torch.randn(mu.shape, generator=generator)
        error = (x - self._networks.decoder(u)).square().mean(dim=1)
        kl = 0.5 * (mu.square() + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(dim=1)
        loss: Tensor = (error + self.beta * kl).mean()
        return loss

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        u = self._prior.sample(n, seed, start) if self._prior else torch.from_numpy(normals(seed, start, n, self._d))
        return self._decode(u).numpy()

    def _log_prob(self, z: Tensor) -> Tensor:
        """E[log N(x; D(u), s^2 I) + log p(u)] + entropy of N(mu, sigma^2) + log |dx/dz|."""
        d, variance = self._d, self.beta * self._d / 2
        x = self._standardize(z)
        mu, log_sigma = torch.split(in_blocks(lambda rows: torch.cat(self._networks.encode(rows), 1), x), d, dim=1)
        e = torch.from_numpy(normals(_BOUND_SEED, 0, _DRAWS // 2, d, "bound"))
        e = e / e.square().mean(dim=0).sqrt()
        total = torch.zeros(len(z), dtype=torch.float64)
        for draw in torch.cat([e, -e]):
            u = mu + log_sigma.exp() * draw
            error = (x.double() - in_blocks(self._networks.decoder, u).double()).square().sum(dim=1)
            total += self._log_prior(u, mu, log_sigma) - 0.5 * error / variance
        entropy = (log_sigma.double() + 0.5 + 0.5 * LOG_2PI).sum(dim=1)
        constants = 0.5 * d * (LOG_2PI + math.log(variance)) + self._scale.log().sum()
        return total / _DRAWS + entropy - constants

    def _log_prior(self, u: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
        """log p(u) of the mixture, or of N(0, I) the expectation E[log p(u)] in closed form: (B,)."""
        if self._prior:
            return in_blocks(self._prior.log_prob, u)
        second_moment = mu.double().square() + (2 * log_sigma.double()).exp()
        expected: Tensor = -0.5 * (second_moment + LOG_2PI).sum(dim=1)
        return expected

    def _adopt(self, arrays: Arrays) -> int:
        self._mean = arrays.take("mean", (None,))
        d = len(self._mean)
        self._scale = arrays.take("scale", (d,))
        if not (self._scale > 0).all():
            arrays.refuse("a scale is not positive")
        with torch.device("meta"):  # no memory, no random numbers
            self._networks = _Networks(d, self.hidden)
        adopt_weights(arrays, self._networks)
        self._prior = None
        if self.components is not None:
            k = self.components
            shapes = {"weights": (k,), "means": (k, d), "covariances": (k, d, d)}
            prior = {name: arrays.take(f"gmm.{name}", shape).numpy() for name, shape in shapes.items()}
            try:
                self._prior = CompleteGMM.from_arrays(prior, components=k)
            except RaectlError as error:
                arrays.refuse(error.message)
        return d
