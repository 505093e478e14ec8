"""Rates as shares of each tensor's size, lengths that are kept, and a rate that is held back by a running loss."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from nablatau.methods.heat import (
    COOLING,
    LEAST_SCALE,
    SMOOTHING,
    WARMING,
    Heat,
    length_keeper,
    share_of_peak,
    turning_groups,
    turning_optimizer,
)
from small import small_convolutional, small_network


def scales_of(parameters: list[nn.Parameter]) -> list[float]:
    """The scale of each parameter; each stands in exactly one group."""
    groups = turning_groups(parameters)
    placed = [id(each) for group in groups for each in group["params"]]
    assert sorted(placed) == sorted(map(id, parameters))
    assert len({group["scale"] for group in groups}) == len(groups)
    return [next(g["scale"] for g in groups if any(each is p for p in g["params"])) for each in parameters]


def of_size(size: float, *shape: int) -> nn.Parameter:
    """A parameter of random signs whose root mean square is `size`."""
    return nn.Parameter(size * torch.randn(shape).sign())


def is_rounded(scale: float, size: float) -> bool:
    """Whether a scale is the nearest quarter of an octave."""
    return scale == pytest.approx(2 ** (round(4 * math.log2(size)) / 4)) and 2**-0.126 < scale / size < 2**0.126


@pytest.mark.parametrize("make", [small_network, small_convolutional])
def test_matrices_and_kernels_are_measured_by_their_root_mean_square(make: type[nn.Module]) -> None:
    parameters = list(make(batch_norm=True).parameters())
    for each, scale in zip(parameters, scales_of(parameters), strict=True):
        if each.ndim >= 2:
            assert is_rounded(scale, math.sqrt(sum(v * v for v in each.flatten().tolist()) / each.numel()))


def test_biases_and_normalisation_weights_take_the_median() -> None:
    sizes = [0.02, 0.5, 0.11, 3.0, 0.3]
    matrices = [of_size(size, 4, 3) for size in sizes]
    vectors = [nn.Parameter(torch.zeros(4)), nn.Parameter(torch.ones(4)), of_size(7.0, 4), nn.Parameter(torch.ones(()))]
    found = scales_of([*matrices, *vectors])
    assert [is_rounded(*pair) for pair in zip(found, sizes, strict=False)] == [True] * 5
    assert {float(each) for each in found[5:]} == {found[4]}


def test_without_a_matrix_vectors_are_measured_by_themselves() -> None:
    large, small = scales_of([of_size(2.0, 5), of_size(0.25, 5)])
    assert (large, small) == (2.0, 0.25)


def test_a_tensor_of_zeros_can_move() -> None:
    zeros, other = nn.Parameter(torch.zeros(3, 3)), of_size(1.0, 3, 3)
    assert is_rounded(scales_of([zeros, other])[0], LEAST_SCALE)
    assert is_rounded(scales_of([of_size(1e-9, 3, 3), other])[0], LEAST_SCALE)


def step_with(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One step as the training loop takes it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    optimizer.step()


def gradients(model: nn.Module, seed: int) -> None:
    """A gradient for every parameter, of any size but none of zero."""
    generator = torch.Generator().manual_seed(seed)
    for each in model.parameters():
        each.grad = torch.randn(each.shape, generator=generator, dtype=each.dtype).exp() * (-1) ** seed


def test_the_first_step_moves_each_element_by_the_rate_times_the_scale() -> None:
    model = small_network(dtype=torch.float64)
    before = [each.detach().clone() for each in model.parameters()]
    scales = scales_of(list(model.parameters()))
    gradients(model, 1)
    step_with(turning_optimizer(model, keep_lengths=False), 0.03)
    for old, new, scale in zip(before, model.parameters(), scales, strict=True):
        assert torch.allclose((new - old).detach(), torch.full_like(old, 0.03 * scale), rtol=1e-6, atol=0)


def test_no_weight_decays() -> None:
    model = small_network()
    before = [each.detach().clone() for each in model.parameters()]
    for each in model.parameters():
        each.grad = torch.zeros_like(each)
    step_with(turning_optimizer(model, keep_lengths=False), 0.5)
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_frozen_weights_are_in_no_group() -> None:
    model = small_network()
    model[0].requires_grad_(False)
    groups = turning_optimizer(model, keep_lengths=True).param_groups
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in model[2].parameters()}


@pytest.mark.parametrize("keep", [True, False])
def test_lengths_after_steps_are_those_of_the_original(keep: bool) -> None:
    model = small_convolutional(dtype=torch.float64, batch_norm=True)
    before = [float(each.detach().square().sum().sqrt()) for each in model.parameters()]
    optimizer = turning_optimizer(model, keep_lengths=keep)
    for seed in range(4):
        gradients(model, seed)
        step_with(optimizer, 0.3)
    for old, each in zip(before, model.parameters(), strict=True):
        same = float(each.detach().square().sum().sqrt()) == pytest.approx(old, rel=1e-12)
        assert same == (keep and each.ndim >= 2)


def test_a_tensor_of_zeros_has_no_length_to_keep() -> None:
    zeros, bias, matrix = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2)), of_size(2.0, 2, 2)
    keep = length_keeper([zeros, bias, matrix])
    with torch.no_grad():
        zeros.add_(3.0), bias.mul_(5.0), matrix.mul_(0.5)
    keep()
    assert zeros.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert bias.tolist() == [5.0, 5.0]
    assert matrix.abs().tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert matrix.requires_grad


def test_below_the_level_the_whole_rate_is_taken() -> None:
    heat = Heat(1.0)
    for loss in (0.2, 0.9, 1.0, 0.5):
        heat.see(loss)
        assert heat.share == 1.0


def test_above_the_level_it_falls_and_below_it_recovers() -> None:
    heat, shares = Heat(1.0), []
    for loss in [5.0] * 10 + [0.0] * 60:
        heat.see(loss)
        shares.append(heat.share)
    turned = shares.index(min(shares))
    assert all(b / a == pytest.approx(COOLING) for a, b in pairwise([1.0, *shares[: turned + 1]]))
    assert 10 < turned < 20  # the running loss takes a while to follow
    rising = [each for each in shares[turned:] if each < 1.0]
    assert all(b / a == pytest.approx(WARMING) for a, b in pairwise(rising))
    assert shares[-1] == max(shares[turned:]) <= 1.0


def test_it_recovers_no_further_than_to_the_whole() -> None:
    heat = Heat(1.0)
    for loss in [1.1, *[0.0] * 10]:
        heat.see(loss)
    assert heat.share == 1.0


def test_the_running_loss_is_a_moving_average_that_begins_with_the_first_loss() -> None:
    losses = torch.rand(12, generator=torch.Generator().manual_seed(3)).tolist()
    heat = Heat(0.5)
    for count, loss in enumerate(losses):
        heat.see(loss)
        weights = [(1 - SMOOTHING) ** count] + [SMOOTHING * (1 - SMOOTHING) ** (count - i) for i in range(1, count + 1)]
        naive = sum(weight * each for weight, each in zip(weights, losses, strict=False))
        assert heat.running == pytest.approx(naive)
        assert sum(weights) == pytest.approx(1.0)


def test_it_falls_four_times_as_fast_as_it_recovers() -> None:
    assert -math.log(COOLING) / math.log(WARMING) == pytest.approx(4, rel=0.06)


def test_the_share_of_the_peak() -> None:
    found = [share_of_peak(done, 0.25) for done in (0, 0.125, 0.25, 0.625, 1)]
    assert found == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert share_of_peak(0.5, 0.5) == 1.0
