"""A model bundle: the folder NAME.s3dmodel (or the same zipped) with model.json and weights.safetensors.

Torch-free: weights are numpy arrays by name (the network's own names, no aliases). Loading checks the hash, so a
half-copied or altered bundle is refused. Nothing here is a pickle.
"""

import dataclasses
import hashlib
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from s3d.atomic_files import atomic_path
from s3d.config import from_dict, to_dict
from s3d.errors import BundleError, ConfigError
from s3d.models.presets import Architecture

SCHEMA_VERSION = 1
SUFFIX = ".s3dmodel"
_DESCRIPTION = "model.json"
_WEIGHTS = "weights.safetensors"
_LARGEST_BYTES = {_DESCRIPTION: 4 * 2**20, _WEIGHTS: 8 * 2**30}
"""Of a zip's members, unpacked: a small zip may hold more than any memory does."""
_USABLE_NAME = re.compile(r"[^\W_](?:[\w .+-]{0,98}[^\W_])?")
NOT_A_DEVICE = "For research use only, not a medical device."


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One input channel, in order."""

    name: str
    """For example T1 or FLAIR."""
    modality: str = "MR"
    """DICOM modality."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One structure the model draws."""

    value: int
    """Voxel value in the result; never 0, which is background."""
    name: str
    """For people."""
    color: tuple[int, int, int] | None = None
    """Red, green, blue, 0 to 255."""
    terminology: dict[str, Any] | None = None
    """Codes (category, type, ...) as DICOM and Slicer write them."""


@dataclass(frozen=True, kw_only=True)
class BundleDescription:
    """What model.json says. Everything needed to use the weights and to judge them."""

    schema_version: int = SCHEMA_VERSION
    """Version of this layout."""
    id: str = ""
    """sha256 of weights.safetensors; set when written."""
    name: str
    """For people; also the folder's stem."""
    kind: Literal["pretrained", "segmentation"]
    """Whether the output is a reconstruction or labels."""
    architecture: Architecture
    """Full shape of the network."""
    channels: tuple[Channel, ...]
    """Input channels in order."""
    orientation: Literal["LPS", "as_stored"] = "LPS"
    """Axis order the network was trained in."""
    spacing_mm: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    """Grid the network works on, (z, y, x); null keeps each image's own spacing."""
    patch_size: tuple[int, int, int]
    """Training patch and segmentation window, (z, y, x) voxels."""
    normalization: Literal["zscore", "none"] = "zscore"
    """Intensity scaling of each channel (method.md section 5)."""
    labels: tuple[Label, ...] = ()
    """Structures; output channel i+1 draws labels[i], channel 0 is background."""
    mirror_axes: tuple[int, ...] = ()
    """Axes (0 z, 1 y, 2 x) along which mirrored copies may be averaged when segmenting."""
    parent: str | None = None
    """Id of the bundle this one was fine-tuned from."""
    training: dict[str, Any] = field(default_factory=dict)
    """Record of the training: config, data fingerprint, cases, scores and how they were obtained, versions."""
    licence: str = "unspecified"
    """Licence of the weights."""
    citation: str = ""
    """What to cite."""
    disclaimer: str = NOT_A_DEVICE
    """Shown wherever the model is."""

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise BundleError(f"Model {self.name!r} {problem}; the bundle is inconsistent.")

    def _problems(self) -> Iterator[str]:
        """What cannot be, each as the rest of a sentence."""
        network, values = self.architecture, [label.value for label in self.labels]
        if network.input_channels != len(self.channels):
            yield f"names {len(self.channels)} channels but its network takes {network.input_channels}"
        if self.kind == "segmentation" and network.output_channels != len(values) + 1:
            yield f"names {len(values)} labels but its network gives {network.output_channels} classes with background"
        if len({0, *values}) != len(values) + 1 or not all(-(2**31) <= value < 2**31 for value in values):
            yield f"has the label values {values}; they must be distinct and not 0, and fit into 32 bits"
        if any(size < 1 or size % network.total_stride for size in self.patch_size):
            yield (
                f"has the patch size {self.patch_size}; its sizes must be positive multiples of its network's total "
                f"stride {network.total_stride}"
            )
        if len(set(self.mirror_axes)) < len(self.mirror_axes) or not set(self.mirror_axes) <= {0, 1, 2}:
            yield f"mirrors along the axes {self.mirror_axes}; they must be from 0 to 2 and distinct"
        if self.spacing_mm is not None and not all(0 < value < math.inf for value in self.spacing_mm):
            yield f"has the spacing {self.spacing_mm} mm; each value must be above 0"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; weights by the network's parameter names."""

    description: BundleDescription
    weights: dict[str, np.ndarray]


def check_name(name: str) -> None:
    """Raise ConfigError unless name can be that of a folder on every system."""
    if not _USABLE_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a model; use up to 100 letters, digits, spaces, dots, dashes and underscores, "
            "beginning and ending with a letter or digit."
        )


def save_bundle(path: Path, description: BundleDescription, weights: dict[str, np.ndarray]) -> BundleDescription:
    """Write a bundle atomically to the folder path (must end in .s3dmodel). Returns the description with its id."""
    if path.suffix != SUFFIX:
        raise BundleError(f"{path.name} must end in {SUFFIX}.")
    data = save({name: np.ascontiguousarray(value) for name, value in sorted(weights.items())})
    finished = dataclasses.replace(description, id=hashlib.sha256(data).hexdigest())
    text = json.dumps(to_dict(finished), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as folder:
        folder.mkdir()
        (folder / _WEIGHTS).write_bytes(data)
        (folder / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    return finished


def read_description(path: Path) -> BundleDescription:
    """model.json of a bundle folder or zip, checked. Raises BundleError."""
    try:
        values = json.loads(_read_member(path, _DESCRIPTION))
    except ValueError as error:
        raise BundleError(f"{path}: {_DESCRIPTION} is not valid JSON ({error}); get the bundle anew.") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has bundle schema {version!r}; this program reads schema {SCHEMA_VERSION}. "
            "Update the program or export the model again."
        )
    try:
        return from_dict(BundleDescription, values, source=f"{path}/{_DESCRIPTION}")
    except ConfigError as error:
        raise BundleError(f"{error} The bundle does not fit this program; export the model again.") from error
    except BundleError as error:
        raise BundleError(f"{path}: {error} Export the model again.") from error


def load_bundle(path: Path) -> Bundle:
    """Read a bundle folder or zip and check its weights against the hash. Raises BundleError."""
    description = read_description(path)
    data = _read_member(path, _WEIGHTS)
    found = hashlib.sha256(data).hexdigest()
    if found != description.id:
        raise BundleError(
            f"{path}: the weights' hash is {found[:12]}..., the model card says {description.id[:12]}...; "
            "the bundle is damaged or was altered. Get it anew."
        )
    try:
        return Bundle(description, load(data))
    except SafetensorError as error:
        raise BundleError(f"{path}: {_WEIGHTS} is damaged ({error}); get the bundle anew.") from error


def _read_member(path: Path, name: str) -> bytes:
    if path.is_dir():
        try:
            return (path / name).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{path} holds no readable {name}; it is not a whole model bundle. Get it anew."
            ) from error
    if not path.exists():
        raise BundleError(
            f"There is no model bundle at {path}. Check the path; `s3d models list` lists the known ones."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(_member(path, archive, name))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:  # RuntimeError: encrypted
        raise BundleError(
            f"{path} is damaged, or neither a bundle folder nor a readable zip ({error}). "
            "Check the path, or get it anew."
        ) from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The only file of that name, at the top or one folder down, if it is not too large (a longer one ends there)."""
    places = [(PurePosixPath(member.filename), member) for member in archive.infolist()]
    found = [member for place, member in places if place.name == name and len(place.parts) <= 2]
    if not found:
        raise BundleError(f"{path} holds no {name}; it is not a model bundle. Check the path.")
    if len(found) > 1:
        raise BundleError(f"{path} holds {len(found)} files {name}; a bundle has one. Get it anew.")
    if found[0].file_size > _LARGEST_BYTES[name]:
        raise BundleError(
            f"{name} in {path} has {found[0].file_size} bytes unpacked, at most {_LARGEST_BYTES[name]} are read. "
            "It is no model of this program; get it anew."
        )
    return found[0]
