import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.errors import StaleDataError
from llm_ctr_pipeline.datasets.raw_rows import RawRowsDataset


def cut_off(folder: Path) -> None:
    part = min(folder.glob("train.parquet/*.parquet"), default=folder / "train.parquet")
    part.write_bytes(part.read_bytes()[:-10])


def without_a_key(folder: Path) -> None:
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"source"', '"sauce"', 1))


def another_row(folder: Path) -> None:
    part = min(folder.glob("train.parquet/*.parquet"), default=folder / "train.parquet")
    rows = pq.read_table(part)
    pq.write_table(pa.concat_tables([rows.slice(1, 1), rows.slice(1)]), part)


def train_for_test(folder: Path) -> None:
    shutil.rmtree(folder / "test.parquet", ignore_errors=True)
    (folder / "test.parquet").unlink(missing_ok=True)
    source = folder / "train.parquet"
    (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / "test.parquet")


def another_fingerprint(folder: Path) -> None:
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"fingerprint": "', '"fingerprint": "0', 1))


def no_json(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_off, "train.parquet is damaged, or not what manifest.json beside it names"),
        (another_row, "train.parquet is damaged, or not what manifest.json beside it names"),
        (train_for_test, "test.parquet is damaged, or not what manifest.json beside it names"),
        (without_a_key, "it lacks source; it has sauce"),
        (another_fingerprint, "it was changed"),
        (no_json, "cut off or no JSON"),
    ],
)
def test_damaged_rows_are_named(
    finished_run: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "raw_rows"
    shutil.copytree(finished_run / "data/02_intermediate/x4/raw_rows", folder)
    assert RawRowsDataset(str(folder)).load().manifest.log.dataset == "x4"
    damage(folder)
    with pytest.raises(DatasetError) as refused:
        RawRowsDataset(str(folder)).load()
    refusal = refusal_in(refused.value)
    assert isinstance(refusal, StaleDataError)
    assert str(refusal).startswith(str(folder))
    assert said in str(refusal)
    assert "\n" not in str(refusal)
