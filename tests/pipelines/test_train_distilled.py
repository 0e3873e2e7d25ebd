"""The distilled path: DeepFM that learns from single_phase, from encoded rows to a comparison."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.feature_map import FingerprintError
from llm_ctr_pipeline.hooks.preflight import PreflightError
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.pipelines.train import nodes
from llm_ctr_pipeline.training.checkpoint import Checkpoint, load_checkpoint
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.stages import StageRun

MODELS = Path("data/06_models")
REPORTING = Path("data/08_reporting")
Run = Callable[..., None]


@pytest.fixture(scope="module")
def distilled(finished_run: Path, tmp_path_factory: pytest.TempPathFactory, run_here: Run) -> Path:
    """A project in which single_phase taught a DeepFM, and one learned alone."""
    folder = tmp_path_factory.mktemp("distilled") / "project"
    shutil.copytree(finished_run, folder)
    run_here(folder, "train_deepfm")
    run_here(folder, "train_distilled")
    return folder


@pytest.fixture
def untaught(distilled: Path, tmp_path: Path) -> Path:
    """The project without what was distilled, to be changed."""
    folder = tmp_path / "untaught"
    shutil.copytree(distilled, folder, ignore=shutil.ignore_patterns("distilled", "mlartifacts"))
    return folder


def checkpoint(project: Path, path: str = "distilled") -> Checkpoint:
    return load_checkpoint(project / MODELS / path / "best_model")


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def same_weights(first: Checkpoint, second: Checkpoint) -> bool:
    assert first.weights.keys() == second.weights.keys()
    return all(torch.equal(second.weights[name], weight) for name, weight in first.weights.items())


def test_a_distilled_model_is_a_deepfm_and_tested_as_every_path_is(distilled: Path) -> None:
    best = checkpoint(distilled)
    assert isinstance(best.build(), DeepFm)
    assert best.tokenizer is None
    assert best.model == checkpoint(distilled, "deepfm").model
    assert not same_weights(best, checkpoint(distilled, "deepfm"))
    assert best.training.path == "distilled"
    assert best.training.origin == checkpoint(distilled, "single_phase").training
    report = read(distilled / REPORTING / "distilled/evaluation_x4_test.json")
    assert (report["path"], report["dataset"], report["rows"]) == ("distilled", "x4", 500)
    files = {file.name for file in (distilled / REPORTING / "distilled").iterdir()}
    assert files >= {"roc_x4_test.html", "calibration_x4_test.html", "learning_curve.html"}
    (state,) = (distilled / MODELS / "distilled/interrupted").glob("*.pt")
    kept = torch.load(state, weights_only=True)["model"]
    assert kept.keys() == best.weights.keys()


def test_a_distilled_model_stands_in_the_comparison(distilled: Path, run_here: Run) -> None:
    run_here(distilled, "compare")
    comparison = read(distilled / REPORTING / "compare/comparison.json")
    paths = [model["path"] for model in comparison["models"]]
    assert paths == ["deepfm", "single_phase", "distilled"]
    assert comparison["caveats"] == []


@pytest.fixture
def cut_off(untaught: Path, run_here: Run, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of the validations that were seen; after the first the run failed."""
    seen: list[int] = []

    def fail_once(_run: StageRun, record: ValidationRecord) -> None:
        seen.append(record.step)
        if len(seen) == 1:
            raise OSError("power cut")

    monkeypatch.setattr(nodes, "log_validation", fail_once)
    with pytest.raises(OSError, match="power cut"):
        run_here(untaught, "train_distilled")
    assert not (untaught / MODELS / "distilled/best_model").exists()
    return seen


def test_a_distillation_that_was_cut_off_goes_on_exactly(
    distilled: Path, untaught: Path, run_here: Run, cut_off: list[int]
) -> None:
    run_here(untaught, "train_distilled")
    assert cut_off == [16, 32]  # none was made again
    assert same_weights(checkpoint(untaught), checkpoint(distilled))


def test_with_another_teacher_the_training_begins_anew(
    distilled: Path, untaught: Path, run_here: Run, cut_off: list[int]
) -> None:
    run_here(untaught, "train", params={"training": {"seed": 7}})
    cut_off.clear()
    cut_off.append(0)  # none is to fail
    run_here(untaught, "train_distilled")
    assert cut_off == [0, 16, 32]
    assert not same_weights(checkpoint(untaught), checkpoint(distilled))
    assert checkpoint(untaught).training.origin.seed == 7  # type: ignore[union-attr]


def test_streamed_rows_are_taught_too(untaught: Path, distilled: Path, run_here: Run) -> None:
    run_here(untaught, "train_distilled", params={"training": {"rows_in": "stream"}})
    best = [read(p / REPORTING / "distilled/training_results.json") for p in (untaught, distilled)]
    assert best[0]["best"]["train_loss"] == pytest.approx(best[1]["best"]["train_loss"], rel=0.05)


def test_any_path_may_teach(untaught: Path, run_here: Run) -> None:
    run_here(untaught, "train_distilled", params={"distilled": {"teacher": {"path": "deepfm"}}})
    trained = checkpoint(untaught).training
    assert trained.origin == checkpoint(untaught, "deepfm").training


@pytest.mark.parametrize(("path", "maker"), [("single_phase", "train"), ("hybrid", "train_hybrid")])
def test_without_its_teacher_the_run_says_what_makes_it(
    untaught: Path, run_here: Run, path: str, maker: str
) -> None:
    shutil.rmtree(untaught / MODELS / "single_phase")
    with pytest.raises(
        PreflightError,
        match=rf"distilled teacher model not found at .*/06_models/{path}/best_model: "
        rf"run `kedro run --env test --pipeline={maker}` first",
    ):
        run_here(untaught, "train_distilled", params={"distilled": {"teacher": {"path": path}}})


def test_a_teacher_of_other_ids_is_refused(untaught: Path, run_here: Run) -> None:
    run_here(untaught, "preprocess", params={"preprocess": {"min_count": 5}})
    with pytest.raises(FingerprintError, match="train again on these data"):
        run_here(untaught, "train_distilled")
    assert not (untaught / MODELS / "distilled/best_model").exists()


def test_a_teacher_that_only_a_file_names_is_refused(untaught: Path, run_here: Run) -> None:
    """The catalog knows no parameters but those of the command line."""
    file = untaught / "conf/test/parameters.yml"
    file.write_text(f"{file.read_text()}\ndistilled: {{teacher: {{path: deepfm}}}}\n")
    with pytest.raises(SettingsError, match=r"`--params distilled\.teacher\.path=deepfm`"):
        run_here(untaught, "train_distilled")
