"""The baselines and the two-phase paths, from raw log to tested checkpoint."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pyarrow.parquet as pq
import pytest
import torch
from mlflow.entities import Run
from torch import Tensor

from llm_ctr_pipeline.data.features.feature_map import FingerprintError
from llm_ctr_pipeline.hooks.preflight import PreflightError
from llm_ctr_pipeline.models.baselines.dcnv2 import DcnV2
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.baselines.finalmlp import FinalMlp
from llm_ctr_pipeline.models.baselines.logistic_regression import LogisticRegression
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.pipelines.train import nodes
from llm_ctr_pipeline.training.checkpoint import Checkpoint, load_checkpoint
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.stages import StageRun

TWO_PHASE = ("two_phase", "two_phase_finetuned")
BASELINES = {
    "deepfm": DeepFm,
    "logistic_regression": LogisticRegression,
    "dcnv2": DcnV2,
    "finalmlp": FinalMlp,
}
PATHS = (*BASELINES, *TWO_PHASE)


@pytest.fixture(scope="module")
def all_paths(
    tmp_path_factory: pytest.TempPathFactory,
    make_project: Callable[[Path], Path],
    run_here: Callable[..., None],
) -> Path:
    """A project in which all three datasets were encoded and all but single_phase trained."""
    project = make_project(tmp_path_factory.mktemp("all_paths"))
    run_here(project, "preprocess_all")
    for path in PATHS:
        run_here(project, f"train_{path}")
    return project


@pytest.fixture
def project_copy(all_paths: Path, tmp_path: Path) -> Path:
    """The project, to be changed."""
    return Path(shutil.copytree(all_paths, tmp_path / "copy"))


def checkpoint(project: Path, path: str, name: str = "best_model") -> Checkpoint:
    return load_checkpoint(project / "data/06_models" / path / name)


def results(project: Path, path: str, name: str = "training_results") -> dict[str, Any]:
    file = project / f"data/08_reporting/{path}/{name}.json"
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def same_component(first: Checkpoint, second: Checkpoint, component: str) -> bool:
    """Whether two checkpoints agree on a component, bit by bit."""
    weights = [
        {name: w for name, w in one.weights.items() if name.split(".")[0] == component}
        for one in (first, second)
    ]
    assert weights[0].keys() == weights[1].keys() != set()
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def embedding_of_first_ids(one: Checkpoint, sizes: tuple[int, ...]) -> list[Tensor]:
    """The rows of each field's first ids."""
    table = one.weights["embedding.table.weight"]
    starts = itertools.accumulate((0, *one.feature_map.sizes[:-1]))
    return [table[start : start + size] for start, size in zip(starts, sizes, strict=True)]


@pytest.mark.parametrize("path", BASELINES)
def test_a_baseline_is_tested_as_every_path_is(all_paths: Path, path: str) -> None:
    trained = checkpoint(all_paths, path)
    assert isinstance(trained.build(), BASELINES[path])
    assert trained.training.path == path
    report = results(all_paths, path, "evaluation_x4_test")
    assert (report["path"], report["dataset"], report["rows"]) == (path, "x4", 500)
    files = {file.name for file in (all_paths / "data/08_reporting" / path).iterdir()}
    assert files >= {"roc_x4_test.html", "calibration_x4_test.html", "learning_curve.html"}


def test_the_frozen_encoder_is_the_baselines_bit_by_bit(all_paths: Path) -> None:
    baseline = checkpoint(all_paths, "deepfm")
    for name in ("phase_1_model", "best_model"):
        frozen = checkpoint(all_paths, "two_phase", name)
        assert same_component(frozen, baseline, "gen")
        sizes = baseline.feature_map.sizes
        assert frozen.feature_map.sizes > sizes
        for found, expected in zip(
            embedding_of_first_ids(frozen, sizes),
            embedding_of_first_ids(baseline, sizes),
            strict=True,
        ):
            assert torch.equal(found, expected)


def test_each_phase_trains_its_components_and_no_others(all_paths: Path) -> None:
    for path in TWO_PHASE:
        first, last = (
            checkpoint(all_paths, path, name) for name in ("phase_1_model", "best_model")
        )
        changed = {
            component
            for component in ("embedding", "gen", "projector", "llm")
            if not same_component(first, last, component)
        }
        assert changed == {"projector", "llm"}
    frozen, tuned = (checkpoint(all_paths, path, "phase_1_model") for path in TWO_PHASE)
    assert same_component(frozen, tuned, "llm")
    for component in ("embedding", "gen", "projector"):
        assert not same_component(frozen, tuned, component)


@pytest.mark.parametrize("path", TWO_PHASE)
def test_results_tell_the_stages(all_paths: Path, path: str) -> None:
    found = results(all_paths, path)
    stages = [(stage["stage"], stage["dataset"]) for stage in found["stages"]]
    assert stages == [("phase_1", "x1"), ("phase_1", "x2"), ("phase_2", "x4")]
    assert [(e["stage"], e["dataset"]) for e in found["epochs"]] == stages
    weights = checkpoint(all_paths, path).build()
    assert isinstance(weights, LlmCtr)
    assert found["parameters"] == sum(weight.numel() for weight in weights.parameters())
    assert 0 < found["stages"][0]["trained_parameters"] < found["trained_parameters"]
    frozen = {"two_phase": {"embedding", "gen"}, "two_phase_finetuned": set()}[path]
    sizes = {name: weight.numel() for name, weight in weights.named_parameters()}
    never = sum(size for name, size in sizes.items() if name.split(".")[0] in frozen)
    assert found["trained_parameters"] == found["parameters"] - never
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"]))
    trained = checkpoint(all_paths, path).training
    assert trained.origin is not None
    assert (trained.stage, trained.origin.path) == ("phase_2", "deepfm")
    assert trained.best.to_json() == found["best"]
    first = checkpoint(all_paths, path, "phase_1_model").training
    assert (first.stage, first.dataset) == ("phase_1", "x2")
    assert first.best.to_json() == found["stages"][1]["best"]


def test_metrics_of_the_first_phase_do_not_mix_with_those_of_the_last(
    all_paths: Path, mlflow_runs: Callable[[Path], list[Run]]
) -> None:
    (run,) = (r for r in mlflow_runs(all_paths) if r.data.tags.get("path") == "two_phase")
    assert run.data.tags["dataset"] == "x4"
    metrics = run.data.metrics
    assert {"phase_1/x1/valid/auc", "phase_1/x2/valid/auc", "valid/auc"} <= metrics.keys()
    assert not [name for name in metrics if "/best_valid_auc" in name]
    assert metrics["best_valid_auc"] == results(all_paths, "two_phase")["best"]["valid_auc"]


def test_the_model_of_the_first_phase_is_tested_beside_the_best(
    all_paths: Path, run_here: Callable[..., None]
) -> None:
    best = results(all_paths, "two_phase", "evaluation_x4_test")
    asked = {"path": "two_phase", "model": "phase_1_model"}
    run_here(all_paths, "evaluate", params={"evaluation": asked})
    first = results(all_paths, "two_phase/phase_1_model", "evaluation_x4_test")
    assert first["model"] == "phase_1_model"
    assert first["trained"]["stage"] == "phase_1"
    assert first["auc"] != best["auc"]
    assert results(all_paths, "two_phase", "evaluation_x4_test") == best


@pytest.mark.parametrize(
    ("path", "dataset", "split"),
    [
        ("deepfm", "x1", "valid"),
        ("deepfm", "x4", "train"),
        ("two_phase", "x2", "test"),
        ("two_phase_finetuned", "x1", "train"),
        ("two_phase", "x4", "valid"),
    ],
)
def test_any_checkpoint_is_tested_on_any_dataset_and_split(
    all_paths: Path, run_here: Callable[..., None], path: str, dataset: str, split: str
) -> None:
    asked = {"path": path, "dataset": dataset, "split": split}
    run_here(all_paths, "evaluate", params={"evaluation": asked})
    report = results(all_paths, path, f"evaluation_{dataset}_{split}")
    encoded = pq.read_table(all_paths / f"data/05_model_input/{dataset}/{split}.parquet")
    assert report["rows"] == encoded.num_rows
    assert {key: report[key] for key in asked} == asked
    predictions = pq.read_table(
        all_paths / f"data/07_model_output/{path}/{dataset}_{split}_predictions.parquet"
    )
    assert predictions["label"].to_pylist() == encoded["label"].to_pylist()
    # The last of them was cut off at the ids that the checkpoint has.
    one = checkpoint(all_paths, path)
    model = one.build()
    row = torch.tensor([[encoded[name][7].as_py() for name in one.feature_map.names]])
    known = torch.where(row < torch.tensor(one.feature_map.sizes), row, 0)
    expected = torch.sigmoid(model(known).double()).item()
    assert predictions["probability"][7].as_py() == pytest.approx(expected, rel=1e-4)


def test_without_the_baseline_the_run_says_what_makes_it(
    project_copy: Path, run_here: Callable[..., None]
) -> None:
    shutil.rmtree(project_copy / "data/06_models/deepfm")
    with pytest.raises(
        PreflightError,
        match=r"deepfm best model not found at .*/data/06_models/deepfm/best_model: "
        r"run `kedro run --env test --pipeline=train_deepfm` first",
    ):
        run_here(project_copy, "train_two_phase")


@pytest.mark.parametrize(("path", "validations", "whole"), [("deepfm", 1, 2), ("two_phase", 2, 3)])
def test_a_path_that_was_cut_off_goes_on_where_it_was(
    all_paths: Path,
    project_copy: Path,
    run_here: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    validations: int,
    whole: int,
) -> None:
    made = project_copy / "data/06_models" / path
    shutil.rmtree(made)
    seen: list[StageRun] = []

    def cut_off(run: StageRun, _record: ValidationRecord) -> None:
        seen.append(run)
        if len(seen) == validations:
            raise OSError("no space left on device")

    monkeypatch.setattr(nodes, "log_validation", cut_off)
    with pytest.raises(OSError, match="no space left"):
        run_here(project_copy, f"train_{path}")
    assert list((made / "interrupted").glob("*.pt"))
    assert not (made / "best_model").exists()
    run_here(project_copy, f"train_{path}")
    assert len(seen) == whole  # none was made again
    once, resumed = (checkpoint(project, path).weights for project in (all_paths, project_copy))
    assert all(torch.equal(resumed[name], once[name]) for name in once)


@pytest.mark.parametrize(
    ("changed", "trained_again"), [("phase_2", ["x4"]), ("phase_1", ["x1", "x2", "x4"])]
)
def test_other_settings_of_a_phase_train_it_and_those_behind_it_again(
    all_paths: Path,
    project_copy: Path,
    run_here: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    trained_again: list[str],
) -> None:
    made = project_copy / "data/06_models/two_phase"
    shutil.rmtree(made)
    seen: list[str] = []

    def cut_off_in_phase_2(run: StageRun, _record: ValidationRecord) -> None:
        if run.stage == "phase_2":
            raise OSError("power cut")

    monkeypatch.setattr(nodes, "log_validation", cut_off_in_phase_2)
    with pytest.raises(OSError, match="power cut"):
        run_here(project_copy, "train_two_phase")
    monkeypatch.setattr(nodes, "log_validation", lambda run, _: seen.append(run.dataset))
    settings = {"two_phase": {"stages": {changed: {"lr": 0.002}}}}
    run_here(project_copy, "train_two_phase", params=settings)
    assert seen == trained_again
    resumed = checkpoint(project_copy, "two_phase").weights
    phase_1 = [
        (project / "data/06_models/two_phase/phase_1_model/model.safetensors").read_bytes()
        for project in (all_paths, project_copy)
    ]
    assert (phase_1[0] == phase_1[1]) == (changed == "phase_2")
    # What it gave is saved, so it trains anew, but for what an interrupted run goes on from.
    run_here(project_copy, "train_two_phase", params=settings)
    assert seen == [*trained_again, *trained_again]
    whole = checkpoint(project_copy, "two_phase").weights
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_path_that_was_trained_again_is_compared_anew(
    project_copy: Path, run_here: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    run_here(project_copy, "compare")
    first = results(project_copy, "compare", "comparison")
    assert first["caveats"] == []
    run_here(project_copy, "train_deepfm", params={"training": {"seed": 7}})
    assert (
        "data/08_reporting/compare has an earlier deepfm: compare again" in capfd.readouterr().out
    )
    run_here(project_copy, "compare")
    second = results(project_copy, "compare", "comparison")
    baseline = second["models"][0]
    assert (baseline["name"], baseline["seeds"]) == ("deepfm", [7])
    assert baseline["auc"] == pytest.approx(
        results(project_copy, "deepfm", "evaluation_x4_test")["auc"]
    )
    assert baseline["auc"] != first["models"][0]["auc"]
    assert second["caveats"] == [
        f"{path} starts from another training of deepfm than this one." for path in TWO_PHASE
    ]


def test_models_of_other_training_rows_are_compared_with_a_caveat(
    project_copy: Path, run_here: Callable[..., None]
) -> None:
    run_here(project_copy, "preprocess", "train", params={"preprocess": {"min_count": 5}})
    run_here(project_copy, "compare", params={"compare": {"paths": "deepfm single_phase"}})
    assert results(project_copy, "compare", "comparison")["caveats"] == [
        "Not trained on the same data: the training rows of x4, or their ids, are others for "
        "deepfm than for single_phase."
    ]


def test_a_baseline_without_gen_cannot_be_gone_on_with(
    project_copy: Path, run_here: Callable[..., None]
) -> None:
    run_here(project_copy, "train_deepfm", params={"deepfm": {"network": {"gen": False}}})
    assert checkpoint(project_copy, "deepfm").model.config.gen is False
    with pytest.raises(ValueError, match=r"train deepfm again .* deepfm\.network\.gen=true"):
        run_here(project_copy, "train_two_phase")


def test_a_baseline_of_other_data_is_refused(
    project_copy: Path, run_here: Callable[..., None]
) -> None:
    before = (project_copy / "data/06_models/two_phase/best_model/model.safetensors").read_bytes()
    run_here(project_copy, "preprocess_all", params={"preprocess": {"min_count": 5}})
    with pytest.raises(FingerprintError, match="train again on these data"):
        run_here(project_copy, "train_two_phase")
    after = (project_copy / "data/06_models/two_phase/best_model/model.safetensors").read_bytes()
    assert before == after


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"phase_1": {"start": "previous"}}, "first stage starts from new or deepfm, all others"),
        ({"phase_2": {"start": "new"}}, "all others from previous"),
        ({"phase_2": {"datasets": "x4 x3"}}, "stage phase_2 trains on x3; this pipeline has the"),
        ({"phase_2": {"components": "llm gan"}}, "phase_2 trains gan: the components of this path"),
    ],
)
def test_stages_that_make_no_sense_are_refused(
    all_paths: Path, run_here: Callable[..., None], stages: dict[str, Any], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        run_here(all_paths, "train_two_phase", params={"two_phase": {"stages": stages}})
    assert mlflow.active_run() is None
