import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from kedro.io import DataCatalog
from kedro.runner import SequentialRunner
from sklearn.metrics import log_loss, roc_auc_score

from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.pipelines.train import create_pipeline
from llm_ctr_pipeline.pipelines.train.nodes import log_validation
from llm_ctr_pipeline.training.checkpoint import Checkpoint
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.stages import StageRun
from tests.conftest import VALIDATION
from tests.records import rewrite

OUTPUTS = create_pipeline().all_outputs()
PER_EPOCH = {
    "stage": str,
    "dataset": str,
    "epoch": float,
    "step": int,
    "train_loss": float,
    "train_accuracy": float,
    "valid_loss": float,
    "valid_accuracy": float,
    "valid_auc": float,
    "valid_logloss": float,
    "lr": float,
    "seconds": float,
    "rows_per_second": float,
    "improved": bool,
    "best": bool,
}
# Overfits after some epochs, so that the best weights are not the last.
OVERFITTING = {"epochs": 40, "patience": 3, "lr": 0.005, "encoder_lr": 0.01}


@pytest.fixture(scope="module")
def trained(
    make_catalog: Callable[..., DataCatalog], tmp_path_factory: pytest.TempPathFactory
) -> DataCatalog:
    """The catalog after a training that went on past its best epoch."""
    catalog = make_catalog(OUTPUTS, tmp_path_factory.mktemp("state"), **OVERFITTING)
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog


def rows_of(catalog: DataCatalog, split: str) -> pa.Table:
    table: pa.Table = pq.read_table(catalog.load(f"{split}_encoded").path)
    return table


def score_by_hand(checkpoint: Checkpoint, rows: pa.Table) -> np.ndarray:
    """Score rows one by one, in the order they come in, from columns and weights alone."""
    model = checkpoint.build()
    names = [field.name for field in checkpoint.feature_map.fields]
    ids_NF = torch.tensor([[row[name] for name in names] for row in rows.to_pylist()])
    with torch.inference_mode():
        scores = [torch.sigmoid(model(ids_F[None]).double()).item() for ids_F in ids_NF]
    return np.array(scores)


def test_the_run_gives_all_that_it_promises(trained: DataCatalog) -> None:
    for name in OUTPUTS:
        assert trained.load(name) is not None, name
    for name in ("learning_curve", "roc_test", "calibration_test"):
        assert isinstance(trained.load(f"single_phase.{name}"), go.Figure)


def test_training_results_hold_every_epoch(trained: DataCatalog) -> None:
    results = trained.load("single_phase.training_results").to_json()
    assert json.loads(json.dumps(results)) == results
    assert results["path"] == "single_phase"
    assert results["dataset"] == "x4"
    assert results["source"] == "generated log"
    assert results["seed"] == 42
    assert results["stopped_early"] is True
    steps_an_epoch = -(-2000 // 128)
    for number, epoch in enumerate(results["epochs"], start=1):
        assert {key: type(value) for key, value in epoch.items()} == PER_EPOCH
        assert epoch["epoch"] == number
        assert epoch["step"] == number * steps_an_epoch
        assert 0 <= epoch["valid_auc"] <= 1
        assert 0 <= epoch["train_accuracy"] <= 100
        assert epoch["valid_loss"] == pytest.approx(epoch["valid_logloss"])
        assert epoch["rows_per_second"] == pytest.approx(2000 / epoch["seconds"])
    best = max(results["epochs"], key=lambda epoch: epoch["valid_auc"])
    assert [epoch["best"] for epoch in results["epochs"]].count(True) == 1
    assert best["best"]
    assert (best["stage"], best["dataset"]) == ("end_to_end", "x4")
    assert best.items() >= results["best"].items()
    assert len(results["epochs"]) == best["epoch"] + OVERFITTING["patience"]
    assert results["seconds"] == pytest.approx(sum(e["seconds"] for e in results["epochs"]))
    rows = 2000 * len(results["epochs"])
    assert results["rows_per_second"] == pytest.approx(rows / results["seconds"])
    (stage,) = results["stages"]
    assert (stage["stage"], stage["dataset"], stage["best"]) == (
        *("end_to_end", "x4"),
        results["best"],
    )
    model = trained.load("single_phase.best_model").build()
    weights = sum(weight.numel() for weight in model.parameters())
    assert results["parameters"] == results["trained_parameters"] == weights


def test_the_checkpoint_holds_the_best_weights_not_the_last(trained: DataCatalog) -> None:
    results = trained.load("single_phase.training_results").to_json()
    assert results["best"]["epoch"] < results["epochs"][-1]["epoch"]
    checkpoint = trained.load("single_phase.best_model")
    rows = rows_of(trained, "valid").sort_by("row")
    auc = roc_auc_score(rows["label"].to_numpy(), score_by_hand(checkpoint, rows))
    assert auc == pytest.approx(results["best"]["valid_auc"], abs=1e-4)
    assert auc != pytest.approx(results["epochs"][-1]["valid_auc"], abs=1e-3)
    assert checkpoint.training.best.to_json() == results["best"]


def test_the_best_checkpoint_is_what_is_tested(trained: DataCatalog) -> None:
    rows = rows_of(trained, "test").sort_by("row")
    by_hand = score_by_hand(trained.load("single_phase.best_model"), rows)
    predictions = trained.load("single_phase.test_predictions")
    assert list(predictions.columns) == ["label", "probability"]
    assert predictions["label"].tolist() == rows["label"].to_pylist()
    np.testing.assert_allclose(predictions["probability"], by_hand, rtol=1e-5)
    # Rows alone and rows in a batch are rounded differently, so those whose probabilities are the
    # same to 1e-5 may change places: the AUC is that of the predictions, which stand in for them.
    report = trained.load("single_phase.evaluation_test")
    labels, probabilities = predictions["label"], predictions["probability"]
    assert report.auc == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    assert report.logloss == pytest.approx(log_loss(labels, probabilities), abs=1e-12)
    assert report.logloss == pytest.approx(log_loss(labels, by_hand), rel=1e-5)


def test_the_order_of_stored_rows_changes_nothing(
    trained: DataCatalog, make_catalog: Callable[..., DataCatalog], tmp_path: Path
) -> None:
    """Parquet keeps an order, a table does not: rows go by their number."""
    catalog = make_catalog(OUTPUTS, tmp_path, **OVERFITTING)
    for split in ("train", "valid", "test"):
        rows = rows_of(catalog, split)
        order = np.random.default_rng(1).permutation(rows.num_rows)
        pq.write_table(rows.take(order), tmp_path / f"{split}.parquet")
        catalog.save(f"{split}_encoded", EncodedFile(tmp_path / f"{split}.parquet"))
    SequentialRunner().run(create_pipeline(), catalog)
    name = "single_phase.test_predictions"
    assert catalog.load(name).equals(trained.load(name))


def test_streamed_rows_train_as_those_in_memory_but_for_their_order(
    trained: DataCatalog, make_catalog: Callable[..., DataCatalog], tmp_path: Path
) -> None:
    found = {}
    for rows_in in ("memory", "stream"):
        settings = {"epochs": 2, "rows_in": rows_in, "stream_buffer_rows": 300}
        catalog = make_catalog(OUTPUTS, tmp_path / rows_in, **settings)
        rows = rows_of(catalog, "train")
        pq.write_table(rows, tmp_path / "train.parquet", row_group_size=100)
        catalog.save("train_encoded", EncodedFile(tmp_path / "train.parquet"))
        SequentialRunner().run(create_pipeline(), catalog)
        results = catalog.load("single_phase.training_results").to_json()
        found[rows_in] = [epoch["train_loss"] for epoch in results["epochs"]]
        assert [epoch["step"] for epoch in results["epochs"]] == [16, 32]
    assert found["stream"] != found["memory"]
    assert found["stream"] == pytest.approx(found["memory"], rel=0.02)


def other_feature_map(data: Path) -> None:
    path = data / "04_feature/x4/feature_map.json"
    rewrite(path, lambda content: content.update(fingerprint="0" * 64))


def other_raw_log(data: Path) -> None:
    path = data / "02_intermediate/x4/raw_log.json"
    rewrite(path, lambda content: content["splits"]["test"].update(fingerprint="0" * 64))


def one_class(split: str, label: int) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        path = data / f"05_model_input/x4/{split}.parquet"
        rows = pq.read_table(path)
        labels = pa.array([label] * rows.num_rows, pa.int8())
        position = rows.column_names.index("label")
        pq.write_table(rows.set_column(position, "label", labels), path)
        rewrite(
            data / "05_model_input/x4/summary.json",
            lambda content: content["splits"][split].update(clicks=label * rows.num_rows),
        )

    return spoil


def nothing(data: Path) -> None:
    """Leave the data as they are: the settings are what is wrong."""


FAILURES: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "feature map of another preprocessing": (
        other_feature_map,
        {},
        "preprocessing was interrupted",
    ),
    "log of another preprocessing": (other_raw_log, {}, "preprocessing was interrupted"),
    "valid without clicks": (
        one_class("valid", 0),
        {},
        "valid split of x4 has 0 clicks in 500",
    ),
    "test without clicks": (one_class("test", 0), {}, "test split of x4 has 0 clicks in 500"),
    "test of clicks alone": (
        one_class("test", 1),
        {},
        "test split of x4 has 500 clicks in 500",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_training_leaves_the_earlier_one_as_it_was(
    failure: str,
    trained_project: Path,
    run_here: Callable[..., None],
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    spoil, params, message = FAILURES[failure]
    before = snapshot(trained_project)
    spoil(trained_project / "data")
    with pytest.raises(ValueError, match=re.escape(message)):
        run_here(trained_project, "train", params=params)
    assert snapshot(trained_project) == before


def test_a_training_that_diverges_leaves_the_earlier_one_as_it_was(
    trained_project: Path,
    run_here: Callable[..., None],
    snapshot: Callable[[Path], dict[str, bytes]],
    diverging: None,
) -> None:
    before = snapshot(trained_project)
    with pytest.raises(ArithmeticError, match="the training loss became nan by step 1 "):
        run_here(trained_project, "train", params={"training": {"seed": 7}})
    assert snapshot(trained_project) == before


def test_a_training_that_succeeds_replaces_the_earlier_one(
    trained_project: Path,
    run_here: Callable[..., None],
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    """The other side of the test above: what it watches is what a training writes."""
    before = snapshot(trained_project)
    run_here(trained_project, "train", params={"training": {"seed": 7}})
    after = snapshot(trained_project)
    # The names of states say of which training they are.
    assert {name for name in before if name not in after} == {
        name for name in before if name.endswith(".pt")
    }
    assert len(before) == len(after)
    changed = {name for name in after if before.get(name) != after[name]}
    assert {
        "data/06_models/single_phase/best_model/model.safetensors",
        "data/06_models/single_phase/best_model/config.json",
        "data/07_model_output/single_phase/x4_test_predictions.parquet",
        "data/08_reporting/single_phase/training_results.json",
        "data/08_reporting/single_phase/evaluation_x4_test.json",
        "data/08_reporting/single_phase/learning_curve.html",
    } <= changed


def test_figures_of_the_last_stage_alone_have_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    monkeypatch.setattr(mlflow, "log_metrics", lambda figures, step: logged.append((figures, step)))
    record = ValidationRecord(**VALIDATION)
    log_validation(StageRun("first", "x1", 0, last=False), record)
    assert logged == []  # no run is active
    monkeypatch.setattr(mlflow, "active_run", object)
    for run in (StageRun("first", "x1", 0, last=False), StageRun("second", "x4", 1, last=True)):
        log_validation(run, record)
    (first, step), (last, _) = logged
    assert step == record.step
    assert last["valid/auc"] == first["first/x1/valid/auc"] == record.valid_auc
    assert last.pop("best_valid_auc") == record.valid_auc
    assert {f"first/x1/{name}" for name in last} == first.keys()
    assert {"train/loss", "train/lr", "valid/logloss"} <= last.keys()
    assert not {"train/step", "train/improved"} & last.keys()


def test_a_worse_validation_is_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, float]] = []
    monkeypatch.setattr(mlflow, "log_metrics", lambda figures, step: logged.append(figures))
    monkeypatch.setattr(mlflow, "active_run", object)
    record = ValidationRecord(**VALIDATION | {"improved": False})
    log_validation(StageRun("only", "x4", 0, last=True), record)
    assert "best_valid_auc" not in logged[0]
