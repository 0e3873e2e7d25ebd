import re
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.filesize import decimal

from llm_ctr_pipeline.data.hub import archive as archive_module
from llm_ctr_pipeline.data.hub.archive import MANIFEST_NAME
from llm_ctr_pipeline.data.hub.download import STORE_NAME
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
