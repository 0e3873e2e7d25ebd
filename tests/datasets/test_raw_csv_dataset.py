from pathlib import Path

import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.schema import AVAZU_X4
from llm_ctr_pipeline.datasets.raw_csv import RawCsvDataset


def test_it_loads_strings(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(",".join(AVAZU_X4.raw_columns) + "\n" + ",".join(["00012"] * 24) + "\n")
    raw = RawCsvDataset(str(path), schema="x4").load()
    assert raw.path == path
    assert raw.table.site_id.to_pyarrow().to_pylist() == ["00012"]


def test_the_message_survives_kedros_wrapping(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("id,click\n")
    with pytest.raises(DatasetError, match=r"train\.csv, line 1: missing column 'hour'") as error:
        RawCsvDataset(str(path), schema="x4").load()
    assert isinstance(error.value.__cause__, RawLogError)


def test_raw_data_is_never_written(tmp_path: Path) -> None:
    dataset = RawCsvDataset(str(tmp_path / "train.csv"), schema="x4")
    with pytest.raises(DatasetError, match="never written"):
        dataset.save("anything")
    assert [*tmp_path.iterdir()] == []


def test_an_unknown_schema_is_refused() -> None:
    with pytest.raises(DatasetError, match="schema 'x9' is unknown"):
        RawCsvDataset("train.csv", schema="x9")
