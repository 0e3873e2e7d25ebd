"""A training is finished once all that its run makes is saved: until then nothing of it is lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from safetensors.torch import load_file

from llm_ctr_pipeline.hooks.finished import FinishedHook
from llm_ctr_pipeline.training import checkpoint
from llm_ctr_pipeline.training.history import TrainingResults
from llm_ctr_pipeline.training.kept import finished
from llm_ctr_pipeline.training.step import TrainingStep

MODELS = Path("data/06_models/single_phase")
STATES = MODELS / "interrupted"
RESULTS = Path("data/08_reporting/single_phase/training_results.json")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each training step that is taken."""
    taken: list[int] = []
    step = TrainingStep.__call__

    def counted(self: TrainingStep, *batch: Any) -> None:
        taken.append(len(taken))
        step(self, *batch)

    monkeypatch.setattr(TrainingStep, "__call__", counted)
    return taken


def die(*_args: object, **_names: object) -> None:
    raise OSError("power cut")


@pytest.mark.parametrize(
    ("place", "name"),
    [(checkpoint, "save_file"), (TrainingResults, "to_json"), (go.Figure, "write_json")],
    ids=["checkpoint", "results", "figure"],
)
def test_a_training_whose_outputs_could_not_be_saved_is_not_lost(
    trained_project: Path,
    run_here: Callable[..., None],
    steps: list[int],
    place: object,
    name: str,
) -> None:
    asked = {"training": {"seed": 7}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, die)
        with pytest.raises(Exception, match="power cut"):
            run_here(trained_project, "train", params=asked)
    trained = len(steps)
    assert trained == 2 * 16
    run_here(trained_project, "train", params=asked)
    assert len(steps) == trained  # it is there without a step
    resumed = load_file(trained_project / MODELS / "best_model/model.safetensors")
    results = json.loads((trained_project / RESULTS).read_text())
    assert results["seed"] == 7
    # Saved, it is finished: the same command trains anew, and comes to the same.
    run_here(trained_project, "train", params=asked)
    assert len(steps) == 2 * trained
    whole = load_file(trained_project / MODELS / "best_model/model.safetensors")
    assert all(torch.equal(whole[weight], resumed[weight]) for weight in whole)


def test_more_epochs_go_on_with_a_finished_run(
    trained_project: Path, run_here: Callable[..., None], steps: list[int]
) -> None:
    run_here(trained_project, "train", params={"training": {"epochs": 3}})
    assert len(steps) == 16
    resumed = load_file(trained_project / MODELS / "best_model/model.safetensors")
    (state,) = (trained_project / STATES).glob("*.pt")
    run_here(trained_project, "train", params={"training": {"epochs": 3, "resume": False}})
    assert len(steps) == 16 + 3 * 16
    whole = load_file(trained_project / MODELS / "best_model/model.safetensors")
    assert all(torch.equal(whole[weight], resumed[weight]) for weight in whole)
    # Of the trainings one state is left.
    assert [*(trained_project / STATES).glob("*.pt")] == [state]


def test_what_an_earlier_run_trained_is_not_finished_by_one_that_did_not_train(
    tmp_path: Path,
) -> None:
    """`--only-missing-outputs` passes over a training whose outputs are there, of whatever run."""
    node = Node(Path.exists, "single_phase.state_folder", "single_phase.best_model", name="train")
    run = {
        "pipeline": Pipeline([node]),
        "catalog": DataCatalog({"single_phase.state_folder": MemoryDataset(tmp_path, "assign")}),
    }
    hook = FinishedHook()
    finished.list_trained(tmp_path, {"start-1": [2, 9]})
    hook.before_pipeline_run(**run)
    hook.after_pipeline_run(**run)
    assert finished.listed(tmp_path) == {}
    finished.list_trained(tmp_path, {"start-1": [2, 9]})
    hook.after_pipeline_run(**run)
    assert finished.listed(tmp_path) == {"start-1": [2, 9]}
