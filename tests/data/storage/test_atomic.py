import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_ctr_pipeline.data.errors import StorageError, StoreError
from llm_ctr_pipeline.data.storage import atomic
from llm_ctr_pipeline.data.storage.atomic import Scratch, StoreScratch, drafted, sweep
from llm_ctr_pipeline.data.storage.store_path import SUCCESS, StorePath, is_whole


def test_a_file_is_put_in_place_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with drafted(target) as draft:
        draft.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [*target.parent.iterdir()] == [target]


def test_a_folder_replaces_another(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("old", "new"):
        with drafted(target) as draft:
            draft.mkdir()
            (draft / content).touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_mode_of_the_users_new_ones(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        for target, inside in ((tmp_path / "file", "."), (tmp_path / "folder", "a/b")):
            with drafted(target) as draft:
                file = draft / inside
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch(0o600)
            assert (target / inside).stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def fail_at(target: Path) -> None:
    with drafted(target) as draft:
        draft.write_text("half")
        raise OSError("the reason")


def test_a_failure_leaves_what_was_there_and_no_folders(tmp_path: Path) -> None:
    kept, new = tmp_path / "a.txt", tmp_path / "deep" / "er" / "b.txt"
    kept.write_text("kept")
    for target in (kept, new):
        with pytest.raises(OSError, match="the reason"):
            fail_at(target)
    assert kept.read_text() == "kept"
    assert [*tmp_path.iterdir()] == [kept]


def _be_killed(target: Path) -> None:
    scratch = Scratch(target)
    (scratch.path / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(
    tmp_path: Path,
) -> None:
    target = tmp_path / "a.txt"
    process = multiprocessing.get_context("spawn").Process(target=_be_killed, args=(target,))
    process.start()
    process.join()
    assert [*tmp_path.glob(".a.txt-*/half")] != []
    first = Scratch(target)
    assert [*tmp_path.iterdir()] == [first.path]
    second = Scratch(target)
    assert sorted(tmp_path.iterdir()) == sorted([first.path, second.path])
    for scratch in (first, second):
        scratch.drop()
    assert [*tmp_path.iterdir()] == []


def write_folder(target: Path, content: str) -> None:
    with drafted(target) as draft:
        draft.mkdir()
        for name in ("one", "two"):
            (draft / name).write_text(content)


def read_folder(target: Path) -> list[str]:
    return [(target / name).read_text() for name in ("one", "two")]


def _write_often(target: Path) -> None:
    for _ in range(60):
        write_folder(target, str(os.getpid()))


def test_processes_that_write_one_folder_at_once_leave_it_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "best_model"
    writers = [_forked(_write_often, target) for _ in range(3)]
    assert [_exit_code(writer) for writer in writers] == [0, 0, 0]
    assert len({*read_folder(target)}) == 1
    assert [*tmp_path.rglob(".*")] == []


def _forked(work: Callable[..., None], *arguments: Any) -> Any:
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def _exit_code(process: Any) -> int:
    process.join()
    return int(process.exitcode)


def _be_killed_at(step: int, target: Path, swaps: bool) -> None:
    """Write a folder and be killed before (even steps) or after a rename."""
    done = 0

    def counted(rename: Callable[..., Any]) -> Callable[..., Any]:
        def call(*places: Any) -> Any:
            nonlocal done
            for act in (lambda: None, lambda: rename(*places)):
                result = act()
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
            return result

        return call

    os.replace = counted(os.replace)
    atomic.exchange = counted(atomic.exchange if swaps else lambda *_: False)
    write_folder(target, "new")


@pytest.mark.parametrize("swaps", [True, False])
def test_a_kill_at_any_rename_leaves_the_old_folder_or_the_new(tmp_path: Path, swaps: bool) -> None:
    seen, step, code = [], 0, -9
    while code == -9:
        target = tmp_path / str(step) / "best_model"
        write_folder(target, "old")
        code = _exit_code(_forked(_be_killed_at, step, target, swaps))
        if not swaps:
            sweep(target)
        seen += read_folder(target)[:1]
        write_folder(target, "next")
        assert read_folder(target) == ["next", "next"]
        assert [*target.parent.iterdir()] == [target]
        step += 1
    assert step >= (4 if swaps else 8)
    assert seen == sorted(seen, reverse=True)
    assert {*seen} == {"old", "new"}


def test_without_swaps_a_failure_between_the_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "best_model"
    write_folder(target, "old")
    rename = os.replace
    calls: list[Path] = []

    def fail_third(source: Path, place: Path) -> None:
        calls.append(source)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "full")
        rename(source, place)

    monkeypatch.setattr(atomic, "exchange", lambda *_: False)
    monkeypatch.setattr(os, "replace", fail_third)
    with pytest.raises(StorageError):
        write_folder(target, "new")
    assert read_folder(target) == ["old", "old"]


def test_what_a_draft_holds_is_on_the_disk_before_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    opened: dict[int, str] = {}
    really_open, rename, swap = os.open, os.replace, atomic.exchange

    def open_(path: Any, *rest: Any, **more: Any) -> int:
        descriptor = really_open(path, *rest, **more)
        opened[descriptor] = Path(path).name
        return descriptor

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(opened[descriptor]))
    monkeypatch.setattr(os, "replace", lambda *at: (done.append("rename"), rename(*at)))
    monkeypatch.setattr(atomic, "exchange", lambda *at: (done.append("swap"), swap(*at))[1])

    target = tmp_path / "new" / "folder"
    write_folder(target, "old")
    assert sorted(done[:2]) == ["one", "two"]
    assert done[2:] == ["folder", "rename", "new", tmp_path.name]
    done.clear()
    write_folder(target, "new")
    assert done[2:] == ["folder", "rename", "swap", "new"]
    done.clear()
    with drafted(tmp_path / "state.pt") as draft:
        draft.write_text("state")
    assert done == ["state.pt", "rename", tmp_path.name]


def test_a_disk_that_is_full_only_when_synced_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="is the disk full"):
        write_folder(tmp_path / "folder", "new")
    assert [*tmp_path.iterdir()] == []


# --- on a store ---------------------------------------------------------------------------------


def write_table(folder: StorePath, *names: str) -> None:
    """Write a folder as Spark does: its marker last."""
    for name in (*names, SUCCESS):
        (folder / name).write_text(name, encoding="utf-8")


def names(folder: StorePath) -> list[str]:
    """All files below a folder, by what follows its name."""
    folder.fs.invalidate_cache()
    return sorted(name.removeprefix(folder.inner) for name in folder.fs.find(folder.inner))


def test_on_a_store_a_file_replaces_another(store: str) -> None:
    target = StorePath(store) / "a.json"
    for content in ("old", "new"):
        with drafted(target) as draft:
            draft.write_text(content, encoding="utf-8")
    assert target.read_text(encoding="utf-8") == "new"
    assert names(target.parent) == ["/a.json"]


def test_on_a_store_a_folder_replaces_another_or_a_file(store: str) -> None:
    target = StorePath(store) / "table"
    target.write_text("DuckDB's file", encoding="utf-8")
    for parts in (("part-0", "part-1"), ("part-2",)):
        with drafted(target) as draft:
            write_table(draft, *parts)
            assert names(draft) == sorted(f"/{name}" for name in (*parts, SUCCESS))
        assert names(target) == sorted(f"/{name}" for name in (*parts, SUCCESS))
    assert [place.name for place in target.parent.iterdir()] == ["table"]


def test_on_a_store_a_folder_of_tables_is_moved_and_marked(store: str) -> None:
    target = StorePath(store) / "raw_rows"
    with drafted(target) as draft:
        write_table(draft / "train.parquet", "part-0")
    assert names(target) == ["/_SUCCESS", "/train.parquet/_SUCCESS", "/train.parquet/part-0"]


def test_on_a_store_a_failure_leaves_what_was_there_and_no_folders(store: str) -> None:
    root = StorePath(store)
    kept = root / "kept.json"
    kept.write_text("kept", encoding="utf-8")

    def fail_at(target: StorePath) -> None:
        with drafted(target) as draft:
            draft.write_text("half", encoding="utf-8")
            raise OSError("the reason")

    for target in (kept, root / "deep" / "er" / "b.json"):
        with pytest.raises(OSError, match="the reason"):
            fail_at(target)
    assert kept.read_text(encoding="utf-8") == "kept"
    assert [place.name for place in root.iterdir()] == ["kept.json"]


def test_on_a_store_the_next_process_removes_what_a_killed_one_left(store: str) -> None:
    target = StorePath(store) / "table"
    killed = StoreScratch(target)
    write_table(killed.draft, "part-of-the-killed")
    with drafted(target) as draft:
        write_table(draft, "part-0")
    assert names(target.parent) == ["/table/_SUCCESS", "/table/part-0"]


class KilledError(BaseException):
    """Stands for the end of the process in the middle of a move."""


@pytest.mark.parametrize("existed", [True, False])
def test_on_a_store_a_move_that_was_cut_off_is_no_table(
    store: str, existed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 copies file by file: at no time do the marker and half of the files stand together."""
    target = StorePath(store) / "table"
    if existed:
        with drafted(target) as draft:
            write_table(draft, "old-0", "old-1")
    seen = []

    def copy_some(source: str, destination: str, **_: object) -> None:
        seen.append(is_whole(target))
        with target.fs.open(f"{destination}/part-1", "wb") as file:
            file.write(b"part-1")
        raise KilledError

    scratch = StoreScratch(target)
    write_table(scratch.draft, "part-0", "part-1")
    with monkeypatch.context() as patched:
        patched.setattr(type(target.fs), "mv", staticmethod(copy_some))
        with pytest.raises(KilledError):
            scratch.put_in_place()
    assert seen == [False]
    assert not is_whole(target)
    with drafted(target) as draft:
        write_table(draft, "part-0", "part-1")
    assert is_whole(target)
    assert names(target.parent) == ["/table/_SUCCESS", "/table/part-0", "/table/part-1"]


def test_on_a_store_a_table_that_was_half_removed_is_none(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = StorePath(store) / "table"
    with drafted(target) as draft:
        write_table(draft, "old-0", "old-1")
    remove = target.fs.rm

    def remove_some(path: str, **options: bool) -> None:
        if path == target.inner:
            remove(f"{path}/old-0")
            raise KilledError
        remove(path, **options)

    scratch = StoreScratch(target)
    write_table(scratch.draft, "new-0")
    monkeypatch.setattr(target.fs, "rm", remove_some)
    with pytest.raises(KilledError):
        scratch.put_in_place()
    assert (target / "old-1").is_file()
    assert not is_whole(target)


def test_on_a_store_a_move_of_less_than_all_is_an_error(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDFS answers "no" to a rename that it cannot do, and its driver passes that over."""
    target = StorePath(store) / "table"
    scratch = StoreScratch(target)
    write_table(scratch.draft, "part-0")
    monkeypatch.setattr(type(target.fs), "mv", lambda *_, **__: None)
    with pytest.raises(StoreError, match=r"table is not all of .*-draft/table, which was"):
        scratch.put_in_place()
    monkeypatch.undo()
    write_table(scratch.draft)
    scratch.put_in_place()
    assert is_whole(target)
