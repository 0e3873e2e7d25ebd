"""What earlier runs left, whole or after a kill: what is kept of it and what is not."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.hooks.preflight import PreflightError

Run = Callable[..., subprocess.CompletedProcess[str]]
RESULTS = (
    "04_feature/x4/vocabulary.parquet",
    "04_feature/x4/feature_map.json",
    *(f"05_model_input/x4/{split}.parquet" for split in SPLITS),
    "05_model_input/x4/summary.json",
)
AGAIN = ("--env", "test", "--pipeline=preprocess", "--only-missing-outputs")


@pytest.fixture
def preprocessed(finished_run: Path, project: Path) -> Path:
    """A project after preprocessing, to spoil; files keep their times."""
    shutil.copytree(finished_run / "data", project / "data")
    return project


def results(project: Path) -> dict[str, bytes]:
    return {name: (project / "data" / name).read_bytes() for name in RESULTS}


def times(project: Path) -> dict[str, int]:
    return {name: (project / "data" / name).stat().st_mtime_ns for name in RESULTS}


# When the process is killed: as soon as a path below data/ matches.
MOMENTS = [
    "02_intermediate/x4/.raw_rows-*/raw_rows/*.parquet",
    "02_intermediate/x4/raw_rows",
    "04_feature/x4/.vocabulary.parquet-*/*",
    "05_model_input/x4/.train.parquet-*",
    "05_model_input/x4/valid.parquet",
]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_the_same_command_goes_on(
    project: Path, finished_run: Path, kedro_run: Run, moment: str
) -> None:
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipeline=preprocess"]
    with subprocess.Popen(
        command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not any((project / "data").glob(moment)):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.0005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    # What is there is whole.
    for name, content in results(finished_run).items():
        path = project / "data" / name
        assert not path.exists() or path.read_bytes() == content
    done = kedro_run(project, *AGAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(project) == results(finished_run)
    left = [path for path in (project / "data").rglob(".*") if path.name != ".gitkeep"]
    assert left == []


LARGER = ("--pipeline=preprocess", "--params", "generated_log.train_rows=150000")


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_nothing_and_is_gone_on_from(
    project: Path, kedro_run: Run
) -> None:
    """No file may grow beyond what MLflow's database has: the largest tables do."""
    assert kedro_run(project, *LARGER).returncode == 0
    expected = results(project)
    for made in ("02_intermediate", "04_feature", "05_model_input"):
        shutil.rmtree(project / "data" / made)
    largest = (project / "mlflow.db").stat().st_size + 200_000
    assert largest < max(len(content) for content in expected.values())
    refused = subprocess.run(
        [sys.executable, "-m", "kedro", "run", *LARGER],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
    )
    assert refused.returncode != 0
    assert "cannot be written, is the disk full?" in refused.stderr + refused.stdout
    assert not [name for name in RESULTS if (project / "data" / name).exists()]
    assert kedro_run(project, *LARGER).returncode == 0
    assert results(project) == expected
    assert not [path for path in (project / "data").rglob(".*") if path.name != ".gitkeep"]


def test_finished_steps_are_not_redone(
    preprocessed: Path, run_here: Callable[..., None], finished_run: Path
) -> None:
    before = times(preprocessed)
    (preprocessed / "data/05_model_input/x4/summary.json").unlink()
    run_here(preprocessed, "preprocess", only_missing_outputs=True)
    after = times(preprocessed)
    changed = [name for name in RESULTS if after[name] != before[name]]
    assert changed == ["05_model_input/x4/summary.json"]
    assert results(preprocessed) == results(finished_run)


def touch(project: Path, name: str) -> None:
    os.utime(project / "data" / name)


STALE: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "other parameters": (
        lambda _: None,
        {"preprocess": {"every_nth_row": 2}},
        r"raw_log\.json is of other raw files or parameters: run without --only-missing-outputs",
    ),
    "another raw file": (
        lambda project: touch(project, "01_raw/generated_log/train.csv"),
        {},
        r"raw_rows is of other raw files or parameters",
    ),
    "another generated log": (
        lambda _: None,
        {"generated_log": {"valid_rows": 600}},
        r"generated_log is to be generated with other settings",
    ),
    "another min_count": (
        lambda _: None,
        {"preprocess": {"min_count": 3}},
        r"feature_map\.json was made with preprocess\.min_count 2, now it is 3",
    ),
    "an output of an earlier run": (
        lambda project: touch(project, "04_feature/x4/vocabulary.parquet"),
        {},
        r"is older than .*vocabulary\.parquet, of which it is made",
    ),
}


@pytest.mark.parametrize("what", STALE)
def test_what_no_longer_fits_is_not_kept(
    preprocessed: Path, run_here: Callable[..., None], what: str
) -> None:
    spoil, params, message = STALE[what]
    spoil(preprocessed)
    before = times(preprocessed)
    with pytest.raises(PreflightError, match=message):
        run_here(preprocessed, "preprocess", params=params, only_missing_outputs=True)
    assert times(preprocessed) == before
    run_here(preprocessed, "preprocess", params=params)
    assert min(times(preprocessed).values()) > max(before.values())
