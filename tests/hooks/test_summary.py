import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from mlflow import MlflowClient
from rich.console import Console

from llm_ctr_pipeline.datasets.checkpoint import CheckpointDataset
from llm_ctr_pipeline.datasets.record import RecordDataset
from llm_ctr_pipeline.datasets.results import PredictionsDataset, TextDataset
from llm_ctr_pipeline.hooks.summary import print_comparison, print_project, summary_of_run
from llm_ctr_pipeline.pipelines.evaluate import create_pipeline as evaluate
from llm_ctr_pipeline.pipelines.preprocess import create_pipeline as preprocess
from llm_ctr_pipeline.pipelines.train import create_pipeline as train
from llm_ctr_pipeline.reporting.comparison import Comparison, compare_models
from llm_ctr_pipeline.reporting.results import ScoredModel

REPORT: dict[str, Any] = {
    "path": "single_phase",
    "model": "best_model",
    "dataset": "x4",
    "split": "test",
    "auc": 0.71236,
    "auc_low": 0.70111,
    "auc_high": 0.72999,
    "logloss": 0.43219,
    "accuracy": 83.456,
    "expected_calibration_error": 0.01239,
    "calibration_ratio": 1.0237,
    "rows": 20000,
    "best_possible_auc": 0.78765,
    "share_of_best": 0.7382,
    "source": "generated log",
}


@pytest.fixture
def summarise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_scored: Callable[..., list[ScoredModel]]
) -> Callable[..., list[str]]:
    """Summarise a run of a pipeline whose report is given, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(
        pipeline: Pipeline,
        comparison: Comparison | None = None,
        address: str | None = None,
        **changes: Any,
    ) -> list[str]:
        data = tmp_path / "data"
        (model,) = make_scored("single_phase")
        report = RecordDataset(str(data / "reporting" / "evaluation.json"), "evaluation")
        report.save(model.report.evaluation.model_copy(update=REPORT | changes))
        kept: dict[str, Any] = {"evaluation_test": report}
        kept["best_model"] = CheckpointDataset(str(data / "best_model"))
        kept["test_predictions"] = PredictionsDataset(str(data / "predictions.parquet"))
        kept["report_page"] = TextDataset(str(data / "reporting" / "report.html"))
        results = RecordDataset(str(data / "training_results.json"), "training_results")
        results.save(model.report.training)
        kept["training_results"] = results
        named = {f"single_phase.{name}": dataset for name, dataset in kept.items()}
        named["comparison"] = RecordDataset(str(data / "compare" / "comparison.json"), "comparison")
        if comparison is not None:
            named["comparison"].save(comparison)
        named["evaluation_report"] = kept["evaluation_test"]
        named["evaluation_predictions"] = kept["test_predictions"]
        named["evaluation_page"] = kept["report_page"]
        others = pipeline.all_outputs() - set(named)
        catalog = DataCatalog(datasets=named | {name: MemoryDataset() for name in others})
        return summary_of_run(pipeline, catalog, address).splitlines()

    return make


def test_the_summary_of_a_training(summarise: Callable[..., list[str]]) -> None:
    lines = [" ".join(line.split()) for line in summarise(train())]
    for expected in (
        "[bold]single_phase on x4 test[/bold] (20,000 rows, generated log)",
        "AUC 0.7124 95% interval 0.7011 to 0.7300",
        "log loss 0.4322",
        "accuracy 83.46 %",
        "calibration error 0.0124, predicted over observed click rate 1.024",
        "best AUC 0.7876 that any model can reach on this generated log; "
        "73.8% of the way from 0.5 closed",
        "training 10.0 s, 3,000 rows/s",
        "checkpoint data/best_model",
        "predictions data/predictions.parquet",
        "report data/reporting/report.html",
        "reports data/reporting",
    ):
        assert expected in lines


@pytest.mark.parametrize(
    ("changes", "outdated"),
    [
        ({}, True),
        ({"path": "two_phase"}, False),
        ({"split": "valid"}, False),
        ({"dataset": "x1"}, False),
        ({"model": "phase_1_model"}, False),
    ],
)
def test_a_comparison_of_an_earlier_model_is_called_outdated(
    summarise: Callable[..., list[str]],
    make_scored: Callable[..., list[ScoredModel]],
    changes: dict[str, Any],
    outdated: bool,
) -> None:
    comparison = compare_models(make_scored("deepfm", "single_phase"), "deepfm")
    line = "  outdated    data/compare has an earlier single_phase: compare again"
    assert (line in summarise(train(), comparison, **changes)) == outdated


def test_a_comparison_that_cannot_be_read_is_in_nobodys_way(
    summarise: Callable[..., list[str]], make_scored: Callable[..., list[ScoredModel]]
) -> None:
    """A new version's first run ends well beside what an older one left."""
    summarise(train(), compare_models(make_scored("deepfm", "single_phase"), "deepfm"))
    Path("data/compare/comparison.json").write_text("{}")
    assert any("single_phase on x4 test" in line for line in summarise(train()))


def test_a_comparison_of_mlflow_runs_is_not_called_outdated(
    summarise: Callable[..., list[str]], make_scored: Callable[..., list[ScoredModel]]
) -> None:
    models = [
        replace(model, report=replace(model.report, run_id="1234"))
        for model in make_scored("deepfm", "single_phase")
    ]
    found = "\n".join(summarise(train(), compare_models(models, "deepfm")))
    assert "single_phase on x4 test" in found
    assert "outdated" not in found


def test_other_logs_have_no_best_auc(summarise: Callable[..., list[str]]) -> None:
    text = "\n".join(
        summarise(train(), best_possible_auc=None, share_of_best=None, source="my_log")
    )
    assert "best AUC" not in text
    assert "(20,000 rows, my_log)" in text


def test_a_gauc_is_shown_where_there_is_one(summarise: Callable[..., list[str]]) -> None:
    assert "gAUC" not in "\n".join(summarise(train()))
    found = {"group_by": "site_id", "gauc": 0.65432, "gauc_rows": 12345}
    text = "\n".join(summarise(train(), **found))
    assert "  gAUC        0.6543   within values of site_id, over 12,345 rows" in text


def test_the_summary_of_an_evaluation_names_no_new_checkpoint(
    summarise: Callable[..., list[str]],
) -> None:
    text = "\n".join(summarise(evaluate()))
    assert "AUC         0.7124" in text
    assert "predictions data/predictions.parquet" in text
    assert "checkpoint" not in text


def test_a_run_that_tested_nothing_has_no_summary(summarise: Callable[..., list[str]]) -> None:
    assert summarise(preprocess()) == []


def programs(folder: Path) -> Path:
    """Put programs of these names into a folder."""
    folder.mkdir(parents=True)
    for name in ("python", "mlflow", "kedro"):
        (folder / name).touch(mode=0o755)
    return folder


@pytest.mark.parametrize(
    ("place", "shown"), [(".venv/bin", ".venv/bin/"), ("../elsewhere/bin", "{}/")]
)
def test_commands_have_the_environments_path_where_it_is_not_active(
    summarise: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    shown: str,
) -> None:
    root = tmp_path / "project"
    folder = programs((root / place).resolve())
    root.mkdir(exist_ok=True)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.chdir(root)
    text = "\n".join(summarise(train()))
    prefix = shown.format(folder)
    assert f"[bold]{prefix}mlflow ui[/bold], then open http://127.0.0.1:5000" in text
    assert f"[bold]{prefix}kedro viz run[/bold], then open http://127.0.0.1:4141" in text


def test_commands_are_bare_where_the_environment_is_active(
    summarise: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs(tmp_path / "bin")))
    text = "\n".join(summarise(train()))
    assert "[bold]mlflow ui[/bold]" in text
    assert "[bold]kedro viz run[/bold]" in text


@pytest.mark.parametrize(
    ("server", "start"),
    [("http://127.0.0.1:5000", "mlflow ui[/bold], then open "), ("https://mlflow.test", "open ")],
)
def test_mlflows_page_of_the_run_is_named(
    summarise: Callable[..., list[str]], server: str, start: str
) -> None:
    page = f"{server}/#/experiments/1/runs/0f"
    (line,) = [line for line in summarise(train(), address=page) if line.startswith("  MLflow")]
    assert line.endswith(f"{start}{page}")
    assert ("mlflow ui" in line) == ("mlflow ui" in start)


def test_a_run_ends_with_its_summary(
    trained_project: Path, run_here: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run_here(trained_project, "evaluate")
    report = json.loads(
        (trained_project / "data/08_reporting/single_phase/evaluation_x4_test.json").read_text()
    )
    lines = capfd.readouterr().out.splitlines()
    (auc,) = [line for line in lines if line.startswith("  AUC")]
    assert f"{report['auc']:.4f}" in auc
    assert lines[-1].startswith("  pipeline")
    client = MlflowClient(f"sqlite:///{trained_project}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'llm-ctr-pipeline'")
    newest = client.search_runs([experiment.experiment_id])[0].info
    page = f"/#/experiments/{newest.experiment_id}/runs/{newest.run_id}"
    assert lines[-2].endswith(f"http://127.0.0.1:5000{page}?workflowType=machine_learning")


def test_preprocessing_ends_with_its_summary(
    trained_project: Path,
    run_here: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(programs(trained_project / "bin")), prepend=os.pathsep)
    run_here(trained_project, "preprocess", params={"preprocess": {"min_count": 2}})
    place = trained_project / "data/05_model_input/x4"
    counts = json.loads((place / "summary.json").read_text())["splits"]
    (field,) = [
        field
        for field in json.loads(
            (trained_project / "data/04_feature/x4/feature_map.json").read_text()
        )["fields"]
        if field["name"] == "device_ip"
    ]
    lines = [" ".join(line.split()) for line in capfd.readouterr().out.splitlines()]
    test = counts["test"]
    shares = [f"{split['unknown_share_by_field']['device_ip']:.1%}" for split in counts.values()]
    for expected in (
        "x4 (3,000 rows, generated log)",
        f"test 500 rows, click rate {test['click_rate']:.4f}, {test['unknown_share']:.1%} of ids "
        "out of vocabulary",
        "field ids train valid test out of vocabulary",
        f"device_ip {field['size']:,} {' '.join(shares)}",
        "encoded data/05_model_input/x4",
    ):
        assert expected in lines
    assert lines[-1] == (
        "next kedro run --env=test --pipelines=train --params preprocess.min_count=2"
    )


def test_several_encoded_logs_have_one_table(
    trained_project: Path, run_here: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run_here(trained_project, "preprocess_all")
    lines = [" ".join(line.split()) for line in capfd.readouterr().out.splitlines()]
    assert "field ids x4 test x1 test x2 test out of vocabulary" in lines
    assert sum(line.startswith("device_ip ") for line in lines) == 1
    assert lines[-1].endswith("run --env=test --pipelines=train_deepfm")


def test_from_a_folder_below_places_are_the_projects(
    trained_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    below = trained_project / "docs"
    below.mkdir()
    monkeypatch.chdir(below)
    monkeypatch.setenv("PATH", str(programs(below / "bin")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    bootstrap_project(trained_project)
    with KedroSession.create(trained_project, env="test") as session:
        catalog = session.load_context().catalog
        lines = summary_of_run(train(), catalog).splitlines()
    assert "  checkpoint  data/06_models/single_phase/best_model" in lines
    uri = f"sqlite:///{trained_project}/mlflow.db"
    assert any(f"[bold]mlflow ui --backend-store-uri {uri}[/bold]" in line for line in lines)
    print_project()
    said = f"  places      are below the project's folder, {trained_project}\n"
    assert capsys.readouterr().out.endswith(said)


@pytest.mark.parametrize("baseline", ["deepfm", "two_phase_finetuned"])
def test_a_comparison_fits_a_narrow_terminal(
    make_scored: Callable[..., list[ScoredModel]], baseline: str
) -> None:
    paths = ("deepfm", "single_phase", "two_phase", "two_phase_finetuned")
    comparison = compare_models(make_scored(*paths), baseline)
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    print_comparison(comparison, Path("data/08_reporting/compare"), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    for model in comparison.models:
        assert f"[{model.auc_low:.4f}, {model.auc_high:.4f}]" in text


def test_a_wide_comparison_has_one_line_a_model(
    make_scored: Callable[..., list[ScoredModel]],
) -> None:
    comparison = compare_models(make_scored("deepfm", "single_phase"), "deepfm")
    console = Console(width=120, file=io.StringIO(), color_system=None)
    print_comparison(comparison, Path("data/08_reporting/compare"), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert sum(line.startswith("single_phase ") for line in lines) == 3
