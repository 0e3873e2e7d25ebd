import multiprocessing
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.errors import StoreError
from llm_ctr_pipeline.data.storage.atomic import Scratch, StoreScratch, drafted
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
    multiprocessing.current_process().kill()


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
