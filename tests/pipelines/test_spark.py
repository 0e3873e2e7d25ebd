"""The same ids on Spark as on DuckDB."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.log.schema import SPLITS
from tests import webhdfs
from tests.records import content_of
from tests.spark import needs_java

PREDICTIONS = "data/07_model_output/single_phase/x4_test_predictions.parquet"


def arguments(env: str, raw: Path | str, pipeline: str, store: str) -> list[str]:
    return [f"--env={env}", f"--pipeline={pipeline}", "--params", f"raw_dir={raw},store={store}"]


@pytest.fixture
def preprocess(
    with_pyspark: None,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., str]:
    """Preprocess a raw log in a project as a user does; return what it printed."""

    def run(
        folder: Path,
        env: str,
        raw: Path | str,
        code: int = 0,
        pipeline: str = "preprocess",
        store: str = "data",
    ) -> str:
        done = kedro_run(folder, *arguments(env, raw, pipeline, store))
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def read_json(folder: Path, name: str) -> dict[str, Any]:
    return content_of(folder / "data" / name)


def odd_log(raw: Path) -> None:
    """Put what engines read differently into a log: quotes, line breaks, empty cells, numbers."""
    plain = ["1e5", "00012", "", "NULL", "nan", " x ", "é", "\U0001f600"]
    quoted = [*plain, '"a,""b"""', '"two\nlines"']
    for split in SPLITS:
        header, *lines = (raw / f"{split}.csv").read_text().splitlines()
        column = header.split(",").index("site_id")
        rows = [line.split(",") for line in lines]
        odd = plain if split == "train" else quoted  # Spark reads the two kinds in different ways
        for number, row in enumerate(rows):
            row[column] = odd[number % len(odd)]
        (raw / f"{split}.csv").write_text("\n".join([header, *(",".join(row) for row in rows), ""]))


@needs_java
@pytest.mark.slow
def test_spark_gives_the_ids_and_rows_that_duckdb_gives(
    tmp_path: Path,
    make_project: Callable[[Path], Path],
    finished_run: Path,
    preprocess: Callable[..., str],
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished_run / "data" / "01_raw" / "generated_log", raw)
    odd_log(raw)
    projects = {}
    for env in ("base", "spark"):
        (tmp_path / env).mkdir()
        projects[env] = make_project(tmp_path / env)
        printed = preprocess(projects[env], env, raw)
        assert "No Partition Defined" not in printed  # once for each field, at several steps
    duckdb, spark = projects.values()
    for name in ("04_feature/x4/feature_map.json", "05_model_input/x4/summary.json"):
        assert read_json(spark, name) == read_json(duckdb, name)
    for name in ("04_feature/x4/vocabulary", *(f"05_model_input/x4/{split}" for split in SPLITS)):
        path = f"data/{name}.parquet"
        assert (spark / path).is_dir()
        assert_same_rows(spark, duckdb, path)
    fields = FeatureMap.from_json(read_json(spark, "04_feature/x4/feature_map.json")).names
    counted = DatasetSummary.from_json(read_json(spark, "05_model_input/x4/summary.json"))
    rows = [
        EncodedFile(folder / "data/05_model_input/x4/train.parquet").read(
            fields, counted.splits["train"]
        )
        for folder in (spark, duckdb)
    ]
    assert rows[0].ids_NF.equal(rows[1].ids_NF)
    assert rows[0].labels_N.equal(rows[1].labels_N)


@pytest.mark.slow
def test_without_java_it_is_said_what_to_install(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_project: Callable[[Path], Path],
    finished_run: Path,
    preprocess: Callable[..., str],
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    raw = finished_run / "data" / "01_raw" / "generated_log"
    printed = preprocess(make_project(tmp_path), "spark", raw, code=1)
    assert "Error: Spark could not start Java, of which it needs version 17 or newer" in printed
    assert "Traceback" not in printed


@needs_java
@pytest.mark.slow
def test_spark_refuses_what_duckdb_refuses(
    tmp_path: Path,
    make_project: Callable[[Path], Path],
    finished_run: Path,
    preprocess: Callable[..., str],
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished_run / "data" / "01_raw" / "generated_log", raw)
    with (raw / "train.csv").open("a") as file:
        file.write("1,0\n")
    (tmp_path / "project").mkdir()
    folder = make_project(tmp_path / "project")
    printed = preprocess(folder, "spark", raw, code=1)
    assert "row 2001 (line 2002): too few cells, 2 for 24 columns" in printed
    assert not (folder / "data" / "02_intermediate").exists()


@needs_java
@pytest.mark.slow
def test_spark_gives_the_ids_of_all_logs_that_duckdb_gives(
    tmp_path: Path,
    make_project: Callable[[Path], Path],
    finished_run: Path,
    preprocess: Callable[..., str],
    run_here: Callable[..., None],
) -> None:
    raw = finished_run / "data/01_raw/generated_log"
    projects = {}
    for env in ("base", "spark"):
        (tmp_path / env).mkdir()
        projects[env] = make_project(tmp_path / env)
        (tmp_path / env / "raw").symlink_to(raw)
        preprocess(projects[env], env, tmp_path / env / "raw", pipeline="preprocess_all")
    duckdb, spark = projects.values()
    for dataset in ("x1", "x2"):
        made = [folder / "data/01_raw/recoded" / dataset for folder in (spark, duckdb)]
        assert sorted(os.listdir(made[0])) == sorted(os.listdir(made[1]))
        for file in made[1].glob("*.csv"):
            assert (made[0] / file.name).read_bytes() == file.read_bytes()
    for dataset in ("x4", "x1", "x2"):
        name = f"05_model_input/{dataset}/summary.json"
        assert read_json(spark, name) == read_json(duckdb, name)
        for split in SPLITS:
            assert_same_rows(spark, duckdb, f"data/05_model_input/{dataset}/{split}.parquet")
    for dataset in ("x4", "x1", "x2", "joint"):
        name = f"04_feature/{dataset}/feature_map.json"
        assert read_json(spark, name) == read_json(duckdb, name)
        assert_same_rows(spark, duckdb, f"data/04_feature/{dataset}/vocabulary.parquet")
    # What Spark wrote is trained on as what DuckDB wrote.
    for folder in (spark, duckdb):
        run_here(folder, "train", params={"generated_log": None})
    assert_same_rows(spark, duckdb, PREDICTIONS)


def assert_same_rows(folder: Path, other: Path, name: str) -> None:
    found, expected = pq.read_table(folder / name), pq.read_table(other / name)
    assert found.schema.types == expected.schema.types
    assert found.to_pydict() == expected.to_pydict()


def wait_for(root: Path, pattern: str, process: subprocess.Popen[bytes]) -> None:
    while not any(root.glob(pattern)):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)


@needs_java
@pytest.mark.slow
def test_on_a_store_a_killed_run_is_repeated_and_trained_on(
    tmp_path: Path,
    project: Path,
    finished_run: Path,
    preprocess: Callable[..., str],
    run_here: Callable[..., None],
) -> None:
    root = tmp_path / "hdfs"
    shutil.copytree(finished_run / "data/01_raw/generated_log", root / "raw")
    with webhdfs.served(root) as address:
        raw, store = f"{address}/raw", f"{address}/lake"
        command = [sys.executable, "-m", "kedro", "run"]
        with subprocess.Popen(
            [*command, *arguments("spark", raw, "preprocess", store)],
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            wait_for(root, "lake/02_intermediate/x4/.raw_rows-draft/raw_rows/valid*", process)
            os.killpg(process.pid, signal.SIGKILL)  # Spark's own process too
        assert not (root / "lake/02_intermediate/x4/raw_rows").exists()
        preprocess(project, "spark", raw, store=store)
        assert not [path for path in (root / "lake").rglob(".*") if not path.name.endswith(".crc")]
        assert not [path for path in (project / "data").rglob("*") if path.is_file()]
        for name in ("04_feature/x4/vocabulary", *(f"05_model_input/x4/{s}" for s in SPLITS)):
            found = pq.read_table(root / "lake" / f"{name}.parquet")
            expected = pq.read_table(finished_run / "data" / f"{name}.parquet")
            assert found.to_pydict() == expected.to_pydict()
        found, expected = (
            json.loads((folder / "05_model_input/x4/summary.json").read_text())
            for folder in (root / "lake", finished_run / "data")
        )
        assert found["splits"] == expected["splits"]
        assert found["fingerprint"] == expected["fingerprint"]
        run_here(project, "train", params={"store": store, "generated_log": None})
    assert_same_rows(project, finished_run, PREDICTIONS)


@needs_java
@pytest.mark.slow
def test_on_a_store_spark_refuses_what_duckdb_refuses(
    tmp_path: Path, project: Path, finished_run: Path, preprocess: Callable[..., str]
) -> None:
    root = tmp_path / "hdfs"
    shutil.copytree(finished_run / "data/01_raw/generated_log", root / "raw")
    with (root / "raw/train.csv").open("a") as file:
        file.write("1,0\n")
    with webhdfs.served(root) as address:
        printed = preprocess(project, "spark", f"{address}/raw", code=1, store=f"{address}/lake")
        fault = f"{address}/raw/train.csv, row 2001 (line 2002): too few cells, 2 for 24 columns"
    assert fault in printed
    assert os.listdir(root) == ["raw"]
    assert not (project / "data").exists()
