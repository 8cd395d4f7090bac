"""IWAE's bound against what it bounds, where that is known: a linear Gaussian model."""

import itertools
import math

import numpy as np
import pytest
import torch
from support.cli import Cli, assert_clear_error
from support.toy import Vectors
from torch import Tensor, nn
from torch.distributions import Laplace, MultivariateNormal, Normal

import raectl
from raectl.data import open_dataset
from raectl.modalities.base import modality_of
from raectl.model.architectures import Pair
from raectl.model.autoencoder import Autoencoder
from raectl.model.build import build, build_loss
from raectl.model.codes import Gaussian
from raectl.model.latent_terms import kl, log_ratio
from raectl.model.loss import Loss
from raectl.model.reconstructions.absolute import Absolute
from raectl.model.reconstructions.squared import Squared
from raectl.model.resolve import resolve

D, LATENT, BETA = 5, 2, 0.6
BATCHES, COPIES = 200, 20
SQUARED, ABSOLUTE = Squared(Vectors()), Absolute(Vectors(), start=0, length=0)


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def items() -> Tensor:
    return torch.randn(3, D, generator=generator(3))


def linear_gaussian(samples: int) -> Autoencoder:
    """x = W z + b + noise of variance beta / 2; the code lies near the posterior and is not it."""
    decoder, code = nn.Linear(LATENT, D), Gaussian(D, LATENT, samples)
    model = Autoencoder(Pair(nn.Identity(), D, decoder), code, LATENT)
    with torch.no_grad():
        decoder.weight.copy_(0.8 * torch.randn(D, LATENT, generator=generator(1)))
        decoder.bias.copy_(0.3 * torch.randn(D, generator=generator(2)))
        precision = torch.eye(LATENT) + 2 / BETA * decoder.weight.T @ decoder.weight
        code.mu.weight.copy_(0.8 * 2 / BETA * torch.linalg.solve(precision, decoder.weight.T))
        code.mu.bias.copy_(-code.mu.weight @ decoder.bias + 0.1)
        code.log_sigma.weight.zero_()
        code.log_sigma.bias.copy_(torch.atanh(torch.tensor([0.6, 0.4]).log() / 5))
    return model


def objective_of(latent=log_ratio, beta: float = BETA, reconstruction=SQUARED) -> Loss:
    return Loss(reconstruction, latent, beta, {})


def in_nats(loss: Tensor) -> Tensor:
    """Bound on the mean log p(x) that a loss is."""
    return -loss / BETA - D / 2 * math.log(math.pi * BETA)


def bound(samples: int, latent=log_ratio) -> tuple[float, float]:
    """Mean over many draws, and its standard error."""
    model, x = linear_gaussian(samples), items().repeat(COPIES, 1)
    with torch.no_grad():
        losses = [objective_of(latent)(model, x, generator(1000 * samples + i))[0] for i in range(BATCHES)]
    values = in_nats(torch.stack(losses)).double()
    return float(values.mean()), float(values.std()) / BATCHES**0.5


def test_the_bound_lies_between_the_elbo_and_the_likelihood_and_rises_with_k():
    decoder = linear_gaussian(1).decoder
    covariance = decoder.weight @ decoder.weight.T + BETA / 2 * torch.eye(D)
    exact = MultivariateNormal(decoder.bias, covariance).log_prob(items()).mean().item()
    elbo, by_divergence = bound(1), bound(1, kl)
    assert elbo[0] == pytest.approx(by_divergence[0], abs=4 * math.hypot(elbo[1], by_divergence[1]))
    rising = [elbo, bound(2), bound(5), bound(50)]
    for (low, error), (high, other) in itertools.pairwise(rising):
        assert low + 4 * math.hypot(error, other) < high, "the code is not the posterior, so more draws gain clearly"
    last, error = rising[-1]
    assert last < exact + 4 * error
    assert exact - last < 0.1 * (exact - elbo[0])


def test_one_draw_is_the_monte_carlo_elbo_of_the_same_noise():
    model, x = linear_gaussian(1), items()
    terms = objective_of()(model, x, generator())
    codes = model.code(x, generator())
    likelihood = Normal(model.decoder(codes.z), (BETA / 2) ** 0.5).log_prob(x).sum(1)
    prior = Normal(0.0, 1.0).log_prob(codes.z).sum(1)
    q = Normal(codes.mu, codes.log_sigma.exp()).log_prob(codes.z).sum(1)
    torch.testing.assert_close(in_nats(terms[0]), (likelihood + prior - q).mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_with_the_absolute_error_it_is_the_bound_of_a_laplace_likelihood(samples):
    model, x = linear_gaussian(samples), items()
    loss = objective_of(reconstruction=ABSOLUTE)(model, x, generator())[0]
    codes = model.code(x, generator())
    z = codes.z.view(samples, len(x), LATENT)
    likelihood = Laplace(model.decoder(z), BETA).log_prob(x).sum(2)
    log_weights = likelihood + Normal(0.0, 1.0).log_prob(z).sum(2)
    log_weights = log_weights - Normal(codes.mu, codes.log_sigma.exp()).log_prob(z).sum(2)
    bound = (log_weights.logsumexp(0) - math.log(samples)).mean()
    torch.testing.assert_close(-loss / BETA - D * math.log(2 * BETA), bound)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_the_loss_is_the_joint_formula_and_the_sum_of_its_terms(samples):
    model, x = linear_gaussian(samples), items()
    loss, reconstruction, latent = objective_of()(model, x, generator())
    codes = model.code(x, generator())
    total = 0.0
    for b in range(len(x)):
        weights = []
        for z in codes.z.view(samples, len(x), LATENT)[:, b].double():
            squared = (x[b] - model.decoder(z.float())).double().square().sum().item()
            log_p = Normal(0.0, 1.0).log_prob(z).sum().item()
            log_q = Normal(codes.mu[b].double(), codes.log_sigma[b].double().exp()).log_prob(z).sum().item()
            weights.append(math.exp(-squared / BETA + log_p - log_q))
        total -= BETA * math.log(sum(weights) / samples)
    assert loss.item() == pytest.approx(total / len(x), rel=1e-5)
    torch.testing.assert_close(loss, reconstruction + BETA * latent)
    squares = (x - model.decoder(codes.z).view(samples, len(x), D)).square().sum(2)
    torch.testing.assert_close(reconstruction, squares.mean())


def test_the_gradient_weighs_draws_by_their_importance_and_reaches_everything():
    model, x = linear_gaussian(4), items()
    objective_of()(model, x, generator())[0].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    codes = model.code(x, generator())
    squares = (x - model.decoder(codes.z).view(4, len(x), D)).square().sum(2)
    weights = (-squares / BETA - log_ratio(codes)).softmax(0).detach()
    (expected,) = torch.autograd.grad((weights * squares).sum(0).mean(), model.decoder.weight)
    torch.testing.assert_close(model.decoder.weight.grad, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [1e-6, 1e6])
def test_extreme_weights_are_finite(beta):
    model, x = linear_gaussian(6), 100 * items()
    loss, reconstruction, latent = objective_of(beta=beta)(model, x, generator())
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    torch.testing.assert_close(loss, reconstruction + beta * latent)
    codes = model.code(x, generator())
    squares = (x - model.decoder(codes.z).view(6, len(x), D)).square().sum(2)
    if beta < 1:  # the best draw alone counts
        torch.testing.assert_close(loss, squares.amin(0).mean(), rtol=1e-4, atol=0)


# -- the whole way ----------------------------------------------------------------------------------------------------

TINY = {"width": 2, "epochs": 1, "batch_size": 16, "latent_dim": 2, "device": "cpu", "model": "iwae"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("form", ["exact", "released"])
def test_every_regularizer_at_once_on_images(form, precision):
    reg = {"tikhonov": {}, "gradient-penalty": {"form": form}, "spectral-norm": {"encoder": True}}
    config = raectl.Config(**TINY, reg=reg, arch="conv32", importance_samples=3, precision="fp32")
    config = resolve(config, open_dataset(np.zeros((4, 8, 8), np.uint8)))
    model, penalties = build(config, (1, 8, 8))
    objective = build_loss(config, modality_of("images"), penalties)
    x = torch.rand((6, 1, 8, 8), generator=generator(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        terms = objective(model, x, generator())
    terms[0].backward()
    assert objective.terms[3:] == ("tikhonov", "gradient-penalty")
    assert torch.isfinite(terms).all() and (terms[3:] > 0).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    model.converge()
    model.eval()
    with torch.no_grad():
        assert torch.equal(objective(model, x, generator()), objective(model, x, generator()))


def test_the_number_of_draws_is_an_option_of_the_run(cli: Cli, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    config = cli("train", "--dry-run", "--data", tmp_path / "x.npy", "--model", "iwae").json["config"]
    assert (config["importance_samples"], config["beta"]) == (5, 0.3)
    losses = set()
    for samples in (1, 4):
        out = tmp_path / f"{samples}"
        command = ("train", "--data", tmp_path / "x.npy", "--out", out, "--model", "iwae", "--width", 2)
        cli(*command, "--importance-samples", samples, "--epochs", 1, "--device", "cpu")
        checkpoint = raectl.load(out, "cpu")
        assert checkpoint.config.importance_samples == samples
        assert checkpoint.sample(3).shape == (3, 8, 8, 1), "the prior is its density"
        losses.add(checkpoint.directory.read_log()[0]["train"]["loss"])
    assert len(losses) == 2


def test_beta_zero_is_refused_before_data_are_read(cli: Cli, tmp_path):
    for extra in ((), ("--dry-run",)):
        command = ("train", "--data", tmp_path / "none", "--out", tmp_path / "out", "--model", "iwae", "--beta", 0)
        result = cli.run(*command, *extra)
        assert_clear_error(result, 2, "--beta 0 leaves the model iwae no likelihood", "a --beta above 0")
    assert not (tmp_path / "out").exists()
