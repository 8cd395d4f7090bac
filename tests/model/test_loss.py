"""The objective against its parts, computed separately, and against the released code's form of it."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parametrize

from raectl import registry
from raectl.config import Config
from raectl.data import open_dataset
from raectl.modalities.base import modality_of
from raectl.model.build import build, build_loss
from raectl.model.codes import Codes, ConstantGaussian, Deterministic, Gaussian
from raectl.model.latent_terms import half_squared_norm, kl, log_ratio, mmd, nothing
from raectl.model.loss import Loss
from raectl.model.regularizers import Regularizer
from raectl.model.regularizers.code_noise import CodeNoise
from raectl.model.resolve import resolve

MODELS = registry.names("model")
REGULARIZERS = registry.names("regularizer")
PAIRS = [
    *[{name: {}} for name in REGULARIZERS],
    *[{a: {}, b: {}} for a, b in itertools.combinations([n for n in REGULARIZERS if n != "none"], 2)],
]
SHAPE = (1, 8, 8)


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6) -> Tensor:
    return torch.rand((n, *SHAPE), generator=generator(0))


def parts(model: str, reg: dict, **options):
    """A model, its objective, and the configuration; equal at every call, so that two can be compared."""
    config = Config(model=model, reg=reg, arch="conv32", width=2, latent_dim=3, device="cpu", **options)
    config = resolve(config, open_dataset(np.zeros((4, 8, 8), np.uint8)))
    autoencoder, penalties = build(config, SHAPE)
    return autoencoder, build_loss(config, modality_of("images"), penalties), config


def separately(model, objective: Loss, x: Tensor) -> tuple[list[Tensor], list[float]]:
    """Every term, a value an item, by its definition, and the weights."""
    noise = generator()
    with parametrize.cached():
        codes = model.code(model.encoder(x), noise)
        z = codes.z
        for regularizer, _ in model._regularized:
            if isinstance(regularizer, CodeNoise):
                draws = torch.randn(z.shape, generator=noise)
                z = z + regularizer.weight * codes.z.detach().std(dim=0, correction=0) * draws
        x_hat = model.decoder(z)
        errors = ((x - x_hat.unflatten(0, (-1, len(x)))) ** 2).flatten(2).sum(2)  # (K, B)
        latent = objective.latent(codes, noise)
        if len(errors) > 1:
            weights = (-errors.double() / objective.beta - latent).exp()
            latent = (-objective.beta * weights.mean(0).log() - errors.mean(0)).float() / objective.beta
        values = [errors, latent]
        for name, (regularizer, _) in objective.penalties.items():
            if name == "tikhonov":
                squares = [
                    layer.weight.square().sum()
                    for layer in model.decoder
                    if isinstance(layer, nn.Linear | nn.ConvTranspose2d)
                ]
                values.append(sum(squares).expand(len(x)))
            else:
                values.append(regularizer.penalty(model.decoder, z, x_hat, noise))
    return values, [1.0, objective.beta, *[lam for _, lam in objective.penalties.values()]]


# -- codes and latent terms -------------------------------------------------------------------------------------------


def test_kl_is_the_divergence_of_two_normals():
    mu, log_sigma = 2 * torch.randn(7, 4, generator=generator()), 2 * torch.randn(7, 4, generator=generator(1))
    codes = Codes(torch.full_like(mu, torch.nan), mu, log_sigma)  # the draw has no part in it
    expected = kl_divergence(Normal(mu, log_sigma.exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl(codes), expected)
    with pytest.raises(ValueError, match="standard deviation"):
        kl(Codes(mu, mu))


def test_log_ratio_is_that_of_two_normals():
    code = Gaussian(5, 4, samples=3)
    codes = code(torch.randn(7, 5, generator=generator()), generator(1))
    z = codes.z.reshape(3, 7, 4)
    expected = Normal(codes.mu, codes.log_sigma.exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    torch.testing.assert_close(log_ratio(codes), expected.sum(2), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="standard deviation"):
        log_ratio(Codes(codes.mu, codes.mu))


def test_half_squared_norm_and_nothing():
    z = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert half_squared_norm(Codes(z, torch.full_like(z, torch.nan))).tolist() == [12.5, 0.5]
    assert nothing(Codes(z, z)).tolist() == [0, 0]


def test_deterministic_code_is_its_mean():
    code = Deterministic(5, 3)
    features = torch.randn(4, 5, generator=generator())
    codes = code(features, generator())
    assert torch.equal(codes.z, code.mean(features)) and torch.equal(codes.z, codes.mu) and codes.log_sigma is None
    torch.testing.assert_close(codes.z, features @ code.mu.weight.T + code.mu.bias)


def test_gaussian_code_bounds_log_sigma():
    code = Gaussian(5, 3)
    features = torch.randn(50, 5, generator=generator())
    raw = code.log_sigma(features)
    torch.testing.assert_close(code(features, generator()).log_sigma, 5 * raw.tanh())
    extreme = code(1e6 * features, generator()).log_sigma
    assert extreme.abs().max() == 5 and (extreme > 4).any() and (extreme < -4).any()


def test_gaussian_code_draws_from_its_generator_only():
    code = Gaussian(5, 3)
    features = torch.randn(6, 5, generator=generator())
    before = torch.random.get_rng_state()
    one, other = code(features, generator(1)), code(features, generator(1))
    assert torch.equal(one.z, other.z) and torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(one.z, code(features, generator(2)).z)
    assert torch.equal(code.mean(features), one.mu) and not torch.equal(one.z, one.mu)


def test_gaussian_code_has_the_moments_it_says():
    code = Gaussian(2, 2)
    codes = code(torch.ones(20_000, 2), generator())
    sigma = codes.log_sigma[0].exp()
    torch.testing.assert_close(codes.z.mean(0), codes.mu[0], rtol=0, atol=4 * sigma.max().item() / 20_000**0.5)
    torch.testing.assert_close(codes.z.std(0), sigma, rtol=0.03, atol=0)


def test_constant_gaussian_code_has_the_one_sigma():
    code = ConstantGaussian(2, 2, 0.4)
    codes = code(torch.ones(20_000, 2), generator())
    assert codes.log_sigma.exp().allclose(torch.tensor(0.4))
    torch.testing.assert_close(codes.z.std(0), torch.full((2,), 0.4), rtol=0.03, atol=0)
    torch.testing.assert_close(codes.z.mean(0), codes.mu[0], rtol=0, atol=4 * 0.4 / 20_000**0.5)


@pytest.mark.parametrize(("n", "d"), [(2, 1), (7, 3), (20, 16)])
def test_mmd_is_the_double_loop(n, d):
    z, draws = torch.randn(n, d, generator=generator(3)) + 0.5, torch.randn(n, d, generator=generator())

    def kernel(a, b):
        squared = float(((a - b) ** 2).sum())
        return sum(2 * d * s / (2 * d * s + squared) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    apart = [(i, j) for i in range(n) for j in range(n) if i != j]
    expected = sum(kernel(z[i], z[j]) + kernel(draws[i], draws[j]) for i, j in apart) / (n * (n - 1))
    expected -= 2 * sum(kernel(a, b) for a in z for b in draws) / n**2
    found = mmd(Codes(z, z), generator())
    assert found.shape == (n,) and (found == found[0]).all()
    assert float(found[0]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.5), (1e-3, 100.0), (0.0, 1.0)])
def test_mmd_and_its_gradient_are_exact_where_codes_are_far_from_0_and_near_each_other(scale, shift):
    def by_differences(z, draws):
        def kernel(a, b):
            squared = (a[:, None] - b[None]).square().sum(dim=2)
            return sum(2 * 16 * s / (2 * 16 * s + squared) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

        within = [(k.sum() - k.diagonal().sum()) / (50 * 49) for k in (kernel(z, z), kernel(draws, draws))]
        return sum(within) - 2 * kernel(z, draws).mean()

    z = (scale * torch.randn(50, 16, generator=generator(3)) + shift).requires_grad_()
    draws = torch.randn(50, 16, generator=generator())
    found, expected = mmd(Codes(z, z), generator())[0], by_differences(z, draws)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    ours, theirs = (torch.autograd.grad(value, z)[0] for value in (found, expected))
    assert ours.isfinite().all() and (ours - theirs).abs().max() < 1e-6


def test_mmd_of_a_large_batch_keeps_no_differences():
    kept = []

    def keep(tensor):
        kept.append(tensor.nelement())
        return tensor

    z = torch.randn(200, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        mmd(Codes(z, z), generator())[0].backward()
    assert max(kept) <= 7 * 200**2  # seven scales; the differences would be 64 times (B, B)


def test_mmd_is_unbiased_and_sees_a_shift():
    def values(shift):
        codes = (torch.randn(20, 4, generator=generator(1000 + i)) + shift for i in range(200))
        return torch.stack([mmd(Codes(z, z), generator(i))[0] for i, z in enumerate(codes)])

    same, apart = values(0.0), values(1.0)
    error = float(same.std() / 200**0.5)
    assert abs(float(same.mean())) < 4 * error and (same < 0).any()
    assert float(apart.mean()) > 20 * error
    assert mmd(Codes(torch.ones(1, 4), torch.ones(1, 4)), generator()).tolist() == [0]


# -- the sum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reg", PAIRS, ids="+".join)
@pytest.mark.parametrize("model", MODELS)
def test_loss_is_the_weighted_sum_of_its_terms(model, reg):
    x = images()
    ours, objective, _ = parts(model, reg)
    theirs, same, _ = parts(model, reg)
    terms = objective(ours, x, generator())
    values, weights = separately(theirs, same, x)
    means = [value.mean() for value in values]
    expected = torch.stack([sum(w * mean for w, mean in zip(weights, means, strict=True)), *means])
    torch.testing.assert_close(terms, expected)
    assert terms.shape == (len(objective.terms),) and terms.dtype == torch.float32
    penalized = [name for name in reg if name in ("tikhonov", "gradient-penalty")]
    assert objective.terms == ("loss", "reconstruction", "latent", *penalized)

    parameters = [*zip(ours.parameters(), theirs.parameters(), strict=True)]
    got = torch.autograd.grad(terms[0], [p for p, _ in parameters], allow_unused=True)
    total = [torch.zeros_like(q) for _, q in parameters]
    for weight, mean in zip(weights, means, strict=True):
        if mean.requires_grad:
            gradients = torch.autograd.grad(mean, [q for _, q in parameters], allow_unused=True, retain_graph=True)
            for into, gradient in zip(total, gradients, strict=True):
                into.add_(0 if gradient is None else weight * gradient)
    scale = max(gradient.abs().max() for gradient in total)
    for gradient, expected in zip(got, total, strict=True):
        found = torch.zeros_like(expected) if gradient is None else gradient
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale.item())


@pytest.mark.parametrize("name", ["tikhonov", "gradient-penalty"])
@pytest.mark.parametrize("model", MODELS)
def test_a_weight_changes_the_loss_by_its_term(model, name):
    x = images()
    plain = parts(model, {})[1](parts(model, {})[0], x, generator())
    for weight in (0.0, 2.0):
        autoencoder, objective, _ = parts(model, {name: {"weight": weight}})
        terms = objective(autoencoder, x, generator())
        assert terms[3] > 0 and torch.equal(terms[1:3], plain[1:3])
        torch.testing.assert_close(terms[0], plain[0] + weight * terms[3])
        if not weight:
            assert terms[0] == plain[0]


@pytest.mark.parametrize("model", [name for name in MODELS if registry.resolve("model", name).latent != log_ratio])
def test_beta_weighs_the_latent_term(model):
    x = images()
    terms = {}
    for beta in (0.0, 3.0):
        autoencoder, objective, _ = parts(model, {}, beta=beta)
        terms[beta] = objective(autoencoder, x, generator())
    assert torch.equal(terms[0.0][1:], terms[3.0][1:])
    torch.testing.assert_close(terms[0.0][0], terms[0.0][1])
    torch.testing.assert_close(terms[3.0][0], terms[3.0][1] + 3 * terms[3.0][2])


def test_a_term_of_weight_zero_cannot_poison_the_loss():
    class Infinite(Regularizer):
        @staticmethod
        def default_weight(data_dim, latent_dim):
            return 0.0

        def penalty(self, decoder, z, x_hat, generator=None):
            return torch.full((len(z),), torch.inf)

    autoencoder, objective, _ = parts("rae", {})
    poisoned = Loss(objective.reconstruction, objective.latent, objective.beta, {"infinite": (Infinite(), 0.0)})
    terms = poisoned(autoencoder, images())
    assert terms[3] == torch.inf and torch.isfinite(terms[0])


@pytest.mark.parametrize("model", MODELS)
def test_noise_is_the_generators(model):
    autoencoder, objective, _ = parts(model, {"gradient-penalty": {}})
    autoencoder.eval()
    x, before = images(), torch.random.get_rng_state()
    one, same, other = (objective(autoencoder, x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


# -- the released code's form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("reg", ["none", "tikhonov", "gradient-penalty"])
def test_sums_are_the_released_means_times_the_number_of_values(reg, channels):
    """Released: mean (x - x_hat)^2 + beta mean z^2 + lam penalty; so beta = 2 D/d beta_code and lam = D lam_code."""
    shape, d, beta_code, lam_code = (channels, 8, 8), 3, 0.02, 1e-3
    data_dim = channels * 64
    given = {} if reg == "none" else {reg: {"weight": lam_code * data_dim}}
    config = Config(reg=given, beta=beta_code * 2 * data_dim / d, latent_dim=d, width=2, device="cpu")
    config = resolve(config, open_dataset(np.zeros((4, 8, 8, channels), np.uint8)))
    model, penalties = build(config, shape)
    x = torch.rand((6, *shape), generator=generator(0))
    model.eval()
    terms = build_loss(config, modality_of("images"), penalties)(model, x, generator())
    z = model.encode(x)
    penalty = terms[3] if given else 0.0
    released = ((x - model.decode(z)) ** 2).mean() + beta_code * (z**2).mean() + lam_code * penalty
    torch.testing.assert_close(terms[0] / data_dim, released)


def test_vae_of_the_released_code():
    """Released: sum over H, W of mean over C of (x - x_hat)^2 + w KL; so beta = C w."""
    weight, shape = 0.024, (3, 8, 8)
    config = Config(model="vae", beta=3 * weight, latent_dim=3, width=2, device="cpu")
    config = resolve(config, open_dataset(np.zeros((4, 8, 8, 3), np.uint8)))
    model, penalties = build(config, shape)
    x = torch.rand((6, *shape), generator=generator(0))
    model.eval()
    terms = build_loss(config, modality_of("images"), penalties)(model, x, generator())
    codes = model.code(model.encoder(x), generator())
    error = ((x - model.decode(codes.z)) ** 2).mean(dim=1).sum(dim=(1, 2))
    divergence = kl_divergence(Normal(codes.mu, codes.log_sigma.exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(terms[0] / 3, (error + weight * divergence).mean())


@pytest.mark.parametrize(
    ("model", "expected"),
    [("rae", 2e-4 * 3072 / 64), ("ae", 0.0), ("vae", 0.3), ("cv-vae", 0.03), ("wae", 0.03 * 3072), ("iwae", 0.3)],
)
def test_default_beta(model, expected):
    assert registry.resolve("model", model).beta(3072, 64) == pytest.approx(expected)
