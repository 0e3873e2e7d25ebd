import ctypes
import errno
import os
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.storage.durable import exchange, sync, sync_names


def test_two_names_are_swapped(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    (folder / "in it").mkdir(parents=True)
    file.write_text("file")
    assert exchange(folder, file)
    assert folder.read_text() == "file"
    assert [path.name for path in file.iterdir()] == ["in it"]


def test_a_name_of_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError) as error:
        exchange(tmp_path / "file", tmp_path / "none")
    assert error.value.filename2 == str(tmp_path / "none")


def test_a_system_without_the_step_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert not exchange(tmp_path, tmp_path)


def test_a_file_system_that_syncs_no_folders_is_let_pass_and_a_file_that_fails_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "fsync", fail)
    sync_names(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="not here"):
        sync(tmp_path)
