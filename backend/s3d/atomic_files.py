"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from s3d.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: "The disk is full; free some space or choose another folder.",
    errno.EDQUOT: "The disk quota is used up; free some space or choose another folder.",
    errno.EACCES: "There is no permission to write there; choose another folder or change its permissions.",
    errno.EPERM: "There is no permission to write there; choose another folder or change its permissions.",
    errno.EROFS: "The file system is read-only; choose another folder.",
    errno.EEXIST: "A part of the path is a file, not a folder; choose another path.",
    errno.ENOTDIR: "A part of the path is a file, not a folder; choose another path.",
}

_ALMOST_FULL_BYTES = 2**20
_HOLDER = ".writing-"
_REMOVING = ".removing-"
_OLD = ".old"


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a write error below path, of the operating system or a library, into one sentence with a remedy."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror or error}). {_remedy(error, path)}") from error
    except SafetensorError as error:
        raise StorageError(f"{path} cannot be written ({error}). {_remedy(error, path)}") from error


def _remedy(error: Exception, path: Path) -> str:
    """What to do; libraries that keep the error's number to themselves are helped by a look at the disk."""
    number = getattr(error, "errno", None)
    if number is None and shutil.disk_usage(existing_part(path)).free < _ALMOST_FULL_BYTES:
        number = errno.ENOSPC
    return _REMEDIES.get(number or 0, "Check the disk and the path.")


def existing_part(path: Path) -> Path:
    """path, or the deepest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside path (same ending); on success sync it and rename it to path, else remove it.

    The body may make a file or a folder under the temporary name. Raises StorageError.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=_HOLDER, dir=path.parent))
    try:
        temporary = holder / path.name
        with storage_errors(path):
            yield temporary
            _sync_all(temporary)
            _replace(temporary, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def remove_path(path: Path) -> None:
    """Remove a folder; at no moment is half of it left under its name. Raises StorageError."""
    with storage_errors(path):
        holder = Path(tempfile.mkdtemp(prefix=_REMOVING, dir=path.parent))
        path.rename(holder / path.name)
        shutil.rmtree(holder)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in folder under temporary names. Only where nobody else is writing.

    A folder whose replacement was killed between its two renames gets its old content back. Raises StorageError.
    """
    with storage_errors(folder):
        for holder in folder.glob(f"{_HOLDER}*"):
            for old in holder.glob(f"*{_OLD}"):
                place = folder / old.name.removesuffix(_OLD)
                if not place.exists():
                    old.replace(place)
    for holder in (*folder.glob(f"{_HOLDER}*"), *folder.glob(f"{_REMOVING}*")):
        shutil.rmtree(holder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write text (UTF-8) atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write value as indented JSON atomically; NaN is refused, because other readers would choke on it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Write data atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _sync_all(path: Path) -> None:
    """Flush a file, or everything below a folder and the folder itself."""
    if path.is_dir():
        for child in path.iterdir():
            _sync_all(child)
    _sync(path)


def _sync(path: Path) -> None:
    """Flush one file, or the list of names of one folder, to the disk."""
    if path.is_dir() and os.name == "nt":  # a folder cannot be opened for syncing on Windows
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(temporary: Path, path: Path) -> None:
    """Rename over path; a folder cannot be replaced in one step, so the old one is moved into the holder first."""
    if temporary.is_dir() and path.exists():
        path.replace(temporary.parent / f"{path.name}{_OLD}")
    temporary.replace(path)
