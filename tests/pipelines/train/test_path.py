"""What a training path checks first, how its stages are filled in, and which states are its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest
import yaml
from torch import nn

from llm_ctr_pipeline.data.errors import EncodedDataError, SettingsError, StaleDataError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary, SplitSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, Field, FingerprintError
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.data.raw.manifest import RawLog, SplitCounts
from llm_ctr_pipeline.params import StagesParams, TrainingParams
from llm_ctr_pipeline.pipelines.train import path as path_module
from llm_ctr_pipeline.pipelines.train.path import (
    NOT_IN_RESUME_KEY,
    EncodedDataset,
    TrainingPath,
    check_encoded,
    check_preprocessed,
    log_validation,
    plan_stages,
    stage_summary,
)
from llm_ctr_pipeline.training.fit import FitResult
from llm_ctr_pipeline.training.history import StageSummary, ValidationRecord
from llm_ctr_pipeline.training.stages import StageResult, StageRun
from tests.conftest import VALIDATION
from tests.data.logs import changed, fit_on, log_of

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_train.yml"
TRAINING = TrainingParams(**yaml.safe_load(CONF.read_text())["training"])
MAP = FeatureMap(
    dataset="x4",
    fields=(Field(name="site", size=3),),
    min_count=2,
    fit_on=fit_on("x4"),
    fingerprint="ab" * 32,
)


def summary(dataset: str = "x4", clicks: int = 4, fingerprint: str = "ab" * 32) -> DatasetSummary:
    """Counts of ten rows a split."""
    counts = SplitSummary(
        rows=10,
        clicks=clicks,
        click_rate=clicks / 10,
        unknown_share=0.0,
        unknown_share_by_field={"site": 0.0},
        ids_fingerprint="0" * 16,
        raw_fingerprint="cd" * 32,
    )
    return DatasetSummary(
        dataset=dataset,
        feature_map=dataset,
        fingerprint=fingerprint,
        extends=None,
        source="here",
        best_auc=None,
        splits=dict.fromkeys(SPLITS, counts),
    )


def raw_log(fingerprint: str = "cd" * 32) -> RawLog:
    counts = SplitCounts(file="train.csv", rows=10, clicks=4, fingerprint=fingerprint)
    return RawLog(
        source="here",
        log=log_of("site"),
        folder="here",
        files={},
        splits=dict.fromkeys(SPLITS, counts),
        cuts=None,
        every_nth_row=1,
    )


def stages(*datasets: str, **own: Any) -> StagesParams:
    """A first stage on some datasets, and a second one on x4 with settings of its own."""
    shared = {"components": None, "datasets": datasets or ("x4",)}
    return StagesParams(
        {
            "first": {**shared, "start": "new"},
            "second": {**shared, "datasets": ("x4",), "start": "previous", **own},
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> TrainingPath:
    rows = EncodedFile(tmp_path / "never_read.parquet")
    return TrainingPath(
        name="single_phase",
        model=nn.Linear(1, 1),  # type: ignore[arg-type]
        tokenizer=None,
        feature_map=MAP,
        vocabulary=pa.table({}),
        datasets={name: EncodedDataset(rows, rows, summary(name)) for name in ("x1", "x4")},
        settings=(MAP,),
    )


def test_a_summary_vouches_for_the_map_and_the_log_that_it_was_made_from() -> None:
    check_preprocessed(MAP, raw_log(), summary())
    for other in (
        (changed(MAP, fingerprint="0" * 64), raw_log(), summary()),
        (MAP, raw_log("0" * 64), summary()),
    ):
        with pytest.raises(StaleDataError, match="preprocessing was interrupted"):
            check_preprocessed(*other)


@pytest.mark.parametrize("clicks", [0, 10])
def test_a_split_of_one_class_is_refused(clicks: int) -> None:
    message = f"the valid split of x4 has {clicks} clicks in 10 rows, so one class alone"
    with pytest.raises(EncodedDataError, match=message):
        check_encoded(MAP, summary(clicks=clicks))


def test_ids_of_another_map_are_refused() -> None:
    with pytest.raises(FingerprintError):
        check_encoded(MAP, summary(fingerprint="0" * 64))


def test_a_stage_takes_what_it_leaves_out_from_the_shared_settings(path: TrainingPath) -> None:
    plan = plan_stages(stages("x1", "x4", lr=0.2, epochs=7), TRAINING, path.datasets)
    assert [(stage.name, stage.datasets) for stage in plan] == [
        ("first", ("x1", "x4")),
        ("second", ("x4",)),
    ]
    first, second = (stage.settings for stage in plan)
    assert (first.lr, first.epochs) == (TRAINING.lr, TRAINING.epochs)
    assert second == replace(first, lr=0.2, epochs=7)


def test_a_dataset_that_the_pipeline_lacks_is_refused(path: TrainingPath) -> None:
    with pytest.raises(SettingsError, match="stage first trains on x3; this pipeline has the data"):
        plan_stages(stages("x4", "x3"), TRAINING, path.datasets)


def test_states_are_kept_apart_by_what_they_and_those_before_are_made_of(
    path: TrainingPath,
) -> None:
    given = path._keys(stages("x1", "x4"), TRAINING)
    assert len(set(given)) == 3
    # How a run is executed does not matter.
    other = changed(TRAINING, eval_batch_size=2, cpu_threads=2, resume=False, device="cpu")
    assert path._keys(stages("x1", "x4"), other) == given
    last = path._keys(stages("x1", "x4", lr=0.2), TRAINING)
    assert last[:2] == given[:2]
    assert last[2] != given[2]
    everything = [
        path._keys(stages("x1", "x4"), changed(TRAINING, seed=43)),
        replace(path, name="other")._keys(stages("x1", "x4"), TRAINING),
        replace(path, origin={"seed": 1})._keys(stages("x1", "x4"), TRAINING),
    ]
    for keys in everything:
        assert not set(keys) & set(given)
    other_rows = replace(path.datasets["x4"], summary=summary("x4", clicks=5))
    on_others = replace(path, datasets={**path.datasets, "x4": other_rows})
    keys = on_others._keys(stages("x1", "x4"), TRAINING)
    assert [key == known for key, known in zip(keys, given, strict=True)] == [True, False, False]


def test_what_is_not_in_the_key_is_a_setting() -> None:
    assert set(TrainingParams.model_fields) >= NOT_IN_RESUME_KEY


def test_starting_over_discards_the_own_states_alone(path: TrainingPath, tmp_path: Path) -> None:
    own = path._kept_states(stages(), TRAINING, tmp_path).point(StageRun("first", "x4", 0, False))
    own.file.touch()
    other = tmp_path / "of_other_settings.pt"
    other.touch()
    path._kept_states(stages(), TRAINING, tmp_path)
    assert own.file.exists()
    path._kept_states(stages(), changed(TRAINING, resume=False), tmp_path)
    assert not own.file.exists()
    assert other.exists()


def test_a_stages_summary_adds_up_its_validations() -> None:
    records = [
        ValidationRecord(**VALIDATION | {"seconds": seconds, "valid_auc": auc})
        for seconds, auc in ((2.0, 0.6), (3.0, 0.7), (5.0, 0.65))
    ]
    fit = FitResult(history=records, best=records[1], best_weights={}, stopped_early=True)
    run = StageRun("first", "x1", position=0, last=False)
    made = stage_summary(StageResult(run, ("gen", "llm"), 12, fit), summary("x1"))
    assert json.loads(json.dumps(made)) == made
    told = StageSummary.from_json(made)
    assert (told.stage, told.dataset, told.seconds, told.best) == ("first", "x1", 10.0, records[1])
    assert (told.components, told.trained_parameters) == (("gen", "llm"), 12)
    assert (told.trained_on.rows, told.trained_on.feature_map) == ("cd" * 32, "ab" * 32)
    assert told.stopped_early


def test_figures_of_the_last_stage_alone_have_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    monkeypatch.setattr(
        path_module.mlflow, "log_metrics", lambda figures, step: logged.append((figures, step))
    )
    record = ValidationRecord(**VALIDATION)
    log_validation(StageRun("first", "x1", 0, last=False), record)
    assert logged == []  # no run is active
    monkeypatch.setattr(mlflow, "active_run", object)
    for run in (StageRun("first", "x1", 0, last=False), StageRun("second", "x4", 1, last=True)):
        log_validation(run, record)
    (first, step), (last, _) = logged
    assert step == record.step
    assert last["valid_auc"] == first["first/x1/valid_auc"] == record.valid_auc
    assert {f"first/x1/{name}" for name in last} == first.keys()
    assert not {"step", "improved"} & last.keys()
