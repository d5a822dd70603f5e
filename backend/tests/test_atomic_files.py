"""Files are whole or absent."""

import errno
import itertools
import os
import signal
from pathlib import Path

import pytest

from s3d.atomic_files import atomic_path, remove_leftovers, remove_path, write_json, write_text
from s3d.errors import StorageError


def test_a_finished_file_replaces_the_old_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def write_half() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("ne")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_half()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_replaces_an_older_folder(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_path(tmp_path / "model") as folder:
            folder.mkdir()
            (folder / f"{content}.txt").write_text(content)
    assert [child.name for child in (tmp_path / "model").iterdir()] == ["new.txt"]
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("renames", [1, 2, 3])
def test_a_folder_whose_replacement_was_killed_between_the_renames_comes_back(renames: int, tmp_path: Path) -> None:
    """SIGKILL before the first rename, between the two, and (no third) after both."""
    with atomic_path(tmp_path / "model") as folder:
        folder.mkdir()
        (folder / "content").write_text("old")
    if os.fork() == 0:
        kill_before_rename(renames)
        with atomic_path(tmp_path / "model") as folder:
            folder.mkdir()
            (folder / "content").write_text("new")
        os._exit(0)
    os.wait()
    remove_leftovers(tmp_path)
    assert [child.name for child in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "content").read_text() == ("old" if renames < 3 else "new")


def kill_before_rename(number: int) -> None:
    rename, calls = Path.replace, itertools.count(1)

    def counted(path: Path, target: Path) -> Path:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = counted  # type: ignore[method-assign]


def test_a_leftover_old_folder_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    (tmp_path / ".writing-x" / "model.old").mkdir(parents=True)
    write_text(tmp_path / "model" / "content", "new")
    remove_leftovers(tmp_path)
    assert (tmp_path / "model" / "content").read_text() == "new"
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


def test_what_is_removed_does_not_come_back(tmp_path: Path) -> None:
    write_text(tmp_path / "model.old" / "content", "old")
    remove_path(tmp_path / "model.old")
    (tmp_path / ".removing-x" / "model.old").mkdir(parents=True)  # killed while removing
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "no permission"), (errno.EROFS, "read-only")],
)
def test_a_full_disk_or_a_forbidden_folder_is_one_sentence(
    number: int, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=remedy) as caught:
        write_text(tmp_path / "a.txt", "text")
    assert "a.txt cannot be written" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_nan_never_reaches_a_json_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []
