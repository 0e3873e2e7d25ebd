import io
import re
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.filesize import decimal

from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.hub import archive as archive_module
from llm_ctr_pipeline.data.hub.archive import MANIFEST_NAME, Archive, DownloadError, is_provided
from llm_ctr_pipeline.data.hub.download import STORE_NAME, provide_raw_files
from tests.data.hub.stand_in import ARCHIVE, RAW, WHOLE, Hub, make_zip, serve


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that behaves, and a client that does not sleep between its attempts.

    Of a broken transfer the client keeps whole chunks, of 10 MB unless told otherwise.
    """
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None))
    with serve(Hub(ARCHIVE.repo_id, ARCHIVE.file, WHOLE)) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "01_raw" / "avazu_x4"


def fetch(hub: Hub, folder: Path, archive: Archive = ARCHIVE) -> None:
    assert provide_raw_files(archive, folder.parent, hub.endpoint) == folder


def raw_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RAW}


def fetched(folder: Path) -> list[Path]:
    """What there is of zips, whole or not."""
    return [*folder.parent.rglob("*.zip*"), *folder.parent.rglob("*.incomplete")]


def refused(hub: Hub, folder: Path) -> str:
    """Return the message of what must fail, and see that nothing half-done is taken for whole."""
    with pytest.raises((DownloadError, StorageError)) as error:
        fetch(hub, folder)
    assert not folder.exists()
    left = {path.name for path in folder.parent.glob("*")}
    assert left <= {STORE_NAME, ARCHIVE.file}
    assert "\n" not in str(error.value)
    return str(error.value)


# --- fetching -------------------------------------------------------------------------------------


def test_the_files_come_and_only_they_are_left(hub: Hub, folder: Path) -> None:
    fetch(hub, folder)
    assert raw_files(folder) == RAW
    assert {path.name for path in folder.iterdir()} == {*RAW, MANIFEST_NAME}
    assert fetched(folder) == []


def test_nothing_is_fetched_twice(hub: Hub, folder: Path) -> None:
    fetch(hub, folder)
    before = len(hub.requests)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    fetch(hub, folder)
    assert len(hub.requests) == before
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_a_dropped_connection_is_taken_up_again_where_it_broke(hub: Hub, folder: Path) -> None:
    hub.drop_after = 100_000
    fetch(hub, folder)
    assert raw_files(folder) == RAW
    contents, first, second = hub.ranges()
    assert contents > 0
    assert (first, second) == (0, 100_000)


def test_a_transfer_that_came_to_nothing_is_told_and_starts_over(hub: Hub, folder: Path) -> None:
    hub.drop_after, hub.refuse = 100_000, 10
    message = refused(hub, folder)
    assert "Avazu_x4.zip could not be fetched from the Hugging Face hub" in message
    assert f"put it into {folder.parent}" in message
    assert fetched(folder) == []
    hub.refuse = 0
    hub.requests.clear()
    fetch(hub, folder)
    assert raw_files(folder) == RAW
    contents, again = hub.ranges()
    assert contents > again == 0


def test_a_file_that_changed_on_the_hub_is_not_mixed_with_the_old(hub: Hub, folder: Path) -> None:
    hub.drop_after, hub.refuse = 100_000, 10
    hub.content = make_zip({**RAW, "train.csv": b"old" * 1_000_000 + RAW["train.csv"]})
    refused(hub, folder)
    hub.refuse, hub.content = 0, WHOLE
    fetch(hub, folder)
    assert raw_files(folder) == RAW


def test_a_fetched_zip_that_was_not_unpacked_is_not_fetched_again(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "_unpack_members", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(hub, folder)
    assert not folder.exists()
    hub.requests.clear()
    fetch(hub, folder)
    assert raw_files(folder) == RAW
    assert hub.requests == []


@pytest.mark.parametrize("target", [ARCHIVE.folder, f"{STORE_NAME}/{ARCHIVE.file}"])
def test_what_a_killed_process_left_is_cleared_away(hub: Hub, folder: Path, target: str) -> None:
    path = folder.parent / target
    left = path.with_name(f".{path.name}-killed")
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half")
    fetch(hub, folder)
    assert raw_files(folder) == RAW
    assert not left.exists()


# --- what is refused ------------------------------------------------------------------------------


def test_a_zip_of_other_files_is_refused_and_removed(hub: Hub, folder: Path) -> None:
    hub.content = make_zip({**RAW, "valid.csv": b"other"})
    message = refused(hub, folder)
    assert re.search(r"valid\.csv in Avazu_x4\.zip has the MD5 \w+, reczoo/Avazu_x4 has", message)
    assert fetched(folder) == []


@pytest.mark.parametrize("bytes_short", [1, 600_000, 1_000_000])
def test_a_disk_too_small_is_refused_before_the_transfer(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, bytes_short: int
) -> None:
    needed = len(WHOLE) + sum(map(len, RAW.values()))
    room = SimpleNamespace(free=max(0, needed - bytes_short))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    message = refused(hub, folder)
    assert f"{decimal(needed)} are needed" in message
    assert 0 not in hub.ranges()
    room.free = needed
    fetch(hub, folder)
    assert raw_files(folder) == RAW


def test_a_disk_that_fills_up_is_told(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "_unpack_members", full)
        assert "became full while unpacking" in refused(hub, folder)
    with monkeypatch.context() as patch:
        patch.setattr("llm_ctr_pipeline.data.hub.download.hf_hub_download", full)
        shutil.rmtree(folder.parent / STORE_NAME)
        assert "is full: make room and run this again" in refused(hub, folder)
    fetch(hub, folder)
    assert raw_files(folder) == RAW


def test_without_the_hub_one_line_tells_the_way_by_hand(folder: Path) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        nowhere = Hub("", "", b"", endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
        message = refused(nowhere, folder)
    assert "open reczoo/Avazu_x4 among the datasets of the Hugging Face hub" in message
    assert f"put it into {folder.parent} and run this again" in message


def test_a_repository_that_the_hub_does_not_know_is_told(hub: Hub, folder: Path) -> None:
    hub.repo_id = "reczoo/Other"
    assert "404" in refused(hub, folder)


# --- zips put there by hand -----------------------------------------------------------------------

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


# --- folders that are there -----------------------------------------------------------------------


def test_files_unpacked_by_hand_are_taken_by_their_checksums(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in RAW.items():
        (folder / name).write_bytes(content)
    fetch(NOWHERE, folder)
    assert raw_files(folder) == RAW
    (folder / "test.csv").write_bytes(RAW["test.csv"] + b"3,0\n")
    with pytest.raises(DownloadError, match=r"its test\.csv is not the one in reczoo/Avazu_x4"):
        is_provided(ARCHIVE, folder)


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
