import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from s3d.inference.sliding_window import (
    count_windows,
    gaussian_profile,
    gaussian_weights,
    predict_windows,
    window_starts,
)

SIZES = st.tuples(*[st.integers(1, 13)] * 3)
TILES = st.tuples(*[st.integers(4, 8)] * 3)
STEPS = st.sampled_from([0.25, 0.5, 0.7, 1.0])


def convolution(channels: int = 2, classes: int = 3, kernel: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(channels, classes, kernel, padding=kernel // 2)


class Lopsided(nn.Module):
    """A convolution scaled by the place in the window: nothing may be moved, mirrored or padded elsewhere unseen."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = convolution()

    def forward(self, windows: Tensor) -> Tensor:
        z, y, x = (torch.arange(size, dtype=torch.float32) for size in windows.shape[2:])
        return self.convolution(windows) * (1 + z[:, None, None] / 8 + y[:, None] / 16 + x / 32)


def image(shape: tuple[int, ...], channels: int = 2, seed: int = 0) -> Tensor:
    return torch.randn((channels, *shape), generator=torch.Generator().manual_seed(seed))


def slow_prediction(network: nn.Module, volume: np.ndarray, tile, step: float) -> np.ndarray:
    """Each voxel's weighted sum kept in dictionaries, voxel by voxel, in float64; nothing shared with the code."""
    before = [max(t - s, 0) // 2 for s, t in zip(volume.shape[1:], tile, strict=True)]
    after = [max(t - s, 0) - b for s, t, b in zip(volume.shape[1:], tile, before, strict=True)]
    padded = np.pad(volume, [(0, 0), *zip(before, after, strict=True)])
    starts = []
    for size, t in zip(padded.shape[1:], tile, strict=True):
        count = math.ceil((size - t) / (t * step)) + 1
        starts.append([round(i * (size - t) / (count - 1)) for i in range(count)] if count > 1 else [0])
    sums: dict[tuple[int, ...], np.ndarray] = {}
    weights: dict[tuple[int, ...], float] = {}
    for corner in itertools.product(*starts):
        window = padded[:, *[slice(c, c + t) for c, t in zip(corner, tile, strict=True)]]
        with torch.no_grad():
            logits = network(torch.from_numpy(window.copy())[None])[0].double().numpy()
        for voxel in itertools.product(*map(range, tile)):
            weight = math.prod(
                math.exp(-((v - t // 2) ** 2) / (2 * (t / 8) ** 2)) for v, t in zip(voxel, tile, strict=True)
            )
            place = tuple(c + v for c, v in zip(corner, voxel, strict=True))
            sums[place] = sums.get(place, 0) + weight * logits[:, *voxel]
            weights[place] = weights.get(place, 0) + weight
    result = np.zeros((3, *volume.shape[1:]))
    for voxel in itertools.product(*map(range, volume.shape[1:])):
        place = tuple(v + b for v, b in zip(voxel, before, strict=True))
        result[:, *voxel] = sums[place] / weights[place]
    return result


@settings(max_examples=25, deadline=None)
@given(SIZES, TILES, STEPS)
def test_it_equals_a_slow_obvious_version(size, tile, step):
    network, volume = Lopsided(), image(size)
    fast = predict_windows(network, volume, tile, step=step)
    np.testing.assert_allclose(fast.numpy(), slow_prediction(network, volume.numpy(), tile, step), rtol=0, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(SIZES, TILES, STEPS)
def test_it_equals_a_slow_obvious_version_many_times(size, tile, step):
    network, volume = Lopsided(), image(size, seed=1)
    fast = predict_windows(network, volume, tile, step=step)
    np.testing.assert_allclose(fast.numpy(), slow_prediction(network, volume.numpy(), tile, step), rtol=0, atol=1e-5)


@given(st.integers(1, 400), st.integers(10, 160), st.floats(0.1, 1.0))
def test_windows_cover_the_axis_end_at_its_end_and_lie_no_further_apart_than_asked(size, tile, step):
    starts = window_starts(size, tile, step)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] == max(size - tile, 0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert all(gap <= min(tile, math.ceil(tile * step)) for gap in gaps)


def test_a_whole_head_at_the_papers_window_takes_eight_windows():
    # evidence.md section 3: 181 x 217 x 181 voxels, 160^3 windows, step 0.5; the windows lie 21 and 57 voxels apart
    assert [window_starts(size, 160, 0.5) for size in (181, 217)] == [[0, 21], [0, 57]]
    assert count_windows((181, 217, 181), (160, 160, 160), 0.5) == 8
    assert count_windows((181, 217, 181), (128, 128, 128), 0.5) == 12
    assert count_windows((181, 217, 181), (96, 96, 96), 0.5) == 36


@pytest.mark.parametrize("tile", [(16, 12, 8), (7, 9, 1), (160, 4, 4)])
def test_weights_are_the_blurred_delta_of_nnunet(tile):
    delta = np.zeros(tile)
    delta[tuple(size // 2 for size in tile)] = 1
    blurred = gaussian_filter(delta, [size / 8 for size in tile], mode="constant")
    blurred /= blurred.max()
    blurred[blurred == 0] = blurred[blurred > 0].min()
    np.testing.assert_allclose(gaussian_weights(tile).numpy(), blurred, rtol=1e-5)


@pytest.mark.parametrize("tile", [1, 2, 3, 8, 31, 160, 256])
def test_no_weight_is_zero_even_in_a_corner(tile):
    assert gaussian_profile(tile).min() ** 3 > torch.finfo(torch.float32).tiny


@settings(max_examples=50, deadline=None)
@given(SIZES, TILES, STEPS)
def test_a_constant_network_gives_its_constant(size, tile, step):
    constants = torch.tensor([3.0, -7.5])
    result = predict_windows(
        lambda w: constants.view(1, 2, 1, 1, 1).expand(len(w), 2, *tile), image(size), tile, step=step
    )
    torch.testing.assert_close(result, constants.view(2, 1, 1, 1).expand(2, *size))


@settings(max_examples=50, deadline=None)
@given(SIZES, TILES, STEPS)
def test_a_pointwise_network_gives_the_same_whatever_the_window(size, tile, step):
    network, volume = convolution(kernel=1), image(size)
    with torch.no_grad():
        whole = network(volume[None])[0]
    torch.testing.assert_close(predict_windows(network, volume, tile, step=step), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 5, 1000])
def test_the_result_does_not_depend_on_the_batch_size(batch_size):
    network, volume = convolution(), image((11, 14, 9))
    one_by_one = predict_windows(network, volume, (6, 5, 4))
    torch.testing.assert_close(predict_windows(network, volume, (6, 5, 4), batch_size=batch_size), one_by_one)


@pytest.mark.parametrize("axes", [(2,), (0, 1), (0, 1, 2)])
def test_mirroring_is_the_mean_over_explicit_flips_of_each_window(axes):
    network, volume = convolution(), image((4, 6, 8))
    combinations = [c for count in range(len(axes) + 1) for c in itertools.combinations(axes, count)]
    dims = [tuple(axis + 1 for axis in combination) for combination in combinations]
    explicit = torch.stack([predict_windows(network, volume.flip(d), (4, 6, 8)).flip(d) for d in dims]).mean(0)
    torch.testing.assert_close(predict_windows(network, volume, (4, 6, 8), mirror_axes=axes), explicit)
    assert len(dims) == 2 ** len(axes)


def test_mirroring_makes_a_lopsided_network_symmetric():
    network, volume = convolution(), image((5, 5, 8))
    mirrored = predict_windows(network, volume.flip(3), (5, 5, 8), mirror_axes=(2,)).flip(3)
    plain = predict_windows(network, volume.flip(3), (5, 5, 8)).flip(3)
    expected = predict_windows(network, volume, (5, 5, 8), mirror_axes=(2,))
    torch.testing.assert_close(mirrored, expected)
    assert (plain - expected).abs().max() > 0.1


def test_half_precision_logits_are_summed_in_float32():
    # three times 1 + 1/128 does not fit into the 8 bits of a bfloat16: sums over mirrored copies or windows would err
    logit = torch.tensor(1.0078125, dtype=torch.bfloat16)
    volume = torch.zeros(1, 9, 9, 9)
    result = predict_windows(lambda w: logit.expand(len(w), 1, 4, 4, 4), volume, (4, 4, 4), mirror_axes=(0, 1, 2))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.full_like(result, 1.0078125), rtol=1e-6, atol=0)


def test_every_window_is_counted_and_no_gradient_is_kept():
    done: list[int] = []
    result = predict_windows(convolution(), image((11, 14, 9)), (6, 5, 4), batch_size=4, advance=done.append)
    assert sum(done) == count_windows((11, 14, 9), (6, 5, 4), 0.5)
    assert max(done) == 4
    assert not result.requires_grad


def test_windows_and_accumulators_go_to_their_devices():
    # the meta device computes nothing, so only a hand-written network can cross from it to the CPU
    seen: list[torch.device] = []

    def network(windows: Tensor) -> Tensor:
        seen.append(windows.device)
        return torch.ones(windows.shape)

    result = predict_windows(network, image((4, 4, 4)), (4, 4, 4), compute_device="meta", accumulate_device="cpu")
    assert [device.type for device in seen] == ["meta"]
    assert result.device.type == "cpu"


class NearestIntensity(nn.Module):
    """Classes by the blurred intensity; the blur sees zeros beyond a window, so borders are wrong, as in a network."""

    def forward(self, windows: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool3d(windows, 5, stride=1, padding=2)
        centres = torch.tensor([-0.7, 0.5, 2.0]).view(1, 3, 1, 1, 1)
        return -((blurred - centres) ** 2)


def test_monai_labels_a_real_head_the_same(test_data: Path):
    # an independent inferer with its own window starts: labels agree, single voxels at their borders need not
    monai_inferers = pytest.importorskip("monai.inferers")
    sitk = pytest.importorskip("SimpleITK")
    head = sitk.GetArrayFromImage(sitk.ReadImage(str(test_data / "single_heads" / "mricron_ch2.nii.gz")))
    volume = torch.from_numpy(head[::3, ::3, ::3].astype(np.float32))[None]
    volume = (volume - volume.mean()) / volume.std()
    ours = predict_windows(NearestIntensity(), volume, (32, 32, 32)).argmax(0)
    inferer = monai_inferers.SlidingWindowInferer((32, 32, 32), overlap=0.5, mode="gaussian", sigma_scale=0.125)
    with torch.no_grad():
        theirs = inferer(volume[None], NearestIntensity())[0].argmax(0)
    for value in range(3):
        mine, other = ours == value, theirs == value
        assert mine.sum() > 1000
        assert 2 * (mine & other).sum() / (mine.sum() + other.sum()) >= 0.99
