"""The result files of trained and tested models.

Shapes: N rows of a split.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.training.history import TrainingResults

TRAINING_RESULTS = "training_results.json"

RecordT = TypeVar("RecordT", bound=Frozen)


class NotComparableError(RefusedError, ValueError):
    """Models were not tested on the same rows, or their results do not belong together."""


class ResultFiles(Protocol):
    """One model's result files, wherever they are."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def read(self, name: str) -> bytes:
        """Read a file that is there."""


@dataclass(frozen=True)
class PathFiles:
    """The result files of a training path.

    Attributes:
        reports: Its folder of reports.
        outputs: Its folder of predictions.
    """

    reports: Path
    outputs: Path

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._file(name).exists()

    def read(self, name: str) -> bytes:
        """Read a file that is there."""
        return self._file(name).read_bytes()

    def _file(self, name: str) -> Path:
        return (self.outputs if name.endswith(".parquet") else self.reports) / name


@dataclass(frozen=True)
class ModelReport:
    """What the reports say of one model's training and test.

    Attributes:
        name: What tables and figures call the model: its path, with the run where that is needed.
        evaluation: The test's report.
        training: The training's.
        run_id: The MLflow run that it comes from, if any.
    """

    name: str
    evaluation: Evaluation
    training: TrainingResults
    run_id: str | None = None

    @property
    def path(self) -> str:
        """The training path."""
        return self.evaluation.path


@dataclass(frozen=True)
class ScoredModel:
    """A model's reports and its predictions.

    Attributes:
        report: What its reports say.
        labels_N: [N], 0 or 1.
        probabilities_N: [N], predicted click probabilities, in the split's order of rows.
    """

    report: ModelReport
    labels_N: npt.NDArray[np.int8]
    probabilities_N: npt.NDArray[np.floating]


def evaluation_name(dataset: str, split: str) -> str:
    """The file name of a test's report."""
    return f"evaluation_{dataset}_{split}.json"


def predictions_name(dataset: str, split: str) -> str:
    """The file name of a test's predictions."""
    return f"{dataset}_{split}_predictions.parquet"


def read_report(files: ResultFiles, model: str, record: type[RecordT], name: str) -> RecordT:
    """Read a report that is there.

    Args:
        files: The model's files.
        model: What the error message calls it.
        record: What the report is.
        name: The file's name.

    Raises:
        NotComparableError: An older version of this project wrote it.
    """
    try:
        return record.from_json(json.loads(files.read(name)))
    except ValidationError as error:
        missing = {str(one["loc"][-1]): None for one in error.errors() if one["type"] == "missing"}
        fault = f"no {', '.join(missing)}" if missing else f"other content ({error.errors()[0]})"
        made, make = ("trained", "train") if record is TrainingResults else ("tested", "evaluate")
        raise NotComparableError(
            f"{model} was {made} with an older version of this project: its {name} has {fault}; "
            f"{make} it again"
        ) from error


def read_predictions(files: ResultFiles, report: ModelReport) -> ScoredModel:
    """Read the predictions of a model whose reports were read.

    Raises:
        NotComparableError: There are none.
    """
    name = predictions_name(report.evaluation.dataset, report.evaluation.split)
    if not files.has(name):
        raise NotComparableError(f"{report.name} has a report but no {name}: test it again")
    table = pd.read_parquet(io.BytesIO(files.read(name)))
    return ScoredModel(report, table["label"].to_numpy(), table["probability"].to_numpy())
