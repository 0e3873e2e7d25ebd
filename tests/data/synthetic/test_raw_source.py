"""Logs that are made here, and what says that a folder holds one."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.data.raw.manifest import LogOrigin
from llm_ctr_pipeline.data.raw.raw_log import (
    CheckedLog,
    check_raw_log,
    describe_files,
    open_raw_rows,
    write_raw_rows,
)
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import RecodedLog, Recoding
from llm_ctr_pipeline.data.synthetic.generated_log import (
    GeneratedLogSettings,
    provide_generated_log,
)
from llm_ctr_pipeline.data.synthetic.manifest import read_manifest
from llm_ctr_pipeline.data.synthetic.raw_source import leave_as_it_is, origin_of, recode

SETTINGS = GeneratedLogSettings(
    train_rows=300, valid_rows=50, test_rows=100, seed=7, click_rate=0.3
)
RECODING = Recoding(valid_share=0.2, test_share=0.2, seed=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my_log"
    provide_generated_log(folder, SETTINGS)
    return folder


def checked(connection: Backend, folder: Path, log: LogSchema) -> CheckedLog:
    """Read and check the log in a folder, which comes from wherever its manifest says."""
    rows = folder.with_name("rows")
    write_raw_rows(connection, describe_files(folder, log, origin_of(folder)), rows)
    raw_rows = open_raw_rows(connection, rows)
    return CheckedLog(raw_rows, check_raw_log(raw_rows, 1))


def log_rows(folder: Path) -> list[int]:
    """Which rows of the log at hand a recoded one holds."""
    tables = [pq.read_table(file) for file in folder.glob("*_truth.parquet")]
    return sorted(row for table in tables for row in table["log_row"].to_pylist())


def test_a_folder_of_its_own_stays_and_has_no_origin(folder: Path) -> None:
    (folder / "generated_log.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    leave_as_it_is(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert origin_of(folder) is None


def test_of_the_generated_log_all_rows_are_recoded(
    connection: Backend, folder: Path, x4: LogSchema, tmp_path: Path
) -> None:
    log = checked(connection, folder, x4)
    recode(tmp_path / "x1", "x1", log, RECODING)
    assert log_rows(tmp_path / "x1") == [*range(450)]
    manifest = read_manifest(tmp_path / "x1", RecodedLog)
    assert manifest is not None
    assert manifest.log is not None
    assert manifest.log.made_from.splits.keys() == {"train", "valid", "test"}
    assert manifest.best_auc is not None
    assert origin_of(tmp_path / "x1") == LogOrigin(
        source="generated log", best_auc=manifest.best_auc
    )
    assert origin_of(folder) == LogOrigin(source="generated log", best_auc=log.raw_log.best_auc)


def test_of_another_log_the_training_rows_alone_are_recoded(
    connection: Backend, folder: Path, x4: LogSchema, tmp_path: Path
) -> None:
    """Rows of its test split must not be trained on."""
    (folder / "generated_log.json").unlink()
    log = checked(connection, folder, x4)
    recode(tmp_path / "x2", "x2", log, RECODING)
    assert log_rows(tmp_path / "x2") == [*range(300)]
    manifest = read_manifest(tmp_path / "x2", RecodedLog)
    assert manifest is not None
    assert manifest.log is not None
    assert manifest.log.made_from.splits == {"train": log.raw_log.splits["train"].fingerprint}
    source = "re-encoded from x4's training rows"
    assert origin_of(tmp_path / "x2") == LogOrigin(source=source, best_auc=None)


def test_a_folder_that_holds_the_recoded_log_is_left(
    connection: Backend, folder: Path, x4: LogSchema, tmp_path: Path
) -> None:
    log = checked(connection, folder, x4)
    recode(tmp_path / "x1", "x1", log, RECODING)
    written = (tmp_path / "x1" / "train.csv").stat().st_mtime_ns
    recode(tmp_path / "x1", "x1", log, RECODING)
    assert (tmp_path / "x1" / "train.csv").stat().st_mtime_ns == written
