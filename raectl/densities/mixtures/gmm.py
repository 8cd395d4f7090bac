"""A Gaussian mixture, fitted by expectation maximization."""

from torch import Tensor

from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.em import fit_mixture, in_units


class GMM(Mixture):
    """p(z) = sum_k w_k N(z; mu_k, Sigma_k), by EM from a k-means start; see the module `em`.

    References: Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, section 4 (10 components,
    full covariances). Schwarz, "Estimating the Dimension of a Model", Annals of Statistics 6, 1978 (`bic`).

    Arguments:
        components: K.
        covariance: full, tied (one for all components), diag or spherical.
        max_iter: maximum number of EM iterations over all latents (those on subsets before are not counted).
        tol: EM has converged when an iteration changes the mean log-likelihood per latent by less than this, in nats.
        reg_covar: this share of each dimension's variance over all latents is added to the variances of each component
            (spherical: this share of their mean).

    Raises:
        UsageError: an option is out of range.

    Example:
        >>> gmm = GMM(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> gmm.to_arrays()["weights"].round(3).tolist()
        [0.5, 0.5]
    """

    name = "gmm"
    chooses_components = True

    def _fit(self, z: Tensor, seed: int) -> None:
        n, d = z.shape
        self._check_enough(n)
        standardizer = Standardizer.fit_near(z)
        # Spherical covariances stay spherical only if all dimensions are scaled alike.
        units = standardizer.isotropic() if self.covariance == "spherical" else standardizer
        result = fit_mixture(
            z, units, self._kind, self.components, seed=seed, max_iter=self.max_iter, tol=self.tol, ridge=self.reg_covar
        )
        self._mixture = in_units(result.state, units, z.dtype)
        directions = self.components * (d if self.covariance == "full" else 1)
        self.notices = standardizer.notices(n, directions, self._remedy())
        self._report(result, n, d)


class CompleteGMM(GMM):
    """A mixture over all dimensions, also where some are constant or duplicated: a part of other densities."""

    finds_dependencies = False
