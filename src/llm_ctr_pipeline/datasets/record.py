"""Records of ours as JSON that readers never see half-written."""

import hashlib
from typing import Any

from kedro.io import DatasetError
from kedro_datasets._typing import JSONPreview

from llm_ctr_pipeline.data.errors import StaleDataError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.record_text import RecordError, from_text, to_text
from llm_ctr_pipeline.datasets.path import PathDataset, where_there
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.metrics.slices import Slices
from llm_ctr_pipeline.reporting.comparison import Comparison
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.results import pipeline_of
from llm_ctr_pipeline.serving.scored_rows import ScoringReport
from llm_ctr_pipeline.training.history import TrainingResults

RECORDS: dict[str, type[Frozen]] = {
    "comparison": Comparison,
    "evaluation": Evaluation,
    "feature_map": FeatureMap,
    "raw_log": RawLog,
    "scoring_report": ScoringReport,
    "slices": Slices,
    "summary": DatasetSummary,
    "training_results": TrainingResults,
}
OF_PREPROCESSING = ("feature_map", "raw_log", "summary")
# The pipeline that makes a record of others; that of training results depends on the path.
MADE_BY = {
    "comparison": "compare",
    "evaluation": "evaluate",
    "scoring_report": "predict",
    "slices": "evaluate",
}


class RecordDataset(PathDataset):
    """A record in a JSON file, put in place as a whole, on this machine or on a store.

    Args:
        filepath: See `PathDataset`.
        record: What it holds, by its name in `RECORDS`.
        metadata: See `PathDataset`.

    Raises:
        DatasetError: There is no such record.
    """

    def __init__(
        self, filepath: str, record: str, *, metadata: dict[str, Any] | None = None
    ) -> None:
        if record not in RECORDS:
            raise DatasetError(f"no record is called {record}: choose one of {', '.join(RECORDS)}")
        super().__init__(filepath, metadata=metadata)
        self._name, self._record = record, RECORDS[record]

    def load(self) -> Frozen:
        """Read the file and check it.

        Raises:
            StaleDataError: It does not hold a record of preprocessing, as it was written.
            RecordError: The same of another record.
            ReplacedError: Another run put its own in the place of the one that this run knows.
        """
        with self._filepath.open("rb") as file:
            text = file.read()
        try:
            record = from_text(self._record, text)
        except RecordError as error:
            said = f"{self._filepath} is not as this version writes it ({error})"
            if self._name in OF_PREPROCESSING:
                raise StaleDataError(said) from error
            maker = MADE_BY.get(self._name) or pipeline_of(self._filepath.parent.name)
            raise RecordError(f"{said}: run `kedro run --pipeline={maker}` again") from error
        self._check_same(hashlib.sha256(text).hexdigest())
        return record

    def save(self, data: Frozen) -> None:
        """Write the file beside its place, then move it there."""
        if not isinstance(data, self._record):
            kind = type(data).__name__
            raise DatasetError(f"{self._filepath} holds a {self._record.__name__}, not a {kind}")
        text = to_text(data)
        with drafted(self._filepath) as draft:
            draft.write_text(text, encoding="utf-8")
        self._wrote(hashlib.sha256(text.encode()).hexdigest())

    @where_there
    def preview(self) -> JSONPreview:
        """What Kedro-Viz shows."""
        return JSONPreview(self._filepath.read_text(encoding="utf-8"))
