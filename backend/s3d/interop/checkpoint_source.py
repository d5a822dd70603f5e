"""Where a foreign checkpoint comes from: this computer or the Hugging Face hub; what lies beside it there."""

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from s3d.interop.foreign_checkpoint import CHECKPOINT_NAME, PLAN_NAME, weight_file
from s3d.interop.hub import commit_of, download, download_if_there, parse_reference

_README = "README.md"
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_LICENCE = re.compile(r"^licen[sc]e:\s*[\"']?([^\s\"']+)", re.MULTILINE)


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint on this computer, wherever it was before."""

    path: Path
    """The weight file, or the folder that holds it."""
    title: str
    """A name for it."""
    licence: str | None
    """From the page that describes it (README.md), if that says one."""
    record: dict[str, str]
    """For the model card: source and, from the hub, file and commit; of a local file only its name and hash."""


def find_checkpoint(source: str | Path) -> CheckpointSource:
    """A file or folder here if there is one, else from the hub (see parse_reference). Raises CheckpointError."""
    path = Path(source)
    if not path.exists():
        return _from_hub(str(source))
    folder = path if path.is_dir() else path.parent
    title = folder.resolve().name if path.is_dir() or path.name == CHECKPOINT_NAME else path.stem
    file = weight_file(path)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return CheckpointSource(path, title, _licence(folder / _README), {"source": file.name, "sha256": digest})


def _from_hub(source: str) -> CheckpointSource:
    reference = parse_reference(source)
    file = reference.file or CHECKPOINT_NAME
    path = download(reference, file)
    commit = commit_of(path)
    same = dataclasses.replace(reference, revision=commit)
    download_if_there(same, str(PurePosixPath(file).with_name(PLAN_NAME)))  # read_checkpoint finds it beside the file
    readme = download_if_there(same, _README)
    return CheckpointSource(
        path=path,
        title=PurePosixPath(file).stem if reference.file else reference.repository.split("/")[1],
        licence=_licence(readme) if readme else None,
        record={"source": f"huggingface:{reference.repository}", "file": file, "commit": commit or "unknown"},
    )


def _licence(readme: Path) -> str | None:
    """The licence in the front matter of a model page."""
    if not readme.is_file():
        return None
    front_matter = _FRONT_MATTER.search(readme.read_text(encoding="utf-8", errors="replace"))
    found = _LICENCE.search(front_matter[1]) if front_matter else None
    return found[1] if found else None
