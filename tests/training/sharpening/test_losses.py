"""The critic, its losses and the decoder's gradient, against closed forms and automatic differentiation."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raectl.training.sharpening.adversarial import DIFFERENCE, mean, pairing, squared_gradient
from raectl.training.sharpening.critic import Critic, augmented


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """C(x) = w . (2 x - 1), at one place of one head: its gradient by images in [-1, 1] is w."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, x: Tensor) -> list[Tensor]:
        return [(2 * x - 1).flatten(1) @ self.weights[:, None]]


# -- the losses ------------------------------------------------------------------------------------------------------


def test_scores_are_averaged_over_places_then_over_heads() -> None:
    heads = [torch.tensor([[1.0, 3.0]]), torch.tensor([[10.0]])]
    assert mean(heads).tolist() == [6.0], "not (1 + 3 + 10) / 3: a head of many places has no more weight"


def test_pairing_is_softplus_of_the_difference_at_each_place() -> None:
    rng = np.random.default_rng(0)
    real, fake = ([rng.normal(size=(4, places)) for places in (9, 1)] for _ in range(2))
    expected = np.mean([np.logaddexp(0, f - r).mean(axis=1) for r, f in zip(real, fake, strict=True)], axis=0)
    found = pairing([torch.from_numpy(r) for r in real], [torch.from_numpy(f) for f in fake])
    assert np.allclose(found.numpy(), expected, rtol=1e-12)


def test_equal_scores_cost_log_2_and_a_lead_costs_less() -> None:
    zero, one = [torch.zeros(1, 3)], [torch.ones(1, 3)]
    assert float(pairing(zero, zero)) == pytest.approx(math.log(2))
    assert float(pairing(one, zero)) < float(pairing(zero, zero)) < float(pairing(zero, one))


def test_the_squared_gradient_of_a_linear_critic_is_its_weights_squared_norm() -> None:
    weights = torch.randn(3 * 5 * 4, generator=generator(1))
    critic, x = Linear(weights), torch.rand(4000, 3, 5, 4, generator=generator(2))
    found = squared_gradient(critic, x, critic(x), generator(3))
    exact = float(weights.square().sum())
    assert found.shape == (4000,)
    error = float(found.std() / math.sqrt(len(found)))
    assert abs(float(found.mean()) - exact) < 4 * error < 0.1 * exact


def test_the_squared_gradient_is_that_of_automatic_differentiation() -> None:
    """Of one head's one place, for small differences: the estimate's mean tends to the gradient's squared norm."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    x = torch.rand(1, 3, 4, 4)
    at = (2 * x - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network(at).sum(), at)
    many = x.expand(20_000, -1, -1, -1)

    def critic(images: Tensor) -> list[Tensor]:
        return [network(2 * images - 1).detach()]

    found = squared_gradient(critic, many, critic(many), generator())
    error = float(found.std() / math.sqrt(len(found)))
    assert abs(float(found.mean()) - float(gradient.square().sum())) < 4 * error + 0.02 * float(gradient.square().sum())


def test_the_squared_gradient_is_in_float32_under_autocast() -> None:
    weights = torch.randn(12, generator=generator(1))
    critic, x = Linear(weights), torch.rand(64, 3, 2, 2, generator=generator(2))
    exact = squared_gradient(critic, x, critic(x), generator(3))
    scores = critic(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = squared_gradient(critic, x, scores, generator(3))
    assert torch.equal(found, exact)
    assert DIFFERENCE > 0


def test_a_step_along_the_derivative_raises_what_the_critic_says_of_fakes() -> None:
    torch.manual_seed(0)
    critic = Critic(1, 8, 8, 4)
    real, fake = torch.rand(6, 1, 8, 8), torch.rand(6, 1, 8, 8, requires_grad=True)
    (derivative,) = torch.autograd.grad(pairing(critic(fake), critic(real)).sum(), fake)
    after = mean(critic(fake - derivative / derivative.norm() * 0.1))
    assert bool((after > mean(critic(fake))).all())


# -- the critic ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width"),
    [*((side, side) for side in (8, 9, 12, 28, 32, 33, 64, 100, 128, 512)), (8, 64), (512, 40), (31, 97), (96, 64)],
)
def test_every_size_has_three_heads_and_a_small_last_map(height: int, width: int, channels: int) -> None:
    critic = Critic(channels, height, width, 2)
    heads = critic(torch.rand(2, channels, height, width))
    assert [len(head) for head in heads] == [2, 2, 2]
    assert [head.shape[1] for head in heads] == [(height // 4) * (width // 4), (height // 8) * (width // 8), 1]
    assert 1 <= min(height, width) >> len(critic.layers) <= 4


def test_the_number_of_parameters() -> None:
    assert sum(p.numel() for p in Critic(1, 32, 32, 16).parameters()) == 42_451
    assert len(Critic(3, 64, 64, 16).layers) == 4
    assert [layer.out_channels for layer in Critic(3, 64, 64, 16).layers] == [16, 32, 64, 64]


@pytest.mark.parametrize(("head", "pixels"), [(0, 10), (1, 22)])
def test_heads_see_patches_of_10_and_22_pixels(head: int, pixels: int) -> None:
    critic = Critic(1, 64, 64, 2)
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    places = critic(x)[head].reshape(64 // 4 // (head + 1), -1)
    (gradient,) = torch.autograd.grad(places[3, 3], x)
    rows = gradient[0, 0].abs().sum(dim=1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == pixels


def test_a_score_is_a_function_of_one_image() -> None:
    critic, x = Critic(3, 16, 16, 4), torch.rand(5, 3, 16, 16)
    alone = critic(x[2:3])
    for head, single in zip(critic(x), alone, strict=True):
        assert torch.allclose(head[2:3], single, atol=1e-6)


# -- augmentation ----------------------------------------------------------------------------------------------------


def test_pairs_are_augmented_alike() -> None:
    x = torch.rand(16, 3, 16, 16)
    a, b = augmented((x, 1 - x), generator())
    kept = (a != 0).any(dim=1, keepdim=True)
    assert torch.equal(b * kept, (1 - a) * kept), "the same pixels are seen of both"


def test_augmented_images_are_shifted_by_an_eighth_at_most_and_cut_by_a_half() -> None:
    height, width = 16, 24
    rows = torch.arange(1.0, height + 1)[:, None].expand(height, width)
    columns = torch.arange(1.0, width + 1).expand(height, width)
    (seen,) = augmented([torch.stack([rows, columns]).expand(400, 2, height, width)], generator())
    shifts = {}
    for axis, side in enumerate((height, width)):
        own = torch.arange(1.0, side + 1)
        own = own[:, None] if axis == 0 else own[None]
        moved = (seen[:, axis] - own)[seen[:, axis] != 0]
        shifts[axis] = (int(moved.min()), int(moved.max()))
    assert shifts == {0: (-2, 2), 1: (-3, 3)}
    lost = 1 - (seen[:, 0] != 0).float().mean(dim=(1, 2))
    assert float(lost.max()) <= 0.25 + 0.25, "a quarter is cut out, the rest is shifted away"
    assert 0.2 < float(lost.mean()) < 0.35
    assert bool((lost < 0.15).any()), "some cuts reach beyond the edge"


def test_the_cut_is_as_often_at_one_end_as_at_the_other() -> None:
    seen = augmented([torch.ones(20_000, 1, 16, 16)], generator())[0].mean(dim=(0, 1))
    assert float((seen - seen.flip(0)).abs().max()) < 0.02
    assert float((seen - seen.flip(1)).abs().max()) < 0.02


def test_augmentation_is_differentiable_and_drawn_by_the_generator() -> None:
    x = torch.rand(4, 1, 8, 8, requires_grad=True)
    (a,) = augmented([x], generator(1))
    (b,) = augmented([x], generator(1))
    (c,) = augmented([x], generator(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    (gradient,) = torch.autograd.grad(a.sum(), x)
    assert gradient.sum() == (a != 0).sum(), "every pixel that is seen counts once"
