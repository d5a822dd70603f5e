"""The two profiles are what the paper and the decision record say, and averages are what a slow formula gives."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from s3d.training.config import TrainingConfig
from s3d.training.optimizers import PROFILES, AveragedWeights, make_optimizer, set_learning_rate

Step = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
RATE = 0.02


def sgd(momentum: float = 0.99, decay: float = 3e-5) -> Step:
    """Nesterov momentum as nnU-Net uses it (method.md section 4), by hand."""
    velocity = np.zeros(())

    def step(weight: np.ndarray, gradient: np.ndarray, number: int) -> np.ndarray:
        nonlocal velocity
        gradient = gradient + decay * weight
        velocity = gradient if number == 1 else momentum * velocity + gradient
        return weight - RATE * (gradient + momentum * velocity)

    return step


def adamw(betas: tuple[float, float] = (0.9, 0.99), decay: float = 1e-2) -> Step:
    """Loshchilov and Hutter 2019, by hand."""
    mean, square = np.zeros(()), np.zeros(())

    def step(weight: np.ndarray, gradient: np.ndarray, number: int) -> np.ndarray:
        nonlocal mean, square
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        direction = mean / (1 - betas[0] ** number) / (np.sqrt(square / (1 - betas[1] ** number)) + 1e-8)
        return weight * (1 - RATE * decay) - RATE * direction

    return step


@pytest.mark.parametrize(("profile", "by_hand"), [("paper", sgd()), ("quick", adamw())])
def test_each_profile_steps_as_its_formula_does(profile: str, by_hand: Step) -> None:
    random = np.random.default_rng(0)
    expected = random.standard_normal(7)
    parameter = nn.Parameter(torch.from_numpy(expected.copy()))
    optimizer = make_optimizer(PROFILES[profile], [parameter])
    set_learning_rate(optimizer, RATE)
    for number in range(1, 9):
        gradient = random.standard_normal(7)
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        expected = by_hand(expected, gradient, number)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12)


def test_the_rate_is_set_for_every_group_and_starts_at_zero() -> None:
    one, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = make_optimizer(PROFILES["quick"], [one])
    optimizer.add_param_group({"params": [other]})
    assert optimizer.param_groups[0]["lr"] == 0
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_profiles_hold_the_papers_rates() -> None:  # method.md sections 4 and 6.1, row 13
    paper = PROFILES["paper"]
    assert (paper.pretraining_rate, paper.scratch_rate, paper.transfer_rate) == (1e-2, 1e-2, 1e-3)
    assert paper.warm_up_steps == 0
    assert paper.average_decay is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 9_999}, "quick"),
        ({"steps": 10_000}, "paper"),
        ({"steps": 5, "profile": "paper"}, "paper"),
        ({"steps": 250_000, "profile": "quick"}, "quick"),
    ],
)
def test_short_budgets_take_the_quick_profile(options: dict[str, object], expected: str) -> None:
    assert TrainingConfig(**options).resolved_profile == expected  # type: ignore[arg-type]


def weigh(decay: float, updates: int) -> np.ndarray:
    """Share of the start and of each update's weights in the average, from the recursion written out."""
    shares = np.zeros(updates + 1)
    shares[0] = 1
    for number in range(1, updates + 1):
        kept = min(decay, number / (number + 10))
        shares *= kept
        shares[number] += 1 - kept
    return shares


@pytest.mark.parametrize("updates", [1, 3, 40, 1500])
def test_the_average_weighs_past_weights_as_its_recursion_says(updates: int) -> None:
    layer = nn.Linear(3, 2).double()
    history = np.random.default_rng(updates).standard_normal((updates + 1, 2, 3))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(history[0]))
    average = AveragedWeights(layer, 0.99)
    for values in history[1:]:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(values))
        average.update(layer)
    shares = weigh(0.99, updates)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(average.values["weight"].numpy(), np.tensordot(shares, history, 1), rtol=1e-9)


def test_the_average_forgets_the_start_within_a_warm_up() -> None:
    assert weigh(0.99, 1)[0] < 0.1
    assert weigh(0.99, 50)[0] < 1e-9


def test_the_average_does_not_follow_the_network_by_itself() -> None:
    layer = nn.Linear(1, 1)
    average = AveragedWeights(layer, 0.99)
    before = average.values["weight"].clone()
    with torch.no_grad():
        layer.weight.add_(1)
    assert torch.equal(average.values["weight"], before)
    assert not average.values["weight"].requires_grad


def test_a_restored_average_goes_on_as_the_one_that_was_saved() -> None:
    layers = [nn.Linear(3, 2), nn.Linear(3, 2)]
    first, second = (AveragedWeights(layer, 0.99) for layer in layers)
    for _ in range(4):
        first.update(layers[1])
    values, updates = first.state()
    second.restore({name: value.clone() for name, value in values.items()}, updates)
    for average in (first, second):
        average.update(layers[0])
    assert torch.equal(first.values["weight"], second.values["weight"])
