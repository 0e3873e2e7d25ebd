"""A raw log as a whole: what it was read from, what its splits hold, whose check it was."""

import hashlib
import os
from pathlib import Path

import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import ROW, SPLITS, LogSchema
from llm_ctr_pipeline.data.raw.manifest import LogOrigin, RawLog
from llm_ctr_pipeline.data.raw.raw_log import (
    CheckedLog,
    check_raw_log,
    describe_files,
    open_raw_rows,
    write_raw_rows,
)
from tests.data.logs import changed, checked_log, log_of, splitting

LOG = log_of("site")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of ten rows a split, of which every third is clicked; sites tell splits and rows."""
    folder = tmp_path / "my_log"
    folder.mkdir()
    for split in SPLITS:
        rows = [f"{int(row % 3 == 0)},{split} {row}\n" for row in range(10)]
        (folder / f"{split}.csv").write_text("".join(["label,site\n", *rows]))
    return folder


def sites(checked: CheckedLog, split: str) -> list[str]:
    found: list[str] = checked.split(split).table.order_by(ROW).to_pyarrow()["site"].to_pylist()
    return found


def check(connection: Backend, folder: Path, log: LogSchema = LOG, nth: int = 1) -> CheckedLog:
    return checked_log(connection, folder, log, folder.with_name("rows"), nth)


def test_files_are_described_without_being_read(folder: Path) -> None:
    manifest = describe_files(folder, LOG)
    assert (manifest.source, manifest.best_auc, manifest.folder) == ("my_log", None, str(folder))
    for split in SPLITS:
        stat = (folder / f"{split}.csv").stat()
        file = manifest.files[split]
        assert (file.file, file.size, file.changed_ns, file.fingerprint) == (
            *(f"{split}.csv", stat.st_size, stat.st_mtime_ns),
            "",
        )
    (folder / "valid.csv").unlink()
    assert describe_files(folder, LOG).files.keys() == {"train", "test"}
    made_here = LogOrigin(source="generated log", best_auc={"test": 0.8})
    described = describe_files(folder, LOG, made_here)
    assert (described.source, described.best_auc) == ("generated log", {"test": 0.8})


def test_rows_are_of_files_that_did_not_change(connection: Backend, folder: Path) -> None:
    write_raw_rows(connection, describe_files(folder, LOG), folder.with_name("rows"))
    written = open_raw_rows(connection, folder.with_name("rows")).manifest
    assert written.files["test"].fingerprint == (
        hashlib.sha256((folder / "test.csv").read_bytes()).hexdigest()
    )
    assert written.is_of(describe_files(folder, LOG))
    assert not written.is_of(describe_files(folder, changed(LOG, splits=splitting(valid=0.5))))
    os.utime(folder / "train.csv", ns=(0, 0))
    assert not written.is_of(describe_files(folder, LOG))


def test_a_split_is_its_file_or_the_part_of_train_that_is_held_out(
    connection: Backend, folder: Path
) -> None:
    checked = check(connection, folder, changed(LOG, splits=splitting(valid=0.5)))
    found = checked.raw_log.splits
    assert {split: (found[split].file, found[split].rows) for split in SPLITS} == {
        "train": ("train.csv", 5),
        "valid": ("train.csv", 5),
        "test": ("test.csv", 10),
    }
    assert {split: found[split].clicks for split in SPLITS} == {"train": 2, "valid": 2, "test": 4}
    assert sorted(sites(checked, "train") + sites(checked, "valid")) == [
        f"train {row}" for row in range(10)
    ]
    assert [checked.split(split).is_part for split in SPLITS] == [True, True, False]
    whole = hashlib.sha256((folder / "test.csv").read_bytes()).hexdigest()
    assert found["test"].fingerprint == whole
    assert len({found[split].fingerprint for split in SPLITS}) == 3


def test_every_nth_row_of_each_file_is_taken_and_counted(connection: Backend, folder: Path) -> None:
    checked = check(connection, folder, nth=2)
    found = checked.raw_log.splits["valid"]
    assert (found.rows, found.clicks) == (5, 2)
    assert sites(checked, "valid") == [f"valid {row}" for row in (0, 2, 4, 6, 8)]
    # Rows 0, 3, 6 and 9 are those that were clicked.
    with pytest.raises(RawLogError, match=r"train\.csv: all 4 rows of the train split .* label 1"):
        check_raw_log(checked.rows, every_nth_row=3)


def test_rows_that_were_read_again_since_the_check_are_refused(
    connection: Backend, folder: Path
) -> None:
    checked = check(connection, folder)
    (folder / "valid.csv").write_text("label,site\n0,other\n1,rows\n")
    again = folder.with_name("read_again")
    write_raw_rows(connection, describe_files(folder, LOG), again)
    rows = open_raw_rows(connection, again)
    with pytest.raises(RawLogError, match="read_again holds other rows than those that were check"):
        CheckedLog(rows, checked.raw_log)
    assert sites(CheckedLog(rows, check_raw_log(rows, 1)), "valid") == ["other", "rows"]


def test_what_the_check_found_survives_json(connection: Backend, folder: Path) -> None:
    checked = check(connection, folder, changed(LOG, splits=splitting(test=0.3)))
    raw_log = RawLog.from_json(checked.raw_log.to_json())
    assert raw_log == checked.raw_log
    assert sites(CheckedLog(checked.rows, raw_log), "test") == sites(checked, "test")
