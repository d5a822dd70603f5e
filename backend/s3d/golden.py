"""Compares this package with numbers computed by the official code (golden files, method.md section 11).

A golden file is safetensors: `weight.NAME`, `volume` and, for plain networks, `output.i`; for S3D `visible`,
`encoder_feature.i`, `reconstruction`, `loss` and `grad.NAME`. Widths, depths and channels are read off the weights;
the metadata says the rest. PRESET_parameter_names.txt lists the official names and shapes of a preset.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from s3d.errors import CheckpointError
from s3d.interop.architecture import infer_architecture
from s3d.interop.key_map import with_aliases, without_aliases
from s3d.masking import grow
from s3d.models.presets import preset
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark import SparkAutoencoder
from s3d.models.spark_options import SparkOptions
from s3d.training.losses import masked_squared_error

TOLERANCE = 1e-10
"""Largest absolute deviation accepted, in float64."""
_NAMES_SUFFIX = "_parameter_names.txt"


@dataclass(frozen=True)
class GoldenResult:
    """How far this package is from one golden file."""

    path: Path
    deviations: dict[str, float]
    """Largest absolute deviation by quantity; for names, how many differ."""

    @property
    def passed(self) -> bool:
        """Whether every quantity is within TOLERANCE."""
        return all(deviation <= TOLERANCE for deviation in self.deviations.values())


def check_folder(folder: Path) -> list[GoldenResult]:
    """Every golden file of a folder, by name. Raises CheckpointError if there is none or one cannot be read."""
    paths = sorted([*folder.glob("*.safetensors"), *folder.glob(f"*{_NAMES_SUFFIX}")])
    if not paths:
        raise CheckpointError(f"{folder} holds no golden file (*.safetensors or *{_NAMES_SUFFIX}). Check the path.")
    return [GoldenResult(path, check_file(path)) for path in paths]


def check_file(path: Path) -> dict[str, float]:
    """Largest absolute deviation from a golden file, by quantity, computed in float64 on the CPU."""
    if path.name.endswith(_NAMES_SUFFIX):
        return _check_names(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name).double() for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}). Get it anew.") from error
    if "volume" not in tensors:
        raise CheckpointError(f"{path} holds no `volume`, so it is not a golden file. Remove it from the folder.")
    return _check_autoencoder(path, tensors, metadata) if "visible" in tensors else _check_unet(path, tensors, metadata)


def _check_names(path: Path) -> dict[str, float]:
    """The official names and shapes of a preset: symmetric difference with ours."""
    expected = {tuple(line.split()) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}
    with torch.device("meta"):
        network = ResEncUNet(preset(path.name.removesuffix(_NAMES_SUFFIX)))
    official = with_aliases(network.state_dict())
    found = {(name, "x".join(map(str, value.shape))) for name, value in official.items()}
    return {"parameter names": float(len(expected ^ found))}


def _check_unet(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, float]:
    state, _ = without_aliases(_under("weight.", tensors))
    network = ResEncUNet(infer_architecture(state, deep_supervision=_is_true(metadata, "deep_supervision", False)))
    _load(network, state, path)
    with torch.no_grad():
        outputs = network(tensors["volume"])
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return {"output": _largest(_numbered(outputs), _under("output.", tensors))}


def _check_autoencoder(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, float]:
    state, _ = without_aliases(_under("weight.", tensors))
    options = SparkOptions(
        sparse=_is_true(metadata, "sparse", True),
        mask_token=any(name.startswith("mask_tokens.") for name in state),
        densify=any(name.startswith("densify_projs.") for name in state),
        mask_input=_is_true(metadata, "masked_input", True),
    )
    autoencoder = SparkAutoencoder(infer_architecture(state), options)
    _load(autoencoder, state, path)
    volume, visible = tensors["volume"], tensors["visible"].bool()
    with torch.no_grad():
        features = autoencoder.features(volume, visible)
    reconstruction = autoencoder(volume, visible)
    loss = masked_squared_error(reconstruction, volume, ~grow(visible, volume.shape))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: value.grad for name, value in autoencoder.named_parameters() if value.grad is not None}
    expected_gradients, _ = without_aliases(_under("grad.", tensors))
    return {
        "encoder features": _largest(_numbered(features), _under("encoder_feature.", tensors)),
        "reconstruction": _deviation(reconstruction, tensors["reconstruction"]),
        "loss": _deviation(loss.reshape(1), tensors["loss"].reshape(1)),
        "gradients": _largest(gradients, expected_gradients),
    }


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.double().load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit the network they describe ({error}).") from error


def _largest(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Over all names of either side; a name that one side lacks counts as zero there (no gradient is a zero one)."""
    names = found.keys() | expected.keys()
    return max(_deviation(found.get(name), expected.get(name)) for name in names)


def _deviation(found: Tensor | None, expected: Tensor | None) -> float:
    """Largest absolute difference; infinite where shapes differ or a number is not finite."""
    found = torch.zeros_like(expected) if found is None and expected is not None else found
    expected = torch.zeros_like(found) if expected is None and found is not None else expected
    if found is None or expected is None or found.shape != expected.shape:
        return math.inf
    deviation = (found - expected).abs().max().item()
    return deviation if math.isfinite(deviation) else math.inf


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _numbered(values: list[Tensor]) -> dict[str, Tensor]:
    return {str(number): value for number, value in enumerate(values)}


def _is_true(metadata: Mapping[str, str], key: str, default: bool) -> bool:
    return metadata.get(key, str(default)).lower() == "true"
