"""One look for every figure: a Plotly template and colours that colour-blind readers tell apart.

Numbers go into the figures as plain lists, not as arrays, which Plotly would write in a binary
encoding that older viewers do not read. A figure stays small however many rows the split has.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llm_ctr_pipeline.reporting.comparison import ComparedModel, Comparison
from llm_ctr_pipeline.training.settings import PATHS

# Okabe & Ito 2008, "Color universal design"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#007A5A"  # theirs, darkened to be legible as text on white
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
WINE = "#882255"  # Paul Tol 2021, "Colour schemes", muted
GREY = "#767676"


@dataclass(frozen=True)
class ModelStyle:
    """How a model is drawn in every figure; not by its colour alone.

    Attributes:
        color: Of lines and markers.
        dash: Plotly's name of the line's.
        symbol: Plotly's name of the markers'.
    """

    color: str
    dash: str
    symbol: str


ONE_MODEL = ModelStyle(BLUE, "solid", "circle")
_OF_PATHS = (
    ModelStyle(VERMILLION, "solid", "diamond"),
    ModelStyle(GREY, "dot", "diamond-open"),
    ModelStyle(ORANGE, "longdash", "pentagon"),
    ModelStyle(SKY, "longdashdot", "hexagram"),
    ONE_MODEL,
    ModelStyle("#000000", "dash", "circle-open"),
    ModelStyle(WINE, "longdash", "square-open"),
    ModelStyle(GREEN, "dash", "square"),
    ModelStyle(PURPLE, "dashdot", "triangle-up"),
)
_STYLES = dict(zip(PATHS, _OF_PATHS, strict=True))
# For more runs of one path than one.
_FURTHER = (
    ModelStyle(ORANGE, "dot", "cross"),
    ModelStyle(SKY, "longdash", "x"),
    ModelStyle("#000000", "longdashdot", "star"),
    ModelStyle(GREY, "solid", "hexagon"),
)

DASHED = {"color": GREY, "dash": "dash", "width": 1.5}
TOP_LEFT = {"x": 0.02, "y": 0.98, "xanchor": "left", "yanchor": "top"}
NOTE_WIDTH = 110  # characters

_TEXT = "#2B2B2B"
_LINE = "#BDBDBD"
_GRID = "#ECECEC"
# Barely there: Kedro-Viz puts white letters and a dark ground around it, a browser neither.
_LEGEND = "rgba(127, 127, 127, 0.08)"

_AXIS = {
    "automargin": True,
    "gridcolor": _GRID,
    "linecolor": _LINE,
    "mirror": True,
    "showline": True,
    "ticks": "outside",
    "tickcolor": _LINE,
    "title": {"standoff": 12},
    "zeroline": False,
}

# Complete in itself: Kedro-Viz, MLflow and a browser each start from defaults of their own
TEMPLATE = go.layout.Template(
    layout={
        "colorway": [BLUE, VERMILLION, GREEN, GREY],
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 14, "color": _TEXT},
        "hoverlabel": {"font": {"size": 13}},
        "legend": {"bgcolor": _LEGEND, "bordercolor": _LINE, "borderwidth": 1},
        "margin": {"l": 80, "r": 30, "t": 80, "b": 70},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "title": {"font": {"size": 18}, "x": 0, "xref": "paper", "xanchor": "left"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def styles_of(paths: Sequence[str]) -> list[ModelStyle]:
    """Choose how models of these paths are drawn: the first of a path as the path always is.

    Further models of a path get other styles, which repeat after eight.
    """
    unused = [style for path, style in _STYLES.items() if path not in paths]
    spare = cycle((*_FURTHER, *unused))
    return [
        _STYLES[path] if path in _STYLES and path not in paths[:place] else next(spare)
        for place, path in enumerate(paths)
    ]


def styled(comparison: Comparison) -> list[tuple[ComparedModel, ModelStyle]]:
    """Give each compared model its style."""
    styles = styles_of([model.path for model in comparison.models])
    return list(zip(comparison.models, styles, strict=True))


def two_panels(heights: Sequence[float] | None = None, spacing: float = 0.05) -> go.Figure:
    """Make a figure of two panels, one above the other, with one horizontal axis."""
    return make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=heights, vertical_spacing=spacing
    )


def diagonal(low: float, high: float, name: str) -> go.Scatter:
    """Draw the line that a model without merit, or without fault, would follow."""
    ends = [low, high]
    return go.Scatter(x=ends, y=ends, mode="lines", name=name, line=DASHED, hoverinfo="skip")


def apply_style(figure: go.Figure, title: str, subtitle: str | None = None) -> None:
    """Give a figure the house look, its title and, in smaller letters below, a number or a note."""
    figure.update_layout(template=TEMPLATE, title={"text": title})
    if subtitle:
        figure.update_layout(title={"subtitle": {"text": subtitle, "font": {"color": GREY}}})


def add_notes(figure: go.Figure, comparison: Comparison) -> None:
    """Write what must be known of marked models below the figure."""
    lines = [line for note in comparison.notes for line in textwrap.wrap(note, NOTE_WIDTH)]
    if not lines:
        return
    figure.add_annotation(
        text="<br>".join(lines),
        showarrow=False,
        align="left",
        font={"size": 12, "color": GREY},
        x=0,
        xref="paper",
        xanchor="left",
        y=0,
        yref="paper",
        yanchor="top",
        yshift=-60,
    )
    figure.update_layout(margin={"b": 120})
