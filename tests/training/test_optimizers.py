"""Optimizers: Muon against its definition and PyTorch's own, and their states, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raectl.registry import names, resolve
from raectl.training.optimizers.muon import Muon, orthogonalized


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 5))


def steps(optimizer: Any, module: nn.Module, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        module.zero_grad()
        module(x).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (16, 16), (1, 9), (9, 1)])
def test_orthogonalized_matrices_have_the_directions_of_the_matrix_and_singular_values_near_one(shape: Any) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalized(matrix)
    inner = u.T @ found @ vt.T  # diagonal where the directions are the same
    strong = s > 1e-2 * s.max()
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-3)
    assert 0.6 < inner.diagonal()[strong].min() <= inner.diagonal()[strong].max() < 1.3


def test_it_is_the_quintic_iteration_in_its_plain_form() -> None:
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    assert torch.allclose(orthogonalized(matrix), x, atol=1e-6)
    assert torch.allclose(orthogonalized(matrix.float()).double(), x, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12, 1e15])
def test_the_gradient_s_scale_does_not_matter_and_zeros_stay_zeros(scale: float) -> None:
    matrix = torch.randn(6, 10, generator=torch.Generator().manual_seed(3))
    usual = orthogonalized(matrix)
    if scale >= 1:
        assert torch.allclose(orthogonalized(scale * matrix), usual, atol=1e-4)
    assert bool(orthogonalized(scale * matrix).isfinite().all())
    assert not orthogonalized(torch.zeros(4, 3)).any()


def test_steps_are_those_of_pytorch_s_muon_but_for_its_rounding() -> None:
    ours, theirs = (nn.Linear(30, 12, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    mine = Muon(nn.Sequential(ours, nn.BatchNorm1d(12)), 1e-3)
    other = torch.optim.Muon(theirs.parameters(), lr=10e-3, weight_decay=0.0, momentum=0.95, nesterov=True)
    for step in range(5):
        gradient = torch.randn(12, 30, generator=torch.Generator().manual_seed(step))
        ours.weight.grad, theirs.weight.grad = gradient.clone(), gradient.clone()
        mine.step()
        other.step()
    moved = (ours.weight - start).norm()
    assert moved > 0.1
    assert (ours.weight - theirs.weight).norm() < 0.03 * moved, "PyTorch's rounds to bfloat16"


@pytest.mark.parametrize("name", names("optimizer"))
def test_a_state_that_is_stored_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    kind = resolve("optimizer", name)
    whole = network()
    optimizer = kind(whole, 1e-3)
    steps(optimizer, whole, 0, 3)
    arrays, weights = optimizer.to_arrays(), {k: v.clone() for k, v in whole.state_dict().items()}
    assert {n: (a.shape, str(a.dtype)) for n, a in arrays.items()} == kind.layout_of(whole, arrays)
    steps(optimizer, whole, 3, 6)
    part = network()
    part.load_state_dict(weights)
    again = kind(part, 1e-3)
    again.load(arrays)
    steps(again, part, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), part.parameters(), strict=True))
    after = again.to_arrays()
    assert all(np.array_equal(after[n], a) for n, a in optimizer.to_arrays().items())


@pytest.mark.parametrize("name", names("optimizer"))
def test_a_rate_of_nothing_moves_nothing(name: str) -> None:
    module = network()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer = resolve("optimizer", name)(module, 1e-3)
    optimizer.set_rate(0.0)
    steps(optimizer, module, 0, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_a_module_without_biases_is_trained() -> None:
    module = nn.Linear(3, 2, bias=False)
    optimizer = Muon(module, 1e-3)
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert bool(module.weight.isfinite().all())
    assert optimizer.to_arrays().keys() == optimizer.layout_of(module, ()).keys()
