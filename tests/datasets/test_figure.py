import json
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest
from kedro.io import DataCatalog, DatasetError

from llm_ctr_pipeline.datasets.figure import FigureDataset
from llm_ctr_pipeline.reporting.pages.page import PLOTLY


@pytest.fixture
def figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2, 3], y=[3.0, 1.0, 2.0]), {"title": {"text": "A curve"}})


def test_a_figure_is_saved_as_json_and_as_a_page(figure: go.Figure, tmp_path: Path) -> None:
    dataset = FigureDataset(filepath=str(tmp_path / "new" / "roc.json"))
    assert not dataset.exists()
    dataset.save(figure)
    assert dataset.exists()
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"roc.json", "roc.html", PLOTLY}
    assert dataset.load() == figure
    page = (tmp_path / "new" / "roc.html").read_text()
    assert "<title>A curve</title>" in page
    # A browser need not fetch anything from elsewhere, and there is one Plotly for all pages.
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == [PLOTLY]
    assert len(page) < 20_000
    library = tmp_path / "new" / PLOTLY
    assert library.stat().st_size > 1_000_000


def test_figures_of_a_folder_share_plotly_of_this_version(
    figure: go.Figure, tmp_path: Path
) -> None:
    library = tmp_path / PLOTLY
    library.write_text("an older one")
    FigureDataset(filepath=str(tmp_path / "roc.json")).save(figure)
    size, changed = library.stat().st_size, library.stat().st_mtime_ns
    assert size > 1_000_000
    FigureDataset(filepath=str(tmp_path / "curve.json")).save(figure)
    assert library.stat().st_mtime_ns == changed


def test_kedro_viz_gets_a_preview(figure: go.Figure, tmp_path: Path) -> None:
    dataset = FigureDataset(filepath=str(tmp_path / "roc.json"))
    dataset.save(figure)
    preview = dataset.preview()
    assert preview == json.loads((tmp_path / "roc.json").read_text())
    assert preview["data"][0]["y"] == [3.0, 1.0, 2.0]
    assert preview["layout"]["title"]["text"] == "A curve"
    # Kedro-Viz picks its view by the name of what preview returns.
    assert FigureDataset.preview.__annotations__["return"].__name__ == "PlotlyPreview"


def test_the_catalog_saves_and_loads_it(figure: go.Figure, tmp_path: Path) -> None:
    entry = {
        "type": "llm_ctr_pipeline.datasets.figure.FigureDataset",
        "filepath": str(tmp_path / "roc.json"),
    }
    catalog = DataCatalog.from_config({"roc": entry})
    catalog.save("roc", figure)
    assert catalog.load("roc") == figure


def test_a_figure_that_was_not_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"roc\.json"):
        FigureDataset(filepath=str(tmp_path / "roc.json")).load()
