"""Fetching published raw files from the Hugging Face hub: resumed, checked, never half.

huggingface_hub's own `hf_hub_download` starts over when a transfer was cut off by the end of
the process, so the transfer is kept in a file of ours and handed to its `http_get`.
"""

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfFileMetadata, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.hub.archive import (
    TOO_SMALL,
    Archive,
    BadArchiveError,
    DownloadError,
    find_members,
    is_provided,
    unpack,
)
from llm_ctr_pipeline.data.storage.disk import check_space, told_if_short

STORE_NAME = ".download"
_SHA256_DIGITS = 64
# A zip's table of contents is at its end; those of a few files take a few hundred bytes.
_TAIL_BYTES = 1 << 16

logger = logging.getLogger(__name__)


def provide_raw_files(archive: Archive, folder: Path, endpoint: str | None = None) -> None:
    """Fetch an archive and unpack its raw files into a folder, unless they are there.

    A zip of the archive's name beside the folder is taken instead of the hub's, and kept.
    The waiting is bounded: the hub has 10 seconds to answer, and an interrupted transfer is
    taken up again at most five times in a row without a byte.

    Args:
        archive: The zip and what it holds.
        folder: Where the raw files go.
        endpoint: The hub's address; by default HF_ENDPOINT, or the public hub.

    Raises:
        DownloadError: If the files cannot be had. What was transferred is kept, and the next call
            goes on from there.
        StorageError: If the disk is too small.
    """
    if is_provided(archive, folder):
        logger.info("%s is in %s already", archive.repo_id, folder)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    by_hand = folder.parent / archive.file
    if by_hand.is_file():
        logger.info("Unpacking %s", by_hand)
        try:
            unpack(by_hand, archive, folder)
        except BadArchiveError as error:
            raise BadArchiveError(f"{error}: remove {by_hand} and fetch it again") from error
        return
    fetched = _fetch(archive, folder.parent, endpoint)
    logger.info("Unpacking %s into %s", archive.file, folder)
    try:
        unpack(fetched, archive, folder)
    except BadArchiveError as error:
        fetched.unlink()
        raise BadArchiveError(f"{error}: it was removed, run this again") from error
    fetched.unlink()


def _fetch(archive: Archive, folder: Path, endpoint: str | None) -> Path:
    """Return the whole zip with the hub's checksum, fetching what of it is not there yet."""
    store = folder / STORE_NAME
    store.mkdir(exist_ok=True)
    whole = store / archive.file
    if whole.exists():  # fetched, but not unpacked to the end
        return whole
    with _told_what_to_do(archive, folder):
        found = get_hf_file_metadata(
            hf_hub_url(archive.repo_id, archive.file, repo_type="dataset", endpoint=endpoint),
            endpoint=endpoint,
        )
        if not (found.size and found.etag and found.commit_hash):
            raise OSError("the file is empty, or its size, checksum or commit are not stated")
        # Of this commit, so that a new upload does not get into the middle of the file.
        url = hf_hub_url(
            archive.repo_id,
            archive.file,
            repo_type="dataset",
            revision=found.commit_hash,
            endpoint=endpoint,
        )
        part = store / f"{archive.file}.{found.etag}.part"
        done = part.stat().st_size if part.exists() else 0
        if done < found.size:
            unpacked = _unpacked_size(url, found.size, archive, store)
            check_space(folder, found.size - done + unpacked, TOO_SMALL)
            logger.info("Fetching %s of %s", archive.file, archive.repo_id)
            _transfer(url, part, found.size, archive.file)
    _check_sum(part, found, archive)
    os.replace(part, whole)
    return whole


def _unpacked_size(url: str, size: int, archive: Archive, store: Path) -> int:
    """Read the zip's table of contents off the hub; return how large its raw files are.

    Raises:
        BadArchiveError: If the file on the hub is no zip or lacks a raw file.
    """
    start = max(0, size - _TAIL_BYTES)
    # As long as the zip, with a hole in place of all but the end.
    with tempfile.TemporaryFile(dir=store) as contents:
        contents.seek(start)
        _http_get(url, contents, start, size, f"contents of {archive.file}")
        try:
            with zipfile.ZipFile(contents) as zip_file:
                members = find_members(zip_file, archive)
        except zipfile.BadZipFile as error:
            raise BadArchiveError(f"{archive.file} on the hub is no whole zip ({error})") from error
    return sum(member.file_size for member in members.values())


def _transfer(url: str, part: Path, size: int, name: str) -> None:
    with part.open("ab") as stream:
        _http_get(url, stream, stream.tell(), size, name)


def _http_get(url: str, stream: object, start: int, size: int, name: str) -> None:
    http_get(
        url,
        stream,  # type: ignore[arg-type]
        resume_size=start,
        headers=build_hf_headers(),
        expected_size=size,
        displayed_filename=name,
    )


def _check_sum(part: Path, found: HfFileMetadata, archive: Archive) -> None:
    """Compare with the hub's SHA-256, which it states of every large file."""
    if found.etag is None or len(found.etag) != _SHA256_DIGITS:
        return  # the zip's own checksums and those of the raw files remain
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != found.etag:
        part.unlink()
        raise BadArchiveError(
            f"{archive.file} arrived with the SHA-256 {digest}, the hub states {found.etag}: it "
            "was removed, run this again"
        )


@contextmanager
def _told_what_to_do(archive: Archive, folder: Path) -> Iterator[None]:
    """Turn what the client raises into one line with the ways on."""
    if_full = (
        f"the disk of {folder} is full: make room and run this again, which goes on with "
        f"{archive.file} where it stopped"
    )
    try:
        with told_if_short(folder, if_full):
            yield
    except RefusedError:
        raise
    # The client's errors are those of whatever HTTP library it uses.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DownloadError(
            f"{archive.file} could not be fetched from the Hugging Face hub ({reason}). Run this "
            f"again to go on where it stopped; or open {archive.repo_id} among the datasets of the "
            f"Hugging Face hub, fetch {archive.file} by other means, put it into {folder} and run "
            "this again"
        ) from error
