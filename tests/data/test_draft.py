import multiprocessing
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.draft import Scratch, drafted


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
