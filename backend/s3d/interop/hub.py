"""Gets checkpoints from the Hugging Face hub, or from a mirror named by HF_ENDPOINT, into its usual cache."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import _CACHED_NO_EXIST, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from s3d.atomic_files import storage_errors
from s3d.errors import CheckpointError

_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_REFERENCE = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)(?:/(?:resolve|blob|tree)/(?P<revision>[^/?]+))?(?:/(?P<file>[^?]+))?/?(?:\?.*)?"
)


@dataclass(frozen=True)
class HubReference:
    """A repository on the hub, perhaps a file in it."""

    repository: str
    """OWNER/NAME."""
    revision: str | None = None
    """Branch, tag or commit; None for the main branch."""
    file: str | None = None
    """Path of a weight file inside the repository, None for the usual one."""


def parse_reference(source: str) -> HubReference:
    """Reads OWNER/NAME, OWNER/NAME/PATH.pth and the addresses of hub pages and files; CheckpointError for the rest."""
    address = urlsplit(source)
    if address.scheme in ("http", "https"):
        own_host = urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname
        if address.hostname not in (*_HOSTS, own_host):
            raise CheckpointError(
                f"{source} is not on the Hugging Face hub. Download the file and give its path on this computer."
            )
    match = _REFERENCE.fullmatch(address.path.strip("/") if address.scheme else source)
    if match is None or (match["file"] is None and match["repository"].endswith(".pth")):
        raise CheckpointError(
            f"{source!r} is neither a file or folder on this computer nor a Hugging Face repository (OWNER/NAME). "
            "Check the path or the name."
        )
    return HubReference(match["repository"], match["revision"], match["file"])


def download(reference: HubReference, file: str) -> Path:
    """A file of the repository in the local cache, fetched if need be. Raises CheckpointError with the reason, and
    StorageError where the cache cannot be written."""
    try:
        with storage_errors(Path(constants.HF_HUB_CACHE)), _hub_errors(reference, file):
            return Path(
                hf_hub_download(
                    reference.repository,
                    file,
                    revision=reference.revision,
                    endpoint=os.environ.get("HF_ENDPOINT") or None,
                )
            )
    except HFValidationError as error:
        raise CheckpointError(f"{reference.repository!r} is not a name the hub allows ({error}).") from error


@contextmanager
def _hub_errors(reference: HubReference, file: str) -> Iterator[None]:
    """Turn the library's errors into one sentence with a remedy."""
    repository, at = reference.repository, f" at {reference.revision}" if reference.revision else ""
    try:
        yield
    except GatedRepoError as error:
        message = f"{repository} asks for permission. Request it on its page, then log in with `hf auth login`."
        raise CheckpointError(message) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise CheckpointError(
            f"There is no such file or folder on this computer, and the hub has no {repository}{at} that is open to "
            "you. Check the path or the name, or log in with `hf auth login`."
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{file} of {repository} could not be fetched: the hub cannot be reached and the file is not in the local "
            "cache. Check the connection (and HF_ENDPOINT), or give the path of a downloaded file."
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"{repository} has no file {file}. Give the address of one of its .pth files.") from error
    except HTTPError as error:  # of the library's HTTP client: the connection broke, the server failed
        raise CheckpointError(f"{file} of {repository} could not be fetched ({error}). Try again later.") from error


def download_if_there(reference: HubReference, file: str) -> Path | None:
    """As download, but None if the repository has no such file; the cache remembers that as well."""
    cached = try_to_load_from_cache(reference.repository, file, revision=reference.revision)
    if cached is _CACHED_NO_EXIST:
        return None
    try:
        return download(reference, file)
    except CheckpointError as error:
        if isinstance(error.__cause__, EntryNotFoundError) and not isinstance(error.__cause__, LocalEntryNotFoundError):
            return None
        raise


def commit_of(cached: Path) -> str | None:
    """The commit a file in the cache belongs to."""
    parts = cached.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None
