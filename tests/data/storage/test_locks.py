import errno
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_ctr_pipeline.data.storage import locks
from llm_ctr_pipeline.data.storage.locks import FolderLocks, InUseError

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PAUSE", 0.001)


@contextmanager
def running(work: Callable[..., None], *arguments: Any) -> Iterator[int]:
    """Run a function in another process until it says that it is ready; give its id."""
    ready = FORK.Event()
    process = FORK.Process(target=work, args=(*arguments, ready))
    process.start()
    assert ready.wait(10)
    try:
        yield int(process.pid or 0)
    finally:
        process.kill()
        process.join()


def hold(folder: Path, write: bool, ready: Any) -> None:
    sys.argv = [
        "/bin/kedro",
        "run",
        "--params",
        "store=s3a://key:secret@host",
        "--env",
        "avazu",
    ]
    FolderLocks().take(folder, write=write)
    ready.set()
    signal.pause()


def can(folder: Path, *, write: bool) -> bool:
    taken = FolderLocks()
    try:
        taken.take(folder, write=write)
    except InUseError:
        return False
    taken.release()
    return True


@pytest.mark.parametrize(("theirs", "ours"), [(True, True), (True, False), (False, True)])
def test_a_writer_and_another_exclude_each_other_until_the_process_dies(
    tmp_path: Path, theirs: bool, ours: bool
) -> None:
    folder = tmp_path / "06_models" / "single_phase"
    folder.mkdir(parents=True)
    with running(hold, folder, theirs) as pid:
        with pytest.raises(InUseError) as error:
            FolderLocks().take(folder, write=ours)
        said = str(error.value)
        assert said.startswith(
            f"{folder} is in use by another run (process {pid} on {socket.gethostname()} since "
        )
        assert said.endswith(": kedro run --params … --env avazu): wait for its end, or stop it")
        assert can(folder.with_name("deepfm"), write=True)
    assert can(folder, write=ours)
    assert [*folder.parent.iterdir()] == [folder]


def test_readers_share_and_the_last_removes_the_file(tmp_path: Path) -> None:
    folder, readers = tmp_path / "x4", (FolderLocks(), FolderLocks())
    for reader in readers:
        reader.take(folder, write=False)
    for reader in readers:
        assert not can(folder, write=True)
        assert can(folder, write=False)
        reader.release()
    assert can(folder, write=True)
    assert [*tmp_path.iterdir()] == []


def test_a_reader_that_lives_is_named_rather_than_one_that_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "x4"
    with running(hold, folder, False) as pid:
        with running(hold, folder, False):
            pass
        with pytest.raises(InUseError, match=f"process {pid} "):
            FolderLocks().take(folder, write=True)


def test_what_is_written_is_shared(tmp_path: Path) -> None:
    folder, writer = tmp_path / "x4", FolderLocks()
    writer.take(folder, write=True)
    writer.share(folder)
    writer.share(tmp_path / "never taken")
    assert can(folder, write=False)
    assert not can(folder, write=True)
    writer.release()
    assert can(folder, write=True)


def test_folders_made_for_a_lock_go_with_it_if_nothing_came_to_lie_there(tmp_path: Path) -> None:
    writer = FolderLocks()
    for name in ("empty", "used"):
        writer.take(tmp_path / name / "05_model_input" / "x4", write=True)
    (tmp_path / "used" / "05_model_input" / "x4").mkdir()
    writer.release()
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_fork_neither_keeps_nor_ends_a_lock(tmp_path: Path) -> None:
    folder, writer = tmp_path / "x4", FolderLocks()
    writer.take(folder, write=True)

    def release(ready: Any) -> None:
        writer.release()
        ready.set()
        signal.pause()

    with running(release):
        assert not can(folder, write=True)
        writer.release()
        assert can(folder, write=True)


def count_up(folder: Path) -> None:
    counter, taken = folder / "counter", FolderLocks()
    for _ in range(50):
        while True:
            try:
                taken.take(folder, write=True)
            except InUseError:
                continue
            break
        counter.write_text(str(int(counter.read_text()) + 1))
        taken.release()


def test_no_two_hold_it_while_the_file_comes_and_goes(tmp_path: Path) -> None:
    folder = tmp_path / "x4"
    folder.mkdir()
    (folder / "counter").write_text("0")
    processes = [FORK.Process(target=count_up, args=(folder,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (folder / "counter").read_text() == "200"
    assert [*tmp_path.iterdir()] == [folder]


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), OSError(errno.EROFS, "no")])
def test_a_lock_file_of_another_user_serves_and_where_none_can_be_made_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    opened, theirs = os.open, FolderLocks()

    def refuse(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise error
        return opened(path, flags, *mode)

    theirs.take(tmp_path / "x4", write=True)
    monkeypatch.setattr(os, "open", refuse)
    assert not can(tmp_path / "x4", write=False)
    theirs.release()
    assert can(tmp_path / "x4", write=True)
    assert can(tmp_path / "none" / "x4", write=True)
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="full"):
        FolderLocks().take(tmp_path / "x4", write=False)


def test_a_damaged_lock_file_names_nobody(tmp_path: Path) -> None:
    writer = FolderLocks()
    writer.take(tmp_path / "x4", write=True)
    (tmp_path / ".x4.lock").write_text(f"no number\t{socket.gethostname()}\t\n")
    with pytest.raises(InUseError, match="in use by another run: wait"):
        FolderLocks().take(tmp_path / "x4", write=True)
    writer.release()
