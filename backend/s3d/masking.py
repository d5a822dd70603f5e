"""Which blocks of a patch are hidden (paper section 4, method.md section 2).

A mask is a bool tensor (B, 1, z, y, x), a cell per block, true = visible. It travels as an argument, never as a global.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from s3d.errors import ConfigError

Ratio = float | Sequence[float]
"""Hidden share of the blocks: one number, or (low, high) from which each step draws uniformly."""


def mask_grid(patch_size: Sequence[int], block: int) -> tuple[int, int, int]:
    """Blocks along each axis (z, y, x) of a patch; block is the edge in voxels. ConfigError if it does not divide."""
    if block < 1 or any(size < block or size % block for size in patch_size):
        raise ConfigError(
            f"A patch of {tuple(patch_size)} voxels cannot be cut into mask blocks of {block} voxels; "
            f"choose patch sizes that are multiples of {block}."
        )
    z, y, x = (size // block for size in patch_size)
    return z, y, x


def mask_ratio_at(ratio: Ratio, seed: int, step: int) -> float:
    """The hidden share at a step: a pure function of seed and step, so all processes and a resumed run agree."""
    low, high = (ratio, ratio) if isinstance(ratio, (int, float)) else (ratio[0], ratio[-1])
    if not 0 < low <= high < 1:
        raise ConfigError(f"mask ratio {ratio} must lie between 0 and 1; 0.75 or (0.6, 0.9) is usual.")
    return float(np.random.default_rng((seed, step)).uniform(low, high))


def draw_visible(grid: Sequence[int], ratio: float, seeds: Sequence[int | Sequence[int]]) -> Tensor:
    """One random mask per seed: floor(ratio * cells) cells hidden, any choice equally likely.

    grid: cells (z, y, x); ratio: 0 to 1; seeds: one per sample, each a number or several, none negative, so a sample's
    mask does not depend on its batch. Returns bool (len(seeds), 1, z, y, x). Raises ConfigError if nothing would be
    hidden, or nothing visible.
    """
    cells = math.prod(grid)
    hidden = math.floor(ratio * cells)
    if not 0 < hidden < cells:
        raise ConfigError(
            f"A mask ratio of {ratio:.3g} hides {hidden} of the {cells} blocks of a patch, but some must be hidden and "
            "some visible. Choose another ratio, a larger patch or a smaller block."
        )
    visible = np.ones((len(seeds), cells), dtype=bool)
    for sample, seed in zip(visible, seeds, strict=True):
        sample[np.random.default_rng(seed).permutation(cells)[:hidden]] = False
    return torch.from_numpy(visible.reshape(len(seeds), 1, *grid))


def grow(visible_B1zyx: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat each cell of a mask over the voxels it covers.

    shape: ends in the wanted (Z, Y, X), as a tensor's shape does. Where it is coarser than the grid along every axis
    the mask is void there: all true (method.md section 3). Raises ConfigError where the grid does not divide shape.
    """
    grid, size = visible_B1zyx.shape[-3:], tuple(shape[-3:])
    if all(voxels < cells for voxels, cells in zip(size, grid, strict=True)):
        return torch.ones_like(visible_B1zyx[..., :1, :1, :1]).expand(*visible_B1zyx.shape[:-3], *size)
    if any(voxels % cells for voxels, cells in zip(size, grid, strict=True)):
        raise ConfigError(
            f"A mask of {tuple(grid)} blocks does not fit a grid of {size} voxels; choose a patch and a block so that "
            "every resolution holds whole blocks, or is coarser than the mask along all three axes."
        )
    grown = visible_B1zyx
    for axis, (voxels, cells) in enumerate(zip(size, grid, strict=True), start=-3):
        grown = grown.repeat_interleave(voxels // cells, dim=axis)
    return grown
