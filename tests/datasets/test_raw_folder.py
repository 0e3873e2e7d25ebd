from pathlib import Path

import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.datasets.raw_folder import RawFolderDataset


def test_it_names_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    folder = RawFolderDataset(
        str(tmp_path / "avazu_x4"), rows={"path": str(tmp_path / "rows")}
    ).load()
    assert folder.path == tmp_path / "avazu_x4"
    assert folder.connection.name == "duckdb"


def test_raw_data_is_never_written(tmp_path: Path) -> None:
    dataset = RawFolderDataset(str(tmp_path / "avazu_x4"), rows={"path": str(tmp_path / "rows")})
    with pytest.raises(DatasetError, match="never written"):
        dataset.save("anything")
    assert [*tmp_path.iterdir()] == []
