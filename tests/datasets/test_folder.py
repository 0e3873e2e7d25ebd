from pathlib import Path

import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.datasets.folder import ExportDataset, FolderDataset


def test_it_hands_over_the_path(tmp_path: Path) -> None:
    assert FolderDataset(str(tmp_path / "not_there")).load() == tmp_path / "not_there"


def test_it_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="named in the catalog"):
        FolderDataset(str(tmp_path)).save(tmp_path)


class Written:
    """An export of one file."""

    def __init__(self, name: str, *, whole: bool = True) -> None:
        self.name, self.whole = name, whole

    def write(self, folder: Path) -> None:
        (folder / self.name).touch()
        assert self.whole, "cut off"


def test_an_export_replaces_an_earlier_one_as_a_whole(tmp_path: Path) -> None:
    dataset = ExportDataset(str(tmp_path / "export" / "torch"))
    assert not dataset.exists()
    dataset.save(Written("old"))
    with pytest.raises(DatasetError, match="cut off"):
        dataset.save(Written("half", whole=False))
    assert [file.name for file in dataset.load().iterdir()] == ["old"]
    dataset.save(Written("new"))
    assert [file.name for file in dataset.load().iterdir()] == ["new"]
