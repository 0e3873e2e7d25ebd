from pathlib import Path

import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.data.synthetic.raw_source import leave_as_it_is
from llm_ctr_pipeline.datasets.raw_folder import RawFolderDataset


def test_it_names_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    assert RawFolderDataset(str(tmp_path / "avazu_x4")).load() == tmp_path / "avazu_x4"


def test_a_log_that_is_given_is_never_written(tmp_path: Path) -> None:
    RawFolderDataset(str(tmp_path / "avazu_x4")).save(leave_as_it_is)
    assert [*tmp_path.iterdir()] == []


def test_nothing_but_a_log_is_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        RawFolderDataset(str(tmp_path / "avazu_x4")).save("anything")  # type: ignore[arg-type]
    assert [*tmp_path.iterdir()] == []
