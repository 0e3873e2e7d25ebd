"""A Plotly figure for Kedro-Viz and for a browser."""

from pathlib import Path

import plotly.graph_objects as go
from kedro_datasets.plotly import JSONDataset

from llm_ctr_pipeline.data.storage.atomic import drafted


class FigureDataset(JSONDataset):  # type: ignore[misc]
    """Saves a figure as JSON, which Kedro-Viz draws, and beside it as a page for a browser.

    The page holds Plotly itself, so it opens without a network and can be sent to somebody.
    """

    def save(self, data: go.Figure) -> None:
        """Write `NAME.json` and `NAME.html`, each whole or not at all."""
        file = Path(str(self._get_save_path()))
        with drafted(file) as draft:
            data.write_json(draft)
        with drafted(file.with_suffix(".html")) as draft:
            data.write_html(draft, include_plotlyjs=True)
        self._invalidate_cache()
