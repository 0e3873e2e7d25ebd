import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import AbstractDataset, DatasetError

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, FitSource
from llm_ctr_pipeline.datasets.figure import FigureDataset
from llm_ctr_pipeline.datasets.record import RecordDataset
from llm_ctr_pipeline.datasets.results import MarkdownDataset, PredictionsDataset, TextDataset

FEATURE_MAP = FeatureMap(
    dataset="x4",
    fields=(),
    min_count=2,
    fit_on=FitSource(source="", file="", rows=0, clicks=0, fingerprint=""),
    fingerprint="",
)
PREDICTIONS = pd.DataFrame({"label": [0, 1], "probability": [0.25, 0.1 + 0.2]})


def test_predictions_come_back(tmp_path: Path) -> None:
    dataset = PredictionsDataset(str(tmp_path / "new" / "predictions.parquet"))
    dataset.save(PREDICTIONS)
    assert dataset.load().equals(PREDICTIONS)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["predictions.parquet"]
    assert dataset.preview(1)["data"] == [[0, 0.25]]
    # Kedro-Viz picks its view by the name of what preview returns.
    assert PredictionsDataset.preview.__annotations__["return"].__name__ == "TablePreview"


def test_kedro_viz_gets_nothing_of_what_is_not_there(tmp_path: Path) -> None:
    """It would log a warning for each."""
    assert PredictionsDataset(str(tmp_path / "predictions.parquet")).preview() is None
    assert MarkdownDataset(str(tmp_path / "comparison.md")).preview() is None
    assert FigureDataset(filepath=str(tmp_path / "roc.json")).preview() is None


def test_kedro_viz_gets_the_first_table_of_a_text(tmp_path: Path) -> None:
    dataset = MarkdownDataset(str(tmp_path / "comparison.md"))
    dataset.save("# x4\n\n| model | AUC |\n| :-- | --: |\n| a | 0.8 |\n| b | – |\n\n| c |\n| - |\n")
    assert dataset.preview() == {
        "index": [0, 1],
        "columns": ["model", "AUC"],
        "data": [["a", "0.8"], ["b", "–"]],
    }


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


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 30 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("make", "first", "second"),
    [
        (PredictionsDataset, PREDICTIONS, PREDICTIONS.assign(label=[1, 0])),
        (TextDataset, "a table", "another table, longer than the disk has room for"),
        (lambda file: FigureDataset(filepath=file), go.Figure(), go.Figure(go.Scatter(x=[1, 2]))),
        (lambda file: RecordDataset(file, "feature_map"), FEATURE_MAP, FEATURE_MAP),
    ],
    ids=["predictions", "text", "figure", "record"],
)
def test_a_full_disk_leaves_what_was_there(
    make: Callable[[str], AbstractDataset[Any, Any]], first: Any, second: Any, tmp_path: Path
) -> None:
    dataset = make(str(tmp_path / "results.json"))
    dataset.save(first)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(DatasetError) as refused, full_disk():
        dataset.save(second)
    assert isinstance(refusal_in(refused.value), StorageError)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
