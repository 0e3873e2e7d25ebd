"""What all training paths share: from encoded data and stages to checkpoints and results."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from llm_ctr_pipeline import __version__
from llm_ctr_pipeline.data.errors import EncodedDataError, SettingsError, StaleDataError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, check_ids
from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile, Where
from llm_ctr_pipeline.data.input.streamed_split import open_rows
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.training import history
from llm_ctr_pipeline.training.checkpoint import Checkpoint, CtrModel
from llm_ctr_pipeline.training.distillation.teacher import Teacher
from llm_ctr_pipeline.training.optimizer import weights_of
from llm_ctr_pipeline.training.ranks.group import ranks
from llm_ctr_pipeline.training.settings import Execution, Stages, TrainingSettings
from llm_ctr_pipeline.training.stages import (
    KeptStates,
    OnStart,
    OnValidation,
    StageResult,
    train_stages,
)

logger = logging.getLogger(__name__)

# Settings that only say when a run ends: of them, it may get more.
LIMITS = ("epochs", "patience")
# Settings that an interrupted run and the one that goes on with it need not share. Of `rows_in` and
# `precision`, whose `auto` depends on the machine, the state says what they came to.
KEEPING = {"keep_state_every", "keep_state_every_steps", "keep_state_every_minutes"}
NOT_IN_RESUME_KEY = {*KEEPING, *LIMITS, "resume", "rows_in"} | Execution.model_fields.keys()
# Settings that trainings which differ by chance alone need not share.
NOT_IN_SETTINGS = NOT_IN_RESUME_KEY - {*LIMITS} | {"seed"}


@dataclass(frozen=True)
class EncodedDataset:
    """One dataset's encoded rows.

    Attributes:
        train: Rows to train on.
        valid: Rows to validate on.
        summary: What preprocessing counted.
    """

    train: EncodedFile
    valid: EncodedFile
    summary: DatasetSummary

    def open(
        self, fields: tuple[str, ...], rows_in: Where, buffer_rows: int
    ) -> tuple[TrainingRows, EncodedSplit]:
        """Open the rows to train on, and read those to validate on; all are the summary's."""
        counted = self.summary.splits
        copies = ranks().local_count
        train = open_rows(self.train, fields, rows_in, buffer_rows, counted["train"], copies)
        return train, self.valid.read(fields, counted["valid"])


@dataclass(frozen=True)
class TrainingPath:
    """A path about to be trained.

    Attributes:
        name: Its name.
        model: The model with the weights that the first stage starts from.
        tokenizer: Its language model's, if it has one.
        feature_map: The map that the rows' ids come from.
        vocabulary: That map's values.
        datasets: The rows by the datasets' names.
        settings: All parameter groups that the model depends on.
        origin: What trained the checkpoint that the first stage starts from, if it does.
        teacher: A model that this one learns from beside the labels; instead of an origin.
    """

    name: str
    model: CtrModel
    tokenizer: PreTrainedTokenizerBase | None
    feature_map: FeatureMap
    vocabulary: pa.Table
    datasets: Mapping[str, EncodedDataset]
    settings: tuple[BaseModel, ...]
    origin: history.Provenance | None = None
    teacher: Teacher | None = None

    def train(
        self,
        stages: Stages,
        training: TrainingSettings,
        state_folder: Path,
        on_validation: OnValidation | None = None,
        on_start: OnStart | None = None,
    ) -> tuple[list[Checkpoint], history.TrainingResults]:
        """Train stage by stage; what is called meanwhile is described at `train_stages`.

        Returns:
            The checkpoint that each stage left, in order, and what the training gave.

        Raises:
            SettingsError: A stage trains on a dataset that there is not.
            Exception: What `train_stages` raises.
        """
        for name, stage in stages.root.items():
            unknown = [dataset for dataset in stage.datasets if dataset not in self.datasets]
            if unknown:
                raise SettingsError(
                    f"stage {name} trains on {', '.join(unknown)}; this pipeline has the datasets "
                    f"{', '.join(self.datasets)}"
                )
        fields = self.feature_map.names
        done = train_stages(
            self.model,
            stages.root,
            training,
            partial(_open, self.datasets, fields, training.stream_buffer_rows),
            on_validation,
            self._kept_states(stages, training, state_folder),
            on_start,
            self.teacher,
        )
        left = [result for result in done if result.fit.best_weights]
        checkpoints = [self._checkpoint(result, training) for result in left]
        return checkpoints, self._results(done, stages, training)

    def _checkpoint(self, left: StageResult, training: TrainingSettings) -> Checkpoint:
        """The checkpoint that a stage left, with what the stage itself came to."""
        return Checkpoint(
            model=self.model.describe(),
            weights=left.fit.best_weights,
            feature_map=self.feature_map,
            vocabulary=self.vocabulary,
            summary=self.datasets[left.run.dataset].summary,
            tokenizer=self.tokenizer,
            training=history.Provenance(
                path=self.name,
                stage=left.run.stage,
                dataset=left.run.dataset,
                source=self.datasets[left.run.dataset].summary.source,
                seed=training.seed,
                best=left.fit.best,
                origin=self.origin if self.teacher is None else self.teacher.trained,
            ),
        )

    def _results(
        self, done: list[StageResult], stages: Stages, training: TrainingSettings
    ) -> history.TrainingResults:
        last, parts = done[-1], [result.components for result in done]
        trained = None if None in parts else {name for names in parts for name in names or ()}
        records = [record for result in done for record in result.fit.history]
        seconds = sum(record.seconds for record in records)
        rows = sum(record.seconds * record.rows_per_second for record in records)
        return history.TrainingResults(
            path=self.name,
            dataset=last.run.dataset,
            source=self.datasets[last.run.dataset].summary.source,
            seed=training.seed,
            settings=self._chain(stages, training, NOT_IN_SETTINGS)[-1],
            stopped_early=last.fit.stopped_early,
            best=last.fit.best,
            seconds=seconds,
            rows_per_second=rows / seconds,
            parameters=sum(weight.numel() for weight in self.model.parameters()),
            trained_parameters=sum(w.numel() for w in weights_of(self.model, trained)),
            stages=tuple(self._summary(result) for result in done),
            epochs=tuple(
                history.StageValidation(
                    stage=result.run.stage,
                    dataset=result.run.dataset,
                    **dict(record),
                    best=record is result.fit.best,
                )
                for result in done
                for record in result.fit.history
            ),
        )

    def _summary(self, result: StageResult) -> history.StageSummary:
        counted = self.datasets[result.run.dataset].summary
        return history.StageSummary(
            stage=result.run.stage,
            dataset=result.run.dataset,
            trained_on=history.TrainedOn(
                rows=counted.splits["train"].raw_fingerprint, feature_map=counted.fingerprint
            ),
            components=result.components,
            trained_parameters=result.trained_parameters,
            stopped_early=result.fit.stopped_early,
            best=result.fit.best,
            seconds=sum(record.seconds for record in result.fit.history),
            losses=tuple(result.fit.losses),
            ran=result.fit.ran,
        )

    def _kept_states(self, stages: Stages, training: TrainingSettings, folder: Path) -> KeptStates:
        """Name the states by data and settings, so that going on is always the same run.

        Other settings of a stage give it, and those behind it, files of their own; an interrupted
        run with other settings stays as it is.
        """
        limits = (
            (training.of(stage).epochs, training.of(stage).patience)
            for stage in stages.root.values()
            for _ in stage.datasets
        )
        states = KeptStates(folder, self._keys(stages, training), tuple(limits))
        if others := ", ".join(map(str, states.others())):
            logger.info("Interrupted runs with other settings are kept in %s", others)
        return states

    def _keys(self, stages: Stages, training: TrainingSettings) -> tuple[str, ...]:
        """Of each dataset of each stage a key: what it and all before it are made of."""
        origin = None if self.origin is None else self.origin.to_json()
        if self.teacher is not None:
            origin = {"teacher": self.teacher.digest}
        return self._chain(stages, training, NOT_IN_RESUME_KEY, origin)

    def _chain(
        self,
        stages: Stages,
        training: TrainingSettings,
        left_out: set[str],
        origin: dict[str, Any] | None = None,
    ) -> tuple[str, ...]:
        """Of each dataset of each stage a digest that holds the one before."""
        groups = [group.model_dump(mode="json") for group in self.settings]
        key = _digest([__version__, self.name, origin, self.feature_map.fingerprint, groups])
        keys = []
        for name, stage in stages.root.items():
            own = training.of(stage)
            # A schedule that ends with the epochs is another one where there are more.
            apart = left_out - ({"epochs"} if "warmup" in own.lr_schedule else set())
            settings = own.model_dump(exclude=apart)
            settings |= {"components": stage.components, "start": stage.start}
            for dataset in stage.datasets:
                counted = self.datasets[dataset].summary.to_json()
                key = _digest([key, name, settings, dataset, counted])
                keys.append(key)
        return tuple(keys)


def _open(
    datasets: Mapping[str, EncodedDataset],
    fields: tuple[str, ...],
    buffer_rows: int,
    dataset: str,
    rows_in: Where,
) -> tuple[TrainingRows, EncodedSplit]:
    return datasets[dataset].open(fields, rows_in, buffer_rows)


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_encoded(
    feature_map: FeatureMap, summary: DatasetSummary, raw_log: RawLog | None = None
) -> None:
    """Refuse what an interrupted preprocessing left, and a split that misses a class.

    The summary is written last, so it vouches for encoded splits only while the feature map and
    the raw log are still those it was made from.

    Args:
        feature_map: The map to read the ids with.
        summary: What preprocessing counted of the splits.
        raw_log: The log that both are made of; None where the map is another log's too.

    Raises:
        FingerprintError: The ids come from another feature map.
        StaleDataError: Preprocessing was interrupted.
        EncodedDataError: A split has one class alone.
    """
    if raw_log is not None:
        encoded_from = {name: split.raw_fingerprint for name, split in summary.splits.items()}
        checked = {name: split.fingerprint for name, split in raw_log.splits.items()}
        if summary.fingerprint != feature_map.fingerprint or encoded_from != checked:
            raise StaleDataError(
                f"the encoded {feature_map.dataset} splits are not of the feature map and the raw "
                "log that lie beside them: preprocessing was interrupted"
            )
    check_ids(feature_map, summary.fingerprint, None)
    for split in ("valid", "test"):
        counted = summary.splits[split]
        if not 0 < counted.clicks < counted.rows:
            raise EncodedDataError(
                f"the {split} split of {summary.dataset} has {counted.clicks:,} clicks in "
                f"{counted.rows:,} rows, so one class alone and no AUC: give it rows of both"
            )
