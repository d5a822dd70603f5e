import errno

import pytest

from s3d.errors import CheckpointError, StorageError
from s3d.interop.hub import HubReference, download, download_if_there, parse_reference


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("AnonRes/ResEncL-OpenMind-MAE", HubReference("AnonRes/ResEncL-OpenMind-MAE")),
        ("a/b/ResEnc-L/team/x.pth", HubReference("a/b", None, "ResEnc-L/team/x.pth")),
        ("https://huggingface.co/a/b", HubReference("a/b")),
        ("https://huggingface.co/a/b/", HubReference("a/b")),
        ("https://huggingface.co/a/b/tree/main", HubReference("a/b", "main")),
        ("https://hf.co/a/b/blob/v1.0/c/x.pth", HubReference("a/b", "v1.0", "c/x.pth")),
        ("https://huggingface.co/a/b/resolve/main/x.pth?download=true", HubReference("a/b", "main", "x.pth")),
    ],
)
def test_names_and_addresses_are_understood(source, expected):
    assert parse_reference(source) == expected


@pytest.mark.parametrize(
    "source", ["", "weights.pth", "models/weights.pth", "/data/a/b.pth", "./a/b/c.pth", "C:\\a\\b.pth"]
)
def test_a_missing_path_is_not_looked_for_on_the_hub(source):
    with pytest.raises(CheckpointError, match="neither a file or folder on this computer nor"):
        parse_reference(source)


def test_addresses_of_other_sites_are_refused():
    with pytest.raises(CheckpointError, match="Download the file"):
        parse_reference("https://zenodo.org/records/15235730/files/x.pth")


def test_addresses_of_the_configured_mirror_are_understood(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example:8443")
    assert parse_reference("https://mirror.example:8443/a/b") == HubReference("a/b")


@pytest.mark.usefixtures("hub")
def test_a_repository_that_is_not_there_is_told():
    with pytest.raises(CheckpointError, match="the hub has no a/nothing"):
        download(HubReference("a/nothing"), "x.pth")


def test_a_revision_that_is_not_there_is_told(hub):
    hub.files["a/b"] = {"x.pth": b"1"}
    with pytest.raises(CheckpointError, match="no a/b at v9"):
        download(HubReference("a/b", "v9"), "x.pth")


def test_a_file_that_is_not_there_is_told_or_none(hub):
    hub.files["a/b"] = {}
    with pytest.raises(CheckpointError, match=r"a/b has no file x\.pth"):
        download(HubReference("a/b"), "x.pth")
    assert download_if_there(HubReference("a/b"), "x.pth") is None


def test_a_hub_that_cannot_be_reached_is_told_and_the_cache_still_serves(hub, monkeypatch):
    hub.files["a/b"] = {"x.pth": b"content"}
    download(HubReference("a/b"), "x.pth")
    assert download_if_there(HubReference("a/b", "main"), "README.md") is None
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the library's attempts
    assert download(HubReference("a/b"), "x.pth").read_bytes() == b"content"
    assert download_if_there(HubReference("a/b", "main"), "README.md") is None
    with pytest.raises(CheckpointError, match="cannot be reached"):
        download(HubReference("a/b"), "other.pth")


def test_a_connection_that_breaks_is_told_and_nothing_half_fetched_is_taken(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.files["a/b"] = {"x.pth": b"content"}
    hub.breaks_after = 3
    with pytest.raises(CheckpointError, match=r"x\.pth of a/b could not be fetched .* Try again later"):
        download(HubReference("a/b"), "x.pth")
    hub.breaks_after = None
    assert download(HubReference("a/b"), "x.pth").read_bytes() == b"content"


def test_a_full_disk_is_told(hub, monkeypatch):
    def disk_is_full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hub.files["a/b"] = {"x.pth": b"content"}
    monkeypatch.setattr("huggingface_hub.file_download.http_get", disk_is_full)
    with pytest.raises(StorageError, match="The disk is full"):
        download(HubReference("a/b"), "x.pth")


def test_a_name_the_hub_does_not_allow_is_told():
    with pytest.raises(CheckpointError, match="not a name the hub allows"):
        download(HubReference("a/b--c"), "x.pth")
