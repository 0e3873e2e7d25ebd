"""Records as JSON that readers never see half-written."""

import json
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.store_path import is_whole, place_of
from llm_ctr_pipeline.frozen import Frozen

RECORDS: dict[str, type[Frozen]] = {
    "feature_map": FeatureMap,
    "raw_log": RawLog,
    "summary": DatasetSummary,
}


class RecordDataset(AbstractDataset[Frozen, Frozen]):
    """A record in a JSON file that is put in place as a whole, on this machine or on a store.

    ```yaml
    raw_log:
      type: llm_ctr_pipeline.datasets.record.RecordDataset
      record: raw_log
      filepath: data/02_intermediate/x4/raw_log.json
    ```
    """

    def __init__(
        self, filepath: str, record: str, *, metadata: dict[str, Any] | None = None
    ) -> None:
        """Point to a file.

        Args:
            filepath: Where it is or will be: a path, or an address on a store.
            record: What it holds, a name in `RECORDS`.
            metadata: For other tools; Kedro ignores it.
        """
        self._filepath = place_of(filepath)
        self._record = RECORDS[record]
        self.metadata = metadata

    def load(self) -> Frozen:
        """Read the file."""
        return self._record.from_json(json.loads(self._filepath.read_text(encoding="utf-8")))

    def save(self, data: Frozen) -> None:
        """Write the file beside its place, then move it there."""
        with drafted(self._filepath) as draft:
            draft.write_text(json.dumps(data.to_json(), indent=2), encoding="utf-8")

    def preview(self) -> JSONPreview:
        """What Kedro-Viz shows."""
        return JSONPreview(json.dumps(self.load().to_json()))

    def _exists(self) -> bool:
        return is_whole(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
