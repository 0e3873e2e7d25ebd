"""One look for every figure: a Plotly template and colours that colour-blind readers tell apart."""

import plotly.graph_objects as go

# Okabe & Ito 2008, "Color universal design"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#007A5A"  # theirs, darkened to be legible as text on white
GREY = "#767676"

_TEXT = "#2B2B2B"
_LINE = "#BDBDBD"
_GRID = "#ECECEC"

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
        "legend": {"bgcolor": "rgba(255, 255, 255, 0.85)", "bordercolor": _GRID, "borderwidth": 1},
        "margin": {"l": 80, "r": 30, "t": 80, "b": 70},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "title": {"font": {"size": 18}, "x": 0, "xref": "paper", "xanchor": "left"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


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
