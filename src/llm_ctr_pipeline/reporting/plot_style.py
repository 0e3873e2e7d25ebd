"""One look for every figure: a Plotly template and colours that colour-blind readers tell apart.

Figures have no ground of their own, and letters and grids of a grey that stands out from white and
from black alike: Kedro-Viz and the pages of `pages.py` have a dark theme and a light one.
Numbers go into the figures as plain lists, not as arrays, which Plotly would write in a binary
encoding that older viewers do not read. A figure stays small however many rows the split has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llm_ctr_pipeline.reporting.comparison import ComparedModel, Comparison
from llm_ctr_pipeline.training.settings import PATHS

# Near Okabe & Ito 2008, "Color universal design", and apart from each other as the eyes see them
# that lack one kind of cone; none so dark or so light that either theme's ground would hide it.
VERMILLION = "#D55E00"
ORANGE = "#EE7B00"
SKY = "#4BA3DC"
BLUE = "#0072B2"
VIOLET = "#6F69DA"
WINE = "#96435B"
GREEN = "#009A6A"
PINK = "#CE7AAB"
GREY = "#808080"


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


_OF_PATHS = (
    ModelStyle(VERMILLION, "solid", "diamond"),
    ModelStyle(GREY, "dot", "diamond-open"),
    ModelStyle(ORANGE, "longdash", "pentagon"),
    ModelStyle(SKY, "longdashdot", "hexagram"),
    ModelStyle(BLUE, "solid", "circle"),
    ModelStyle(VIOLET, "dash", "circle-open"),
    ModelStyle(WINE, "longdash", "square-open"),
    ModelStyle(GREEN, "dash", "square"),
    ModelStyle(PINK, "dashdot", "triangle-up"),
)
_STYLES = dict(zip(PATHS, _OF_PATHS, strict=True))
# For more runs of one path than one.
_FURTHER = (
    ModelStyle(ORANGE, "dot", "cross"),
    ModelStyle(SKY, "longdash", "x"),
    ModelStyle(VIOLET, "longdashdot", "star"),
    ModelStyle(GREY, "solid", "hexagon"),
)

DASHED = {"color": GREY, "dash": "dash", "width": 1.5}
LABEL_SIZE = 13  # of letters within a figure
_LINE = "rgba(128, 128, 128, 0.6)"
_GRID = "rgba(128, 128, 128, 0.22)"

_AXIS = {
    "automargin": True,
    "gridcolor": _GRID,
    "linecolor": _LINE,
    "mirror": True,
    "showline": True,
    "ticks": "outside",
    "tickcolor": _LINE,
    "title": {"standoff": 12, "font": {"size": 14}},
    "zeroline": False,
}

# Complete in itself: Kedro-Viz, MLflow and a browser each start from defaults of their own
TEMPLATE = go.layout.Template(
    layout={
        "colorway": [BLUE, VERMILLION, GREEN, GREY],
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 14, "color": GREY},
        "hoverlabel": {"font": {"size": 13}},
        # At the bottom, where no curve runs; its entries wrap on a narrow screen.
        "legend": {"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
        "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
        # Plotly's own colours of it go with a white ground.
        "modebar": {"activecolor": BLUE, "bgcolor": "rgba(0, 0, 0, 0)", "color": GREY},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
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


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str) -> go.Scatter:
    """Draw an interval along a line, faint, in the line's colour."""
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*low, *reversed(high)],
        fill="toself",
        fillcolor=color,
        opacity=0.25,
        line={"width": 0},
        mode="lines",
        name="95% interval",
        hoverinfo="skip",
        showlegend=False,
    )


def error_bars(
    values: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> dict[str, object]:
    """Draw intervals around values, thin; what `error_x` and `error_y` of a trace take."""
    ends = list(zip(values, low, high, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [above - value for value, _, above in ends],
        "arrayminus": [value - below for value, below, _ in ends],
        "thickness": 1,
        "width": 0,
    }


def apply_style(
    figure: go.Figure, title: str, caption: str = "", notes: Sequence[str] = ()
) -> None:
    """Give a figure the house look, its title, and what pages write around it.

    Args:
        figure: To be changed.
        title: What it shows, in a line.
        caption: A sentence on it; Plotly's own subtitle would not wrap on a narrow screen.
        notes: What must be known of its numbers.
    """
    figure.update_layout(template=TEMPLATE, title={"text": title})
    figure.update_layout(meta={"caption": caption, "notes": [*notes]})


def label(
    figure: go.Figure, text: str, x: object, y: object, color: str | None = None, **places: object
) -> None:
    """Write a word or two into a figure: what a line is, beside it, with a dot of its colour.

    Args:
        figure: To be changed.
        text: What is written.
        x: Where, on an axis whose name is `xref` among `places`, or on the first.
        y: Likewise.
        color: Of the dot.
        places: More of an annotation's properties.
    """
    dot = f'<span style="color:{color}">●</span> ' if color else ""
    defaults = {"showarrow": False, "font": {"size": LABEL_SIZE}, "xanchor": "left"}
    figure.add_annotation(text=dot + text, x=x, y=y, **defaults | places)
