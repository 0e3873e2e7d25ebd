import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.hooks.run_facts import (
    RunFactsDataset,
    changed_settings,
    command_of,
    git_tags,
    machine,
)

REPORT = Path("data/08_reporting/single_phase/report.html")


@pytest.mark.parametrize(
    ("run_params", "command"),
    [
        ({}, "kedro run"),
        ({"env": "test", "pipeline_names": ["train"]}, "kedro run --env=test --pipelines=train"),
        (
            {"runtime_params": {"training": {"epochs": 3, "resume": False}, "raw_dir": "a b"}},
            "kedro run --params 'training.epochs=3,training.resume=false,raw_dir=a b'",
        ),
        (
            {"runtime_params": {"llm": {"pretrained": None}}, "tags": ["a", "b"]},
            "kedro run --tags=a,b --params llm.pretrained=null",
        ),
        (
            {"from_nodes": ["predict"], "only_missing_outputs": True},
            "kedro run --from-nodes=predict --only-missing-outputs",
        ),
        (
            {"runtime_params": {"store": "s3://user:secret@host/x"}},
            "kedro run --params store=s3://***@host/x",
        ),
    ],
)
def test_the_command_is_what_does_the_same_without_credentials(
    run_params: dict[str, Any], command: str
) -> None:
    assert command_of(run_params) == command


def test_settings_are_changed_where_they_differ_in_the_runs_groups() -> None:
    base = {"training": {"lr": 0.1, "epochs": 5}, "deepfm": {"stages": {"a": {"lr": 1}}}, "new": {}}
    used = {"training": {"lr": 0.2, "epochs": 5}, "deepfm": {"stages": {"a": {"lr": 2, "n": [1]}}}}
    groups = {"training", "deepfm.stages"}
    changed = [*changed_settings(base, used, groups)]
    assert [(one.name, one.default, one.used) for one in changed] == [
        ("training.lr", "0.1", "0.2"),
        ("deepfm.stages.a.lr", "1", "2"),
        ("deepfm.stages.a.n", None, "[1]"),
    ]
    # Of groups that the run is not told nothing is said, though their names begin alike.
    assert [*changed_settings(base, used, {"train", "deepfm.stage"})] == []


def test_the_commit_is_known_in_a_repository_alone(tmp_path: Path) -> None:
    assert git_tags(tmp_path) == {"git_commit": "unknown"}

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "--message=one")
    assert git_tags(tmp_path) == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "false"}
    (tmp_path / "new").touch()
    assert git_tags(tmp_path)["git_dirty"] == "true"


def test_the_machine_is_named() -> None:
    named = machine()
    assert "cores" in named
    assert "GiB" in named


def test_facts_are_known_while_a_run_goes_on_alone() -> None:
    dataset = RunFactsDataset()
    assert dataset.exists()
    with pytest.raises(DatasetError, match=r"report\.html has it"):
        dataset.load()
    with pytest.raises(DatasetError, match="found, not saved"):
        dataset.save(1)


def test_a_runs_report_says_what_it_set_and_how_it_was_started(finished_run: Path) -> None:
    body = (finished_run / REPORT).read_text().partition("</head>")[2]
    assert "kedro run --env=test</pre>" in body
    for name in ("training.epochs", "llm.architecture.hidden_size", "generated_log.train_rows"):
        assert f"<code>{name}</code>" in body
    assert "<code>training.lr</code>" not in body
    results = json.loads((finished_run / REPORT.parent / "training_results.json").read_text())
    assert results["settings"] in body


def test_parameters_of_a_run_are_among_its_changed_settings(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    run_here(trained_project, "evaluate", params={"evaluation": {"group_by": "hour"}})
    page = REPORT.parent / "report_x4_test.html"
    body = (trained_project / page).read_text().partition("</head>")[2]
    assert "--params evaluation.group_by=hour" in body
    assert "<td><code>evaluation.group_by</code></td>" in body
    assert "<code>generated_log.train_rows</code>" not in body
