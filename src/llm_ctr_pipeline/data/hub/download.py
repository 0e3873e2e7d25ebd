"""Fetching published raw files from the Hugging Face hub: checked, never half."""

import logging
import tempfile
import zipfile
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
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
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.disk import check_space

STORE_NAME = ".download"
# A zip's table of contents is at its end; those of a few files take a few hundred bytes.
_TAIL_BYTES = 1 << 16

logger = logging.getLogger(__name__)


def provide_raw_files(archive: Archive, raw_data: Path, endpoint: str | None = None) -> Path:
    """Fetch an archive and unpack its raw files into its folder, unless they are there.

    A zip of the archive's name beside the folder is taken instead of the hub's, and kept.

    Args:
        archive: The zip and what it holds.
        raw_data: The folder of raw logs, which gets the archive's.
        endpoint: The hub's address; by default HF_ENDPOINT, or the public hub.

    Returns:
        The archive's folder.

    Raises:
        DownloadError: If the files cannot be had.
        StorageError: If the disk is too small.
    """
    folder = raw_data / archive.folder
    if is_provided(archive, folder):
        logger.info("%s is in %s already", archive.repo_id, folder)
        return folder
    by_hand = raw_data / archive.file
    fetched = raw_data / STORE_NAME / archive.file
    path = by_hand if by_hand.is_file() else fetched
    if not path.is_file():  # a fetched one is there where it was not unpacked to the end
        _fetch(archive, fetched, endpoint)
    logger.info("Unpacking %s into %s", path, folder)
    try:
        unpack(path, archive, folder)
    except BadArchiveError as error:
        if path == by_hand:
            raise BadArchiveError(f"{error}: remove {path} and fetch it again") from error
        path.unlink()
        raise BadArchiveError(f"{error}: it was removed, run this again") from error
    fetched.unlink(missing_ok=True)
    return folder


def _fetch(archive: Archive, target: Path, endpoint: str | None) -> None:
    """Fetch the zip, and turn what the client raises into one line with the ways on."""
    raw_data = target.parents[1]
    if_full = f"the disk of {raw_data} is full: make room and run this again"
    url = hf_hub_url(archive.repo_id, archive.file, repo_type="dataset", endpoint=endpoint)
    try:
        with drafted(target, if_full) as draft:
            # Of a size that is not stated nothing is read, which is no zip.
            size = get_hf_file_metadata(url, endpoint=endpoint).size or 0
            needed = size + _unpacked_size(archive, url, size, draft.parent)
            check_space(raw_data, needed, TOO_SMALL)
            logger.info("Fetching %s of %s", archive.file, archive.repo_id)
            hf_hub_download(
                archive.repo_id,
                archive.file,
                repo_type="dataset",
                local_dir=draft.parent,
                endpoint=endpoint,
            )
    except RefusedError:
        raise
    # The client's errors are those of whatever HTTP library it uses.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DownloadError(
            f"{archive.file} could not be fetched from the Hugging Face hub ({reason}). Run this "
            f"again; or open {archive.repo_id} among the datasets of the Hugging Face hub, fetch "
            f"{archive.file} by other means, put it into {raw_data} and run this again"
        ) from error


def _unpacked_size(archive: Archive, url: str, size: int, scratch: Path) -> int:
    """Read the zip's table of contents off the hub; return how large its raw files are."""
    start = max(0, size - _TAIL_BYTES)
    # As long as the zip, with a hole in place of all but the end.
    with tempfile.TemporaryFile(dir=scratch) as contents:
        contents.seek(start)
        http_get(
            url,
            contents,
            resume_size=start,
            headers=build_hf_headers(),
            expected_size=size,
            displayed_filename=f"contents of {archive.file}",
        )
        with zipfile.ZipFile(contents) as zip_file:
            return sum(member.file_size for member in find_members(zip_file, archive).values())
