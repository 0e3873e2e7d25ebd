"""JSON that readers never see half-written."""

import json
from pathlib import Path
from typing import Any

from kedro_datasets.json import JSONDataset

from llm_ctr_pipeline.data.draft import drafted


class WholeJsonDataset(JSONDataset):  # type: ignore[misc]
    """A local JSON file that is put in place as a whole.

    ```yaml
    raw_log:
      type: llm_ctr_pipeline.datasets.whole_json.WholeJsonDataset
      filepath: data/02_intermediate/x4/raw_log.json
    ```
    """

    def save(self, data: dict[str, Any]) -> None:
        """Write the file beside its place, then rename it."""
        with drafted(Path(self._get_save_path())) as draft:
            draft.write_text(json.dumps(data, **self._save_args), encoding="utf-8")
        self._invalidate_cache()
