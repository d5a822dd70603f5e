"""A model bundle at work: a volume in, labels on the volume's own grid out."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s3d.bundle import Bundle, BundleDescription
from s3d.data.image_files import Grid, Volume
from s3d.data.preprocessing import PreprocessingPlan, preprocess_image
from s3d.data.restoring import restore_labels, restore_probabilities
from s3d.errors import BundleError, OutOfMemoryError
from s3d.inference.memory_ladder import Rung, descend, ladder
from s3d.inference.network import check_window, network_of
from s3d.inference.sliding_window import count_windows, predict_windows
from s3d.progress import Progress
from s3d.training.device import Device, choose_device, is_out_of_memory

_VOXELS_AT_ONCE = 96**3
"""Small windows go through a GPU together up to this many voxels, to keep it busy; a CPU gains nothing from that."""


@dataclass(frozen=True)
class Segmentation:
    """The result for one volume."""

    labels: np.ndarray
    """Integer (z, y, x) on grid: 0 background, else the bundle's label values."""
    grid: Grid
    """Exactly the grid of the volume given."""
    probabilities: np.ndarray | None
    """float32 (class, z, y, x) on grid, background first, the bundle's labels in order; None unless asked for."""
    notes: tuple[str, ...]
    """What was handled on the way and may matter to who reads the result."""


class Predictor:
    """Segments volumes one after the other. Every case gets the same treatment, whatever came before it."""

    def __init__(
        self,
        bundle: Bundle,
        device: Device,
        *,
        step: float = 0.5,
        mirror: bool = False,
        batch_size: int | None = None,
        allow_smaller_window: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Options as in SegmentConfig. Raises BundleError (not for segmenting, weights that do not fit the network),
        ConfigError (a window the network cannot take)."""
        self.description = bundle.description
        self._network = network_of(bundle).to(device.torch_device)
        self._device = device
        self._step = step
        self._mirror_axes = bundle.description.mirror_axes if mirror else ()
        self._cannot_mirror = mirror and not bundle.description.mirror_axes
        self._progress = progress or Progress()
        window, stride = bundle.description.patch_size, bundle.description.architecture.total_stride
        check_window(window, stride)
        on_cpu = device.torch_device.type == "cpu"
        batch_size = batch_size or (1 if on_cpu else max(1, _VOXELS_AT_ONCE // math.prod(window)))
        self._rungs = ladder(str(device.torch_device), batch_size, window, stride, allow_smaller_window)

    def segment(self, volume: Volume, *, probabilities: bool = False, name: str = "volume") -> Segmentation:
        """volume: the channels the bundle names, in its order; name: for progress.

        Raises BundleError for another number of channels, OutOfMemoryError naming what to do.
        """
        check_channels(len(volume.voxels), self.description)
        try:
            return self._segment(volume, probabilities, name)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"Memory ran out on the way between the image's {_times(volume.grid.shape)} voxels and the model's "
                "grid. Close other programs or use a machine with more memory."
            ) from error

    def _segment(self, volume: Volume, probabilities: bool, name: str) -> Segmentation:
        plan = PreprocessingPlan(
            orientation=self.description.orientation,
            spacing_mm=self.description.spacing_mm,
            normalization=self.description.normalization,
        )
        image, placement = preprocess_image(volume, plan)
        notes = self._notes_before(image.shape[1:])
        logits = self._logits(torch.from_numpy(image), name, notes)
        label_values = [0, *(label.value for label in self.description.labels)]
        return Segmentation(
            labels=restore_labels(logits, placement, label_values),
            grid=volume.grid,
            probabilities=restore_probabilities(logits, placement) if probabilities else None,
            notes=tuple(notes),
        )

    def _notes_before(self, shape: tuple[int, ...]) -> list[str]:
        """What can be said before computing, also told to progress."""
        notes = []
        window = self._rungs[0].window
        if any(size < tile for size, tile in zip(shape, window, strict=True)):
            notes.append(
                f"The image is {_times(shape)} voxels on the model's grid, smaller than the window of "
                f"{_times(window)}; it was padded with zeros."
            )
        if self._cannot_mirror:
            notes.append("The model allows mirroring along no axis, so no mirrored copies were averaged.")
        for note in notes:
            self._progress.note(note)
        return notes

    def _logits(self, image_CZYX: Tensor, name: str, notes: list[str]) -> Tensor:
        """float32 (K, z, y, x) on the CPU; steps down the ladder are announced and added to notes."""

        def announce(sentence: str) -> None:
            notes.append(sentence)
            self._progress.warning(OutOfMemoryError.code, sentence)

        logits, _ = descend(self._rungs, lambda rung: self._on_rung(rung, image_CZYX, name), announce)
        return logits

    def _on_rung(self, rung: Rung, image_CZYX: Tensor, name: str) -> Tensor:
        device = self._device if rung.compute_device == str(self._device.torch_device) else self._on_the_cpu()
        network = self._network.to(device.torch_device)

        def forward(windows: Tensor) -> Tensor:
            with device.autocast():
                logits: Tensor = network(windows)
            return logits

        windows = count_windows(image_CZYX.shape[1:], rung.window, self._step)
        with self._progress.stage(f"Segment {name}", windows) as stage:
            return predict_windows(
                forward,
                image_CZYX,
                rung.window,
                step=self._step,
                mirror_axes=self._mirror_axes,
                batch_size=rung.batch_size,
                compute_device=device.torch_device,
                accumulate_device=rung.accumulate_device,
                advance=stage.advance,
            ).cpu()

    def _on_the_cpu(self) -> Device:
        return choose_device("cpu", "fp32")


def check_channels(given: int, description: BundleDescription, has: str = "The image has") -> None:
    """Raises BundleError naming both numbers unless the model takes so many channels. has: whose they are."""
    wanted = len(description.channels)
    if given != wanted:
        names = ", ".join(channel.name for channel in description.channels)
        raise BundleError(
            f"{has} {given} channel{'s' * (given != 1)}, but model {description.name!r} takes {wanted} "
            f"({names}). Give exactly these, in this order, or choose another model."
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
