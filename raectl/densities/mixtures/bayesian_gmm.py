"""A Bayesian Gaussian mixture: a Dirichlet process prior leaves superfluous components empty."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl.config import Option
from raectl.densities.latents.oddities import find_far
from raectl.densities.mixtures.base import COVARIANCE, Mixture
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.errors import RaectlError


class BayesianGMM(Mixture):
    """p(z) = sum_k E[w_k] N(z; E[mu_k], E[Sigma_k]), expectations under a variational posterior.

    The prior of the weights is a Dirichlet process of concentration 1 / K. Fitted by scikit-learn's
    `BayesianGaussianMixture` with its default priors otherwise, which are those of the latents that are not far from
    the others; GMM_Dirichlet in the paper's code.

    Reference: Blei, Jordan, "Variational Inference for Dirichlet Process Mixtures", Bayesian Analysis 1, 2006.

    `reg_covar` is raised tenfold as often as a covariance is singular without. `tol` is of the variational bound.

    Example:
        >>> density = BayesianGMM(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> density.to_arrays()["means"].shape
        (2, 1)
    """

    name = "bayesian-gmm"

    components = Option(10, "K, an upper bound on the components in use.", low=1, high=1_000_000)
    max_iter = Option(500, "Iterations, at most.", low=1, high=1_000_000)
    covariance = COVARIANCE

    def _fit(self, z: Tensor, seed: int) -> None:
        units = self._standardizer(z)
        if len(z) == 1:
            raise RaectlError("a Bayesian mixture needs two latents at least", "--density gmm --components 1")
        x = (z.double() - units.centre) / units.scale
        fitted, ridge = self._fit_raising_ridge(x.numpy(), x[~find_far(z)].numpy(), seed)
        means = units.centre + torch.from_numpy(fitted.means_) * units.scale
        covariances = torch.from_numpy(fitted.covariances_).reshape(self._kind.stored_shape(*means.shape))
        covariances = self._kind.rescale(covariances, units.scale)
        self.parameters = MixtureParameters(self._kind, torch.from_numpy(fitted.weights_), means, covariances)
        in_use = int((fitted.weights_ > 1 / len(z)).sum())
        self.stats = {
            "iterations": int(fitted.n_iter_),
            "converged": bool(fitted.converged_),
            "log_likelihood": float(self.parameters.log_prob(z.double()).mean()),
            "components_in_use": in_use,
        }
        directions = in_use * (z.shape[1] if self.covariance == "full" else 1)
        self.notices = units.notices(len(z), directions, self._remedy())
        if ridge > self.reg_covar:
            self.notices.append(
                f"components are singular: reg_covar was raised to {ridge:g}; try fewer --components or --density gmm"
            )
        if not fitted.converged_:
            self.notices.append(f"the bound did not converge in {self.max_iter} iterations: raise max_iter, or tol")

    def _fit_raising_ridge(self, x: np.ndarray, near: np.ndarray, seed: int) -> tuple[Any, float]:
        """Scikit-learn's mixture of standardized latents, and the ridge with which it could be fitted."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import BayesianGaussianMixture
        from threadpoolctl import threadpool_limits

        priors = self._priors(near) if len(near) < len(x) else {}
        ridge = self.reg_covar
        while True:
            mixture = BayesianGaussianMixture(
                n_components=self.components,
                covariance_type=self.covariance,
                max_iter=self.max_iter,
                tol=self.tol,
                reg_covar=ridge,
                weight_concentration_prior=1 / self.components,
                **priors,
                random_state=seed & 0xFFFFFFFF,  # NumPy's legacy generator takes 32 bits
            )
            # One thread: k-means adds the partial sums of its threads in the order in which they finish.
            with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
                warnings.simplefilter("ignore", ConvergenceWarning)  # a notice says so
                try:
                    return mixture.fit(x), ridge
                except ValueError as error:
                    if "ill-defined" not in str(error) or ridge > 1:
                        raise
                    ridge *= 10

    def _priors(self, x: np.ndarray) -> dict[str, Any]:
        """Scikit-learn's default priors of mean and covariance, as it takes them from x: (N, d)."""
        covariance = np.atleast_2d(np.cov(x.T))
        variances = covariance.diagonal().copy()
        of_kind = {"diag": variances, "spherical": float(variances.mean())}
        return {"mean_prior": x.mean(axis=0), "covariance_prior": of_kind.get(self.covariance, covariance)}
