import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest
from kedro.io import DataCatalog, DatasetError
from kedro.runner import SequentialRunner
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from llm_ctr_pipeline.data.errors import EncodedDataError, SettingsError
from llm_ctr_pipeline.data.features.feature_map import FingerprintError
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.pipelines.evaluate import create_pipeline
from llm_ctr_pipeline.pipelines.evaluate.pipeline import FIGURES
from llm_ctr_pipeline.training.checkpoint import load_checkpoint

OUTPUTS = create_pipeline().all_outputs()
BEST_MODEL = Path("data/06_models/single_phase/best_model")
REPORTING = Path("data/08_reporting/single_phase")
REPORT: dict[str, type] = {
    "path": str,
    "dataset": str,
    "model": str,
    "split": str,
    "loss": float,
    "auc": float,
    "auc_low": float,
    "auc_high": float,
    "logloss": float,
    "accuracy": float,
    "expected_calibration_error": float,
    "calibration_ratio": float,
    "click_rate": float,
    "rows": int,
    "best_possible_auc": float,
    "share_of_best": float,
    "group_by": type(None),
    "gauc": type(None),
    "gauc_rows": type(None),
    "source": str,
    "data_fingerprint": str,
    "feature_map_fingerprint": str,
    "checkpoint": str,
    "predictions": str,
    "trained": dict,
    "timestamp": str,
    "serving_precision": type(None),
}


@pytest.fixture(scope="module")
def evaluate(
    finished_run: Path, make_catalog: Callable[..., DataCatalog], tmp_path_factory: Any
) -> Callable[..., DataCatalog]:
    """Test the finished run's checkpoint on a split in memory."""

    def run(
        split: str,
        order: Callable[[int], np.ndarray] = np.arange,
        summary: dict[str, Any] | None = None,
        **settings: str | None,
    ) -> DataCatalog:
        folder = tmp_path_factory.mktemp("state")
        catalog = make_catalog(OUTPUTS, folder, split=split)
        chosen = catalog.load("params:evaluation").model_copy(update=settings)
        catalog["params:evaluation"] = chosen
        rows = pq.read_table(catalog.load(f"{split}_encoded").path)
        pq.write_table(rows.take(order(rows.num_rows)), folder / "rows.parquet")
        catalog["evaluated_rows"] = EncodedFile(folder / "rows.parquet")
        catalog["evaluated_model"] = load_checkpoint(finished_run / BEST_MODEL)
        catalog["evaluated_summary"] = catalog.load("summary").model_copy(update=summary)
        SequentialRunner().run(create_pipeline(), catalog)
        return catalog

    return run


@pytest.fixture(scope="module")
def tested(evaluate: Callable[..., DataCatalog]) -> DataCatalog:
    return evaluate("valid")


def read(project: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / REPORTING / name).read_text())
    return content


def test_the_report_holds_the_metrics_of_the_whole_split(tested: DataCatalog) -> None:
    report = tested.load("evaluation_report").to_json()
    assert json.loads(json.dumps(report)) == report
    assert {key: type(value) for key, value in report.items()} == REPORT
    predictions = tested.load("evaluation_predictions")
    labels, scores = predictions["label"], predictions["probability"]
    assert (report["path"], report["dataset"], report["split"]) == ("single_phase", "x4", "valid")
    assert report["rows"] == len(predictions) == 500
    assert report["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert report["auc_low"] < report["auc"] < report["auc_high"]
    assert report["loss"] == report["logloss"] == pytest.approx(log_loss(labels, scores))
    assert report["accuracy"] == pytest.approx(100 * accuracy_score(labels, scores > 0.5))
    assert report["calibration_ratio"] == pytest.approx(scores.mean() / labels.mean())
    best = tested.load("summary").best_auc["valid"]
    assert report["best_possible_auc"] == best
    assert report["share_of_best"] == pytest.approx((report["auc"] - 0.5) / (best - 0.5))
    assert report["source"] == "generated log"
    assert datetime.datetime.fromisoformat(report["timestamp"]).tzinfo is not None


def test_every_figure_of_the_report_is_tracked(tested: DataCatalog) -> None:
    report = tested.load("evaluation_report").to_json()
    tracked = tested.load("evaluation_metrics")
    assert report.pop("loss") == report["logloss"]  # so it is tracked once
    expected = {f"valid/{key}": value for key, value in report.items() if type(value) is float}
    assert {key: entry["value"] for key, entry in tracked.items()} == expected
    assert {"valid/auc", "valid/logloss", "valid/share_of_best"} <= set(tracked)
    assert {entry["step"] for entry in tracked.values()} == {report["trained"]["best"]["step"]}


def test_rows_are_ranked_within_the_values_of_a_field(
    tested: DataCatalog, evaluate: Callable[..., DataCatalog]
) -> None:
    found = evaluate("valid", group_by="site_id")
    report, predictions = found.load("evaluation_report"), found.load("evaluation_predictions")
    plain = tested.load("evaluation_predictions")
    assert [*plain] == ["label", "probability"]
    assert predictions[[*plain]].equals(plain)
    rows = pq.read_table(found.load("evaluated_rows").path).sort_by("row")
    assert predictions["group"].tolist() == rows["site_id"].to_pylist()
    aucs, weights = [], []
    for group, of_group in predictions.groupby("group"):
        if group != 0 and of_group["label"].nunique() == 2:
            aucs.append(roc_auc_score(of_group["label"], of_group["probability"]))
            weights.append(len(of_group))
    assert (report.group_by, report.gauc_rows) == ("site_id", sum(weights))
    assert 0 < report.gauc_rows < report.rows
    assert report.gauc == pytest.approx(np.average(aucs, weights=weights))
    assert found.load("evaluation_metrics")["valid/gauc"]["value"] == report.gauc


def test_a_group_that_is_no_field_is_refused(evaluate: Callable[..., DataCatalog]) -> None:
    with pytest.raises(SettingsError, match="user, which is no field of x4: its"):
        evaluate("valid", group_by="user")


def test_a_model_is_tested_as_it_is_served(
    tested: DataCatalog, evaluate: Callable[..., DataCatalog]
) -> None:
    trained = tested.load("evaluation_predictions")["probability"]
    found = {}
    for precision, tolerance in (("32-true", 1e-5), ("bf16", 0.05), ("int8", 0.05)):
        served = evaluate("valid", serving_precision=precision)
        assert served.load("evaluation_report").title == f"single_phase/{precision} on x4 valid"
        found[precision] = served.load("evaluation_predictions")["probability"]
        np.testing.assert_allclose(found[precision], trained, rtol=tolerance)
    assert (found["bf16"] != found["32-true"]).mean() > 0.9
    assert (found["int8"] != found["32-true"]).mean() > 0.9


def test_figures_are_drawn(tested: DataCatalog) -> None:
    for name in FIGURES:
        figure = tested.load(f"evaluation_{name}")
        assert isinstance(figure, go.Figure)
        assert "single_phase on x4 valid" in figure.layout.title.text


def test_slices_are_those_of_the_rows_with_each_value(tested: DataCatalog) -> None:
    slices, predictions = tested.load("evaluation_slices"), tested.load("evaluation_predictions")
    rows = pq.read_table(tested.load("evaluated_rows").path).sort_by("row")
    vocabulary = tested.load("evaluated_model").vocabulary.to_pylist()
    values = {(entry["field"], entry["id"]): entry["value"] for entry in vocabulary}
    assert slices.hour == "hour"
    assert len({one.field for one in slices.slices}) > 1  # of 500 rows
    for one in slices.slices:
        of_value = predictions[np.equal(rows[one.field].to_numpy(), one.id)]
        assert (one.rows, one.clicks) == (len(of_value), of_value["label"].sum())
        assert one.auc == pytest.approx(roc_auc_score(of_value["label"], of_value["probability"]))
        assert one.value == values.get((one.field, one.id))
        assert (one.value is None) == (one.id == 0)


def test_the_report_of_a_test_says_what_came_out(tested: DataCatalog) -> None:
    page, report = tested.load("evaluation_page"), tested.load("evaluation_report")
    assert f"<strong>AUC {report.auc:.4f}</strong>" in page
    assert "single_phase on x4 valid" in page
    assert "Learning curve" not in page  # the training was another run's


def test_predictions_are_in_the_order_of_the_rows_numbers(
    tested: DataCatalog, evaluate: Callable[..., DataCatalog]
) -> None:
    shuffled = evaluate("valid", order=np.random.default_rng(3).permutation)
    expected = tested.load("evaluation_predictions")
    assert shuffled.load("evaluation_predictions").equals(expected)
    rows = pq.read_table(tested.load("evaluated_rows").path).sort_by("row")
    assert expected["label"].tolist() == rows["label"].to_pylist()


def test_a_log_that_was_not_generated_has_no_best_auc(evaluate: Callable[..., DataCatalog]) -> None:
    catalog = evaluate("valid", summary={"best_auc": None, "source": "my_log"})
    report = catalog.load("evaluation_report")
    assert report.best_possible_auc is None
    assert report.share_of_best is None
    assert report.source == "my_log"
    assert not any("best" in key for key in catalog.load("evaluation_metrics"))


def test_testing_again_gives_what_the_training_run_gave(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    report = read(trained_project, "evaluation_x4_test.json")
    file = trained_project / "data/07_model_output/single_phase/x4_test_predictions.parquet"
    predictions = pd.read_parquet(file)
    file.unlink()
    run_here(trained_project, "evaluate")
    again = read(trained_project, "evaluation_x4_test.json")
    del report["timestamp"], again["timestamp"]
    assert again == report
    assert pd.read_parquet(file).equals(predictions)


def test_another_split_gets_reports_of_its_own(
    trained_project: Path,
    run_here: Callable[..., None],
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    before = snapshot(trained_project)
    run_here(trained_project, "evaluate", params={"evaluation": {"split": "valid"}})
    after = snapshot(trained_project)
    assert {name: after[name] for name in before} == before
    new = {Path(name).name for name in set(after) - set(before)}
    assert {"evaluation_x4_valid.json", "x4_valid_predictions.parquet"} <= new
    report = read(trained_project, "evaluation_x4_valid.json")
    best = read(trained_project, "training_results.json")["best"]
    assert report["split"] == "valid"
    assert report["auc"] == pytest.approx(best["valid_auc"], abs=1e-6)


def test_what_a_model_loses_as_it_is_served_is_compared(
    trained_project: Path,
    run_here: Callable[..., None],
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    before = snapshot(trained_project)
    run_here(trained_project, "evaluate", params={"evaluation": {"serving_precision": "int8"}})
    asked = {"paths": "single_phase single_phase/int8", "baseline": "single_phase"}
    run_here(trained_project, "compare", params={"compare": asked})
    after = snapshot(trained_project)
    assert {name: after[name] for name in before} == before
    made = json.loads((trained_project / REPORTING.parent / "compare/comparison.json").read_text())
    assert [model["name"] for model in made["models"]] == ["single_phase", "single_phase/int8"]
    served = read(trained_project, "int8/evaluation_x4_test.json")
    assert made["models"][1]["auc"] == pytest.approx(served["auc"])
    difference = made["models"][1]["difference"]
    assert difference["auc_low"] < difference["auc"] < difference["auc_high"]


def test_a_model_without_a_language_model_is_served_as_it_was_trained(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    run_here(trained_project, "train_deepfm")
    asked = {"path": "deepfm", "serving_precision": "int8"}
    with pytest.raises(SettingsError, match="is int8, and deepfm has no language model"):
        run_here(trained_project, "evaluate", params={"evaluation": asked})


def test_rows_of_another_feature_map_are_refused(
    trained_project: Path,
    run_here: Callable[..., None],
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    before = snapshot(trained_project)
    run_here(trained_project, "preprocess", params={"preprocess": {"min_count": 3}})
    with pytest.raises(FingerprintError, match="so its ids mean other values"):
        run_here(trained_project, "evaluate")
    assert snapshot(trained_project) == before


def test_rows_that_a_run_cut_off_before_its_summary_left_are_refused(
    trained_project: Path,
    run_here: Callable[..., None],
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    """The summary vouches for the ids; the rows beside it are already those of the next run."""
    before = snapshot(trained_project)
    summary = trained_project / "data/05_model_input/x4/summary.json"
    counted = summary.read_bytes()
    run_here(trained_project, "preprocess", params={"preprocess": {"min_count": 3}})
    summary.write_bytes(counted)
    with pytest.raises(EncodedDataError, match="preprocessing was interrupted"):
        run_here(trained_project, "evaluate")
    assert snapshot(trained_project) == before


def test_a_checkpoint_that_misses_a_file_is_refused(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    (trained_project / BEST_MODEL / "model.safetensors").unlink()
    shutil.rmtree(trained_project / REPORTING)
    with pytest.raises(DatasetError, match=r"no checkpoint: model\.safetensors is missing"):
        run_here(trained_project, "evaluate")
    assert not (trained_project / REPORTING).exists()
