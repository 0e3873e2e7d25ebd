"""What interrupted paths share, and what a path refuses before it trains.

How paths train, go on and are tested is in tests/pipelines/test_training_paths.py.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from llm_ctr_pipeline.data.errors import EncodedDataError, SettingsError
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, Field, FitSource
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.distillation.teacher import Teacher
from llm_ctr_pipeline.training.paths import (
    NOT_IN_RESUME_KEY,
    NOT_IN_SETTINGS,
    EncodedDataset,
    TrainingPath,
    check_encoded,
)
from llm_ctr_pipeline.training.settings import Stages, TeacherSettings, TrainingSettings
from tests.records import summary_of
from tests.training.test_history import TRAINED

STAGES = {
    "first": {"datasets": "a b", "components": "projector", "start": "new"},
    "second": {"datasets": "a", "components": None, "start": "previous"},
}
FEATURE_MAP = FeatureMap(
    dataset="a",
    fields=(Field(name="f", size=3), Field(name="g", size=5), Field(name="h", size=4)),
    min_count=2,
    fit_on=FitSource(
        source="generated log", file="train.csv", rows=100, clicks=17, fingerprint="ab" * 32
    ),
    fingerprint="cd" * 32,
)


class Group(Frozen):
    """A parameter group that the model depends on."""

    width: int


@pytest.fixture
def path(make_model: Callable[..., LlmCtr]) -> TrainingPath:
    rows = EncodedFile(Path("nowhere"))
    datasets = {name: EncodedDataset(rows, rows, summary_of(name)) for name in "ab"}
    return TrainingPath(
        "some", make_model(), None, FEATURE_MAP, pa.table({}), datasets, (Group(width=1),)
    )


def keys(path: TrainingPath, training: TrainingSettings, **of_second: Any) -> tuple[str, ...]:
    stages = STAGES | {"second": STAGES["second"] | of_second}
    return path._keys(Stages(stages), training)


def test_how_a_run_is_executed_does_not_keep_it_from_going_on(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings]
) -> None:
    others = {
        "activation_checkpointing": "on",
        "compile": "off",
        "cpu_threads": 2,
        "deterministic": True,
        "device": "cuda:1",
        "epochs": 7,
        "eval_batch_size": 7,
        "float32_matmul": "high",
        "keep_state_every": 3,
        "keep_state_every_minutes": 0.5,
        "keep_state_every_steps": 4,
        "micro_batch_size": 2,
        "precision": "bf16-mixed",
        "patience": 3,
        "resume": False,
        "rows_in": "stream",
        "strategy": "fsdp",
    }
    assert others.keys() == NOT_IN_RESUME_KEY
    assert keys(path, make_settings(**others)) == keys(path, make_settings())


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"seed": 6}])
def test_what_a_run_learns_does(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings], change: dict[str, Any]
) -> None:
    before = keys(path, make_settings())
    assert len({*before, *keys(path, make_settings(**change))}) == 6
    wider = replace(path, settings=(Group(width=2),))
    assert len({*before, *keys(wider, make_settings())}) == 6


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"components": "llm"}, {"datasets": "b"}])
def test_the_stages_before_a_change_are_shared(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings], change: dict[str, Any]
) -> None:
    before, after = keys(path, make_settings()), keys(path, make_settings(), **change)
    assert before[:2] == after[:2]
    assert before[2] != after[2]


def test_a_setting_counts_alike_whoever_sets_it(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings]
) -> None:
    assert keys(path, make_settings(lr=0.5), lr=0.1)[2] != keys(path, make_settings(lr=0.1))[2]
    assert keys(path, make_settings(lr=0.1), lr=0.1) == keys(path, make_settings(lr=0.1))


def settings_digest(path: TrainingPath, training: TrainingSettings) -> str:
    return path._chain(Stages(STAGES), training, NOT_IN_SETTINGS)[-1]


def test_trainings_that_differ_by_chance_alone_have_the_same_settings(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings]
) -> None:
    before = settings_digest(path, make_settings())
    others = {"seed": 6, "device": "cuda:1", "resume": False, "keep_state_every": 3}
    assert settings_digest(path, make_settings(**others)) == before
    started = replace(path, origin=TRAINED)
    assert settings_digest(started, make_settings()) == before
    assert keys(started, make_settings()) != keys(path, make_settings())


def test_another_teacher_is_another_training_with_the_same_settings(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings]
) -> None:
    """Its weights count, not when it was trained."""
    weighted = TeacherSettings(path="single_phase", weight=0.5, temperature=1.0)
    teacher = Teacher(path.model, weighted, "one digest", TRAINED)
    later = TRAINED.model_copy(update={"seed": 7})
    taught, again, other = (
        replace(path, teacher=one)
        for one in (teacher, replace(teacher, trained=later), replace(teacher, digest="another"))
    )
    training = make_settings()
    assert keys(taught, training) == keys(again, training)
    assert len({*keys(path, training), *keys(taught, training), *keys(other, training)}) == 9
    assert settings_digest(taught, training) == settings_digest(other, training)


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"epochs": 7}, {"patience": 7}])
def test_what_changes_a_result_beyond_chance_changes_the_settings(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings], change: dict[str, Any]
) -> None:
    before = settings_digest(path, make_settings())
    assert settings_digest(path, make_settings(**change)) != before
    other = replace(path.datasets["b"], summary=summary_of("b", clicks=6))
    for changed in (
        replace(path, name="other"),
        replace(path, settings=(Group(width=2),)),
        replace(path, datasets={**path.datasets, "b": other}),
    ):
        assert settings_digest(changed, make_settings()) != before


def test_a_dataset_that_there_is_not_is_refused(
    path: TrainingPath, make_settings: Callable[..., TrainingSettings], tmp_path: Path
) -> None:
    stages = Stages(STAGES | {"second": STAGES["second"] | {"datasets": "a x3"}})
    message = "stage second trains on x3; this pipeline has the datasets a, b"
    with pytest.raises(SettingsError, match=message):
        path.train(stages, make_settings(), tmp_path)


def test_encoded_splits_are_of_the_log_and_hold_both_classes() -> None:
    raw = {name: SimpleNamespace(fingerprint="a") for name in ("train", "valid", "test")}
    check_encoded(FEATURE_MAP, summary_of("a"), SimpleNamespace(splits=raw))
    raw["test"] = SimpleNamespace(fingerprint="other")
    with pytest.raises(EncodedDataError, match="preprocessing was interrupted"):
        check_encoded(FEATURE_MAP, summary_of("a"), SimpleNamespace(splits=raw))
    check_encoded(FEATURE_MAP, summary_of("a"))
    with pytest.raises(EncodedDataError, match="the valid split of a has 10 clicks in 10 rows"):
        check_encoded(FEATURE_MAP, summary_of("a", clicks=10))
