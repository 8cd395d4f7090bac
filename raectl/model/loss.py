"""The one objective of every model:

    z = code(E(x)),   x_hat = D(z),
    L(x) = ||x - x_hat||^2  +  beta * latent(z)  +  sum_r lam_r * penalty_r(D, z)

Values of x in [0, 1]. Sums over pixels, channels and latent dimensions, mean over the batch: the form of the paper
(Ghosh et al. 2020, section 3). Its released code takes means over pixels and latent dimensions and no 1/2, so with D
values an item and d latent dimensions its weights convert as beta = 2 D/d beta_code, lam = D lam_code.

A code that draws K codes z_k for an item (IWAE) has their soft minimum, which is L itself for K = 1:

    L(x) = -beta log 1/K sum_k exp(-L_k(x) / beta),   L_k = ||x - D(z_k)||^2 + beta * latent(z_k)

and its penalties are means over the draws. With latent = log q(z_k | x) - log p(z_k) that is, up to a constant, -beta
times the importance-weighted bound on log p(x), where p(x | z) is a Gaussian around D(z) of variance beta / 2; with
K = 1 the ELBO (Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 3).

Each term is returned, and logged, unweighted and under its own name; `loss` is their weighted sum.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from raectl.modalities.base import Modality
from raectl.model.autoencoder import Autoencoder
from raectl.model.latent_terms import LatentTerm
from raectl.model.regularizers import Regularizer


@dataclass(frozen=True)
class Loss:
    """The objective as a function of a model and a batch.

    Arguments:
        modality: gives the reconstruction term, (B,).
        latent: the latent term, (B,) or (K, B).
        beta: its weight.
        penalties: {name: (regularizer, lam)}, the regularizers that have a penalty.
    """

    modality: Modality
    latent: LatentTerm
    beta: float
    penalties: Mapping[str, tuple[Regularizer, float]]

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term that a call returns after the loss."""
        return {"reconstruction": 1.0, "latent": self.beta} | {name: lam for name, (_, lam) in self.penalties.items()}

    def weighted(self, terms: Mapping[str, float]) -> dict[str, float]:
        """Terms by name, each times its weight, so that they add up to the loss."""
        return {name: self.weights.get(name, 1.0) * value for name, value in terms.items()}

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of what a call returns, in its order."""
        return ("loss", *self.weights)

    def __call__(self, model: Autoencoder, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """All terms for a batch, averaged over it: (B, *item_shape) => (len(terms),) float32, the loss first.

        `generator` gives the noise of the code first, then of the latent term, then of the penalties in their order.
        """
        with parametrize.cached():  # a reparametrized kernel is computed, and its power iteration made, once a step
            codes = model.code(model.encoder(x), generator)
            x_hat = model.decoder(codes.z)
            errors = torch.stack([self.modality.reconstruction(x, draw) for draw in x_hat.split(len(x))])  # (K, B)
            values = [errors, self._latent(errors, self.latent(codes, generator))]
            for regularizer, _ in self.penalties.values():
                values.append(regularizer.penalty(model.decoder, codes.z, x_hat, generator))
        means = [value.float().mean() for value in values]
        # Added term by term, so that one of weight 0 cannot poison the loss with 0 * inf.
        loss = torch.stack([w * mean for w, mean in zip(self.weights.values(), means, strict=True) if w]).sum()
        return torch.stack([loss, *means])

    def _latent(self, errors: Tensor, latent: Tensor) -> Tensor:
        """What makes mean_k SE_k + beta * latent the soft minimum over K draws: 2 x (K, B) => (B,)."""
        draws = len(errors)
        if draws == 1:
            return latent
        # The mean error is left out, for it is a term of its own.
        exponents = (errors.mean(dim=0) - errors) / self.beta - latent
        return math.log(draws) - exponents.logsumexp(dim=0)
