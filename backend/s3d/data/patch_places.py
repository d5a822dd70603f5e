"""Where sample number i is cut out: which case, which corner. A pure function of (seed, i)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3d.data.case_store import CaseStore
from s3d.data.sample_randomness import Stream, generator

_TRIES_OUTSIDE_ANATOMY = 64


@dataclass(frozen=True, kw_only=True)
class PatchPlaces:
    """The rule; case uniform with replacement, position uniform among those inside the volume (method.md section 4).

    Along an axis where the volume is smaller than the patch, it lies in the patch's middle.
    """

    store: CaseStore
    names: tuple[str, ...]
    """Cases to draw from."""
    patch_size: tuple[int, int, int]
    """Voxels (z, y, x)."""
    seed: int
    """Not negative."""
    foreground_share: float
    """Share of the samples centred on a labelled voxel."""
    foreground_labels: frozenset[int] | None
    """Values that count as labelled; None: all but 0."""

    def place(self, number: int) -> tuple[str, tuple[int, int, int]]:
        """Case and first voxel (z, y, x) of sample `number`, negative where the volume is smaller than the patch."""
        random = generator(self.seed, number, Stream.PLACE)
        name = self.names[int(random.integers(len(self.names)))]
        centre = None
        if is_foreground_sample(number, self.foreground_share):
            centre = self._labelled_voxel(name, random)
        elif "anatomy" in self.store.record(name).arrays:
            centre = self._voxel_outside_anatomy(name, random)
        return name, self._first_voxel(self.store.shape(name), centre, random)

    def _labelled_voxel(self, name: str, random: np.random.Generator) -> Sequence[int] | None:
        """A random voxel of a random label among those the case has; None if it has none."""
        found = self.store.foreground(name)
        wanted = [value for value in sorted(found) if self.foreground_labels is None or value in self.foreground_labels]
        if not wanted:
            return None
        positions = found[wanted[int(random.integers(len(wanted)))]]
        return [int(index) for index in positions[int(random.integers(len(positions)))]]

    def _voxel_outside_anatomy(self, name: str, random: np.random.Generator) -> Sequence[int] | None:
        """A random voxel the anatomy mask leaves free (method.md section 4); None if none is found soon."""
        for candidate in random.integers(self.store.shape(name), size=(_TRIES_OUTSIDE_ANATOMY, 3)).tolist():
            z, y, x = candidate
            if not self.store.read_anatomy(name, ((z, z + 1), (y, y + 1), (x, x + 1))).item():
                return [z, y, x]
        return None

    def _first_voxel(
        self, shape: Sequence[int], centre: Sequence[int] | None, random: np.random.Generator
    ) -> tuple[int, int, int]:
        """Around the centre but inside the volume; anywhere inside without one."""
        slack = np.asarray(shape) - self.patch_size
        if centre is None:
            first = random.integers(np.maximum(slack, 0) + 1)
        else:
            first = np.clip(np.asarray(centre) - np.asarray(self.patch_size) // 2, 0, np.maximum(slack, 0))
        z, y, x = np.where(slack < 0, -(-slack // 2), first).tolist()
        return z, y, x


def is_foreground_sample(number: int, share: float) -> bool:
    """Whether a sample is one of those centred on a label: spread evenly, n samples in a row hold share * n +- 1."""
    return math.floor((number + 1) * share) > math.floor(number * share)
