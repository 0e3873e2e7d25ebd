"""A Plotly figure for Kedro-Viz and for a browser."""

import contextlib
from pathlib import Path

import plotly.graph_objects as go
from kedro_datasets._typing import PlotlyPreview
from kedro_datasets.plotly import JSONDataset
from plotly.offline import get_plotlyjs

from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.datasets.path import where_there
from llm_ctr_pipeline.reporting.pages.page import PLOTLY, figure_page


class FigureDataset(JSONDataset):  # type: ignore[misc]
    """Saves a figure as JSON, which Kedro-Viz draws, and beside it as a page for a browser.

    The pages of a folder share one copy of Plotly in it, so they open without a network; a
    `report.html` holds all it needs, to be sent to somebody.
    """

    def save(self, data: go.Figure) -> None:
        """Write `NAME.json`, `NAME.html` and Plotly itself, each whole or not at all."""
        file = Path(str(self._get_save_path()))
        with drafted(file) as draft:
            data.write_json(draft)
        with drafted(file.with_suffix(".html")) as draft:
            draft.write_text(figure_page(data), encoding="utf-8")
        library, content = file.with_name(PLOTLY), get_plotlyjs().encode()
        is_there = False
        with contextlib.suppress(FileNotFoundError):
            is_there = library.stat().st_size == len(content)  # of another version it is not
        if not is_there:
            with drafted(library) as draft:
                draft.write_bytes(content)
        self._invalidate_cache()

    @where_there
    def preview(self) -> PlotlyPreview:
        """What Kedro-Viz shows."""
        preview: PlotlyPreview = super().preview()
        return preview
