"""One look for every figure: a Plotly template and colours that colour-blind readers tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

# Okabe & Ito 2008, "Color universal design"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#007A5A"  # theirs, darkened to be legible as text on white
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREY = "#767676"


@dataclass(frozen=True)
class ModelStyle:
    """How a model is drawn in every figure; not by its colour alone.

    Attributes:
        color: of lines and markers.
        dash: Plotly's name of the line's.
        symbol: Plotly's name of the markers'.
    """

    color: str
    dash: str
    symbol: str


_STYLES = {
    "deepfm": ModelStyle(VERMILLION, "solid", "diamond"),
    "single_phase": ModelStyle(BLUE, "solid", "circle"),
    "two_phase": ModelStyle(GREEN, "dash", "square"),
    "two_phase_finetuned": ModelStyle(PURPLE, "dashdot", "triangle-up"),
}
# for more runs of one path than one
_FURTHER = (
    ModelStyle(ORANGE, "dot", "cross"),
    ModelStyle(SKY, "longdash", "x"),
    ModelStyle("#000000", "longdashdot", "star"),
    ModelStyle(GREY, "solid", "hexagon"),
)

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

# complete in itself: Kedro-Viz, MLflow and a browser each start from defaults of their own
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
    """Choose how models are drawn: the first of a path as the path always is.

    Args:
        paths: the models' training paths.

    Returns:
        One style a model; further models of a path get others, which repeat after eight.
    """
    free = [style for path, style in _STYLES.items() if path not in paths]
    spare = (*_FURTHER, *free)
    styles: list[ModelStyle] = []
    taken = 0
    for place, path in enumerate(paths):
        if path in _STYLES and path not in paths[:place]:
            styles.append(_STYLES[path])
        else:
            styles.append(spare[taken % len(spare)])
            taken += 1
    return styles


def apply_style(figure: go.Figure, title: str, subtitle: str | None = None) -> None:
    """Give a figure the house look and its title.

    Args:
        figure: the figure, changed in place.
        title: what the figure shows.
        subtitle: its main number or a note on reading it, in smaller letters below.
    """
    figure.update_layout(template=TEMPLATE, title={"text": title})
    if subtitle:
        figure.update_layout(title={"subtitle": {"text": subtitle, "font": {"color": GREY}}})
