"""The loss of every model:

    z = code(E(x)),   x_hat = D(z),
    L(x) = rec(x, x_hat)  +  beta * latent(z)  +  sum_r lam_r * penalty_r(D, z)

The reconstruction term rec is one of `raectl.model.reconstructions`; with e = x - x_hat, summed over an item's values:

    l2 (images, as in the paper)    sum e^2
    l1                              sum (1 - a) e^2 + a |e|,   a rising from 0 to 1 in the first steps of training
    cross-entropy (strings)         -T mean x log p + (1 - x) log(1 - p),   p(x_hat) a probability for each production

Values of x are in [0, 1]. Sums over pixels, channels and latent dimensions, mean over the batch, as in the paper
(Ghosh et al. 2020, section 3). The paper's code takes means over pixels and latent dimensions, and no 1/2: with D
values per item and d latent dimensions, its weights convert as beta = 2 D/d beta_code, lam = D lam_code.

With K samples z_k per item (IWAE), the loss is the soft minimum over them, which equals L for K = 1:

    L(x) = -beta log 1/K sum_k exp(-L_k(x) / beta),   L_k = rec(x, D(z_k)) + beta * latent(z_k)

and penalties are means over the samples. With latent = log q(z_k | x) - log p(z_k) this is, up to a constant, -beta
times the importance-weighted bound on log p(x), with p(x | z) proportional to exp(-rec(x, D(z)) / beta): for l2
N(x; D(z), beta / 2 I), for l1 with a = 1 a Laplace density of scale beta in each value, for a < 1 a density between the
two; for K = 1 the ELBO (Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 3).

Each term is returned and logged unweighted, under its own name; `loss` is their weighted sum.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from raectl.model.autoencoder import Autoencoder
from raectl.model.latent_terms import LatentTerm
from raectl.model.reconstructions import Reconstruction
from raectl.model.regularizers import Regularizer


@dataclass(frozen=True)
class Loss:
    """The loss as a function of a model and a batch."""

    reconstruction: Reconstruction  # (B,)
    latent: LatentTerm  # (B,) or (K, B)
    beta: float
    penalties: Mapping[str, tuple[Regularizer, float]]  # {name: (regularizer, lam)}

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term."""
        return {"reconstruction": 1.0, "latent": self.beta} | {name: lam for name, (_, lam) in self.penalties.items()}

    def weighted(self, terms: Mapping[str, float]) -> dict[str, float]:
        """Terms by name, each multiplied by its weight; they sum to the loss."""
        return {name: self.weights.get(name, 1.0) * value for name, value in terms.items()}

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the values that a call returns, in order."""
        return ("loss", *self.weights)

    def __call__(
        self, model: Autoencoder, x: Tensor, generator: torch.Generator | None = None, step: int = 0
    ) -> Tensor:
        """The terms' means over a batch: (B, *item_shape) => (len(terms),) float32, the loss first.

        Arguments:
            generator: draws the noise of the code, then what regularizers add to it, then the noise of the latent term,
                then of the penalties in their order.
            step: number of the optimizer's steps before this one, on which the reconstruction term may depend.
        """
        with parametrize.cached():  # one power iteration per step
            codes = model.code(model.encoder(x), generator)
            z = model.perturb(codes.z, generator)
            x_hat = model.decoder(z)
            errors = torch.stack([self.reconstruction(x, draw, step) for draw in x_hat.split(len(x))])  # (K, B)
            values = [errors, self._latent(errors, self.latent(codes, generator))]
            for regularizer, _ in self.penalties.values():
                values.append(regularizer.penalty(model.decoder, z, x_hat, generator))
        means = [value.float().mean() for value in values]
        # Terms of weight 0 are left out: 0 * inf would be NaN.
        loss = torch.stack([w * mean for w, mean in zip(self.weights.values(), means, strict=True) if w]).sum()
        return torch.stack([loss, *means])

    def _latent(self, errors: Tensor, latent: Tensor) -> Tensor:
        """The l for which mean_k errors_k + beta l is the soft minimum over the K samples: 2 x (K, B) => (B,)."""
        if len(errors) == 1:
            return latent
        exponents = (errors.mean(dim=0) - errors) / self.beta - latent
        return math.log(len(errors)) - exponents.logsumexp(dim=0)
