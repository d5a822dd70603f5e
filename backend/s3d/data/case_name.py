"""Which names of cases can be folders on every system, so that a store may be copied to any."""

import re

from s3d.errors import DatasetError

_USABLE = re.compile(r"(?!\.)[^/\\:*?\"<>|\x00-\x1f]*[^/\\:*?\"<>|\x00-\x1f. ]")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Devices on Windows, whatever the ending."""
_MOST_BYTES = 200
"""File systems take 255 for a name."""


def check_case_name(name: str) -> None:
    """Raise DatasetError unless the name can be a folder's on Linux, Windows and macOS."""
    if not _USABLE.fullmatch(name) or _RESERVED.fullmatch(name):
        raise DatasetError(f"{name!r} cannot name a case: it must serve as a folder's name. Rename the file.")
    if len(name.encode()) > _MOST_BYTES:
        raise DatasetError(
            f"{name[:40]!r}... cannot name a case: it has {len(name.encode())} bytes, {_MOST_BYTES} are possible. "
            "Rename the file."
        )


def check_spelling(name: str, present: str) -> None:
    """Raise DatasetError if the name and one already there differ, though not on systems that ignore case."""
    if present != name:
        raise DatasetError(
            f"The cases {name!r} and {present!r} differ only by upper and lower case: on some systems one would "
            "replace the other. Rename one."
        )
