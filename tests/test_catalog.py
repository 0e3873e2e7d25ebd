"""What a user gets who loads the catalog's entries after a first run, as in `kedro ipython`."""

import builtins
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import ibis
import ibis.expr.types as ir
import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, DatasetError

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.data.raw.raw_log import RawRows
from llm_ctr_pipeline.metrics.slices import Slices
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.training.checkpoint import Checkpoint
from llm_ctr_pipeline.training.history import TrainingResults

FOUND: dict[str, type] = {
    "raw_folder": Path,
    "raw_rows": RawRows,
    "raw_log": RawLog,
    "vocabulary": ir.Table,
    "feature_map": FeatureMap,
    "summary": DatasetSummary,
    **{f"{split}_encoded": EncodedFile for split in ("train", "valid", "test")},
    "single_phase.state_folder": Path,
    "single_phase.best_model": Checkpoint,
    "single_phase.training_results": TrainingResults,
    "single_phase.test_predictions": pd.DataFrame,
    "single_phase.evaluation_test": Evaluation,
    "single_phase.learning_curve": go.Figure,
    "single_phase.roc_test": go.Figure,
    "single_phase.calibration_test": go.Figure,
    "single_phase.scores_test": go.Figure,
    "single_phase.auc_by_value_test": go.Figure,
    "single_phase.auc_by_hour_test": go.Figure,
    "single_phase.slices_test": Slices,
    "single_phase.report_page": str,
}
RUN_FACTS = "run_facts"
METRICS = "single_phase.metrics_test"
WHY_NOT = (
    "No such file or directory",
    "run `kedro run --pipeline=",
    "not been saved yet",
    "is not there: `kedro run",
    "metrics are logged to MLflow",
    "known while it runs: its report.html has it",
)


@pytest.fixture(scope="module")
def catalog(finished_run: Path) -> Iterator[DataCatalog]:
    with (
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "path", sys.path[:]),
        contextlib.chdir(finished_run),
    ):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        bootstrap_project(finished_run)
        pipelines.set_requested(None)
        with KedroSession.create(finished_run, env="test") as session:
            yield session.load_context().catalog


def entries(*pipeline_names: str) -> list[str]:
    names = {name for pipeline in pipeline_names for name in pipelines[pipeline].datasets()}
    return sorted(name for name in names if not name.startswith("params:"))


def test_what_a_first_run_left_loads_and_is_readable(catalog: DataCatalog) -> None:
    assert entries("__default__") == sorted([*FOUND, METRICS, RUN_FACTS])
    for name, kind in FOUND.items():
        loaded = catalog.load(name)
        assert isinstance(loaded, kind), name
        assert isinstance(loaded, go.Figure) or len(repr(loaded)) < 30_000, name
    assert repr(catalog.load("single_phase.best_model")).startswith(
        "<Checkpoint of single_phase: llm_ctr, "
    )
    assert len(catalog.load("train_encoded")) == 2000


def test_metrics_say_where_they_are(catalog: DataCatalog) -> None:
    with pytest.raises(DatasetError, match="the report that was saved with them"):
        catalog.load(METRICS)


def test_a_table_shows_its_rows_to_who_looks_at_it(
    catalog: DataCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ibis.options, "interactive", False)
    assert repr(catalog.load("vocabulary")).startswith("DatabaseTable")
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    shown = repr(catalog.load("vocabulary"))
    assert shown.startswith("┏")
    assert "│" in shown


def test_encoded_rows_come_as_a_frame(catalog: DataCatalog) -> None:
    encoded = catalog.load("test_encoded")
    assert repr(encoded).endswith("test.parquet), .to_pandas() reads its rows>")
    assert encoded.to_pandas().shape == (500, 26)


@pytest.mark.parametrize("name", ["vocabulary", "test_encoded", "single_phase.test_predictions"])
def test_kedro_viz_gets_the_first_rows_of_a_table(catalog: DataCatalog, name: str) -> None:
    shown = json.loads(json.dumps(catalog.get(name).preview(nrows=3)))  # type: ignore[union-attr]
    assert len(shown["data"]) == 3
    assert len(shown["columns"]) == len(shown["data"][0]) > 1


def error_of(catalog: DataCatalog, name: str) -> DatasetError | None:
    try:
        catalog.load(name)
    except DatasetError as error:
        return error
    return None


def test_what_was_not_made_says_so(catalog: DataCatalog) -> None:
    made = {*FOUND, METRICS}
    others = [name for name in entries(*pipelines) if name not in made]
    refused = [str(error) for name in others if (error := error_of(catalog, name)) is not None]
    assert len(refused) > 50
    assert [error for error in refused if not any(why in error for why in WHY_NOT)] == []
