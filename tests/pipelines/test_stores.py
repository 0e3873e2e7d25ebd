"""Preprocessing and training with the raw log and all that is made of it on a store."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from kedro.io import DatasetError

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.data.storage.store_path import StorePath
from llm_ctr_pipeline.hooks.preflight import PreflightError
from tests.records import content_of

RunHere = Callable[..., None]
REPORT = "data/08_reporting/single_phase/evaluation_x4_test.json"
PREDICTIONS = "data/07_model_output/single_phase/x4_test_predictions.parquet"


def put_raw_log(finished_run: Path, folder: StorePath) -> None:
    for split in SPLITS:
        content = (finished_run / "data/01_raw/generated_log" / f"{split}.csv").read_text()
        (folder / f"{split}.csv").write_text(content, encoding="utf-8")


def on_store(store: str) -> dict[str, Any]:
    """The parameters of a run whose data are on a store."""
    return {"raw_dir": f"{store}/raw", "store": f"{store}/lake", "generated_log": None}


def read_json(place: Any) -> dict[str, Any]:
    return content_of(place)


def files_of(store: str) -> list[str]:
    root = StorePath(store)
    root.fs.invalidate_cache()
    return sorted(name.removeprefix(root.inner) for name in root.fs.find(root.inner))


def local_files(project: Path) -> list[str]:
    data = project / "data"
    return sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())


@pytest.fixture
def in_memory(tmp_path: Path) -> str:
    return f"memory://store/{tmp_path.name}"


@pytest.fixture
def project(project: Path, finished_run: Path) -> Path:
    """Spare it the making of MLflow's database, which takes longer than preprocessing."""
    shutil.copy(finished_run / "mlflow.db", project)
    return project


LEFT_ON_STORE = [
    "/lake/02_intermediate/x4/raw_log.json",
    "/lake/02_intermediate/x4/raw_rows/_SUCCESS",
    "/lake/02_intermediate/x4/raw_rows/manifest.json",
    *sorted(
        f"/lake/02_intermediate/x4/raw_rows/{split}.parquet/part-0.parquet" for split in SPLITS
    ),
    "/lake/04_feature/x4/feature_map.json",
    "/lake/04_feature/x4/vocabulary.parquet",
    "/lake/05_model_input/x4/summary.json",
    *sorted(f"/lake/05_model_input/x4/{split}.parquet" for split in SPLITS),
    *sorted(f"/raw/{split}.csv" for split in SPLITS),
]


def test_what_is_on_a_store_is_preprocessed_and_tested_as_on_this_machine(
    in_memory: str, project: Path, finished_run: Path, run_here: RunHere
) -> None:
    preprocess_and_train(in_memory, project, finished_run, run_here)
    before = read_json(project / REPORT)
    run_here(project, "evaluate", params=on_store(in_memory))
    assert read_json(project / REPORT) | {"timestamp": None} == before | {"timestamp": None}


@pytest.mark.slow
def test_the_kinds_of_store_are_alike(
    store: str, project: Path, finished_run: Path, run_here: RunHere
) -> None:
    preprocess_and_train(store, project, finished_run, run_here)


def preprocess_and_train(store: str, project: Path, finished_run: Path, run_here: RunHere) -> None:
    root = StorePath(store)
    put_raw_log(finished_run, root / "raw")
    run_here(project, "preprocess", params=on_store(store))
    assert sorted(files_of(store)) == sorted(LEFT_ON_STORE)
    assert local_files(project) == []
    made = finished_run / "data"
    expected = read_json(made / "05_model_input/x4/summary.json")
    assert read_json(root / "lake/05_model_input/x4/summary.json") == {
        **expected,
        "source": "raw",
        "best_auc": None,
    }
    run_here(project, "train", params=on_store(store))
    assert {name[:3] for name in local_files(project)} == {"06_", "07_", "08_"}
    pd.testing.assert_frame_equal(
        pd.read_parquet(project / PREDICTIONS), pd.read_parquet(finished_run / PREDICTIONS)
    )


def test_a_log_that_is_refused_leaves_nothing_on_the_store(
    in_memory: str, project: Path, finished_run: Path, run_here: RunHere
) -> None:
    raw = StorePath(in_memory) / "raw"
    put_raw_log(finished_run, raw)
    header, first, *rows = (raw / "train.csv").read_text(encoding="utf-8").splitlines()
    spoilt = ",".join([*first.split(",")[:-1], "7", "surplus"])
    (raw / "train.csv").write_text("\n".join([header, *rows, spoilt, ""]), encoding="utf-8")
    before = files_of(in_memory)
    too_many = rf"{raw}/train\.csv, row 2000 \(line 2001\): too many"
    with pytest.raises(DatasetError, match=too_many) as caught:
        run_here(project, "preprocess", params=on_store(in_memory))
    assert isinstance(refusal_in(caught.value), RawLogError)
    assert files_of(in_memory) == before
    assert not (StorePath(in_memory) / "lake").exists()
    assert local_files(project) == []
    missing = on_store(in_memory) | {"raw_dir": f"{in_memory}/nowhere"}
    with pytest.raises(
        RawLogError, match=rf"raw folder {in_memory}/nowhere not found: set raw_dir"
    ):
        run_here(project, "preprocess", params=missing)


def test_on_a_store_finished_steps_are_kept_unless_they_no_longer_fit(
    in_memory: str, project: Path, finished_run: Path, run_here: RunHere
) -> None:
    root = StorePath(in_memory)
    put_raw_log(finished_run, root / "raw")
    run_here(project, "preprocess", params=on_store(in_memory))
    summary = root / "lake/05_model_input/x4/summary.json"
    vocabulary = root / "lake/04_feature/x4/vocabulary.parquet"
    before = vocabulary.stat()
    root.fs.rm(summary.inner)
    run_here(project, "preprocess", params=on_store(in_memory), only_missing_outputs=True)
    assert summary.is_file()
    assert vocabulary.stat() == before
    # Without its marker the folder of raw rows is what a killed run left.
    root.fs.rm((root / "lake/02_intermediate/x4/raw_rows/_SUCCESS").inner)
    run_here(project, "preprocess", params=on_store(in_memory), only_missing_outputs=True)
    assert sorted(files_of(in_memory)) == sorted(LEFT_ON_STORE)
    content = (root / "raw" / "train.csv").read_text(encoding="utf-8")
    (root / "raw" / "train.csv").write_text(content + "\n", encoding="utf-8")
    with pytest.raises(PreflightError, match="raw_rows is of other raw files"):
        run_here(project, "preprocess", params=on_store(in_memory), only_missing_outputs=True)


@pytest.mark.slow
def test_x1_and_x2_are_made_on_a_store(
    in_memory: str, project: Path, finished_run: Path, run_here: RunHere
) -> None:
    root = StorePath(in_memory)
    put_raw_log(finished_run, root / "raw")
    run_here(project, "preprocess_all", params=on_store(in_memory))
    local = read_json(project / "data/01_raw/recoded/x1/recoded_log.json")
    there = {f"{name}_raw_dir": f"{in_memory}/recoded/{name}" for name in ("x1", "x2")}
    (project / "conf/test/globals.yml").write_text(yaml.safe_dump(there))
    again = on_store(in_memory) | {"store": f"{in_memory}/other"}
    run_here(project, "preprocess_all", params=again)
    assert read_json(StorePath(in_memory) / "recoded" / "x1" / "recoded_log.json") == local
    for dataset in ("x1", "x2"):
        first, second = (
            read_json(root / folder / "05_model_input" / dataset / "summary.json")
            for folder in ("lake", "other")
        )
        assert first == second


def test_training_on_an_empty_store_says_where_it_looked(
    in_memory: str, project: Path, run_here: RunHere
) -> None:
    place = rf"{in_memory}/lake/04_feature/x4/feature_map\.json"
    with pytest.raises(PreflightError, match=f"x4 feature map not found at {place}: run `kedro"):
        run_here(project, "train", params=on_store(in_memory))
