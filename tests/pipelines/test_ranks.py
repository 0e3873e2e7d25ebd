"""`kedro run` under torchrun: one run, whatever becomes of its processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run

Runs = Callable[[Path], list[Run]]

pytestmark = pytest.mark.slow

LONG = (
    "training.epochs=300,training.patience=300,training.keep_state_every=1,"
    "training.validate_every_steps=4"
)
EVALUATION = Path("data/08_reporting/single_phase/evaluation_x4_test.json")
PREDICTIONS = Path("data/07_model_output/single_phase/x4_test_predictions.parquet")
RESULTS = Path("data/08_reporting/single_phase/training_results.json")


def torchrun(project: Path, *arguments: str, ranks: int = 2) -> subprocess.Popen[str]:
    """Start `kedro run` in several processes."""
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    program = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "-m", "kedro", "run"]
    return subprocess.Popen(
        [sys.executable, *program, "--env", "test", *arguments],
        cwd=project,
        env=env | {"COLUMNS": "1000", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(process: subprocess.Popen[str], told: str) -> str:
    """Read what a run writes until it tells something."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if told in line:
            return "".join(lines)
    pytest.fail("".join(lines))


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun started, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return sorted(map(int, children.split()))


def content(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(file.read_text())
    return read


@pytest.fixture
def long_training(trained_project: Path) -> Iterator[subprocess.Popen[str]]:
    """A training in two processes of which a state is kept."""
    with torchrun(trained_project, "--pipeline=train", "--params", LONG) as process:
        until(process, "epoch 3.00")
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_several_processes_are_one_run_with_the_figures_of_one(
    project: Path, finished_run: Path, mlflow_runs: Runs
) -> None:
    with torchrun(project) as process:
        written, _ = process.communicate()
    assert process.returncode == 0, written
    (run,) = mlflow_runs(project)
    assert run.info.status == "FINISHED"
    for split in ("train", "valid", "test"):
        file = f"data/05_model_input/x4/{split}.parquet"
        rows = [pd.read_parquet(at / file) for at in (project, finished_run)]
        pd.testing.assert_frame_equal(*rows)
    several, one = content(project / RESULTS), content(finished_run / RESULTS)
    for record, other in zip(several["epochs"], one["epochs"], strict=True):
        assert record["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert record["valid_logloss"] == pytest.approx(other["valid_logloss"], rel=1e-4)
    assert several["stages"][0]["ran"]["ranks"] == 2
    scores = [pd.read_parquet(at / PREDICTIONS)["probability"] for at in (project, finished_run)]
    np.testing.assert_allclose(*scores, rtol=1e-3)
    logloss = [content(at / EVALUATION)["logloss"] for at in (project, finished_run)]
    assert logloss[0] == pytest.approx(logloss[1], rel=1e-4)


def test_raw_rows_are_scored_by_all_to_the_last_digit(
    trained_project: Path, kedro_run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (raw,) = (trained_project / "data" / "01_raw").rglob("test.csv")
    given = f"predict.path=single_phase,predict.input={raw},training.eval_batch_size=64"
    call = ("--pipeline=predict", "--params", given)
    done = kedro_run(trained_project, "--env", "test", *call)
    assert done.returncode == 0, done.stderr
    (scored,) = (trained_project / "data" / "07_model_output").rglob("scored_rows.parquet")
    by_one = scored.rename(trained_project / "by_one.parquet")
    with torchrun(trained_project, *call, ranks=3) as process:
        written, _ = process.communicate()
    assert process.returncode == 0, written
    pd.testing.assert_frame_equal(pd.read_parquet(scored), pd.read_parquet(by_one))


def test_a_killed_rank_ends_the_run_as_failed_and_the_command_goes_on(
    long_training: subprocess.Popen[str], trained_project: Path, mlflow_runs: Runs
) -> None:
    rank = ranks_of(long_training)[1]
    os.kill(rank, signal.SIGKILL)
    killed = time.monotonic()
    written, _ = long_training.communicate()
    assert time.monotonic() - killed < 60
    assert long_training.returncode != 0
    assert f"Error: rank 1 (process {rank}) of the 2 of this run has ended" in written
    assert "Traceback" not in written.partition("torch/distributed/elastic")[0]
    assert mlflow_runs(trained_project)[-1].info.status == "FAILED"
    with torchrun(trained_project, "--pipeline=train", "--params", LONG) as process:
        written = until(process, "epoch ")
        assert "Going on from step" in written
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_torchrun_is_stopped_between_two_steps(
    long_training: subprocess.Popen[str],
    trained_project: Path,
    mlflow_runs: Runs,
    number: int,
) -> None:
    long_training.send_signal(number)
    written, _ = long_training.communicate()
    assert long_training.returncode != 0
    assert written.count("Stopped after step") == 1
    assert mlflow_runs(trained_project)[-1].info.status == "KILLED"


def test_a_second_run_is_refused_by_a_lock_that_names_the_leader(
    long_training: subprocess.Popen[str],
    trained_project: Path,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    refused = kedro_run(trained_project, "--env", "test", "--pipeline=train")
    assert refused.returncode != 0
    assert f"in use by another run (process {ranks_of(long_training)[0]} on" in refused.stderr
    assert long_training.poll() is None
