import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from llm_ctr_pipeline.hooks.preflight import PreflightError
from llm_ctr_pipeline.params import CompareParams
from llm_ctr_pipeline.pipelines.compare.nodes import compare
from llm_ctr_pipeline.reporting.comparison import TWO_PHASE_NOTE
from llm_ctr_pipeline.reporting.results import (
    NotComparableError,
    ScoredModel,
    digest_of_predictions,
)
from llm_ctr_pipeline.training.settings import PATHS
from tests.pipelines.compared import DEFAULTS, write
from tests.records import rewrite

COMPARE = Path("data/08_reporting/compare")

Make = Callable[..., list[ScoredModel]]
Runs = Callable[[Path], list[Run]]


@pytest.fixture
def runs(project: Path, make_scored: Make, tmp_path: Path) -> Callable[..., list[str]]:
    """Give the project's MLflow runs that hold results, all on the same rows."""

    def make(*paths: str) -> list[str]:
        client = MlflowClient(f"sqlite:///{project}/mlflow.db")
        place = str(project / "mlartifacts")
        experiment = client.create_experiment("llm-ctr-pipeline", artifact_location=place)
        ids = []
        for model in make_scored(*paths):
            run_id = client.create_run(experiment).info.run_id
            for file in write(model, tmp_path / run_id, tmp_path / run_id):
                client.log_artifact(run_id, str(file))
            client.set_terminated(run_id)
            ids.append(run_id)
        return ids

    return make


def comparison(project: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / COMPARE / "comparison.json").read_text())
    return content


def names(project: Path) -> list[str]:
    return [model["name"] for model in comparison(project)["models"]]


def refused(
    project: Path, run_here: Callable[..., None], mlflow_runs: Runs, settings: dict[str, Any]
) -> str:
    """Run a comparison that must be refused in one line, before anything happens."""
    before = len(mlflow_runs(project))
    with pytest.raises(PreflightError) as caught:
        run_here(project, "compare", params={"compare": settings})
    message = caught.value.format_message()
    assert "\n" not in message
    assert not (project / COMPARE).exists()
    assert len(mlflow_runs(project)) == before
    return message


def test_all_paths_are_compared(
    results: Callable[..., Path], run_here: Callable[..., None], mlflow_runs: Runs
) -> None:
    project = results(*PATHS)
    run_here(project, "compare")
    assert names(project) == list(PATHS)
    assert comparison(project)["missing"] == {}
    table = (project / COMPARE / "comparison.md").read_text()
    assert TWO_PHASE_NOTE in table
    assert table.count("| two_phase †") == table.count("| deepfm ") == 3
    (run,) = mlflow_runs(project)
    artifacts = MlflowClient(f"sqlite:///{project}/mlflow.db").list_artifacts
    logged = {file.path for file in artifacts(run.info.run_id)}
    report = (project / COMPARE / "report.html").read_text()
    for figure in ("differences", "roc", "calibration", "auc_against_time"):
        assert (project / COMPARE / f"{figure}.json").exists()
        assert (project / COMPARE / f"{figure}.html").exists()
        title = json.loads((project / COMPARE / f"{figure}.json").read_text())["layout"]["title"]
        assert f"<h3>{title['text']}</h3>" in html.unescape(report)
    assert report.index('id="differences"') < report.index('id="roc"')
    assert {"comparison.json", "comparison.md", "report.html"} <= logged
    for model in comparison(project)["models"][1:]:
        for key in ("auc", "auc_low", "p_value_holm", "logloss"):
            tracked = run.data.metrics[f"difference_{key}/{model['name']}"]
            assert tracked == pytest.approx(model["difference"][key])
    assert "auc/deepfm" in run.data.metrics
    assert "difference_auc/deepfm" not in run.data.metrics


def test_the_table_ends_the_run(
    results: Callable[..., Path], run_here: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    project = results("deepfm", "two_phase")
    run_here(project, "compare")
    lines = capfd.readouterr().out.splitlines()
    assert "x4 test: 500 rows" in next(line for line in lines if "rows, click rate" in line)
    model = comparison(project)["models"][1]
    found = [line for line in lines if line.startswith("two_phase †")]
    assert len(found) == 3
    assert f"{model['auc']:.4f} [{model['auc_low']:.4f}, {model['auc_high']:.4f}]" in found[0]
    assert any(line.startswith("† Trained on x1 and x2") for line in lines)
    assert any("train_two_phase_finetuned`" in line for line in lines)
    assert any(line.strip() == f"reports     {COMPARE}" for line in lines)


def test_paths_without_results_are_named_with_the_command_that_makes_them(
    results: Callable[..., Path], run_here: Callable[..., None]
) -> None:
    project = results("deepfm", "single_phase")
    run_here(project, "compare")
    assert names(project) == ["deepfm", "single_phase"]
    assert comparison(project)["missing"] == {
        path: f"kedro run --pipeline=train_{path}" for path in PATHS if path not in names(project)
    }
    assert "train_two_phase`" in (project / COMPARE / "comparison.md").read_text()


def test_settings_choose_paths_and_baseline(results: Callable[..., Path]) -> None:
    data = results(*PATHS) / "data"
    chosen = CompareParams(
        **DEFAULTS | {"paths": "two_phase single_phase", "baseline": "single_phase"}
    )
    models, made = compare(data / "07_model_output", data / "08_reporting", chosen)
    assert [model.report.name for model in models] == ["two_phase", "single_phase"]
    assert [model.name for model in made.models] == ["single_phase", "two_phase"]
    assert made.baseline == "single_phase"
    assert made.missing == {}


def test_a_refusal_is_one_line_before_anything_happens(
    results: Callable[..., Path], run_here: Callable[..., None], mlflow_runs: Runs
) -> None:
    project = results("deepfm")
    message = refused(project, run_here, mlflow_runs, {})
    assert message.startswith("a comparison needs the results of 2 models on x4 test")
    message = refused(project, run_here, mlflow_runs, {"paths": "deepfm lstm"})
    assert message.startswith("compare.paths is 'deepfm lstm': it should be all, or names out of")


def test_tests_on_other_rows_are_refused(
    results: Callable[..., Path], run_here: Callable[..., None], mlflow_runs: Runs
) -> None:
    project = results("deepfm", "single_phase")
    report = project / "data/08_reporting/deepfm/evaluation_x4_test.json"
    rewrite(report, lambda content: content.update(data_fingerprint="beef"))
    message = refused(project, run_here, mlflow_runs, {})
    assert "tested on different rows (data_fingerprint beef and f00d)" in message


def test_labels_in_another_order_are_refused(results: Callable[..., Path]) -> None:
    data = results("deepfm", "single_phase") / "data"
    file = data / "07_model_output/deepfm/x4_test_predictions.parquet"
    turned = pd.read_parquet(file).iloc[::-1]
    turned.to_parquet(file, index=False)
    report = data / "08_reporting/deepfm/evaluation_x4_test.json"
    rewrite(report, lambda content: content.update(predictions=digest_of_predictions(turned)))
    with pytest.raises(NotComparableError, match="different rows, or in another order"):
        compare(data / "07_model_output", data / "08_reporting", CompareParams(**DEFAULTS))


def test_mlflow_runs_are_compared(
    project: Path,
    runs: Callable[..., list[str]],
    run_here: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    ids = runs("deepfm", "single_phase", "single_phase")
    capfd.readouterr()
    run_here(project, "compare", params={"compare": {"runs": " ".join(ids)}})
    models = comparison(project)["models"]
    assert [model["run_ids"] for model in models] == [[run_id] for run_id in ids]
    assert names(project) == ["deepfm", f"single_phase {ids[1][:8]}", f"single_phase {ids[2][:8]}"]
    run_here(project, "compare", params={"compare": {"runs": " ".join(ids), "baseline": ids[2]}})
    assert names(project)[0] == f"single_phase {ids[2][:8]}"
    assert "Downloading" not in capfd.readouterr().err


def test_mlflow_runs_that_cannot_be_compared_are_refused(
    project: Path, runs: Callable[..., list[str]], run_here: Callable[..., None], mlflow_runs: Runs
) -> None:
    first, second = runs("single_phase", "single_phase")
    both = f"{first} {second}"
    message = refused(project, run_here, mlflow_runs, {"runs": f"{first} nonsense"})
    assert "compare.runs names nonsense, which cannot be read at sqlite:" in message
    message = refused(project, run_here, mlflow_runs, {"runs": both})
    assert f"is deepfm, which is none of those compared: choose one of {first}, {second}" in message
    ambiguous = {"runs": both, "baseline": "single_phase"}
    message = refused(project, run_here, mlflow_runs, ambiguous)
    assert "is single_phase, which is the path of 2 of the models: choose one of" in message
    shutil.rmtree(project / "mlartifacts" / second)
    message = refused(project, run_here, mlflow_runs, {"runs": both, "baseline": first})
    assert f"the MLflow run {second} has no artifact evaluation_x4_test.json" in message


def test_a_run_that_makes_results_does_not_compare_them(
    results: Callable[..., Path], run_here: Callable[..., None]
) -> None:
    project = results("deepfm", "single_phase")
    for folder in ("04_feature", "05_model_input", "06_models"):
        assert not (project / "data" / folder).exists()
    with pytest.raises(
        PreflightError, match=re.escape("run `kedro run --env test --pipeline=compare`")
    ):
        run_here(project, "preprocess", "train", "compare")
    assert not (project / COMPARE).exists()
