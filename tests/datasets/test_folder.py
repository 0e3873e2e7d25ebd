from pathlib import Path

import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.datasets.folder import FolderDataset


def test_it_hands_over_the_path(tmp_path: Path) -> None:
    assert FolderDataset(str(tmp_path / "not_there")).load() == tmp_path / "not_there"


def test_it_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="named in the catalog"):
        FolderDataset(str(tmp_path)).save(tmp_path)
