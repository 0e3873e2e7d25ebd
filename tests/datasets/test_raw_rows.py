import shutil
from collections.abc import Callable
from pathlib import Path

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


def no_json(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [(cut_off, "train.parquet"), (without_a_key, "it lacks source; it has sauce"), (no_json, "")],
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
    assert str(refusal).startswith(f"{folder} is damaged (")
    assert said in str(refusal)
    assert "\n" not in str(refusal)
