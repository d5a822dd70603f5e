"""The pre-training task: what is hidden, and which voxels the loss looks at."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.data.sample_randomness import Stream, generator
from s3d.masking import mask_ratio_at
from s3d.pretraining.masked_autoencoder import MaskedAutoencoding, error_of_predicting_zero

PATCH = (8, 12, 16)
BLOCK = 4
GRID = (2, 3, 4)
numbers_of_samples = st.lists(st.integers(0, 2**40), min_size=1, max_size=5)


def make_task(seed: int = 5, mask_ratio: tuple[float, ...] = (0.6, 0.9)) -> MaskedAutoencoding:
    return MaskedAutoencoding(patch_size=PATCH, block=BLOCK, mask_ratio=mask_ratio, seed=seed)


def make_batch(numbers: Sequence[int], excluded: Tensor | None = None) -> PatchBatch:
    image = torch.randn(len(numbers), 1, *PATCH, generator=torch.Generator().manual_seed(sum(numbers)))
    return PatchBatch(image, None, excluded, tuple(numbers), tuple(map(str, numbers)))


def make_excluded(count: int) -> Tensor:
    excluded = torch.zeros(count, 1, *PATCH, dtype=torch.bool)
    excluded[0, :, :5, 2:9, 3:] = True
    return excluded


class Guess(nn.Module):
    """A stand-in for the network: half the image plus a number."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(0.25))

    def forward(self, volume: Tensor, visible: Tensor) -> Tensor:
        assert visible.dtype == torch.bool
        return volume / 2 + self.number


def slow_loss(reconstruction: np.ndarray, batch: PatchBatch, visible: np.ndarray) -> float:
    """Voxel by voxel: squared error where the voxel's block is hidden and the voxel is not excluded."""
    image = batch.image.numpy()
    excluded = np.zeros(image.shape, bool) if batch.excluded is None else batch.excluded.numpy()
    errors = [
        (reconstruction[sample, 0, z, y, x] - image[sample, 0, z, y, x]) ** 2
        for sample, _, z, y, x in np.ndindex(image.shape)
        if not visible[sample, 0, z // BLOCK, y // BLOCK, x // BLOCK] and not excluded[sample, 0, z, y, x]
    ]
    return float(np.mean(errors))


@given(numbers=numbers_of_samples, step=st.integers(0, 10**6), seed=st.integers(0, 2**31))
def test_a_samples_mask_does_not_depend_on_its_batch(numbers: list[int], step: int, seed: int) -> None:
    task = make_task(seed)
    together = task.visible(step, numbers)
    assert together.shape == (len(numbers), 1, *GRID)
    assert torch.equal(together, torch.cat([task.visible(step, [number]) for number in numbers]))
    assert torch.equal(together, make_task(seed).visible(step, numbers))


def test_masks_differ_between_samples_and_seeds_and_their_size_between_steps() -> None:
    one = make_task().visible(0, range(20))
    assert len({tuple(mask.flatten().tolist()) for mask in one}) == 20
    assert not torch.equal(one, make_task(seed=6).visible(0, range(20)))
    hidden = {int((~make_task().visible(step, [3])).sum()) for step in range(200)}
    assert hidden == set(range(14, 22))  # floor(ratio * 24) for ratios of 0.6 to 0.9


@given(numbers=numbers_of_samples, step=st.integers(0, 10**6))
def test_every_sample_of_a_step_hides_as_many_blocks(numbers: list[int], step: int) -> None:
    hidden = (~make_task().visible(step, numbers)).sum((1, 2, 3, 4))
    assert set(hidden.tolist()) == {int(mask_ratio_at((0.6, 0.9), 5, step) * 24)}


def test_ratio_places_and_sampling_have_random_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a batch of 1, step and sample number coincide; the same key would give the same random bits twice."""
    used: list[tuple[int, ...]] = []
    real = np.random.default_rng

    def remembered(key: tuple[int, ...]) -> np.random.Generator:
        used.append(tuple(key) + (0,) * (3 - len(key)))  # numpy fills missing entropy with zeros
        return real(key)

    monkeypatch.setattr(np.random, "default_rng", remembered)
    make_task().visible(3, [3])
    for stream in (Stream.PLACE, Stream.SPATIAL, Stream.INTENSITY, Stream.NOISE):
        generator(5, 3, stream)
    assert len(used) == 6
    assert len(set(used)) == 6


@pytest.mark.parametrize("with_excluded", [False, True])
def test_the_loss_equals_a_slow_obvious_version(with_excluded: bool) -> None:
    task, model = make_task(), Guess()
    batch = make_batch((4, 9), make_excluded(2) if with_excluded else None)
    loss = task.loss(model, batch, step=7)
    visible = task.visible(7, batch.numbers)
    expected = slow_loss(model(batch.image, visible).detach().numpy(), batch, visible.numpy())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_the_mean_over_hidden_voxels() -> None:
    task, model, batch = make_task(), Guess(), make_batch((4, 9))
    task.loss(model, batch, step=7).backward()
    hidden = ~task.visible(7, batch.numbers).repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    expected = 2 * (0.25 - batch.image[hidden] / 2).mean()
    assert model.number.grad is not None
    assert model.number.grad.item() == pytest.approx(expected.item(), rel=1e-5)


def test_visible_and_excluded_voxels_do_not_count() -> None:
    task, excluded = make_task(), make_excluded(2)
    batch = make_batch((4, 9), excluded)
    counted = task.counted(batch, task.visible(7, batch.numbers))
    assert 0 < counted.sum() < excluded.numel()
    changed = PatchBatch(batch.image.where(counted, batch.image + 100), None, excluded, batch.numbers, batch.case_names)
    assert task.loss(Guess(), changed, 7).item() == task.loss(Guess(), batch, 7).item()


def test_a_batch_with_everything_excluded_costs_nothing_and_teaches_nothing() -> None:
    model = Guess()
    loss = make_task().loss(model, make_batch((1,), torch.ones(1, 1, *PATCH, dtype=torch.bool)), 0)
    loss.backward()
    assert loss.item() == 0
    assert model.number.grad is not None
    assert model.number.grad.item() == 0


def test_the_error_of_predicting_zero_is_the_mean_square_of_what_is_hidden() -> None:
    task = make_task()
    batches = [make_batch((0, 1), make_excluded(2)), make_batch((2, 3, 4))]
    squares: list[float] = []
    for batch in batches:
        counted = task.counted(batch, task.visible(0, batch.numbers))
        squares += batch.image[counted].square().tolist()
    assert error_of_predicting_zero(task, batches) == pytest.approx(np.mean(squares), rel=1e-5)
    constant = PatchBatch(torch.full((1, 1, *PATCH), 3.0), None, None, (0,), ("c",))
    assert error_of_predicting_zero(task, [constant]) == 9.0
