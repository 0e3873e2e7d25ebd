"""The same ids on Spark as on DuckDB; Spark is installed apart if it is not there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llm_ctr_pipeline.data.encoded_file import EncodedFile
from llm_ctr_pipeline.data.feature_map import FeatureMap
from llm_ctr_pipeline.data.schema import SPLITS

PROJECT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("PYSPARK_FOLDER", PROJECT / ".venv" / "pyspark"))
REQUIREMENT = "pyspark>=4.0"
LOWEST_JAVA = 17
PIP_SECONDS = 900


def java_version() -> int:
    """The first number of Java's version; 0 where there is none."""
    java = shutil.which("java")
    if java is None:
        return 0
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    quoted = done.stderr.partition('"')[2]
    return int(quoted.partition(".")[0] or 0) if quoted[:1].isdigit() else 0


needs_java = pytest.mark.skipif(
    java_version() < LOWEST_JAVA, reason=f"Spark needs Java {LOWEST_JAVA} or newer"
)


@pytest.fixture(scope="session")
def pyspark_folder() -> Path | None:
    """A folder to import PySpark from, made at the first call; None where it is installed."""
    if find_spec("pyspark") is not None:
        return None
    if not (FOLDER / "installed").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(FOLDER)]
        done = subprocess.run(
            [*command, REQUIREMENT],
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"pip could not install {REQUIREMENT}: {done.stderr.strip()[-300:]}")
        (FOLDER / "installed").touch()
    return FOLDER


@pytest.fixture
def preprocess(
    monkeypatch: pytest.MonkeyPatch,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    pyspark_folder: Path | None,
) -> Callable[..., str]:
    """Preprocess a raw log in a project as a user does; return what it printed."""
    if pyspark_folder is not None:
        monkeypatch.setenv("PYTHONPATH", str(pyspark_folder))

    def run(folder: Path, env: str, raw: Path, code: int = 0) -> str:
        arguments = ("--env", env, "--pipeline=preprocess", "--params", f"raw_dir={raw}")
        done = kedro_run(folder, *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def read_json(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "data" / name).read_text())
    return content


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
        preprocess(projects[env], env, raw)
    duckdb, spark = projects.values()
    for name in ("04_feature/x4/feature_map.json", "05_model_input/x4/summary.json"):
        assert read_json(spark, name) == read_json(duckdb, name)
    for name in ("04_feature/x4/vocabulary", *(f"05_model_input/x4/{split}" for split in SPLITS)):
        path = f"data/{name}.parquet"
        assert (spark / path).is_dir()
        found, expected = (pq.read_table(folder / path) for folder in (spark, duckdb))
        assert found.schema.types == expected.schema.types
        assert found.to_pydict() == expected.to_pydict()
    fields = FeatureMap.from_dict(read_json(spark, "04_feature/x4/feature_map.json")).names
    rows = [
        EncodedFile(folder / "data/05_model_input/x4/train.parquet").read(fields)
        for folder in (spark, duckdb)
    ]
    assert rows[0].ids_NF.equal(rows[1].ids_NF)
    assert rows[0].labels_N.equal(rows[1].labels_N)


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
