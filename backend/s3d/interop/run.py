"""The verbs `models list`, `models show` and `models import`."""

import json
from pathlib import Path

from s3d.bundle import SUFFIX, BundleDescription, read_description
from s3d.config import to_dict
from s3d.errors import BundleError, ConfigError
from s3d.interop.config import ImportConfig, ListConfig, ShowConfig, models_folder
from s3d.progress import Progress


def list_models(config: ListConfig, progress: Progress) -> str:
    """A line per bundle of the folder; a damaged one is told as a warning and left out.

    Raises ConfigError for a named folder that is not there; the usual one appears with the first model.
    """
    if not config.folder.is_dir() and config.folder != models_folder():
        raise ConfigError(f"There is no folder {config.folder}. Check the path, or leave --folder out.")
    lines = []
    for path in sorted(config.folder.glob(f"*{SUFFIX}")):
        try:
            lines.append(_line(path, read_description(path)))
        except BundleError as error:
            progress.warning(error.code, str(error))
    return "\n".join(lines) or f"No models in {config.folder}. `s3d models import` makes one."


def show_model(config: ShowConfig, progress: Progress) -> str:  # noqa: ARG001 - every verb takes a progress
    """The whole card as JSON."""
    return json.dumps(to_dict(read_description(config.model)), indent=2, ensure_ascii=False)


def import_model(config: ImportConfig, progress: Progress) -> Path:
    """Make a bundle of an nnssl checkpoint and tell what matched. Returns its folder."""
    from s3d.interop.nnssl import import_nnssl  # torch, which listing and showing do without

    report = import_nnssl(config.source, config.folder, config.name)
    for line in report.lines():
        progress.note(line)
    return report.path


def _line(path: Path, card: BundleDescription) -> str:
    what = ", ".join(label.name for label in card.labels) or "reconstruction"
    scores = card.training.get("scores")
    how = scores.get("how", "none") if isinstance(scores, dict) else "none"
    return f"{path.name}  {card.kind}  {len(card.channels)} channel(s)  {what}  score: {how}  id {card.id[:12]}"
