"""Checkpoints of nnssl (and relatives with its names) become bundles, and bundles become checkpoints for its tools.

The official S3D network registers each parameter twice and trains one copy; ours comes from the trained one, so that
fine-tuning on several channels starts from the trained stem (method.md sections 0.3, 0.4 and 8).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s3d.atomic_files import atomic_path
from s3d.bundle import SUFFIX, Bundle, BundleDescription, Channel, save_bundle
from s3d.errors import CheckpointError
from s3d.interop.adaptation_plan import AdaptationPlan, check_plan, make_plan
from s3d.interop.architecture import expected_shapes, infer_architecture
from s3d.interop.checkpoint_source import CheckpointSource, find_checkpoint
from s3d.interop.foreign_checkpoint import ForeignCheckpoint, read_checkpoint
from s3d.interop.key_map import with_aliases
from s3d.models.presets import Architecture

__all__ = ["ForeignCheckpoint", "ImportReport", "export_nnssl", "import_nnssl", "read_checkpoint"]

_NAMES_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What became of a foreign checkpoint."""

    path: Path
    """The bundle."""
    description: BundleDescription
    """Its model card."""
    matched: tuple[str, ...]
    """Parameters of the U-Net in the bundle."""
    spark_parts: tuple[str, ...]
    """Mask tokens and densification convolutions in the bundle."""
    missing: tuple[str, ...]
    """Parameters of the U-Net that the checkpoint lacks, or has in another shape."""
    dropped: tuple[str, ...]
    """Entries of the checkpoint that are not in the bundle."""
    differing_aliases: tuple[str, ...]
    """Parameters whose two official copies differed; the trained one was taken."""
    axes: tuple[int, ...] = (0, 1, 2)
    """Order in which the plan put the axes, as stored, for the network."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing before fine-tuning."""
        warnings = []
        if self.differing_aliases:
            warnings.append(
                f"{len(self.differing_aliases)} parameters are stored twice with different values, as nnssl's S3D "
                "leaves them; the trained copies (all_modules) were taken."
            )
        if self.missing:
            warnings.append(
                f"There is no whole decoder in the checkpoint ({_some(self.missing)} missing), so the bundle holds the "
                "encoder only: fine-tune with transfer encoder."
            )
        if self.axes != (0, 1, 2):
            warnings.append(
                f"The plan put the axes in the order {self.axes}; here they are turned to LPS, so the network sees "
                "heads lying otherwise than in its training."
            )
        return tuple(warnings)

    def lines(self) -> list[str]:
        """For people: a line per fact, warnings last."""
        network = self.description.architecture
        return [
            f"Written: {self.path}",
            f"Network: features {network.features}, blocks {network.blocks}, {network.input_channels} input channel(s)",
            f"Taken: {len(self.matched)} parameters of the U-Net, {len(self.spark_parts)} of S3D's own",
            f"Left out: {_some(self.dropped)}",
            f"Licence: {self.description.licence}",
            *(f"Warning: {warning}" for warning in self.warnings),
        ]


def import_nnssl(
    source: str | Path, output: Path, name: str | None = None, licence: str | None = None, citation: str | None = None
) -> ImportReport:
    """Write a pre-trained bundle with the weights of source.

    source: a .pth file; a folder with checkpoint_final.pth (and adaptation_plan.json, README.md); or a Hugging Face
    repository OWNER/NAME[/PATH.pth] or its address. output: the bundle itself (ends in .s3dmodel), or the folder it
    goes to. name, licence, citation: unset, what the source says. Raises CheckpointError.
    """
    found = find_checkpoint(source)
    checkpoint = read_checkpoint(found.path)
    architecture = infer_architecture(checkpoint.weights)
    if checkpoint.plan is not None:
        check_plan(checkpoint.plan, architecture, str(source))
    missing = _missing(checkpoint, architecture)
    matched = [key for key in expected_shapes(architecture) if not (missing and key.startswith("decoder."))]
    spark_parts = _spark_parts(checkpoint, architecture)
    title = name or (output.stem if output.suffix == SUFFIX else found.title)
    path = output if output.suffix == SUFFIX else output / f"{title}{SUFFIX}"
    description = _description(title, architecture, checkpoint, found, licence, citation)
    weights = {key: checkpoint.weights[key].numpy() for key in (*matched, *spark_parts)}
    return ImportReport(
        path=path,
        description=save_bundle(path, description, weights),
        matched=tuple(matched),
        spark_parts=tuple(spark_parts),
        missing=tuple(missing),
        dropped=tuple(key for key in checkpoint.weights if key not in weights),
        differing_aliases=checkpoint.differing_aliases,
        axes=(checkpoint.plan or AdaptationPlan()).transpose_forward,
    )


def export_nnssl(bundle: Bundle, path: Path) -> None:
    """Write a checkpoint for the fine-tuning tools of nnssl and nnU-Net: all official names, both copies equal.

    Equal copies also mend the untrained stem from which those tools start several channels (method.md section 0.4).
    """
    card = bundle.description
    state = {name: torch.from_numpy(np.array(value)) for name, value in bundle.weights.items()}
    unet = with_aliases({name: state[name] for name in expected_shapes(card.architecture) if name in state})
    spark = {name: value for name, value in state.items() if not name.startswith(("encoder.", "decoder."))}
    content: dict[str, Any] = {
        "network_weights": unet,
        "nnssl_adaptation_plan": make_plan(card.architecture, card.patch_size, card.spacing_mm, card.name),
        "trainer_name": str(card.training.get("trainer", "S3D")),
        "citations": [{"type": "Pre-training", "name": card.name, "apa_citations": card.citation.splitlines()}],
    }
    if spark:
        content["spark_weights"] = {f"architecture.{name}": value for name, value in unet.items()} | spark
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _missing(checkpoint: ForeignCheckpoint, architecture: Architecture) -> list[str]:
    """Parameters of the network without fitting weights. A decoder may be missing, an encoder may not."""
    missing = [name for name, shape in expected_shapes(architecture).items() if not _fits(checkpoint, name, shape)]
    encoder = [name for name in missing if name.startswith("encoder.")]
    if encoder:
        raise CheckpointError(
            f"{checkpoint.path} does not fit the ResEnc U-Net with features {architecture.features} that it resembles: "
            f"{_some(encoder)} missing or of another shape. Choose a ResEnc-L checkpoint."
        )
    return missing


def _spark_parts(checkpoint: ForeignCheckpoint, architecture: Architecture) -> list[str]:
    """Mask tokens and densification convolutions of the right shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stage, width in enumerate(architecture.features):
        shapes[f"mask_tokens.{stage}"] = (1, width, 1, 1, 1)
        if stage:
            shapes[f"densify_projs.{stage}.weight"] = (width, width, 3, 3, 3)
            shapes[f"densify_projs.{stage}.bias"] = (width,)
    return [name for name, shape in shapes.items() if _fits(checkpoint, name, shape)]


def _fits(checkpoint: ForeignCheckpoint, name: str, shape: Sequence[int]) -> bool:
    return name in checkpoint.weights and tuple(checkpoint.weights[name].shape) == tuple(shape)


def _description(
    title: str,
    architecture: Architecture,
    checkpoint: ForeignCheckpoint,
    found: CheckpointSource,
    licence: str | None,
    citation: str | None,
) -> BundleDescription:
    plan = checkpoint.plan or AdaptationPlan()
    return BundleDescription(
        name=title,
        kind="pretrained",
        architecture=architecture,
        channels=tuple(Channel(name="MR") for _ in range(architecture.input_channels)),
        orientation="LPS",  # nnssl took heads as stored, mirrored along all axes: any order of axes will do, one must
        spacing_mm=plan.spacing_mm,
        patch_size=plan.patch_size,
        mirror_axes=(0, 1, 2),
        training={
            "method": "imported",
            "trainer": checkpoint.trainer or "unknown",
            "dataset": plan.dataset or "unknown",
            "differing_aliases": len(checkpoint.differing_aliases),
            **found.record,
        },
        licence=licence or found.licence or "unspecified",
        citation=citation or checkpoint.citation,
    )


def _some(names: Iterable[str]) -> str:
    """The first few names and how many more there are."""
    listed = list(names)
    shown = ", ".join(listed[:_NAMES_SHOWN]) or "nothing"
    return shown if len(listed) <= _NAMES_SHOWN else f"{shown} and {len(listed) - _NAMES_SHOWN} more"
