"""What all training paths share: from encoded data and stages to checkpoints and a history."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from llm_ctr_pipeline import __version__
from llm_ctr_pipeline.data.errors import EncodedDataError, SettingsError, StaleDataError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, check_ids
from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.params import StagesParams, TrainingParams
from llm_ctr_pipeline.training.checkpoint import Checkpoint, CtrModel
from llm_ctr_pipeline.training.devices import limit_cpu_threads
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.stages import (
    KeptStates,
    Stage,
    StageResult,
    StageRun,
    last_of,
    train_stages,
)

logger = logging.getLogger(__name__)

# Settings that an interrupted run and the one that goes on with it need not share. Of `rows_in`,
# whose `auto` depends on the memory that is free, the state says what it came to.
NOT_IN_RESUME_KEY = {
    "activation_checkpointing",
    "compile",
    "cpu_threads",
    "device",
    "eval_batch_size",
    "keep_state_every",
    "micro_batch_size",
    "resume",
    "rows_in",
}


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
        self, fields: tuple[str, ...], training: TrainingParams
    ) -> tuple[TrainingRows, EncodedSplit]:
        """Open the rows to train on, and read those to validate on."""
        train = self.train.open(fields, training.rows_in, training.stream_buffer_rows)
        return train, self.valid.read(fields)


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
    """

    name: str
    model: CtrModel
    tokenizer: PreTrainedTokenizerBase | None
    feature_map: FeatureMap
    vocabulary: pa.Table
    datasets: Mapping[str, EncodedDataset]
    settings: tuple[BaseModel, ...]
    origin: dict[str, Any] | None = None

    def train(
        self, stages: StagesParams, training: TrainingParams, state_folder: Path
    ) -> tuple[dict[str, Checkpoint], dict[str, Any]]:
        """Train stage by stage.

        Returns:
            The checkpoint that each stage left, by the stage's name, and the training results.
        """
        limit_cpu_threads(training.cpu_threads)
        fields = self.feature_map.names
        opened = {
            name: lambda of=dataset: of.open(fields, training)
            for name, dataset in self.datasets.items()
        }
        done = train_stages(
            self.model,
            plan_stages(stages, training, self.datasets),
            opened,
            log_validation,
            self._kept_states(stages, training, state_folder),
        )
        results = self._results(done, training)
        return {name: self._checkpoint(done, name, training) for name in stages.root}, results

    def _checkpoint(
        self, done: list[StageResult], stage: str, training: TrainingParams
    ) -> Checkpoint:
        """The checkpoint that a stage left, with what the stage itself came to."""
        left = last_of(done, stage)
        return Checkpoint(
            model=self.model.describe(),
            weights=left.fit.best_weights,
            feature_map=self.feature_map,
            vocabulary=self.vocabulary,
            tokenizer=self.tokenizer,
            training={
                "path": self.name,
                "stage": stage,
                "dataset": left.run.dataset,
                "source": self.datasets[left.run.dataset].summary.source,
                "seed": training.seed,
                "best": left.fit.best.to_json(),
                "origin": self.origin,
            },
        )

    def _results(self, done: list[StageResult], training: TrainingParams) -> dict[str, Any]:
        """Put what training gave into JSON types."""
        last = done[-1]
        records = [record for result in done for record in result.fit.history]
        seconds = sum(record.seconds for record in records)
        rows = sum(record.seconds * record.rows_per_second for record in records)
        return {
            "path": self.name,
            "dataset": last.run.dataset,
            "source": self.datasets[last.run.dataset].summary.source,
            "seed": training.seed,
            "stopped_early": last.fit.stopped_early,
            "best": last.fit.best.to_json(),
            "seconds": seconds,
            "rows_per_second": rows / seconds,
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "trained_parameters": self._trained_parameters(done),
            "stages": [
                stage_summary(result, self.datasets[result.run.dataset].summary) for result in done
            ],
            "epochs": [
                {
                    "stage": result.run.stage,
                    "dataset": result.run.dataset,
                    **record.to_json(),
                    "best": record is result.fit.best,
                }
                for result in done
                for record in result.fit.history
            ],
        }

    def _trained_parameters(self, done: list[StageResult]) -> int:
        """Weights that some stage trained."""
        trained = {name for result in done for name in result.components or ("",)}
        return sum(
            weight.numel()
            for name, weight in self.model.named_parameters()
            if trained & {"", name.split(".")[0]}
        )

    def _kept_states(
        self, stages: StagesParams, training: TrainingParams, folder: Path
    ) -> KeptStates:
        """Name the states by data and settings, so that going on is always the same run.

        Other settings of a stage give it, and those behind it, files of their own; an interrupted
        run with other settings stays as it is.
        """
        states = KeptStates(folder, self._keys(stages, training), training.keep_state_every)
        if states.others():
            others = ", ".join(map(str, states.others()))
            logger.info("Interrupted runs with other settings are kept in %s", others)
        if not training.resume and states.own():
            logger.warning("Starting over: this run's interrupted state in %s is discarded", folder)
            states.discard()
        return states

    def _keys(self, stages: StagesParams, training: TrainingParams) -> tuple[str, ...]:
        """Of each dataset of each stage a key: what it and all before it are made of."""
        groups = [group.model_dump(mode="json") for group in self.settings]
        key = _digest([__version__, self.name, self.origin, self.feature_map.fingerprint, groups])
        shared = training.model_dump(exclude=NOT_IN_RESUME_KEY)
        keys = []
        for name, stage in stages.root.items():
            settings = shared | stage.model_dump(exclude={"datasets"}, exclude_unset=True)
            for dataset in stage.datasets:
                key = _digest(
                    [key, name, settings, dataset, self.datasets[dataset].summary.to_json()]
                )
                keys.append(key)
        return tuple(keys)


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plan_stages(
    stages: StagesParams, training: TrainingParams, datasets: Mapping[str, EncodedDataset]
) -> list[Stage]:
    """Fill in what the stages leave to the shared settings.

    Raises:
        SettingsError: A stage trains on a dataset that the pipeline does not have.
    """
    planned = []
    for name, stage in stages.root.items():
        unknown = [dataset for dataset in stage.datasets if dataset not in datasets]
        if unknown:
            raise SettingsError(
                f"stage {name} trains on {', '.join(unknown)}; this pipeline has the datasets "
                f"{', '.join(datasets)}"
            )
        planned.append(Stage(name, stage.datasets, training.to_fit_settings(stage)))
    return planned


def stage_summary(result: StageResult, data: DatasetSummary) -> dict[str, Any]:
    """One stage on one dataset, of which preprocessing counted `data`, as JSON types."""
    history = result.fit.history
    return {
        "stage": result.run.stage,
        "dataset": result.run.dataset,
        "trained_on": {
            "rows": data.splits["train"].raw_fingerprint,
            "feature_map": data.fingerprint,
        },
        "components": None if result.components is None else list(result.components),
        "trained_parameters": result.trained_parameters,
        "stopped_early": result.fit.stopped_early,
        "best": result.fit.best.to_json(),
        "seconds": sum(record.seconds for record in history),
    }


def log_validation(run: StageRun, record: ValidationRecord) -> None:
    """Log a validation's figures to MLflow while training goes on, if a run is active.

    The last stage's figures have the same names in every path, so that runs can be compared; those
    of stages before it carry stage and dataset.
    """
    if mlflow.active_run() is None:
        return
    prefix = "" if run.last else f"{run.stage}/{run.dataset}/"
    figures = {
        f"{prefix}{key}": value
        for key, value in record.to_json().items()
        if isinstance(value, float)
    }
    mlflow.log_metrics(figures, step=record.step)


def check_preprocessed(feature_map: FeatureMap, raw_log: RawLog, summary: DatasetSummary) -> None:
    """Refuse what an interrupted preprocessing left, and a split that misses a class.

    The summary is written last, so it vouches for encoded splits only while the feature map and
    the raw log are still those it was made from.

    Raises:
        EncodedDataError: Preprocessing was interrupted, or a split has one class alone.
    """
    encoded_from = {name: split.raw_fingerprint for name, split in summary.splits.items()}
    checked = {name: split.fingerprint for name, split in raw_log.splits.items()}
    if summary.fingerprint != feature_map.fingerprint or encoded_from != checked:
        raise StaleDataError(
            f"the encoded {feature_map.dataset} splits are not of the feature map and the raw log "
            "that lie beside them: preprocessing was interrupted"
        )
    check_encoded(feature_map, summary)


def check_encoded(feature_map: FeatureMap, summary: DatasetSummary) -> None:
    """Refuse ids of another feature map, and a validation or test split that misses a class.

    Raises:
        FingerprintError: The ids come from another feature map.
        EncodedDataError: A split has one class alone.
    """
    check_ids(feature_map, summary.fingerprint, None)
    dataset = summary.dataset
    for split in ("valid", "test"):
        counted = summary.splits[split]
        if not 0 < counted.clicks < counted.rows:
            raise EncodedDataError(
                f"the {split} split of {dataset} has {counted.clicks:,} clicks in "
                f"{counted.rows:,} rows, so one class alone and no AUC: give it rows of both"
            )
