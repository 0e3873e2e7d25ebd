import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.storage.record_text import from_text, to_text
from llm_ctr_pipeline.hooks.run_log import say_what_is_replaced

BELOW = "docs"


def test_a_run_says_on_what_it_runs_each_node_once_and_what_it_replaces(
    trained_project: Path, run_here: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="llm_ctr_pipeline"):
        run_here(trained_project, "train")
    said = [record.getMessage() for record in caplog.records if record.name.endswith("run_log")]
    first, second, *nodes = said
    assert first.startswith("train on x4 (generated log, 3,000 rows): 11 nodes; MLflow run ")
    assert second == "1/11 single_phase.train_single_phase"
    assert nodes == [
        "data/06_models/single_phase/best_model is of an earlier training on x4: this one replaces "
        "it",
        "2/11 single_phase.draw_*",
        "3/11 single_phase.predict",
        "4/11 single_phase.measure",
        "5/11 single_phase.slice_rows",
        "6/11 single_phase.draw_*",
        "11/11 single_phase.write_report",
    ]


def test_preprocessing_again_says_so_and_where_the_raw_log_is(
    trained_project: Path, run_here: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="llm_ctr_pipeline.hooks.run_log"):
        run_here(trained_project, "preprocess", params={"tracking": False})
        run_here(trained_project, "preprocess", only_missing_outputs=True)
    assert "preprocess on x4 in data/01_raw/generated_log: 7 nodes" in caplog.messages
    assert "data/05_model_input/x4 is of an earlier run: this one replaces it" in caplog.messages
    assert caplog.messages[-1] == "No output is missing: no node ran"


@pytest.mark.parametrize(
    ("dataset", "source", "rows", "level", "said"),
    [
        (
            *("x4", "my_log", "f00d", logging.WARNING),
            "is a model of x4 (my_log): this training replaces it by one of x4 (generated log)",
        ),
        (
            *("x1", "generated log", "f00d", logging.WARNING),
            "is a model of x1 (generated log): this training replaces it by one of x4 (generated "
            "log)",
        ),
        (
            *("x4", "generated log", "f00d", logging.WARNING),
            "is a model of other rows of x4 (generated log): this training replaces it",
        ),
        (
            *("x4", "generated log", None, logging.INFO),
            "is of an earlier training on x4: this one replaces it",
        ),
    ],
)
def test_a_model_of_another_log_is_not_replaced_without_a_word(
    finished_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    dataset: str,
    source: str,
    rows: str | None,
    level: int,
    said: str,
) -> None:
    text = (finished_run / "data/05_model_input/x4/summary.json").read_bytes()
    now = from_text(DatasetSummary, text)
    train = now.splits["train"]
    if rows:
        train = train.model_copy(update={"raw_fingerprint": rows})
    changes = {"dataset": dataset, "source": source, "splits": now.splits | {"train": train}}
    (tmp_path / "summary.json").write_text(to_text(now.model_copy(update=changes)))
    with caplog.at_level(logging.INFO):
        say_what_is_replaced(tmp_path, now)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, f"{tmp_path} {said}")


def test_a_model_that_cannot_be_read_is_replaced_with_a_word(
    finished_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (finished_run / "data/05_model_input/x4/summary.json").read_bytes()
    (tmp_path / "summary.json").write_text("{}")
    say_what_is_replaced(tmp_path, from_text(DatasetSummary, text))
    assert caplog.messages == [f"{tmp_path} cannot be read: this training replaces it"]


@pytest.mark.slow
@pytest.mark.parametrize("below", [False, True], ids=["in the project", "in a folder below"])
def test_a_run_tells_its_story_in_a_screenful(project: Path, below: bool) -> None:
    """Of what stands before the summary more than half was the nodes' signatures."""
    folder = project / BELOW if below else project
    folder.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env", "test"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    before, _, summary = done.stdout.partition("\nx4  (3,000 rows, generated log)\n")
    lines = before.splitlines()
    if below:  # Kedro says which logging it has before this project's code is there
        start = next(at for at, line in enumerate(lines) if "on x4 in data/01_raw" in line)
        assert "rich_logging.yml" in "".join("".join(lines[:start]).split())
        lines = lines[start:]
    assert len(lines) <= 24
    for unwanted in ("->", "--async", "Completed", "Warning", "Downloading", "mlflow.", "\033"):
        assert unwanted not in "\n".join(lines)
    assert sum("loss" in line and "AUC" in line for line in lines) == 2
    assert "\n  checkpoint  data/06_models/single_phase/best_model\n" in summary
    assert (f"are below the project's folder, {project}" in summary) is below
