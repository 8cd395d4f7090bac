"""The second-stage VAE: its loss, its bound against integrals, its samples, and that it is called a bound."""

import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from raectl.densities.linear_start import linear_vae
from raectl.densities.second_stage import SecondStageVAE, _Networks
from raectl.errors import RaectlError, UsageError
from raectl.progress import Progress
from raectl.rng import normals

FAST = {"hidden": 32, "epochs": 40, "lr": 1e-2, "beta": 0.05}


def two_humps(n=800, d=1, seed=0):
    rng = np.random.default_rng(seed)
    return (3 + rng.choice([-2.0, 2.0], (n, 1)) + 0.5 * rng.normal(size=(n, d))).astype(np.float32)


@pytest.fixture(scope="module", params=[None, 3], ids=["normal", "mixture"])
def fitted(request):
    """In one dimension, where everything can be integrated."""
    return SecondStageVAE(components=request.param, **FAST).fit(two_humps(), seed=1)


def log_likelihood(vae, z):
    """log int p(u) N(z; decode(u), scale^2 s^2) du on a grid of codes."""
    u = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    deviation = float(vae.to_arrays()["scale"][0]) * math.sqrt(vae.beta / 2)
    likelihood = Normal(vae.decode(u[:, None]).double()[:, 0], deviation).log_prob(torch.as_tensor(z).double())
    prior = Normal(0.0, 1.0).log_prob(u)
    if vae.components:
        held = {name: torch.from_numpy(vae.to_arrays()[f"gmm.{name}"]) for name in ("weights", "means", "covariances")}
        parts = MultivariateNormal(held["means"], held["covariances"]).log_prob(u[:, None, None])
        prior = torch.logsumexp(held["weights"].log() + parts, dim=1)
    return torch.logsumexp(likelihood + prior, dim=1) + math.log(float(u[1] - u[0]))


def test_log_prob_is_below_the_likelihood_and_near_it(fitted):
    z = two_humps(200, seed=7)
    exact = log_likelihood(fitted, z)
    gap = exact - fitted.log_prob(z)
    assert 0 < float(gap.mean()) < 2.5
    assert float(gap.min()) > -0.1, "four draws are an estimate, but no wild one"
    assert fitted.log_prob_is_bound


def test_the_bound_is_the_loss_with_its_constants():
    """beta (E[SE] / 2 s^2 + KL) = loss, where s^2 = beta d / 2, if the loss is taken with the bound's draws."""
    z = two_humps(50, 3)
    vae = SecondStageVAE(hidden=16, epochs=2).fit(z)
    arrays = vae.to_arrays()
    x = torch.from_numpy((z - arrays["mean"]) / arrays["scale"]).float()
    with torch.no_grad():
        mu, log_sigma = vae._networks.encode(x)
        kl = (0.5 * (mu**2 + log_sigma.exp() ** 2 - 1) - log_sigma).sum(1)
        half = torch.from_numpy(normals(0, 0, 2, 3, "bound")).float()
        half /= half.square().mean(0).sqrt()
        errors = [((x - vae._networks.decoder(mu + log_sigma.exp() * e)) ** 2).mean(1) for e in (*half, *-half)]
    loss = torch.stack(errors).mean(0) + vae.beta * kl
    constant = 1.5 * math.log(2 * math.pi * vae.beta * 1.5) + np.log(arrays["scale"]).sum()
    torch.testing.assert_close(vae.log_prob(z), -loss.double() / vae.beta - constant, rtol=1e-4, atol=1e-3)


def test_the_loss_against_naive_code():
    vae = SecondStageVAE(hidden=5, epochs=1, beta=0.2).fit(two_humps(20, 3))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    loss = float(vae._loss(x, torch.Generator().manual_seed(2)).detach())
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).double().numpy()
    w = {name: array.astype(np.float64) for name, array in vae.to_arrays().items()}

    def hidden(rows, net):
        for layer in (0, 2):
            rows = np.maximum(rows @ w[f"{net}.{layer}.weight"].T + w[f"{net}.{layer}.bias"], 0)
        return rows

    total = 0.0
    for row, e in zip(x.double().numpy(), noise, strict=True):
        h = hidden(row, "encoder")
        mu = w["mean.weight"] @ h + w["mean.bias"]
        sigma = np.exp(5 * np.tanh(w["spread.weight"] @ h + w["spread.bias"]))
        decoded = w["decoder.4.weight"] @ hidden(mu + sigma * e, "decoder") + w["decoder.4.bias"]
        kl = sum((m**2 + s**2 - 1) / 2 - math.log(s) for m, s in zip(mu, sigma, strict=True))
        total += sum((row - decoded) ** 2) / 3 + 0.2 * kl
    assert loss == pytest.approx(total / 4, rel=1e-5)


def test_samples_are_decoded_codes_without_noise(fitted):
    z = fitted.sample(1000, seed=3)
    codes = torch.from_numpy(normals(3, 0, 1000, 1)) if not fitted.components else fitted._prior.sample(1000, 3)
    assert torch.equal(z, fitted.decode(codes))
    data = two_humps()
    assert abs(float(z.mean()) - data.mean()) < 0.3
    assert float(z.std()) == pytest.approx(float(data.std()), rel=0.2)
    assert 0.35 < float((z < 3).float().mean()) < 0.65, "both humps"


@pytest.mark.parametrize("n", [1, 7, 64, 1000])
def test_a_row_depends_on_seed_and_index_alone(fitted, n):
    whole = fitted.sample(1500, seed=5)
    fitted.sample(3, seed=6)
    assert torch.equal(fitted.sample(n, seed=5), whole[:n])
    assert torch.equal(fitted.sample(n, seed=5, start=333), whole[333 : 333 + n])
    z = two_humps(600)
    assert torch.equal(fitted.log_prob(z)[:n], fitted.log_prob(z[:n]))
    assert torch.equal(fitted.encode(z)[:n], fitted.encode(z[:n]))


def test_encoding_and_decoding_give_the_latents_back(fitted):
    z = two_humps(300, seed=4)
    error = fitted.decode(fitted.encode(z)) - torch.from_numpy(z)
    assert float(error.square().mean().sqrt()) < 0.35 * z.std()
    with pytest.raises(RaectlError, match="2 dimensions"):
        fitted.encode(np.zeros((1, 2)))


def test_seeds_decide_the_fit():
    z = two_humps(60, 2)
    first, again, other = (SecondStageVAE(hidden=4, epochs=1).fit(z, seed).to_arrays() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["encoder.0.weight"], other["encoder.0.weight"])


class Recording(Progress):
    def __init__(self):
        self.epochs = []

    def epoch(self, record):
        self.epochs.append(record)


def test_the_best_weights_are_kept_and_progress_is_told():
    progress = Recording()
    vae = SecondStageVAE(hidden=8, epochs=12, lr=0.3).fit(two_humps(200, 2), 0, progress)
    losses = [record["validation"]["loss"] for record in progress.epochs]
    assert [record["epoch"] for record in progress.epochs] == list(range(1, 13))
    assert vae.stats["held_out_loss"] == min(losses) < losses[-1], "this rate is too high to end at the best"
    assert losses.index(min(losses)) + 1 == vae.stats["best_epoch"]
    assert [record["epoch"] for record in progress.epochs if record["best"]][-1] == vae.stats["best_epoch"]


def test_options_are_checked_before_work():
    for wrong in ({"hidden": 0}, {"beta": 0}, {"epochs": 0}, {"batch_size": 0}, {"lr": math.inf}, {"components": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            SecondStageVAE(**wrong)
    least = {"components": 1, "hidden": 1, "beta": 1e-9, "epochs": 1, "batch_size": 1, "lr": 1e-9}
    assert SecondStageVAE(**least).settings == least
    with pytest.raises(RaectlError, match="more than the 5 latents"):
        SecondStageVAE(components=6, epochs=10**6).fit(two_humps(5))
    with pytest.raises(RaectlError, match="diverged"):
        SecondStageVAE(hidden=8, epochs=30, lr=1e30).fit(two_humps(100))


def test_the_defaults_are_the_released_codes():
    released = {"components": None, "hidden": 1024, "beta": 1.5e-3, "epochs": 100, "batch_size": 64, "lr": 1e-4}
    assert SecondStageVAE().settings == released


def test_arrays_of_other_options_are_refused(fitted):
    options = fitted.settings
    for other in ({"hidden": 31}, {"hidden": 10**7}, {"components": 2 if options["components"] else 1}):
        with pytest.raises(RaectlError, match="no vae density"):
            SecondStageVAE.from_arrays(fitted.to_arrays(), **{**options, **other})


def test_the_command_says_at_least(cli, tmp_path):
    np.save(tmp_path / "z.npy", two_humps(100, 2))
    fast = ("--density", "vae,hidden=8,epochs=2")
    result = cli("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy", *fast)
    assert result.out.count("at least") == 2
    assert len(result.lines("epoch ")) == 2
    again = cli("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy", *fast, "--components", 2, "--json").json
    assert (again["density"], again["bound"], again["options"]["components"]) == ("vae-2", True, 2)
    assert json.loads((tmp_path / "d/densities/vae/density.json").read_text())["bound"] is True
    cli("sample", tmp_path / "d", "-n", 3, "--density", "vae", "-o", tmp_path / "new.npy")
    exact = cli("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy", "--density", "gaussian", "--json").json
    assert exact["bound"] is False


@pytest.mark.parametrize("d", [1, 2, 6])
@pytest.mark.parametrize("seed", range(3))
def test_few_dimensions_are_not_folded(d, seed):
    """From random weights the bound was -100 to -200 nats for every seed if d = 1, and for half of them if d = 2."""
    z = np.random.default_rng(seed).normal(7, 3, (500, d))
    vae = SecondStageVAE(hidden=128, epochs=10, lr=3e-4).fit(z[:450], seed)
    gaussian = MultivariateNormal(torch.full((d,), 7.0), 9 * torch.eye(d)).log_prob(torch.from_numpy(z[450:]).float())
    assert float(vae.log_prob(z[450:]).mean()) > float(gaussian.mean()) - 2.0 * d
    assert np.allclose(vae.sample(2000).std(dim=0), z[:450].std(axis=0), rtol=0.1)
    assert vae.notices == []


def test_the_start_is_the_best_linear_vae():
    """Its bound is the likelihood of probabilistic principal component analysis where components are orthogonal."""
    rng, s2 = np.random.default_rng(0), 0.05
    x = torch.from_numpy(rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)))
    x[:, 2] = x[:, 0] - 2 * x[:, 1] + 0.1 * x[:, 2]
    x -= x.mean(dim=0)
    encode, log_sigma, decode = linear_vae(x, s2)
    model = MultivariateNormal(torch.zeros(3).double(), decode @ decode.T + s2 * torch.eye(3))
    mu, variance = x @ encode.T, (2 * log_sigma).exp()
    error = (x - mu @ decode.T).square().sum(dim=1) + (decode.square() @ variance).sum()
    kl = 0.5 * (mu.square() + variance - 1 - variance.log()).sum(dim=1)
    bound = -0.5 * error / s2 - 1.5 * math.log(2 * math.pi * s2) - kl
    torch.testing.assert_close(bound, model.log_prob(x))
    for other in decode + 0.1 * torch.from_numpy(rng.normal(size=(20, 3, 3))):
        worse = MultivariateNormal(torch.zeros(3).double(), other @ other.T + s2 * torch.eye(3))
        assert float(worse.log_prob(x).mean()) < float(model.log_prob(x).mean())
    networks = _Networks(3, 64)
    networks.start_linear(x, s2, 0)
    mean, spread = networks.encode(x.float())
    assert float((mean.detach() - mu).square().mean()) < 0.01
    torch.testing.assert_close(spread.detach().double(), log_sigma.expand(400, 3))
