"""A Bayesian Gaussian mixture: a Dirichlet process prior leaves superfluous components empty."""

import warnings

from torch import Tensor

from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.errors import RaectlError


class BayesianGMM(Mixture):
    """p(z) = sum_k E[w_k] N(z; E[mu_k], E[Sigma_k]), expectations under a variational posterior.

    The prior of the weights is a Dirichlet process of concentration 1 / K. Fitted by scikit-learn's
    `BayesianGaussianMixture` with its default priors otherwise; GMM_Dirichlet in the paper's code.

    Reference: Blei, Jordan, "Variational Inference for Dirichlet Process Mixtures", Bayesian Analysis 1, 2006.

    Arguments:
        components: K, an upper bound on the components in use.
        covariance: full, tied, diag or spherical.
        max_iter: at most this many iterations.
        tol: converged when an iteration raises the variational bound per latent by less, in nats.
        reg_covar: added to the variances, in the latents' units squared.

    Example:
        >>> density = BayesianGMM(components=2).fit([[0.0], [0.1], [5.0], [5.1]])
        >>> density.to_arrays()["means"].shape
        (2, 1)
    """

    name = "bayesian-gmm"

    def __init__(
        self,
        *,
        components: int = 10,
        covariance: str = "full",
        max_iter: int = 500,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
    ) -> None:
        super().__init__(components=components, covariance=covariance, max_iter=max_iter, tol=tol, reg_covar=reg_covar)

    def _fit(self, z: Tensor, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import BayesianGaussianMixture
        from threadpoolctl import threadpool_limits

        self._check_enough(len(z))
        if len(z) == 1:
            raise RaectlError("a Bayesian mixture needs two latents at least", "--density gmm --components 1")
        fitted = BayesianGaussianMixture(
            n_components=self.components,
            covariance_type=self.covariance,
            max_iter=self.max_iter,
            tol=self.tol,
            reg_covar=self.reg_covar,
            weight_concentration_prior=1 / self.components,
            random_state=seed & 0xFFFFFFFF,  # NumPy's legacy generator takes 32 bits
        )
        # One thread: k-means adds the partial sums of its threads in the order in which they finish.
        with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
            warnings.simplefilter("ignore", ConvergenceWarning)  # a notice says so, below
            fitted.fit(z.double().numpy())
        self._mixture = MixtureParameters.from_arrays(self._kind, fitted.weights_, fitted.means_, fitted.covariances_)
        self.stats = {
            "iterations": int(fitted.n_iter_),
            "converged": bool(fitted.converged_),
            "log_likelihood": float(self._mixture.log_prob(z.double()).mean()),
            "components_in_use": int((fitted.weights_ > 1 / len(z)).sum()),
        }
        if not fitted.converged_:
            self.notices.append(f"the bound did not converge in {self.max_iter} iterations: raise max_iter, or tol")
