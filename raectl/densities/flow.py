"""A neural spline flow: an invertible network maps latents to a Gaussian mixture; the density is exact."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import MonotonicRQSTransform

from raectl.config import Option
from raectl.densities.base import Arrays
from raectl.densities.covariance import COVARIANCES
from raectl.densities.latents.checks import chunks
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.choose import choose_components
from raectl.densities.mixtures.gmm import CompleteGMM
from raectl.densities.mixtures.parameters import MixtureParameters
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
from raectl.rng import permutation

_RIDGE = 1e-6  # relative to each dimension's variance
_FULL = COVARIANCES["full"]
_MASK_SEED = 3
_LAST = 4  # index of the last layer of a coupling's network
_PATIENCE, _GAIN, _HALVINGS, _CLIP, _AVERAGE = 5, 2e-4, 1, 1.0, 0.995  # see `Recipe`
_STEPS = 6000


class Flow(NetworkDensity):
    """p(z) = q(f(x)) |det df/dx| |det dx/dz|,  x = L^-1 (z - mean), L L^T the covariance of the latents.

    q is a Gaussian mixture fitted to x. f is a composition of coupling layers: half of the dimensions are unchanged,
    the others pass monotonic rational-quadratic splines whose knots are functions of the unchanged half. The halves
    alternate, and every second coupling draws new ones. Splines are the identity outside [-5, 5] and, at
    initialization, everywhere: training starts at the mixture.

    References: Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows", NeurIPS 2019. Izmailov, Kirichenko,
    Finzi, Wilson, "Semi-Supervised Learning with Normalizing Flows", ICML 2020 (the mixture as base).

    Adam's rate is halved after five epochs that gain less than 0.0002 nats per dimension, and training ends after five
    more. The weights that are kept are exponential moving averages.

    Example:
        >>> flow = Flow(epochs=1).fit([[0.0, 0.0], [0.1, 1.0], [5.0, 0.0], [5.1, 1.0]])
        >>> flow.sample(3).shape
        torch.Size([3, 2])
    """

    name = "flow"

    base: Option[int | None] = Option(
        None, "Gaussians of the mixture q.", low=1, high=1_000_000, shown="chosen by held-out log-likelihood"
    )
    transforms = Option(6, "Coupling layers.", low=1, high=10_000)
    hidden = Option(128, "Units of both hidden layers of each coupling's network.", low=1, high=10_000_000)
    bins = Option(8, "Bins of each spline.", low=2, high=10_000)
    epochs: Option[int | None] = Option(
        None, "Epochs, at most.", low=1, high=1_000_000, shown="as many as make 6,000 steps"
    )
    batch_size = Option(256, "Latents a step.", low=1, high=1_000_000)
    lr = Option(1e-3, "Adam's learning rate.", above=0)

    def _to_arrays(self) -> dict[str, Tensor]:
        base = {f"base.{name}": getattr(self._base, name) for name in ("weights", "means", "covariances")}
        return {"mean": self._mean, "factor": self._factor, **base, **weights(self._couplings)}

    def _build(self, d: int, seed: int) -> nn.ModuleList:
        """Couplings, initially the identity."""
        with seeded_initialization(seed):
            return nn.ModuleList(self._coupling(d, index) for index in range(self.transforms))

    def _coupling(self, d: int, index: int) -> nn.Module:
        first = torch.from_numpy(permutation(_MASK_SEED, "coupling halves", d, step=index // 2)) < (d + 1) // 2
        coupling: nn.Module = GeneralCouplingTransform(
            features=d,
            mask=first if index % 2 == 0 else ~first,
            univariate=partial(MonotonicRQSTransform, slope=1e-3),
            shapes=[(self.bins,), (self.bins,), (self.bins - 1,)],
            **({"hidden_features": (self.hidden,) * 2, "activation": nn.SiLU} if d > 1 else {}),
        )
        last: nn.Module = coupling.get_submodule(f"hyper.{_LAST}") if d > 1 else coupling
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        return coupling

    def _numbers(self, d: int) -> int:
        """Number of parameters of the couplings."""
        knots, h, t = 3 * self.bins - 1, self.hidden, self.transforms
        if d == 1:  # splines with fixed knots
            return t * knots
        larger, smaller = (d + 1) // 2, d // 2
        even = (larger + 1) * h + (h + 1) * h + (h + 1) * smaller * knots
        odd = (smaller + 1) * h + (h + 1) * h + (h + 1) * larger * knots
        return (t + 1) // 2 * even + t // 2 * odd

    def _fit(self, z: Tensor, seed: int) -> None:
        n, d = z.shape
        standardizer = Standardizer.fit(z)
        correlation = _RIDGE * torch.eye(d, dtype=torch.float64)
        for part in chunks(z, d):
            x = (part.double() - standardizer.centre) / standardizer.scale
            correlation += x.T @ x / n
        self._mean = standardizer.centre
        self._factor = standardizer.scale[:, None] * torch.linalg.cholesky((correlation + correlation.T) / 2)
        x, held_out = set_aside(torch.cat([self._whiten(part).float() for part in chunks(z, d)]), seed)
        if self.base is None:
            mixture, _ = choose_components(x, held_out, seed, kind=CompleteGMM)
        else:
            mixture = CompleteGMM(components=min(self.base, len(x))).fit(x, seed)
        self._base = mixture.parameters
        self._residuals = _FULL.whitener(self._base.means, self._base.factors, torch.float32)
        self._constants = self._base.log_constants().float()
        self._couplings = self._build(d, seed)
        epochs = self.epochs or -(-_STEPS // max(1, len(x) // self.batch_size))
        recipe = Recipe(epochs, self.batch_size, self.lr, _PATIENCE, _GAIN, _HALVINGS, _CLIP, _AVERAGE)
        self.stats = dict(fit_network(self._couplings, self._loss, x, held_out, recipe, seed, self._progress))
        self.stats |= {"base": len(self._base.weights), "parameters": self._numbers(d)}
        self.notices = standardizer.notices(n, d, "try --density gaussian or more data")
        self._couplings.double()
        self._judge_spread(self._draw(seed, 0, 4 * BLOCK), z, standardizer.scale)

    def _whiten(self, z: Tensor) -> Tensor:
        x: Tensor = torch.linalg.solve_triangular(self._factor, (z.double() - self._mean).T, upper=False).T
        return x

    def _transform(self, x: Tensor) -> Tensor:
        """f(x) and log |det df/dx|, concatenated: (B, d) => (B, d + 1)."""
        log_det = torch.zeros(len(x), dtype=x.dtype)
        for coupling in self._couplings:
            x, terms = coupling().call_and_ladj(x)
            log_det = log_det + terms
        return torch.cat([x, log_det[:, None]], dim=1)

    def _inverse(self, y: Tensor) -> Tensor:
        for coupling in reversed(self._couplings):
            y = coupling().inv(y)
        return y

    def _loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Mean negative log-likelihood of whitened latents, in nats per dimension."""
        y = self._transform(x)
        distances = self._residuals(y[:, :-1]).square().sum(dim=2)
        log_q = torch.logsumexp(self._constants - 0.5 * distances, dim=1)
        loss: Tensor = -(log_q + y[:, -1]).mean() / x.shape[1]
        return loss

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        x = in_blocks(self._inverse, torch.from_numpy(self._base.draw(seed, start, n)))
        z: np.ndarray = (x @ self._factor.T + self._mean).numpy()
        return z

    def _log_prob(self, z: Tensor) -> Tensor:
        log_prob: Tensor = in_blocks(self._log_prob_block, z) - self._factor.diagonal().log().sum()
        return log_prob

    def _log_prob_block(self, z: Tensor) -> Tensor:
        y = self._transform(self._whiten(z))
        log_prob: Tensor = self._base.log_prob(y[:, :-1]) + y[:, -1]
        return log_prob

    def _adopt(self, arrays: Arrays) -> int:
        self._mean = arrays.take("mean", (None,))
        d = len(self._mean)
        self._factor = arrays.take("factor", (d, d))
        if not (self._factor.diagonal() > 0).all() or bool(self._factor.triu(1).any()):
            arrays.refuse("the factor is not lower triangular with a positive diagonal")
        base = arrays.take("base.weights", (None,))
        k = len(base)
        means, covariances = arrays.take("base.means", (k, d)), arrays.take("base.covariances", (k, d, d))
        self._base = MixtureParameters.adopt(arrays, _FULL, base, means, covariances)
        if arrays.numbers != self._numbers(d):  # options may ask for huge networks: check before they are built
            arrays.refuse("weights are missing or too many")
        self._couplings = self._build(d, 0)
        adopt_weights(arrays, self._couplings)
        self._couplings.double()
        return d
