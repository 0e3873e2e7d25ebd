"""Records of ours as JSON that readers never see half-written."""

import json
from typing import Any

from kedro.io import DatasetError
from kedro_datasets._typing import JSONPreview
from pydantic import ValidationError

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.datasets.path import PathDataset
from llm_ctr_pipeline.frozen import Frozen, first_fault
from llm_ctr_pipeline.reporting.comparison import Comparison
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.training.history import TrainingResults


class RecordError(RefusedError, ValueError):
    """A file that holds something else than the record it should."""


RECORDS: dict[str, type[Frozen]] = {
    "comparison": Comparison,
    "evaluation": Evaluation,
    "feature_map": FeatureMap,
    "raw_log": RawLog,
    "summary": DatasetSummary,
    "training_results": TrainingResults,
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
        self._record = RECORDS[record]

    def load(self) -> Frozen:
        """Read the file and check it.

        Raises:
            RecordError: It does not hold such a record.
        """
        content = json.loads(self._filepath.read_text(encoding="utf-8"))
        try:
            return self._record.from_json(content)
        except ValidationError as error:
            raise RecordError(
                f"{self._filepath} is not as this version writes it ({first_fault(error)}): run "
                "the pipeline that makes it again"
            ) from error

    def save(self, data: Frozen) -> None:
        """Write the file beside its place, then move it there."""
        if not isinstance(data, self._record):
            kind = type(data).__name__
            raise DatasetError(f"{self._filepath} holds a {self._record.__name__}, not a {kind}")
        with drafted(self._filepath) as draft:
            draft.write_text(json.dumps(data.to_json(), indent=2), encoding="utf-8")

    def preview(self) -> JSONPreview:
        """What Kedro-Viz shows."""
        return JSONPreview(self._filepath.read_text(encoding="utf-8"))
