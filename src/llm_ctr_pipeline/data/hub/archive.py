"""A published zip of raw files: what it must hold, and unpacking it whole or not at all."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.disk import check_space
from llm_ctr_pipeline.progress import bytes_bar

CARD_NAME = "download.json"
TOO_SMALL = (
    "the disk of {folder} has {free} free and {needed} are needed: make room, or put the folder on "
    "another disk; nothing was begun"
)
_CHUNK_BYTES = 1 << 20


class DownloadError(RefusedError, RuntimeError):
    """Raw files that could not be fetched or unpacked; the message says what to do."""


class BadArchiveError(DownloadError):
    """A zip that is not the published one."""


@dataclass(frozen=True)
class Archive:
    """One zip in a dataset repository of the Hugging Face hub.

    Attributes:
        repo_id: The repository: `reczoo/Avazu_x4`.
        file: The zip's name in it.
        md5: MD5 of every raw file that the zip must hold, by the file's name.
    """

    repo_id: str
    file: str
    md5: Mapping[str, str]


def is_provided(archive: Archive, folder: Path) -> bool:
    """Say whether a folder holds an archive's raw files, all of them and whole.

    A folder that this project unpacked has a card with the files' sizes, which is all that
    is looked at. One without a card gets it if its files have the published checksums.

    Raises:
        DownloadError: If the folder holds anything else: it may be somebody's own.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return False
    sizes = _sizes(archive, folder)
    if _read_card(folder) == _card(archive, sizes):
        return True
    for name, md5 in archive.md5.items():
        path = folder / name
        if not path.is_file() or _md5(path) != md5:
            raise DownloadError(
                f"{folder} holds files, but its {name} is "
                f"{'not the one' if path.exists() else 'missing; it should be the one'} in "
                f"{archive.repo_id}: move the folder away and run this again"
            )
    _write_card(folder, _card(archive, sizes))
    return True


def find_members(zip_file: zipfile.ZipFile, archive: Archive) -> dict[str, zipfile.ZipInfo]:
    """Find the raw files in a zip, at its top or in a folder; other files do not matter.

    Raises:
        BadArchiveError: If a raw file is missing or there twice, or a path leads out of the zip.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for member in zip_file.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or path.parts[:1] == ("~",):
            raise BadArchiveError(f"{archive.file} has a path out of its folder: {member.filename}")
        if member.is_dir() or path.name not in archive.md5 or "__MACOSX" in path.parts:
            continue
        if path.name in found:
            raise BadArchiveError(f"{archive.file} holds {path.name} twice")
        found[path.name] = member
    missing = [name for name in archive.md5 if name not in found]
    if missing:
        holds = ", ".join(zip_file.namelist()[:10]) or "nothing"
        raise BadArchiveError(f"{archive.file} holds no {', '.join(missing)}; it holds {holds}")
    return {name: found[name] for name in archive.md5}


def unpack(path: Path, archive: Archive, folder: Path) -> None:
    """Unpack the raw files and put them in place of an empty or missing folder in one step.

    Args:
        path: The zip.
        archive: What it must hold.
        folder: Where the files go, with a card.

    Raises:
        BadArchiveError: If the zip is truncated or corrupt or not the published one.
        StorageError: If the disk is too small.
    """
    if_full = (
        f"the disk of {folder} became full while unpacking: make room and run this again; what was "
        "unpacked is removed, the zip is kept"
    )
    with _refused_if_corrupt(path), zipfile.ZipFile(path) as zip_file:
        members = find_members(zip_file, archive)
        size = sum(member.file_size for member in members.values())
        check_space(folder.parent, size, TOO_SMALL)
        with drafted(folder, if_full) as draft:
            draft.mkdir()
            _unpack_members(zip_file, members, archive, draft)
            _write_card(draft, _card(archive, _sizes(archive, draft)))
            if folder.exists():
                folder.rmdir()  # empty, or it would have been refused


def _unpack_members(
    zip_file: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], archive: Archive, draft: Path
) -> None:
    with bytes_bar() as progress:
        for name, member in members.items():
            task = progress.add_task(f"unpacking {name}", total=member.file_size)
            # Not a security measure: MD5 is what the publisher states.
            digest = hashlib.md5(usedforsecurity=False)
            with zip_file.open(member) as source, (draft / name).open("wb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
                    progress.advance(task, len(chunk))
            if digest.hexdigest() != archive.md5[name]:
                raise BadArchiveError(
                    f"{name} in {archive.file} has the MD5 {digest.hexdigest()}, "
                    f"{archive.repo_id} has one with {archive.md5[name]}"
                )


@contextmanager
def _refused_if_corrupt(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BadArchiveError(f"{path} is truncated or corrupt ({error})") from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _sizes(archive: Archive, folder: Path) -> dict[str, int | None]:
    paths = {name: folder / name for name in archive.md5}
    return {name: path.stat().st_size if path.is_file() else None for name, path in paths.items()}


def _card(archive: Archive, sizes: Mapping[str, int | None]) -> dict[str, Any]:
    files = {name: {"bytes": sizes[name], "md5": md5} for name, md5 in archive.md5.items()}
    return {"repo_id": archive.repo_id, "file": archive.file, "files": files}


def _read_card(folder: Path) -> Any:
    """Return the card, or None where there is none that can be read."""
    try:
        return json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    (folder / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
