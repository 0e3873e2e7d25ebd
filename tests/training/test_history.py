import json
from typing import Any

import pytest
from pydantic import ValidationError

from llm_ctr_pipeline.training.history import (
    Provenance,
    Ran,
    StageSummary,
    StageValidation,
    TrainedOn,
    TrainingResults,
    ValidationRecord,
)
from tests.records import RAN

VALIDATION = ValidationRecord(
    epoch=1.0,
    step=469,
    train_loss=0.4,
    train_accuracy=83.2,
    valid_loss=0.37,
    valid_accuracy=84.4,
    valid_auc=0.78,
    valid_logloss=0.37,
    lr=5e-4,
    seconds=21.6,
    rows_per_second=2768.25,
    improved=True,
)
RESULTS = TrainingResults(
    path="deepfm",
    dataset="x4",
    source="generated log",
    seed=42,
    settings="5e77",
    stopped_early=True,
    best=VALIDATION,
    seconds=21.6,
    rows_per_second=2768.25,
    parameters=100,
    trained_parameters=100,
    stages=(
        StageSummary(
            stage="end_to_end",
            dataset="x4",
            trained_on=TrainedOn(rows="3a00", feature_map="92a4"),
            components=None,
            trained_parameters=100,
            stopped_early=True,
            best=VALIDATION,
            seconds=21.6,
            losses=((12, 0.4), (24, 0.39)),
            ran=RAN,
        ),
    ),
    epochs=(StageValidation(stage="end_to_end", dataset="x4", **dict(VALIDATION), best=True),),
)
TRAINED = Provenance(
    path="deepfm",
    stage="end_to_end",
    dataset="x4",
    source="generated log",
    seed=42,
    best=VALIDATION,
    origin=None,
)


def test_results_know_the_checkpoints_of_their_training() -> None:
    assert RESULTS.is_of(TRAINED)
    others = {"path": "single_phase", "seed": 7, "best": VALIDATION.model_copy(update={"step": 1})}
    for name, value in others.items():
        assert not RESULTS.is_of(TRAINED.model_copy(update={name: value})), name


def test_a_checkpoint_that_others_start_from_is_told_with_them() -> None:
    later = TRAINED.model_copy(update={"path": "two_phase", "origin": TRAINED})
    assert Provenance.from_json(later.to_json()) == later
    assert later.to_json()["origin"] == TRAINED.to_json()


def test_results_keep_their_keys_in_their_order() -> None:
    content: dict[str, Any] = json.loads(json.dumps(RESULTS.to_json()))
    assert [*content] == [
        *("path", "dataset", "source", "seed", "settings", "stopped_early", "best", "seconds"),
        *("rows_per_second", "parameters", "trained_parameters", "stages", "epochs"),
    ]
    assert [*content["stages"][0]] == [
        *("stage", "dataset", "trained_on", "components", "trained_parameters"),
        *("stopped_early", "best", "seconds", "ran", "losses"),
    ]
    assert [*content["epochs"][0]] == ["stage", "dataset", *content["best"], "best"]
    assert TrainingResults.from_json(content) == RESULTS
    with pytest.raises(ValidationError, match="at least 1 item"):
        TrainingResults.from_json({**content, "epochs": []})


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({}, None),
        ({"device": "cuda:1 (NVIDIA A100)"}, None),
        ({"precision": "32-true"}, "training.precision"),
        ({"attention": "flash_attention_2"}, "llm.attention"),
        ({"compile": "off"}, "training.compile"),
    ],
)
def test_what_a_run_must_not_go_on_without(change: dict[str, Any], setting: str | None) -> None:
    now = Ran(**(RAN.to_json() | change))
    expected = setting and (setting, *(getattr(r, setting.split(".")[1]) for r in (RAN, now)))
    assert RAN.changed(now) == expected
    if "precision" not in change:  # the others change the rounding alone
        assert RAN.changed(Ran(**(now.to_json() | {"deterministic": False}))) is None
