"""A mixture of normal densities, fitted by expectation maximization."""

import math

from torch import Tensor

from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.em import fit_mixture, in_units
from raectl.densities.standardizer import Standardizer


class GMM(Mixture):
    """p(z) = sum_k w_k N(z; mu_k, Sigma_k), by EM from a k-means start; the mathematics is in `em`.

    References: Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, section 4 (10 components,
    full covariances). Schwarz, "Estimating the Dimension of a Model", Annals of Statistics 6, 1978 (`bic`).

    Arguments:
        components: K.
        covariance: full, tied (one for all components), diag or spherical.
        max_iter: at most this many iterations over all latents.
        tol: converged when an iteration changes the mean log-likelihood per latent by less, in nats.
        reg_covar: added to the variances in units of each dimension's variance over all latents (spherical: of their
            mean), so that rescaling latents rescales the density and nothing else.

    Raises:
        UsageError: an option is out of range.

    Example:
        >>> gmm = GMM(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> gmm.to_arrays()["weights"].round(3).tolist()
        [0.5, 0.5]
    """

    name = "gmm"
    chooses_components = True

    def __init__(
        self,
        *,
        components: int = 10,
        covariance: str = "full",
        max_iter: int = 200,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
    ) -> None:
        super().__init__(components, covariance, max_iter, tol, reg_covar)

    def _fit(self, z: Tensor, seed: int) -> None:
        (n, d), k = z.shape, self.components
        self._check_enough(n)
        standardizer = Standardizer.fit(z)
        # A spherical covariance keeps its meaning only if all dimensions are scaled alike.
        units = standardizer.isotropic() if self.covariance == "spherical" else standardizer
        result = fit_mixture(
            z, units, self._kind, k, seed=seed, max_iter=self.max_iter, tol=self.tol, ridge=self.reg_covar
        )
        self._mixture = in_units(result.state, units, z.dtype)
        parameters = k * d + k - 1 + self._kind.parameters(k, d)
        self.stats = result.stats | {
            "parameters": parameters,
            "bic": parameters * math.log(n) - 2 * n * result.history[-1],
        }
        self.notices = standardizer.notices(n, k * d if self.covariance == "full" else k)
        if not result.converged:
            self.notices.append(f"EM did not converge in {self.max_iter} iterations: raise max_iter, or tol")
