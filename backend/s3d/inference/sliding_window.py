"""A volume of any size through a network that sees one window at a time (method.md section 6.4).

Windows overlap; their logits are averaged with Gaussian weights, so that a window's border, where the network sees the
least context, counts least. Legend: B batch, C channel, K class, ZYX voxels.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Network = Callable[[Tensor], Tensor]
Size = tuple[int, int, int]


def window_starts(size: int, tile: int, step: float) -> list[int]:
    """First voxel of each window along an axis: evenly spread, at most step * tile apart, the last one ends at size.

    size, tile: voxels; step: 0 < step <= 1. An axis no longer than the tile has the one start 0.
    """
    if size <= tile:
        return [0]
    gaps = math.ceil((size - tile) / (tile * step))
    return [round(index * (size - tile) / gaps) for index in range(gaps + 1)]


def gaussian_profile(tile: int) -> Tensor:
    """Weight of each voxel along one axis: float32 (tile,), 1 at tile // 2, sigma tile / 8.

    The smallest is exp(-8), so a product of three is an ordinary float32: the replacement of zeros that nnU-Net needs
    for its 16-bit weights has nothing to replace.
    """
    distance = torch.arange(tile, dtype=torch.float64) - tile // 2
    return torch.exp(-0.5 * (distance / (tile / 8)) ** 2).float()


def gaussian_weights(tile: Size) -> Tensor:
    """Weight of each voxel of a window, float32 (z, y, x), largest 1."""
    along_z, along_y, along_x = (gaussian_profile(size) for size in tile)
    return along_z[:, None, None] * along_y[:, None] * along_x


def count_windows(shape: Sequence[int], window: Size, step: float) -> int:
    """Number of windows predict_windows lays over a volume of shape (z, y, x)."""
    return math.prod(len(window_starts(size, tile, step)) for size, tile in zip(shape, window, strict=True))


@torch.no_grad()
def predict_windows(
    network: Network,
    image_CZYX: Tensor,
    window: Size,
    *,
    step: float = 0.5,
    mirror_axes: Sequence[int] = (),
    batch_size: int = 1,
    compute_device: torch.device | str = "cpu",
    accumulate_device: torch.device | str = "cpu",
    advance: Callable[[int], None] | None = None,
) -> Tensor:
    """Logits of a whole volume, float32 (K, Z, Y, X) on accumulate_device.

    network: (B, C, *window) -> (B, K, *window) on compute_device; any floating dtype. image_CZYX: float32, any device.
    An image smaller than the window is padded with 0 on both sides and its result cropped back. mirror_axes (0 z, 1 y,
    2 x): average over the mirrored copies along every combination of them. advance(n) is called after n windows.
    Memory on accumulate_device: K x Z x Y x X x 4 bytes, whatever the number of windows. Without gradients.
    """
    padded, inside = _pad(image_CZYX, window)
    starts = [window_starts(size, tile, step) for size, tile in zip(padded.shape[1:], window, strict=True)]
    boxes = [_box(corner, window) for corner in itertools.product(*starts)]
    weights = gaussian_weights(window).to(accumulate_device)
    total: Tensor | None = None
    for first in range(0, len(boxes), batch_size):
        batch = boxes[first : first + batch_size]
        windows = torch.stack([padded[:, *box] for box in batch]).to(compute_device)
        logits = _mirrored_mean(network, windows, mirror_axes).to(accumulate_device)
        if total is None:
            total = torch.zeros((logits.shape[1], *padded.shape[1:]), device=accumulate_device)
        for box, one in zip(batch, logits, strict=True):
            total[:, *box].addcmul_(one, weights)
        if advance is not None:
            advance(len(batch))
    if total is None:
        raise ValueError("an image needs at least one voxel")
    _divide_by_weight(total, starts, window)
    return total[:, *inside]


def _box(corner: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + length) for start, length in zip(corner, size, strict=True))


def _pad(image_CZYX: Tensor, window: Size) -> tuple[Tensor, tuple[slice, ...]]:
    """image with zeros around it up to the window's size (the odd voxel behind), and where the image lies in it."""
    shape = tuple(image_CZYX.shape[1:])
    missing = [max(tile - size, 0) for size, tile in zip(shape, window, strict=True)]
    before = [length // 2 for length in missing]
    amounts = [(front, length - front) for front, length in zip(before, missing, strict=True)]
    # torch wants the last axis first
    padded = functional.pad(image_CZYX, [amount for pair in reversed(amounts) for amount in pair])
    return padded, _box(before, shape)


def _mirrored_mean(network: Network, windows_BCZYX: Tensor, mirror_axes: Sequence[int]) -> Tensor:
    """Mean of the logits, float32, over the plain windows and those mirrored along every combination of axes."""
    axes = [2 + axis for axis in mirror_axes]
    total = network(windows_BCZYX).float()
    for count in range(1, len(axes) + 1):
        for flipped in itertools.combinations(axes, count):
            total = total + network(windows_BCZYX.flip(flipped)).float().flip(flipped)
    return total / float(2 ** len(axes))


def _divide_by_weight(total_KZYX: Tensor, starts: Sequence[Sequence[int]], window: Size) -> None:
    """Divide, in place, by the sum of the weights at each voxel.

    Starts form a grid and the Gaussian is a product, so the sum is a product of three profiles: no further volume.
    """
    for axis, (axis_starts, tile) in enumerate(zip(starts, window, strict=True), start=1):
        length = total_KZYX.shape[axis]
        profile, weight = gaussian_profile(tile), torch.zeros(length)
        for start in axis_starts:
            weight[start : start + tile] += profile
        total_KZYX.div_(weight.to(total_KZYX.device).view(length, *[1] * (3 - axis)))
