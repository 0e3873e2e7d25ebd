"""Two runs at once: which may run side by side, and what the second one says otherwise."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from mlflow.entities import Run

from llm_ctr_pipeline.data.storage import locks
from llm_ctr_pipeline.data.storage.locks import FolderLocks
from llm_ctr_pipeline.hooks import summary
from llm_ctr_pipeline.hooks.locks import LocksHook
from llm_ctr_pipeline.hooks.preflight import PreflightError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PAUSE", 0.001)


@pytest.fixture(scope="module")
def folder(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locks") / "project"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("mlartifacts"))
    return folder


@pytest.fixture(scope="module")
def make_catalog(folder: Path) -> Callable[..., DataCatalog]:
    """Give the catalog of a run with these parameters."""

    @functools.cache
    def make(**runtime_params: str) -> DataCatalog:
        bootstrap_project(folder)
        session = KedroSession.create(folder, env="test", runtime_params=runtime_params)
        catalog: DataCatalog = session.load_context().catalog
        return catalog

    return make


@pytest.fixture
def hooks() -> Iterator[tuple[LocksHook, LocksHook]]:
    """Those of two processes."""
    two = LocksHook(), LocksHook()
    yield two
    for hook in two:
        hook.after_pipeline_run()


TOGETHER = [
    ("train", "train_deepfm", None),
    ("train", "train", "06_models/single_phase"),
    ("preprocess", "preprocess", "01_raw/generated_log"),
    ("preprocess", "train", "02_intermediate/x4"),
    ("train", "preprocess", "02_intermediate/x4"),
    ("train_deepfm", "train_two_phase", "06_models/deepfm"),
    ("train", "train_distilled", "06_models/single_phase"),
    ("train", "evaluate", "06_models/single_phase"),
    ("evaluate", "train", "06_models/single_phase"),
    ("evaluate", "train_deepfm", None),
    ("train", "compare", "07_model_output/single_phase"),
    ("compare", "train", "07_model_output/single_phase"),
    ("compare", "train_deepfm", None),  # which has no results yet
]


@pytest.mark.parametrize(("first", "second", "refused"), TOGETHER)
def test_what_may_run_at_once(
    make_catalog: Callable[..., DataCatalog],
    hooks: tuple[LocksHook, LocksHook],
    folder: Path,
    first: str,
    second: str,
    refused: str | None,
) -> None:
    catalog = make_catalog()
    hooks[0].before_pipeline_run(pipelines[first], catalog)
    if refused is None:
        hooks[1].before_pipeline_run(pipelines[second], catalog)
        hooks[1].after_pipeline_run()
    else:
        with pytest.raises(PreflightError) as error:
            hooks[1].before_pipeline_run(pipelines[second], catalog)
        assert f"{folder}/data/{refused} is in use by another run (" in str(error.value)
    hooks[0].on_pipeline_error()
    hooks[1].before_pipeline_run(pipelines[second], catalog)
    hooks[1].after_pipeline_run()
    assert [*folder.rglob(".*.lock")] == []


def test_a_given_raw_folder_is_read_alone(
    make_catalog: Callable[..., DataCatalog], hooks: tuple[LocksHook, LocksHook], folder: Path
) -> None:
    """Two logs may be made of the same raw files at once; no file comes to lie beside a store."""
    given = str(folder / "data" / "01_raw" / "generated_log")
    catalog = make_catalog(raw_dir=given, store="memory://store")
    for hook in hooks:
        hook.before_pipeline_run(pipelines["preprocess"], catalog)
        assert [*folder.rglob(".*.lock")] == [Path(given).with_name(".generated_log.lock")]


def test_a_folder_is_shared_once_all_in_it_is_written(
    make_catalog: Callable[..., DataCatalog], hooks: tuple[LocksHook, LocksHook]
) -> None:
    """So that a path can be trained while the default run, which preprocessed, trains another."""
    default, deepfm = pipelines["__default__"], pipelines["train_deepfm"]
    hooks[0].before_pipeline_run(default, make_catalog())
    for name in sorted(default.all_outputs()):
        with pytest.raises(PreflightError):
            hooks[1].before_pipeline_run(deepfm, make_catalog())
        hooks[0].after_dataset_saved(name)
    hooks[1].before_pipeline_run(deepfm, make_catalog())


def test_they_are_held_until_the_run_has_told_its_results(
    trained_project: Path, run_here: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the results of the next run might be told as this one's."""
    held: list[str] = []
    told = summary.summary_of_run

    def look(pipeline: Pipeline, catalog: DataCatalog, address: str | None) -> str:
        held.extend(sorted(path.name for path in trained_project.rglob(".*.lock")))
        return told(pipeline, catalog, address)

    monkeypatch.setattr(summary, "summary_of_run", look)
    run_here(trained_project, "evaluate")
    assert held == [".single_phase.lock"] * 3 + [".x4.lock"]
    assert [*trained_project.rglob(".*.lock")] == []


def times(project: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (project / "data").rglob("*.*")}


def test_a_refused_run_is_none_in_mlflow_and_changes_nothing(
    trained_project: Path,
    run_here: Callable[..., None],
    mlflow_runs: Callable[[Path], list[Run]],
) -> None:
    before, runs = times(trained_project), len(mlflow_runs(trained_project))
    other = FolderLocks()
    other.take(trained_project / "data" / "06_models" / "single_phase", write=True)
    with pytest.raises(PreflightError, match="single_phase is in use by another run"):
        run_here(trained_project, "train")
    other.release()
    assert times(trained_project) == before
    assert len(mlflow_runs(trained_project)) == runs


@pytest.mark.slow
def test_of_two_runs_of_one_path_the_second_ends_in_one_line(
    trained_project: Path, kedro_run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The first is held between saving its model and testing it, as by a slow upload."""
    report = trained_project / "data" / "08_reporting" / "single_phase" / "evaluation_x4_test.json"
    auc = json.loads(report.read_text())["auc"]
    train = ["--env", "test", "--pipeline=train"]
    command = [sys.executable, "-m", "kedro", "run", *train]
    env = os.environ | {"COLUMNS": "1000", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=trained_project, env=env, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        said = ""
        while "single_phase.draw_" not in said:
            said += first.stdout.readline()
            assert first.poll() is None
        os.kill(first.pid, signal.SIGSTOP)
        second = kedro_run(trained_project, *train, "--params", "training.seed=7")
        os.kill(first.pid, signal.SIGCONT)
        said += first.stdout.read()
    assert second.returncode == 1
    (refusal,) = [line for line in second.stderr.splitlines() if line.startswith("Error: ")]
    assert f"in use by another run (process {first.pid} on " in refusal
    assert "kedro run --env test --pipeline=train): wait" in refusal
    assert "Traceback" not in second.stderr
    assert first.returncode == 0
    assert f"AUC         {auc:.4f}" in said
    assert json.loads(report.read_text())["auc"] == auc
