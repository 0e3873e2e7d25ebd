"""JSON that readers never see half-written."""

import json
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.store_path import is_whole, place_of


class WholeJsonDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """A JSON file that is put in place as a whole, on this machine or on a store.

    ```yaml
    raw_log:
      type: llm_ctr_pipeline.datasets.whole_json.WholeJsonDataset
      filepath: data/02_intermediate/x4/raw_log.json
    ```
    """

    def __init__(self, filepath: str, *, metadata: dict[str, Any] | None = None) -> None:
        """Point to a file.

        Args:
            filepath: Where it is or will be: a path, or an address on a store.
            metadata: For other tools; Kedro ignores it.
        """
        self._filepath = place_of(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """Read the file."""
        content: dict[str, Any] = json.loads(self._filepath.read_text(encoding="utf-8"))
        return content

    def save(self, data: dict[str, Any]) -> None:
        """Write the file beside its place, then move it there."""
        with drafted(self._filepath) as draft:
            draft.write_text(json.dumps(data, indent=2), encoding="utf-8")

    def preview(self) -> JSONPreview:
        """What Kedro-Viz shows."""
        return JSONPreview(json.dumps(self.load()))

    def _exists(self) -> bool:
        return is_whole(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
