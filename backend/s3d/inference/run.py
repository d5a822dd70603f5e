"""`s3d segment`: labels for one case or a folder of cases, and a record of how they came about."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from s3d.atomic_files import storage_errors, write_json
from s3d.bundle import BundleDescription, load_bundle
from s3d.config import to_dict
from s3d.data.image_files import Volume, read_channels, read_header, write_labels, write_volume
from s3d.errors import DatasetError, GeometryError, ImageError, InterruptedRunError, StorageError, UserError
from s3d.inference.cases import InputCase, find_cases, image_ending
from s3d.inference.config import SegmentConfig
from s3d.inference.predictor import Predictor, check_channels
from s3d.progress import Progress
from s3d.training.device import Device, choose_device
from s3d.training.record import versions

RECORD_NAME = "segmentation.json"
RECORD_VERSION = 1
_LISTED = 5
"""Bad cases quoted in the error; the record has them all."""


def segment(config: SegmentConfig, progress: Progress | None = None) -> Path:
    """Segment everything config.input names; returns the path of the record (JSON), written after every case.

    A bad case in a folder does not stop the others: it is recorded, and a DatasetError at the end lists all of them.
    Other errors: a UserError with one sentence; no file is ever half-written.
    """
    progress = progress or Progress()
    cases = find_cases(config.input, config.output)
    bundle = load_bundle(config.model)
    device = choose_device(config.device, config.precision)
    predictor = Predictor(
        bundle,
        device,
        step=config.step,
        mirror=config.mirror,
        batch_size=config.batch_size,
        allow_smaller_window=config.allow_smaller_window,
        progress=progress,
    )
    _check_writable(cases[0].result.parent)
    record, path = _record(config, bundle.description, device), _record_path(config, cases)
    failures: dict[str, UserError] = {}
    for number, case in enumerate(cases, start=1):
        label = case.name if len(cases) == 1 else f"{case.name} ({number} of {len(cases)})"
        try:
            record["cases"].append(_segment_case(case, label, predictor, config))
        except (StorageError, InterruptedRunError):  # the next case would meet the same
            raise
        except UserError as error:
            if len(cases) == 1:
                raise
            failures[case.name] = error
            record["cases"].append({"name": case.name, "error": {"code": error.code, "message": str(error)}})
            progress.warning(error.code, f"{case.name} was left out: {error}")
        write_json(path, record)
    _raise_if_any(failures, len(cases), path)
    return path


def _segment_case(case: InputCase, label: str, predictor: Predictor, config: SegmentConfig) -> dict[str, Any]:
    """Read, segment, write; returns the case's entry in the record."""
    began = time.perf_counter()
    if case.missing is not None:
        raise DatasetError(
            f"{case.images[-1]} has no {case.missing} beside it. Channels are numbered from 0000 without gaps; "
            "add the file or rename the others."
        )
    given = len(case.images) if len(case.images) > 1 else read_header(case.images[0]).channels
    check_channels(given, predictor.description, _has(case.images))
    volume = read_channels(case.images, given)
    try:
        result = predictor.segment(volume, probabilities=config.probabilities, name=label)
    except (ImageError, GeometryError) as error:  # of the voxels, which know no file
        raise type(error)(f"{case.images[0]}: {error}") from error
    entry = {"name": case.name, "images": [str(image) for image in case.images], "labels": case.result.name}
    if result.probabilities is not None:
        path = case.result.parent / "probabilities" / case.result.name
        write_volume(path, Volume(result.probabilities, result.grid))
        entry["probabilities"] = f"{path.parent.name}/{path.name}"
    write_labels(case.result, result.labels, result.grid)
    return {**entry, "notes": list(result.notes), "seconds": round(time.perf_counter() - began, 2)}


def _has(images: Sequence[Path]) -> str:
    """Subject and verb of a sentence on a case's files."""
    others = len(images) - 1
    return f"{images[0]} and {others} more file{'s' * (others > 1)} have" if others else f"{images[0]} has"


def _record(config: SegmentConfig, description: BundleDescription, device: Device) -> dict[str, Any]:
    """What holds for all cases: model, labels as the files number them, options, what computed."""
    return {
        "schema_version": RECORD_VERSION,
        "model": {"id": description.id, "name": description.name, "licence": description.licence},
        "labels": [to_dict(label) for label in description.labels],
        "options": to_dict(config),
        "device": {"name": str(device.torch_device), "precision": device.precision},
        "versions": versions(),
        "disclaimer": description.disclaimer,
        "cases": [],
    }


def _record_path(config: SegmentConfig, cases: Sequence[InputCase]) -> Path:
    """segmentation.json in an output folder; beside an output file, under its name, so that it replaces no other's."""
    result = cases[0].result
    if result != config.output:
        return config.output / RECORD_NAME
    stem = result.name[: -len(image_ending(result) or "")]
    return result.with_name(f"{stem}.{RECORD_NAME}")


def _check_writable(folder: Path) -> None:
    """Raises StorageError now rather than after minutes of computing."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def _raise_if_any(failures: dict[str, UserError], count: int, record: Path) -> None:
    if failures:
        first = [f"{name}: {error}" for name, error in failures.items()][:_LISTED]
        more = f" And {len(failures) - _LISTED} more." if len(failures) > _LISTED else ""
        raise DatasetError(
            f"{len(failures)} of {count} cases could not be segmented; the others are done, see {record}. "
            + " ".join(first)
            + more
        )
