"""A Gaussian mixture, fitted by expectation maximization."""

from torch import Tensor

from raectl.densities.mixtures.base import COVARIANCE, SHRINKAGE, STARTS, Mixture
from raectl.densities.mixtures.em import in_units
from raectl.densities.mixtures.start import fit_mixture


class GMM(Mixture):
    """p(z) = sum_k w_k N(z; mu_k, Sigma_k), by EM; see the modules `em` and `start`.

    References: Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, section 4 (10 components,
    full covariances). Schwarz, "Estimating the Dimension of a Model", Annals of Statistics 6, 1978 (`bic`).

    With few latents, covariances are shrunk towards the pooled one by `shrinkage` nu, as if each component had nu more
    latents, of that covariance: Sigma_k = (n_k S_k + nu P) / (n_k + nu), P = sum_k n_k S_k / N.

    `reg_covar` is the share of each dimension's variance that is added to the variances of each component (spherical:
    that share of their mean). EM iterations on subsets of the latents, before those on all, do not count.

    Example:
        >>> gmm = GMM(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> gmm.to_arrays()["weights"].round(3).tolist()
        [0.5, 0.5]
    """

    name = "gmm"
    chooses_components = True
    covariance = COVARIANCE
    starts, shrinkage = STARTS, SHRINKAGE

    def _fit(self, z: Tensor, seed: int) -> None:
        n, d = z.shape
        units = self._standardizer(z)
        result = fit_mixture(
            z, units, self._kind, self.components, seed=seed, max_iter=self.max_iter, tol=self.tol,
            ridge=self.reg_covar, starts=self.starts, shrinkage=self.shrinkage,
        )  # fmt: skip
        self.parameters = in_units(result.state, units, z.dtype)
        self.notices = units.notices(n, self._directions(d), self._remedy())
        self._report(result, n, d)


class CompleteGMM(GMM):
    """A mixture over all dimensions, also where some are constant or duplicated: a part of other densities."""

    finds_dependencies = False
