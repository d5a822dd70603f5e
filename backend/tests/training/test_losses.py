"""Losses against slow, obvious versions."""

import numpy as np
import pytest
import torch

from s3d.errors import LabelError
from s3d.training.losses import DICE_SMOOTHING, dice_and_cross_entropy, masked_squared_error, to_class_indices


def test_masked_error_is_the_mean_over_counted_voxels_of_the_whole_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    reconstruction, target = torch.randn(2, 2, 1, 4, 5, 6, generator=generator)
    counted = torch.rand(2, 1, 4, 5, 6, generator=generator) < 0.3
    errors = [
        float((r - t) ** 2)
        for r, t, c in zip(reconstruction.flatten(), target.flatten(), counted.flatten(), strict=True)
        if c
    ]
    torch.testing.assert_close(
        masked_squared_error(reconstruction, target, counted), torch.tensor(np.mean(errors)).float()
    )


def test_a_batch_without_counted_voxels_costs_nothing_and_stays_finite() -> None:
    reconstruction = torch.ones(1, 1, 2, 2, 2, requires_grad=True)
    loss = masked_squared_error(
        reconstruction, torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert reconstruction.grad is not None
    assert not reconstruction.grad.any()


def _slow_loss(logits: np.ndarray, classes: np.ndarray, counted: np.ndarray) -> float:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probability = exponentials / exponentials.sum(1, keepdims=True)
    entropy, dice = [], []
    for b, z, y, x in np.argwhere(counted):
        entropy.append(-np.log(probability[b, classes[b, z, y, x], z, y, x]))
    for label in range(1, logits.shape[1]):
        overlap = size = 0.0
        for b, z, y, x in np.argwhere(counted):
            truth = float(classes[b, z, y, x] == label)
            overlap += truth * probability[b, label, z, y, x]
            size += truth + probability[b, label, z, y, x]
        dice.append((2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING))
    return float(np.mean(entropy) + 1 - np.mean(dice))


@pytest.mark.parametrize("share_ignored", [0.0, 0.4])
def test_dice_and_cross_entropy_equal_the_slow_version(share_ignored: float) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(2, 4, 3, 4, 5))
    classes = random.integers(0, 4, size=(2, 3, 4, 5))
    counted = random.random(classes.shape) >= share_ignored
    found = dice_and_cross_entropy(torch.from_numpy(logits), torch.from_numpy(classes), torch.from_numpy(~counted))
    assert found.item() == pytest.approx(_slow_loss(logits, classes, counted), rel=1e-5)


def test_ignored_voxels_have_no_gradient() -> None:
    logits = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    ignored = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    ignored[0, 0] = True
    classes = torch.ones(1, 2, 2, 2, dtype=torch.int64).where(~ignored, -1)
    dice_and_cross_entropy(logits, classes, ignored).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[:, :, 0].any()
    assert logits.grad[:, :, 1].any()


def test_a_perfect_prediction_costs_almost_nothing() -> None:
    classes = torch.tensor([0, 1, 2, 1]).reshape(1, 1, 2, 2)
    logits = 50.0 * torch.nn.functional.one_hot(classes, 3).movedim(-1, 1)
    assert dice_and_cross_entropy(logits, classes).item() < 1e-5


def test_label_values_become_classes_and_everything_else_minus_one() -> None:
    labels = torch.tensor([0, 7, 300, 255, 7])
    assert to_class_indices(labels, (0, 7, 300)).tolist() == [0, 1, 2, -1, 1]


def test_label_values_that_repeat_are_refused() -> None:
    with pytest.raises(LabelError, match="not distinct"):
        to_class_indices(torch.zeros(1), (0, 3, 3))
