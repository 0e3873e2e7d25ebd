"""A published zip of raw files: what it must hold, and unpacking it whole or not at all."""

import hashlib
import json
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath

from pydantic import Field

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.disk import check_space
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.progress import bytes_bar

MANIFEST_NAME = "download.json"
TOO_SMALL = (
    "the disk of {folder} has {free} free and {needed} are needed: make room, or put the folder on "
    "another disk; nothing was begun"
)
_CHUNK_BYTES = 1 << 20
# Not a security measure: MD5 is what the publisher states.
_new_md5 = partial(hashlib.md5, usedforsecurity=False)


class DownloadError(RefusedError, RuntimeError):
    """Raw files that could not be fetched or unpacked; the message says what to do."""


class BadArchiveError(DownloadError):
    """A zip that is not the published one."""


class Archive(Frozen):
    """`download.archives`: a zip in a dataset repository of the Hugging Face hub."""

    repo_id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME on the hub.")
    file: str = Field(pattern=r"^[\w.-]+$", description="The zip's name in the repository.")
    folder: str = Field(pattern=r"^\w[\w.-]*$", description="Where it goes below data/01_raw.")
    md5: dict[str, str] = Field(min_length=1, description="MD5 by name of the raw files in it.")


def is_provided(archive: Archive, folder: Path) -> bool:
    """Say whether a folder holds an archive's raw files, all of them and whole.

    A folder that this project unpacked has a manifest with the files' sizes, which is all that is
    looked at. One without a manifest gets it if its files have the published checksums.

    Raises:
        DownloadError: If the folder holds anything else: it may be somebody's own.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return False
    manifest = _manifest(archive, folder)
    path = folder / MANIFEST_NAME
    if path.is_file() and path.read_bytes() == manifest:
        return True
    for name, md5 in archive.md5.items():
        raw_file = folder / name
        if not raw_file.is_file() or _md5(raw_file) != md5:
            fault = "not the one" if raw_file.exists() else "missing; it should be the one"
            raise DownloadError(
                f"{folder} holds files, but its {name} is {fault} in {archive.repo_id}: "
                "move the folder away and run this again"
            )
    with drafted(path) as draft:
        draft.write_bytes(manifest)
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
    if missing := [name for name in archive.md5 if name not in found]:
        holds = ", ".join(zip_file.namelist()[:10]) or "nothing"
        raise BadArchiveError(f"{archive.file} holds no {', '.join(missing)}; it holds {holds}")
    return found


def unpack(path: Path, archive: Archive, folder: Path) -> None:
    """Unpack a zip's raw files, with a manifest, to an empty or missing folder in one step.

    Raises:
        BadArchiveError: If the zip is truncated or corrupt or not the published one.
        StorageError: If the disk is too small.
    """
    if_full = (
        f"the disk of {folder} became full while unpacking: make room and run this again; what was "
        "unpacked is removed, the zip is kept"
    )
    try:
        with zipfile.ZipFile(path) as zip_file:
            members = find_members(zip_file, archive)
            size = sum(member.file_size for member in members.values())
            check_space(folder.parent, size, TOO_SMALL)
            with drafted(folder, if_full) as draft:
                draft.mkdir()
                _unpack_members(zip_file, members, archive, draft)
                (draft / MANIFEST_NAME).write_bytes(_manifest(archive, draft))
                if folder.exists():
                    folder.rmdir()  # empty, or it would have been refused
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BadArchiveError(f"{path} is truncated or corrupt ({error})") from error


def _unpack_members(
    zip_file: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], archive: Archive, draft: Path
) -> None:
    with bytes_bar() as progress:
        for name, member in members.items():
            task = progress.add_task(f"unpacking {name}", total=member.file_size)
            digest = _new_md5()
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


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _new_md5).hexdigest()


def _manifest(archive: Archive, folder: Path) -> bytes:
    """What a manifest says of the raw files that a folder holds now."""
    sizes = {p.name: p.stat().st_size for p in folder.iterdir() if p.is_file()}
    files = {name: {"bytes": sizes.get(name), "md5": md5} for name, md5 in archive.md5.items()}
    content = {"repo_id": archive.repo_id, "file": archive.file, "files": files}
    return (json.dumps(content, indent=2) + "\n").encode()
