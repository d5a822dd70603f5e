"""Random smooth deformations of a head that never fold: the flow of a random velocity field, plus a small affine map.

Scaling and squaring after Arsigny et al. 2006 ("A Log-Euclidean framework for statistics on diffeomorphisms").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch.nn import functional

from s3d.errors import ConfigError

FloatArray = NDArray[np.float32]

_NODE_SPACING_MM = 6.0
_SQUARINGS = 6
# The slow part makes heads of different shape, the quick part gyri and ventricles of different shape.
_WAVES = ((36.0, 0.5), (12.0, 0.5))


@dataclass(frozen=True, kw_only=True)
class DeformationOptions:
    """How far subjects differ in shape."""

    displacement_mm: tuple[float, float] = (5.0, 10.0)
    """Range of the largest distance that any point moves; drawn per subject."""
    rotation_degrees: float = 8.0
    """Largest turn of the head about each axis."""
    scaling: float = 0.08
    """Largest relative growth or shrinking along each axis."""

    def __post_init__(self) -> None:
        low, high = self.displacement_mm
        if not 0 <= low <= high <= 15:
            raise ConfigError(f"displacement_mm is {self.displacement_mm}; give low <= high between 0 and 15 mm.")
        if not 0 <= self.scaling < 0.5:
            raise ConfigError(f"scaling is {self.scaling}; give at least 0 and less than 0.5.")


def smooth_noise(shape: Sequence[int], sigma: float, random: np.random.Generator) -> FloatArray:
    """Gaussian noise of the given shape, smoothed over sigma array elements, scaled to a largest magnitude of 1."""
    noise: NDArray[np.float64] = gaussian_filter(random.standard_normal(tuple(shape)), sigma, mode="reflect")
    scaled: FloatArray = (noise / np.abs(noise).max()).astype(np.float32)
    return scaled


def random_velocity(size_mm: Sequence[float], largest_mm: float, random: np.random.Generator) -> FloatArray:
    """A velocity field (3, nodes, nodes, nodes) in mm over a box of size_mm, one node per 6 mm, at most largest_mm."""
    nodes = [int(np.ceil(size / _NODE_SPACING_MM)) + 1 for size in size_mm]
    velocity = np.zeros((3, *nodes), np.float32)
    for wave_mm, share in _WAVES:
        velocity += share * np.stack([smooth_noise(nodes, wave_mm / _NODE_SPACING_MM, random) for _ in range(3)])
    speed = np.sqrt((velocity**2).sum(axis=0))
    return velocity * np.float32(largest_mm / speed.max())


def flow(velocity: FloatArray) -> FloatArray:
    """The displacement (3, nodes, nodes, nodes) in mm reached by following velocity for one unit of time.

    No point moves farther than the largest speed; flow(-velocity) is the inverse.
    """
    displacement: FloatArray = velocity / 2**_SQUARINGS
    nodes = np.indices(velocity.shape[1:], dtype=np.float32)
    for _ in range(_SQUARINGS):
        displacement = displacement + sample(displacement, nodes + displacement / _NODE_SPACING_MM)
    return displacement


def displaced(points_mm: FloatArray, displacement: FloatArray) -> FloatArray:
    """points_mm (3, nx, ny, nz), counted from the first node, moved by a displacement (3, nodes, nodes, nodes)."""
    return points_mm + sample(displacement, points_mm / _NODE_SPACING_MM)


def random_affine(options: DeformationOptions, random: np.random.Generator) -> NDArray[np.float64]:
    """A 3x3 matrix: turn and scale by at most what the options allow."""
    angles = random.uniform(-1, 1, 3) * options.rotation_degrees
    factors = 1 + random.uniform(-1, 1, 3) * options.scaling
    turn: NDArray[np.float64] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return turn @ np.diag(factors)


def draw_deformation(
    points_mm: FloatArray, size_mm: Sequence[float], options: DeformationOptions, random: np.random.Generator
) -> FloatArray:
    """Where each point of a new subject lies in the template.

    points_mm: (3, nx, ny, nz) millimetres from the corner of a box of size_mm. Returns points of the same shape:
    turned and scaled about the middle of the box, then moved by a random flow. The Jacobian is positive everywhere.
    """
    middle = np.asarray(size_mm, np.float32).reshape(3, 1, 1, 1) / 2
    turned = np.tensordot(random_affine(options, random), points_mm - middle, axes=1) + middle
    velocity = random_velocity(size_mm, random.uniform(*options.displacement_mm), random)
    return displaced(turned.astype(np.float32), flow(velocity))


def jacobian_determinant(points_mm: FloatArray, spacing_mm: float) -> FloatArray:
    """Local change of volume of a map (3, nx, ny, nz) given on a grid of spacing_mm; not positive where it folds."""
    gradients = np.stack([np.stack(np.gradient(component, spacing_mm)) for component in points_mm])
    determinant: FloatArray = np.linalg.det(np.moveaxis(gradients, (0, 1), (-2, -1)))
    return determinant


def sample(field: FloatArray, places: FloatArray, outside: Literal["border", "zeros"] = "border") -> FloatArray:
    """Linear interpolation of field (channel, nx, ny, nz) at array coordinates places (3, mx, my, mz).

    outside: what lies beyond the field, its border repeated or zeros. Returns (channel, mx, my, mz).
    """
    last = np.reshape(np.subtract(field.shape[1:], 1), (3, 1, 1, 1))
    # torch wants coordinates from -1 to 1, and those along the last axis first.
    grid = torch.from_numpy((2 * places / last - 1).astype(np.float32)).flip(0).movedim(0, -1)
    batch = torch.from_numpy(np.ascontiguousarray(field, np.float32))[None]
    found: FloatArray = functional.grid_sample(batch, grid[None], padding_mode=outside, align_corners=True)[0].numpy()
    return found
