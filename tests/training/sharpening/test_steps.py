"""Steps of the second phase: what moves and what does not, the gradient at the images, the guards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raectl
from raectl.checkpoint.sharpened import PLAIN
from raectl.extractors.edges import Edges
from raectl.metrics.reference import Reference
from raectl.metrics.sharpness import sharpness
from raectl.model.weights import module_arrays
from raectl.training.sharpening import loop as loops
from raectl.training.sharpening.adversarial import pairing
from raectl.training.sharpening.guards import HeldOut, Look, adapt, end
from raectl.training.sharpening.loop import SharpeningLoop
from raectl.training.sharpening.options import Options


@pytest.fixture
def loop(original: Any) -> SharpeningLoop:
    return begun(original.path)


def begun(path: Path, steps: int = 40, **options: Any) -> SharpeningLoop:
    checkpoint = raectl.load(path, "cpu", PLAIN)
    loop = SharpeningLoop(checkpoint, checkpoint.open_data(), Options(steps=steps, **options))
    loop.begin()
    return loop


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_the_critic_learns_alone_first(loop: SharpeningLoop) -> None:
    assert loop.warmup == 10
    before, critic = module_arrays(loop.decoder), module_arrays(loop.critic)
    for _ in range(loop.warmup):
        loop.step()
    assert same(module_arrays(loop.decoder), before)
    assert not same(module_arrays(loop.critic), critic)
    loop.step()
    after = module_arrays(loop.decoder)
    kernels = [name for name, value in before.items() if value.ndim > 1]
    assert kernels and all(not np.array_equal(after[name], before[name]) for name in kernels)


def test_batch_norm_keeps_its_statistics(loop: SharpeningLoop) -> None:
    statistics = {n: v.copy() for n, v in module_arrays(loop.decoder).items() if "running" in n or "tracked" in n}
    for _ in range(loop.warmup + 5):
        loop.step()
    assert statistics
    assert same(statistics, module_arrays(loop.decoder))


def test_the_share_of_the_critic_rises_over_a_tenth_of_the_steps(loop: SharpeningLoop) -> None:
    shares = []
    for step in range(loop.options.steps):
        loop.position.step = step
        shares.append(loop._share())
    assert shares[:10] == [0.0] * 10
    assert shares[10:15] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_every_image_is_seen_once_before_one_is_seen_again(loop: SharpeningLoop) -> None:
    n, size = len(loop.rows), loop.batch_size
    assert size % 2 == 0
    seen = []
    for step in range(3 * n // size):
        loop.position.step = step
        seen += loop._chosen().tolist()
    for turn in range(2):
        assert sorted(seen[turn * n : (turn + 1) * n]) == list(range(n))


def test_samples_are_not_those_that_a_user_draws(loop: SharpeningLoop) -> None:
    drawn = loop.mixture.sample(8, loop.options.seed)
    trained_on = loop.mixture.sample(8, loop.latent_seed)
    looked_at = loop.mixture.sample(8, loop.look_seed)
    assert not torch.equal(drawn, trained_on)
    assert not torch.equal(looked_at, trained_on)


def test_the_gradient_at_the_images(loop: SharpeningLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """g = 2 (x_hat - x) of reconstructions + w u r d/dx_hat sum softplus(C(x) - C(x_hat)), over the batch's size."""
    loop.position.step = loop.warmup + 1  # u = 1/2
    loop.augments = False
    generator = torch.Generator().manual_seed(0)
    z, x = loop._latents(loop._chosen(), generator), loop._images(loop._chosen())
    half = len(x) // 2
    x_hat = loop.decoder(z)
    fake = x_hat.detach().requires_grad_()
    (slope,) = torch.autograd.grad(pairing(loop.critic(fake), loop.critic(x)).sum(), fake)
    error = x_hat.detach() - x
    ratio = (2 * error[:half]).norm() / slope[:half].norm()
    expected = 0.5 * 0.5 * ratio * slope
    expected[:half] += 2 * error[:half]
    found = []
    x_hat.register_hook(found.append)
    loop._move_decoder(x_hat, error, slope, loop._share())
    assert torch.allclose(found[0] * len(x), expected, rtol=1e-5, atol=1e-7)
    balance = (expected[:half] - 2 * error[:half]).norm() / (2 * error[:half]).norm()
    assert float(balance) == pytest.approx(0.25, rel=1e-4), "w u of the squared error's gradient"


def test_the_average_forgets_the_plain_decoder(loop: SharpeningLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decay is min(.995, (1 + t) / (10 + t)): after the first step a tenth is the plain decoder's."""
    for _ in range(loop.warmup):
        loop.step()
    before = {name: value.clone() for name, value in loop.average.items()}
    loop.step()
    for name, value in loop.decoder.named_parameters():
        assert torch.allclose(loop.average[name], 0.1 * before[name] + 0.9 * value.detach(), atol=1e-6)


def test_few_images_are_augmented_for_the_critic_only(loop: SharpeningLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop.augments
    shown = []
    usual = loops.augmented
    monkeypatch.setattr(loops, "augmented", lambda images, g: shown.append(len(images)) or usual(images, g))
    loop.step()
    assert shown == [2]
    monkeypatch.setattr(loops, "_FEW_IMAGES", 1)
    other = SharpeningLoop(loop.checkpoint, loop.dataset, loop.options)
    assert not other.augments


# -- guards ----------------------------------------------------------------------------------------------------------

GOOD = Look(error=0.01, sharpness=1.0, copied=0.5, copied_se=0.02)


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (GOOD, None),
        (Look(0.0199, 1.0, 0.5, 0.02), None),
        (Look(0.0201, 1.0, 0.5, 0.02), "more than twice"),
        (Look(0.01, 1.0, 0.57, 0.02), None),
        (Look(0.01, 1.0, 0.59, 0.02), "copy"),
        (Look(0.01), None),
        (Look(0.03), "more than twice"),
    ],
)
def test_a_guard_ends_the_phase(look: Look, reason: str | None) -> None:
    found = end(look, GOOD)
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_a_decoder_that_copied_before_may_go_on() -> None:
    plain = Look(0.01, 1.0, 0.8, 0.02)
    assert end(Look(0.01, 1.0, 0.87, 0.02), plain) is None
    assert end(Look(0.01, 1.0, 0.89, 0.02), plain) is not None


def test_an_error_that_is_not_finite_is_no_pass() -> None:
    assert end(Look(float("nan"), 1.0, 0.5, 0.02), GOOD) is not None


def test_guards_change_the_weight_and_the_critics_penalty(loop: SharpeningLoop) -> None:
    assert adapt(loop, GOOD, gap=5.9) == []
    assert (loop.position.weight, loop.position.gamma) == (1.0, 1.0)
    (said,) = adapt(loop, Look(0.01, 1.16, 0.5, 0.02), gap=1.0)
    assert "halved" in said
    assert loop.position.weight == 0.5
    (said,) = adapt(loop, GOOD, gap=6.1)
    assert "3 times" in said
    assert loop.position.gamma == 3.0


def test_held_out_images_are_measured_as_evaluate_measures_them(loop: SharpeningLoop) -> None:
    held_out = HeldOut(loop)
    checkpoint = loop.checkpoint
    items = loop.dataset.items[loop.held_out_rows]
    x = checkpoint.modality.to_tensor(torch.from_numpy(np.array(items)))
    error = (checkpoint.decode(checkpoint.encode(np.array(items))) - x).square().mean()
    assert held_out.plain.error == pytest.approx(float(error), rel=1e-4)
    decoded = [checkpoint.modality.to_items(x_hat) for x_hat in checkpoint.decode_blocks(held_out.z_samples)]
    edges = Edges()
    expected = sharpness(Reference(edges(np.array(items))), edges(np.concatenate(decoded)))["sharpness"].value
    assert held_out.plain.sharpness == pytest.approx(expected, rel=1e-4)
    assert held_out.plain.copied is not None
    assert 0 <= held_out.plain.copied <= 1


def test_guards_look_at_held_out_images_from_all_of_the_data(loop: SharpeningLoop) -> None:
    """Folders are sorted by class: the first held-out images are of the first classes."""
    first = np.array(loop.dataset.items[loop.held_out_rows[:3]])
    loop.looked_at = 3
    looked_at = HeldOut(loop).items
    assert len(looked_at) == 3 < len(loop.held_out_rows)
    assert not np.array_equal(looked_at, first)
    assert np.array_equal(looked_at, HeldOut(loop).items)


def test_spectral_norms_hold_in_the_second_phase(original: Any, tmp_path: Path) -> None:
    config = raectl.Config(
        reg="spectral-norm",
        width=2,
        latent_dim=4,
        image_size=16,
        epochs=1,
        batch_size=16,
        device="cpu",
        precision="fp32",
    )
    checkpoint = raectl.train(config, original.data, tmp_path / "ckpt")
    loop = begun(checkpoint.directory.path, 20)
    vectors = {name: v.copy() for name, v in module_arrays(loop.decoder).items() if name.endswith("._u")}
    for _ in range(20):
        loop.step()
    assert not same(vectors, module_arrays(loop.decoder)), "one power iteration a step goes on"
    decoder = loop.averaged()
    assert not decoder.training
    for layer in decoder.modules():
        if torch.nn.utils.parametrize.is_parametrized(layer) and isinstance(layer, torch.nn.Linear):
            assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1.0, abs=1e-3)
