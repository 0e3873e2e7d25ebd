"""The result files of trained and tested models.

Shapes: N rows of a split.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.record_text import RecordError, RecordT, from_text
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.training.history import TrainingResults
from llm_ctr_pipeline.training.settings import PATHS

TRAINING_RESULTS = "training_results.json"


class NotComparableError(RefusedError, ValueError):
    """Models were not tested on the same rows, or their results do not belong together."""


@dataclass(frozen=True)
class ModelReport:
    """What the reports say of one training and its test.

    Attributes:
        name: Its own among those compared: its path, with the run where that is needed.
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
    """A training's reports and its predictions.

    Attributes:
        report: What the reports say.
        labels_N: [N], 0 or 1.
        probabilities_N: [N], predicted click probabilities, in the split's order of rows.
    """

    report: ModelReport
    labels_N: npt.NDArray[np.int8]
    probabilities_N: npt.NDArray[np.floating]


# A training's reports, and what reads its predictions' file, None if there is none.
FoundModel = tuple[ModelReport, Callable[[], bytes | None]]


def model_names(reports: Sequence[ModelReport]) -> dict[str, str]:
    """Say which trainings are of one model: those of a path with the same settings.

    Where a seed comes twice among them each training is a model of its own: one of the two would
    have to be left out.

    Returns:
        For each training's name that of its model: the path, or where there are several models of
        it the first training's.
    """
    alike: dict[tuple[str, str], list[ModelReport]] = {}
    for report in reports:
        alike.setdefault((report.path, report.training.settings), []).append(report)
    models: list[list[ModelReport]] = []
    for trainings in alike.values():
        seeds = {report.training.seed for report in trainings}
        models += [trainings] if len(seeds) == len(trainings) else [[one] for one in trainings]
    of_path = Counter(trainings[0].path for trainings in models)
    return {
        report.name: report.path if of_path[report.path] == 1 else trainings[0].name
        for trainings in models
        for report in trainings
    }


def by_model(trainings: Sequence[ScoredModel]) -> dict[str, list[ScoredModel]]:
    """Put the trainings of each model together, under its name; see `model_names`."""
    names = model_names([training.report for training in trainings])
    models: dict[str, list[ScoredModel]] = {name: [] for name in names.values()}
    for training in trainings:
        models[names[training.report.name]].append(training)
    return models


def pipeline_of(path: str) -> str:
    """Name the pipeline that trains a path; of what is none, that of the main job."""
    return f"train_{path}" if path in {*PATHS} - {"single_phase"} else "train"


def evaluation_name(dataset: str, split: str) -> str:
    """The file name of a test's report."""
    return f"evaluation_{dataset}_{split}.json"


def predictions_name(dataset: str, split: str) -> str:
    """The file name of a test's predictions."""
    return f"{dataset}_{split}_predictions.parquet"


def find_path(
    outputs: Path, reports: Path, dataset: str, split: str, served: str = ""
) -> FoundModel | None:
    """Find the results on a split in a training path's folders; None if a file is missing.

    The folder of reports has the path's name. With `served`, a precision, they are those of the
    test as served, in folders of that name below.

    Raises:
        NotComparableError: See `report_of`.
    """
    path = f"{reports.name}/{served}" if served else reports.name
    training = reports / TRAINING_RESULTS
    tested = reports / served / evaluation_name(dataset, split)
    predictions = outputs / served / predictions_name(dataset, split)
    if not (training.exists() and tested.exists() and predictions.exists()):
        return None
    report = ModelReport(
        path,
        report_of(tested.read_bytes(), Evaluation, tested.name, path),
        report_of(training.read_bytes(), TrainingResults, training.name, path),
    )
    return report, predictions.read_bytes


def report_of(content: bytes, record: type[RecordT], name: str, model: str) -> RecordT:
    """Read a report; `name` and `model` are what error messages call its file and its model.

    Raises:
        NotComparableError: An older version of this project wrote it, or it was changed since.
    """
    try:
        return from_text(record, content)
    except RecordError as error:
        make = "train" if record is TrainingResults else "evaluate"
        raise NotComparableError(
            f"{model}: its {name} is not as this version writes it ({error}): {make} it again"
        ) from error


def digest_of_predictions(predictions: pd.DataFrame) -> str:
    """SHA-256 of labels and probabilities, in hexadecimal."""
    digest = hashlib.sha256()
    for column in ("label", "probability"):
        digest.update(predictions[column].to_numpy().tobytes())
    return digest.hexdigest()


def scored(report: ModelReport, predictions: bytes | None) -> ScoredModel:
    """Put a model's reports and the content of its predictions' file together.

    Raises:
        NotComparableError: There is no such file, or the report was made of another.
    """
    name = predictions_name(report.evaluation.dataset, report.evaluation.split)
    if predictions is None:
        raise NotComparableError(f"{report.name} has a report but no {name}: test it again")
    try:
        table = pd.read_parquet(io.BytesIO(predictions))
        is_reported = digest_of_predictions(table) == report.evaluation.predictions
    except (pa.ArrowException, KeyError, OSError) as error:
        raise NotComparableError(f"{report.name}: its {name} is damaged: test it again") from error
    if not is_reported:
        raise NotComparableError(
            f"{report.name}: its {name} is not what its report was made of: test it again"
        )
    return ScoredModel(report, table["label"].to_numpy(), table["probability"].to_numpy())
