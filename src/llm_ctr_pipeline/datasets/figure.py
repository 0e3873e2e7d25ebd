"""A Plotly figure for Kedro-Viz and for a browser."""

from pathlib import Path

import plotly.graph_objects as go
from kedro_datasets.plotly import JSONDataset


class FigureDataset(JSONDataset):  # type: ignore[misc]
    """Saves a figure as JSON, which Kedro-Viz draws, and beside it as a page for a browser.

    The page holds Plotly itself, so it opens without a network and can be sent to somebody.
    """

    def save(self, data: go.Figure) -> None:
        """Write `NAME.json` and `NAME.html`."""
        super().save.__wrapped__(self, data)
        page = Path(str(self._get_save_path())).with_suffix(".html")
        data.write_html(page, include_plotlyjs=True)
