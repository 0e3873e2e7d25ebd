"""Raw rows scored by the predict pipeline."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.data.errors import RawLogError, SettingsError

RunHere = Callable[..., None]
RAW = "data/01_raw/generated_log"
SCORED = "data/07_model_output/single_phase/scored_rows.parquet"
REPORT = "data/08_reporting/single_phase/scoring_report.json"


def evaluated(project: Path) -> np.ndarray:
    """What the evaluation said of the test split's rows."""
    file = project / "data/07_model_output/single_phase/x4_test_predictions.parquet"
    return pd.read_parquet(file)["probability"].to_numpy()


def predict(run_here: RunHere, project: Path, given: Path | str, **params: Any) -> pd.DataFrame:
    run_here(project, "predict", params={"predict": {"input": str(given), **params}})
    return pd.read_parquet(project / SCORED)


def test_the_test_split_gets_evaluations_probabilities_to_the_last_digit(
    trained_project: Path, run_here: RunHere
) -> None:
    scored = predict(run_here, trained_project, f"{RAW}/test.csv", keep="id hour")
    raw = pd.read_csv(trained_project / RAW / "test.csv", dtype=str)
    assert [*scored.columns] == ["row", "id", "hour", "probability"]
    assert scored["row"].tolist() == [*range(len(raw))]
    assert scored["id"].tolist() == raw["id"].tolist()
    np.testing.assert_array_equal(scored["probability"].to_numpy(), evaluated(trained_project))
    report = json.loads((trained_project / REPORT).read_text())
    assert (report["rows"], report["unscored"]) == (len(raw), 0)
    assert report["mean_probability"] == pytest.approx(scored["probability"].mean())


def test_a_folder_without_labels_in_any_order_of_columns(
    trained_project: Path, run_here: RunHere, tmp_path: Path
) -> None:
    raw = pd.read_csv(trained_project / RAW / "test.csv", dtype=str, keep_default_na=False)
    half = len(raw) // 2
    folder = tmp_path / "rows"
    folder.mkdir()
    raw.iloc[:half].drop(columns="click").to_csv(folder / "a.csv", index=False)
    raw.iloc[half:][[*reversed(raw.columns)]].assign(more="x").to_csv(folder / "b.csv", index=False)
    (folder / "notes.txt").write_text("not rows")
    scored = predict(run_here, trained_project, folder)
    assert scored["row"].tolist() == [*range(len(raw))]
    np.testing.assert_array_equal(scored["probability"].to_numpy(), evaluated(trained_project))


def test_parquet_files_are_scored_as_the_csv_file_of_the_same_rows(
    trained_project: Path, run_here: RunHere, tmp_path: Path
) -> None:
    raw = pd.read_csv(trained_project / RAW / "test.csv", dtype=str, keep_default_na=False)
    numbers = ["hour", "C14", "device_type"]
    half = len(raw) // 2
    folder = tmp_path / "rows"
    folder.mkdir()
    raw.iloc[:half].to_csv(folder / "a.csv", index=False)
    typed = raw.iloc[half:].drop(columns="click").astype(dict.fromkeys(numbers, "int64"))
    typed.astype({"site_id": "category"}).assign(price=0.5).to_parquet(folder / "b.parquet")
    (folder / "_SUCCESS").touch()
    scored = predict(run_here, trained_project, folder, keep="hour site_id")
    assert scored[["hour", "site_id"]].equals(raw[["hour", "site_id"]])
    np.testing.assert_array_equal(scored["probability"].to_numpy(), evaluated(trained_project))
    scored = predict(run_here, trained_project, folder / "b.parquet", keep="price")
    assert scored["price"].tolist() == ["0.5"] * (len(raw) - half)
    assert len(scored["probability"].dropna()) == len(raw) - half


def test_bad_rows_of_a_parquet_file_are_refused_or_counted(
    trained_project: Path, run_here: RunHere, tmp_path: Path
) -> None:
    raw = pd.read_csv(trained_project / RAW / "test.csv", dtype=str, keep_default_na=False)[:5]
    hours = pd.to_numeric(raw["hour"]).astype("Int64")
    hours[1] = None
    file = tmp_path / "rows.parquet"
    raw.assign(hour=hours).to_parquet(file)
    with pytest.raises(
        DatasetError, match=r"rows\.parquet, row 2, column 'hour': '' is not YYMMDDHH"
    ):
        predict(run_here, trained_project, file)
    scored = predict(run_here, trained_project, file, on_bad_row="null")
    assert scored["probability"].isna().tolist() == [False, True, False, False, False]
    assert json.loads((trained_project / REPORT).read_text())["unscored"] == 1


@pytest.fixture
def faulty(trained_project: Path, tmp_path: Path) -> Path:
    """A file of five rows; the second has no hour, the fourth too few cells."""
    lines = (trained_project / RAW / "test.csv").read_text().splitlines()[:6]
    at = lines[0].split(",").index("hour")
    cells = lines[2].split(",")
    lines[2] = ",".join([*cells[:at], "", *cells[at + 1 :]])
    lines[4] = lines[4].rpartition(",")[0]
    file = tmp_path / "faulty.csv"
    file.write_text("\n".join(lines))
    return file


def test_a_bad_row_is_refused_by_its_place(
    trained_project: Path, run_here: RunHere, faulty: Path
) -> None:
    with pytest.raises(DatasetError, match=r"faulty\.csv, row 4 \(line 5\): too few cells"):
        predict(run_here, trained_project, faulty)
    lines = faulty.read_text().splitlines()
    faulty.write_text("\n".join(lines[:4]))
    with pytest.raises(
        DatasetError, match=r"faulty\.csv, row 2, column 'hour': '' is not YYMMDDHH"
    ):
        predict(run_here, trained_project, faulty)
    assert not (trained_project / SCORED).exists()


def test_bad_rows_may_go_without_a_probability(
    trained_project: Path, run_here: RunHere, faulty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scored = predict(run_here, trained_project, faulty, on_bad_row="null", keep="id")
    whole = evaluated(trained_project)
    assert scored["row"].tolist() == [0, 1, 2, 3, 4]
    assert scored["probability"].isna().tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(scored["probability"][[0, 2, 4]], whole[[0, 2, 4]], rtol=1e-5)
    assert scored["id"].isna().tolist() == [False, False, False, True, False]
    assert json.loads((trained_project / REPORT).read_text())["unscored"] == 2
    said = capfd.readouterr().out
    assert "5 rows scored, 2 of them without a probability  (faulty.csv)" in said
    assert f"scores      {SCORED}" in said


def test_unknown_values_are_told_where_they_have_doubled(
    trained_project: Path, run_here: RunHere, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = pd.read_csv(trained_project / RAW / "test.csv", dtype=str, keep_default_na=False)
    raw["banner_pos"] = "never seen"
    raw.to_csv(tmp_path / "rows.csv", index=False)
    with caplog.at_level(logging.WARNING):
        predict(run_here, trained_project, tmp_path / "rows.csv")
    warned = [line for line in caplog.messages if "out of the vocabulary" in line]
    assert len(warned) == 1
    assert warned[0].startswith("Field banner_pos: 100.0% of the values")
    drift = json.loads((trained_project / REPORT).read_text())["unknown"]
    assert drift["banner_pos"]["rows"] == 1.0
    assert not drift["site_id"]["doubled"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hour,C1\n14102100,1\n", "line 1: missing column banner_pos"),
        ("", "is empty"),
        ("hour,hour\n1,2\n", "line 1: repeated column hour"),
    ],
)
def test_files_that_are_not_of_the_log_are_refused(
    trained_project: Path, run_here: RunHere, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(RawLogError, match=said):
        predict(run_here, trained_project, tmp_path / "rows.csv")


def test_what_is_kept_must_be_there_and_not_be_called_as_what_is_written(
    trained_project: Path, run_here: RunHere
) -> None:
    with pytest.raises(RawLogError, match="missing column nothing"):
        predict(run_here, trained_project, f"{RAW}/test.csv", keep="nothing")
    with pytest.raises(SettingsError, match=r"predict\.keep names row"):
        predict(run_here, trained_project, f"{RAW}/test.csv", keep="row")
