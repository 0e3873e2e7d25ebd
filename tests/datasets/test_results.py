from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.datasets.results import PredictionsDataset, TextDataset

PREDICTIONS = pd.DataFrame({"label": [0, 1], "probability": [0.25, 0.1 + 0.2]})


def test_predictions_come_back(tmp_path: Path) -> None:
    dataset = PredictionsDataset(str(tmp_path / "new" / "predictions.parquet"))
    dataset.save(PREDICTIONS)
    assert dataset.load().equals(PREDICTIONS)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["predictions.parquet"]
    assert dataset.preview(1)["data"] == [[0, 0.25]]
    # Kedro-Viz picks its view by the name of what preview returns.
    assert PredictionsDataset.preview.__annotations__["return"].__name__ == "TablePreview"


def test_those_of_another_run_are_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "predictions.parquet")
    ours, theirs = PredictionsDataset(file), PredictionsDataset(file)
    ours.save(PREDICTIONS)
    theirs.save(PREDICTIONS.assign(label=[1, 0]))
    with pytest.raises(DatasetError, match=r"predictions\.parquet was replaced by another run"):
        ours.load()


def test_a_text_comes_back(tmp_path: Path) -> None:
    dataset = TextDataset(str(tmp_path / "new" / "table.md"))
    dataset.save("| é |\n")
    assert dataset.load() == "| é |\n"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["table.md"]
