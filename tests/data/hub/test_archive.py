"""Zips that are unpacked whole or not at all, and folders that hold their files already."""

import errno
import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.hub.archive import DownloadError, is_provided
from tests.data.hub.stand_in import (
    ARCHIVE,
    RAW,
    WHOLE,
    Hub,
    fetch,
    fetched,
    make_zip,
    raw_files,
    refused,
)

NOWHERE = Hub("", "", b"", endpoint="http://127.0.0.1:9")


def put_by_hand(folder: Path, content: bytes) -> Path:
    path = folder.parent / ARCHIVE.file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("prefix", ["", "Avazu_x4/"])
def test_a_zip_put_there_by_hand_is_taken_and_kept(folder: Path, prefix: str) -> None:
    files = {prefix + name: content for name, content in RAW.items()}
    path = put_by_hand(folder, make_zip({"README.md": b"about", **files}))
    fetch(NOWHERE, folder)
    assert raw_files(folder) == RAW
    assert not (folder / "README.md").exists()
    assert path.exists()


def corrupt(content: bytes) -> bytes:
    """Change stored bytes so that only the checksum of one member is off."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as zip_file:
        for name, raw in RAW.items():
            zip_file.writestr(name, raw)
    return buffer.getvalue().replace(b"id,click\n1,0", b"id,click\n1,1")


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda whole: whole[:-100], r"is truncated or corrupt"),
    "not a zip": (lambda _: b"<html>sign in</html>", r"is truncated or corrupt"),
    "empty": (lambda _: b"", r"is truncated or corrupt"),
    "wrong CRC": (corrupt, r"is truncated or corrupt \(Bad CRC-32 for file 'valid\.csv'\)"),
    "broken stream": (
        lambda whole: whole[:5000] + bytes(2000) + whole[7000:],
        r"is truncated or corrupt",
    ),
    "out of its folder": (
        lambda _: make_zip({**RAW, "../evil.csv": b""}),
        r"has a path out of its folder: \.\./evil\.csv",
    ),
    "absolute path": (
        lambda _: make_zip({**RAW, "/etc/evil.csv": b""}),
        r"has a path out of its folder: /etc/evil\.csv",
    ),
    "missing file": (
        lambda _: make_zip({"train.csv": RAW["train.csv"]}),
        r"holds no valid\.csv, test\.csv; it holds train\.csv",
    ),
    "a file twice": (
        lambda _: make_zip({**RAW, "old/test.csv": b""}),
        r"holds test\.csv twice",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_zip_is_refused_and_named(folder: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    path = put_by_hand(folder, spoil(WHOLE))
    assert re.search(message + f".*: remove {path} and fetch it again", refused(NOWHERE, folder))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_zip_on_the_hub_is_refused_and_not_kept(
    hub: Hub, folder: Path, fault: str
) -> None:
    hub.content = FAULTS[fault][0](WHOLE)
    refused(hub, folder)
    assert fetched(folder) == []


def test_files_unpacked_by_hand_are_taken_by_their_checksums(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in RAW.items():
        (folder / name).write_bytes(content)
    fetch(NOWHERE, folder)
    assert raw_files(folder) == RAW
    (folder / "test.csv").write_bytes(RAW["test.csv"] + b"3,0\n")
    with pytest.raises(DownloadError, match=r"its test\.csv is not the one in reczoo/Avazu_x4"):
        is_provided(ARCHIVE, folder)


def test_a_full_disk_leaves_no_half_of_a_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True)
    for name, content in RAW.items():
        (folder / name).write_bytes(content)

    def write_half(path: Path, _: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(StorageError, match="is the disk full"):
        is_provided(ARCHIVE, folder)
    assert {path.name for path in folder.iterdir()} == {*RAW}


@pytest.mark.parametrize("left_out", RAW)
def test_a_folder_that_lacks_a_file_is_not_taken_for_whole(
    hub: Hub, folder: Path, left_out: str
) -> None:
    fetch(hub, folder)
    (folder / left_out).unlink()
    with pytest.raises(DownloadError, match=rf"its {left_out} is missing.*move the folder away"):
        fetch(hub, folder)


def test_an_empty_folder_is_filled(hub: Hub, folder: Path) -> None:
    folder.mkdir(parents=True)
    fetch(hub, folder)
    assert raw_files(folder) == RAW
