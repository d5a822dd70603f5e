"""Names of files that SimpleITK can take: it is given UTF-8, and anything else ends the whole process."""

import os
from pathlib import Path

from s3d.errors import ImageError


def check_name(path: Path) -> None:
    """Raise ImageError where a path is not UTF-8, or its bytes on the disk are others than its letters in UTF-8."""
    try:
        fits = os.fspath(path).encode("utf-8") == os.fsencode(path)
    except UnicodeEncodeError:  # bytes that are no letters, or letters that this locale cannot write
        fits = False
    if not fits:
        printable = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
        raise ImageError(f"The name of {printable} is not UTF-8 here; rename it, or take a locale with UTF-8.")
