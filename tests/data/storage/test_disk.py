import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from llm_ctr_pipeline.data.errors import EngineMemoryError, RawLogError, StorageError
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.disk import check_space, told_if_short

FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
    duckdb.IOException('IO Error: Could not write file "a.parquet": No space left on device'),
    RuntimeError("Error while serializing: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_told_with_the_place(tmp_path: Path, error: Exception) -> None:
    def write() -> None:
        with drafted(tmp_path / "a.parquet") as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(StorageError) as told:
        write()
    assert str(told.value).startswith(f"{tmp_path} cannot be written, is the disk full? ")
    assert str(error).splitlines()[0] in str(told.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "no"), ValueError("a bug"), RawLogError("a row")]
)
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, told_if_short(tmp_path):
        raise error
    assert caught.value is error


def test_an_engine_with_too_little_memory_names_its_setting(tmp_path: Path) -> None:
    engine = duckdb.connect(config={"memory_limit": "8MB"})

    def write() -> None:
        with drafted(tmp_path / "a.parquet") as draft:
            query = "SELECT string_agg(range || 'x') AS a FROM range(3000000)"
            engine.execute(f"COPY ({query}) TO '{draft}' (FORMAT parquet)")

    with pytest.raises(EngineMemoryError, match=r"memory_limit is too low: Out of"):
        write()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("needed", "told"), [(5_000_000, "5.0 MB"), (7_640_000_000, "7.6 GB")])
def test_what_the_disk_does_not_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: int, told: str
) -> None:
    room = SimpleNamespace(free=needed)
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda place: asked.append(place) or room)
    folder = tmp_path / "not" / "{there}"
    check_space(folder, needed, "never told")
    assert asked == [tmp_path]
    room.free = 4_999_999
    with pytest.raises(StorageError) as error:
        check_space(folder, needed, "{needed} in {folder}, {free} free: make room")
    assert str(error.value) == f"{told} in {folder}, 5.0 MB free: make room"


@pytest.mark.parametrize("fails", ["os.mkdir", "pathlib.Path.open"])
def test_a_disk_without_room_for_a_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """A file system may be out of entries before it is out of bytes."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write() -> None:
        with drafted(tmp_path / "a.pt", "make room") as draft, draft.open("wb") as file:
            file.write(b"state")

    with monkeypatch.context() as patched:
        patched.setattr(fails, full)
        with pytest.raises(StorageError, match=r"^make room$"):
            write()
    assert [*tmp_path.iterdir()] == []


def test_a_writer_may_say_what_to_do_about_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^set this$"), drafted(tmp_path / "a", "set this"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
