"""What a new user's first runs must give; minutes, so all of it is slow."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

PROJECT = Path(__file__).parents[1]
SAMPLE = Path(
    os.environ.get("AVAZU_X4_SAMPLE", PROJECT.parent / "shared" / "data" / "avazu_x4_sample")
)
CHECKPOINT = Path("data/06_models/single_phase/best_model")
PREDICTIONS = Path("data/07_model_output/single_phase/x4_test_predictions.parquet")
REPORTING = Path("data/08_reporting/single_phase")

pytestmark = pytest.mark.slow


def read(project: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / REPORTING / name).read_text())
    return content


def test_the_default_run_comes_close_to_the_best_possible(
    project: Path,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    record_property: Callable[[str, object], None],
) -> None:
    done = kedro_run(project, threads=2)
    assert done.returncode == 0, done.stderr
    report = read(project, "evaluation_x4_test.json")
    record_property("share_of_best", report["share_of_best"])
    assert report["share_of_best"] >= 0.9, (
        f"AUC {report['auc']:.4f}, at best {report['best_possible_auc']:.4f}: "
        f"{report['share_of_best']:.3f} of the way from 0.5"
    )


def test_the_same_seed_gives_the_same_to_the_last_digit(
    tmp_path: Path,
    make_project: Callable[[Path], Path],
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    projects = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        projects.append(make_project(tmp_path / name))
        done = kedro_run(projects[-1], "--env", "test")
        assert done.returncode == 0, done.stderr
    evaluations = [read(folder, "evaluation_x4_test.json") for folder in projects]
    histories = [read(folder, "training_results.json") for folder in projects]
    for evaluation, history in zip(evaluations, histories, strict=True):
        del evaluation["timestamp"], history["seconds"], history["rows_per_second"]
        del evaluation["sha256"], history["sha256"]
        (stage,) = history["stages"]
        del stage["seconds"]
        bests = (history["best"], stage["best"], evaluation["trained"]["best"])
        for record in (*history["epochs"], *bests):
            del record["seconds"], record["rows_per_second"]
    assert evaluations[0] == evaluations[1]
    assert histories[0] == histories[1]
    for file in (CHECKPOINT / "model.safetensors", PREDICTIONS):
        assert (projects[0] / file).read_bytes() == (projects[1] / file).read_bytes()


def raw_fields(file: Path) -> tuple[pd.DataFrame, pd.Series]:
    """The 24 categorical fields and the labels of a raw file, by pandas alone."""
    rows = pd.read_csv(file, dtype=str)
    day = pd.to_datetime("20" + rows["hour"].str[:6], format="%Y%m%d")
    rows["weekday"] = day.dt.dayofweek.astype(str)
    rows["weekend"] = (day.dt.dayofweek >= 5).astype(str)
    rows["hour"] = rows["hour"].str[6:]
    return rows.drop(columns=["id", "click"]), rows["click"].astype(int)


def logistic_regression_auc(folder: Path) -> float:
    """The test AUC of one-hot logistic regression, its strength chosen on the validation split."""
    encoder = OneHotEncoder(handle_unknown="ignore")
    fields, labels = raw_fields(folder / "train.csv")
    assert fields.shape[1] == 24
    encoded = encoder.fit_transform(fields)
    scores: dict[float, tuple[float, float]] = {}
    for strength in (0.03, 0.1, 0.3, 1.0):
        model = LogisticRegression(C=strength, max_iter=2000).fit(encoded, labels)
        valid, test = (
            float(roc_auc_score(clicks, model.predict_proba(encoder.transform(rows))[:, 1]))
            for rows, clicks in (raw_fields(folder / f"{split}.csv") for split in ("valid", "test"))
        )
        scores[strength] = valid, test
    return max(scores.values())[1]


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no sample of Avazu at {SAMPLE}")
def test_on_real_rows_the_model_is_not_below_logistic_regression(
    project: Path,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    record_property: Callable[[str, object], None],
) -> None:
    done = kedro_run(project, "--params", f"raw_dir={SAMPLE.resolve()}", threads=2)
    assert done.returncode == 0, done.stderr
    report = read(project, "evaluation_x4_test.json")
    half_width = (report["auc_high"] - report["auc_low"]) / 2
    baseline = logistic_regression_auc(SAMPLE)
    record_property("auc", report["auc"])
    record_property("logistic_regression_auc", baseline)
    message = (
        f"AUC {report['auc']:.4f} (half width {half_width:.4f}), logistic regression {baseline:.4f}"
    )
    assert report["source"] == SAMPLE.name
    assert report["best_possible_auc"] is None
    assert report["auc"] >= baseline - half_width, message
    labels = pd.read_csv(SAMPLE / "test.csv", dtype=str)["click"].astype(np.int8)
    assert pd.read_parquet(project / PREDICTIONS)["label"].tolist() == labels.tolist()
