"""Made-up patients for the demo: one template brain, deformed and lit anew for each of them.

The brain is the MNI152 T1 template (ICBM 2009a) with its grey- and white-matter probability maps, as the PyPI package
nilearn ships them. The subjects differ in shape, contrast, bias field and noise, but all come from one brain: they show
that the programs work, and say nothing about real patients.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from s3d.atomic_files import write_json
from s3d.data.image_files import Grid, Volume, write_labels, write_volume
from s3d.demo.deformation import DeformationOptions, FloatArray, draw_deformation, sample, smooth_noise
from s3d.errors import ConfigError
from s3d.progress import Progress

LABELS = {"grey matter": 1, "white matter": 2}
DESCRIPTION = (
    "Virtual subjects: random deformations of the MNI152 T1 template, each with its own contrast, bias field and "
    "noise. They are not patients, and results on them say nothing about patients."
)
# Below this share of the template's brightest voxel lies no brain; the template is cut to the brain already.
_BRAIN_THRESHOLD = 0.05
# What a scanner blurs along each axis, as the standard deviation in units of its voxel size.
_BLUR_VOXELS = 0.4


@dataclass(frozen=True, kw_only=True)
class VirtualSubjectOptions:
    """How the subjects look. The defaults give a task that a small network learns within minutes on two cores."""

    spacing_mm: float = 2.5
    """Voxel size along each axis; 2.5 mm gives 79 x 93 x 76 voxels around the brain."""
    deformation: DeformationOptions = field(default_factory=DeformationOptions)
    """Differences in shape."""
    bias: float = 0.3
    """Largest relative brightening by the coil, a smooth field over the whole head."""
    gamma: tuple[float, float] = (0.7, 1.4)
    """Range of the exponent that bends the contrast."""
    tissue_shift: float = 0.08
    """Largest change of grey and of white matter's brightness, relative to the brightest voxel."""
    noise: tuple[float, float] = (0.02, 0.06)
    """Range of the standard deviation of the (Rician) noise, relative to the brightest voxel."""

    def __post_init__(self) -> None:
        if not 1 <= self.spacing_mm <= 6:
            raise ConfigError(f"spacing_mm is {self.spacing_mm}; the template allows 1 to 6 mm.")


@dataclass(frozen=True)
class Template:
    """The MNI152 brain at 1 mm; axes run to the right, front and top (x, y, z)."""

    anatomy: FloatArray
    """(3, x, y, z): T1 brightness, 0 to 1 and 0 outside the brain; probability of grey; of white matter."""
    corner_mm: tuple[float, float, float]
    """Where the first voxel's centre lies in MNI space."""

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Distance between the first and the last voxel's centre along (x, y, z)."""
        _, x, y, z = self.anatomy.shape
        return float(x - 1), float(y - 1), float(z - 1)


@dataclass(frozen=True)
class Subject:
    """One made-up patient on a grid of the options' spacing; arrays (x, y, z) as in Template."""

    image: FloatArray
    """T1-like brightness in arbitrary units, 0 outside the brain."""
    labels: NDArray[np.uint8]
    """0 background, else a value of LABELS."""


def make_virtual_subjects(
    folder: Path, count: int, seed: int, progress: Progress, options: VirtualSubjectOptions | None = None
) -> Path:
    """Write count subjects to folder as an nnU-Net raw dataset and return folder.

    Subject i depends on seed and i only. Raises ConfigError without nilearn, StorageError if folder cannot be written.
    """
    chosen = options or VirtualSubjectOptions()
    if count < 1:
        raise ConfigError(f"{count} virtual subjects were asked for; at least 1 is needed.")
    template = load_template(blur_mm=_BLUR_VOXELS * chosen.spacing_mm)
    grid = _grid(template, chosen.spacing_mm)
    with progress.stage("virtual subjects", count) as stage:
        for number, subject in enumerate(virtual_subjects(template, count, seed, chosen)):
            name = f"virtual_{number:03d}"
            write_volume(folder / "imagesTr" / f"{name}_0000.nii.gz", Volume(_zyx(subject.image)[None], grid))
            write_labels(folder / "labelsTr" / f"{name}.nii.gz", _zyx(subject.labels).astype(np.int32), grid)
            stage.advance()
    write_json(folder / "dataset.json", _dataset_json(count))
    return folder


def virtual_subjects(template: Template, count: int, seed: int, options: VirtualSubjectOptions) -> Iterator[Subject]:
    """The same subjects without files, one after another."""
    for number in range(count):
        yield draw_subject(template, options, np.random.default_rng([seed, number]))


def load_template(blur_mm: float) -> Template:
    """The brain of the installed nilearn package, blurred by blur_mm. Raises ConfigError where nilearn is missing."""
    try:
        # An optional dependency that takes seconds to import.
        from nilearn import datasets
    except ImportError as error:
        raise ConfigError(
            "Virtual subjects are made from the brain template of nilearn, which is not installed here. "
            "Run `pip install nilearn` (`make install` does), or give a folder of labelled cases with --data."
        ) from error
    loaders = (datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    images = [load(resolution=1) for load in loaders]
    anatomy = np.stack([gaussian_filter(image.get_fdata(dtype=np.float32), blur_mm) for image in images])
    anatomy[0] /= anatomy[0].max()
    x, y, z = (float(value) for value in images[0].affine[:3, 3])
    return Template(anatomy, (x, y, z))


def draw_subject(template: Template, options: VirtualSubjectOptions, random: np.random.Generator) -> Subject:
    """Deform the template, then light it: first the anatomy, whose labels it fixes, then everything a scanner adds."""
    spacing = options.spacing_mm
    shape = [int(size / spacing) + 1 for size in template.size_mm]
    points = np.indices(shape, dtype=np.float32) * np.float32(spacing)
    source = draw_deformation(points, template.size_mm, options.deformation, random)
    brightness, grey, white = sample(template.anatomy, source, outside="zeros")
    labels = np.stack([1 - grey - white, grey, white]).argmax(axis=0).astype(np.uint8)
    return Subject(_photograph(brightness, grey, white, options, random), labels)


def _photograph(
    brightness: FloatArray,
    grey: FloatArray,
    white: FloatArray,
    options: VirtualSubjectOptions,
    random: np.random.Generator,
) -> FloatArray:
    """The image a scanner would take: own contrast, bias field, noise of a magnitude image, arbitrary unit."""
    brain = brightness > _BRAIN_THRESHOLD
    grey_shift, white_shift = random.uniform(-options.tissue_shift, options.tissue_shift, 2)
    signal = brightness ** random.uniform(*options.gamma) + grey_shift * grey + white_shift * white
    signal = signal * (1 + options.bias * smooth_noise(signal.shape, max(signal.shape) / 5, random))
    in_phase, quadrature = random.normal(0, random.uniform(*options.noise), (2, *signal.shape))
    unit = random.uniform(200, 1500)
    image: FloatArray = np.hypot(signal + in_phase, quadrature) * brain * unit
    return image.astype(np.float32)


def _zyx(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array.transpose())


def _grid(template: Template, spacing_mm: float) -> Grid:
    """The subjects' grid; the axes run to the right and front, while a Grid's directions count to the left and back."""
    x, y, z = (int(size / spacing_mm) + 1 for size in template.size_mm)
    right, front, bottom = template.corner_mm
    return Grid(
        shape=(z, y, x),
        spacing_mm=(spacing_mm, spacing_mm, spacing_mm),
        origin_mm=(-right, -front, bottom),
        direction=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    )


def _dataset_json(count: int) -> dict[str, Any]:
    return {
        "name": "virtual subjects",
        "description": DESCRIPTION,
        "reference": "Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033 (MNI152), as shipped in nilearn",
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, **LABELS},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
