"""The figures of a comparison, in Plotly: ROC curves, calibration, AUC against training time.

A model has one colour, one dash and one symbol in all of them. As in ``plots``, numbers go in as
plain lists, and a figure stays small however many rows the split has.

Shapes: N rows of a split, C points of a curve, G points of a grid.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn.metrics import roc_curve

from llm_ctr_pipeline.metrics.calibration import calibration_table
from llm_ctr_pipeline.metrics.comparison import ScoredModel
from llm_ctr_pipeline.reporting.comparison_table import MARK, duration, label, title_of
from llm_ctr_pipeline.reporting.plot_style import GREY, ModelStyle, apply_style, styles_of
from llm_ctr_pipeline.reporting.test_figures import (
    HISTOGRAM_BARS,
    bins_trace,
    shown_range,
    thinned_roc_trace,
)

GRID_POINTS = 201
NOTE_WIDTH = 110  # characters

_DIAGONAL = {"color": GREY, "dash": "dash", "width": 1.5}
_MINUTE, _HOUR = 60, 3600
_TICKS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(_MINUTE * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(_HOUR * hours for hours in (1, 2, 5, 10, 20, 50, 100, 200)),
)

Comparison = Mapping[str, Any]
Entry = Mapping[str, Any]


def roc_comparison(models: Sequence[ScoredModel], comparison: Comparison) -> go.Figure:
    """Draw the ROC curves of all models, above how far each lies over the baseline's.

    Good curves of one log lie close together; the lower panel shows what parts them: the true
    positive rate less the baseline's at the same false positive rate.

    Args:
        models: those that were compared.
        comparison: made of them by ``compare_models``.

    Returns:
        The figure: for each model a curve and, but for the baseline, a difference; and "Chance".
    """
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.05
    )
    grid_G = np.linspace(0, 1, GRID_POINTS)
    by_name = {model.report.name: model for model in models}
    baseline_G = None
    for entry, style in _styled(comparison):
        model = by_name[entry["name"]]
        curve = roc_curve(model.labels_N, model.probabilities_N)
        name = (
            f"{label(entry)}, AUC {entry['auc']:.4f} "
            f"[{entry['auc_low']:.4f}, {entry['auc_high']:.4f}]"
        )
        figure.add_trace(thinned_roc_trace(curve, name, style.color, style.dash), row=1, col=1)
        # where the curve rises straight up, its highest point counts
        tpr_G = np.interp(grid_G, curve[0], curve[1])
        if baseline_G is None:  # the baseline comes first
            baseline_G = tpr_G
        figure.add_trace(
            _difference_trace(grid_G, tpr_G - baseline_G, label(entry), style), row=2, col=1
        )
    chance = go.Scatter(x=[0.0, 1.0], y=[0.0, 1.0], mode="lines", line=_DIAGONAL, hoverinfo="skip")
    figure.add_trace(chance.update(name="Chance, AUC 0.5"), row=1, col=1)
    apply_style(figure, "ROC", title_of(comparison))
    figure.update_layout(
        legend={"x": 0.98, "y": 0.34, "xanchor": "right", "yanchor": "bottom"},
        hovermode="closest",
    )
    _add_notes(figure, comparison)
    figure.update_xaxes(range=[-0.01, 1.01])
    figure.update_xaxes(title_text="False positive rate (share of non-clicks)", row=2, col=1)
    figure.update_yaxes(
        title_text="True positive rate (share of clicks)", range=[-0.01, 1.01], row=1, col=1
    )
    figure.update_yaxes(title_text=f"TPR − {comparison['baseline']}'s", row=2, col=1)
    return figure


def calibration_comparison(models: Sequence[ScoredModel], comparison: Comparison) -> go.Figure:
    """Draw observed against predicted click rates of all models, above where predictions lie.

    Args:
        models: those that were compared.
        comparison: made of them by ``compare_models``.

    Returns:
        The figure: for each model its bins of equal mass with 95% Wilson intervals and the
        distribution of its predictions; and "Perfect calibration".
    """
    by_name = {model.report.name: model for model in models}
    tables = {
        name: calibration_table(model.labels_N, model.probabilities_N, split=name)
        for name, model in by_name.items()
    }
    lows, highs = zip(*(shown_range(table) for table in tables.values()), strict=True)
    low, high = min(lows), max(highs)
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.05
    )
    perfect = go.Scatter(x=[low, high], y=[low, high], mode="lines", line=_DIAGONAL)
    figure.add_trace(perfect.update(name="Perfect calibration", hoverinfo="skip"), row=1, col=1)
    for entry, style in _styled(comparison):
        name = f"{label(entry)}, error {entry['expected_calibration_error']:.4f}"
        bins = bins_trace(tables[entry["name"]], name, style.color, style.symbol)
        figure.add_trace(bins, row=1, col=1)
        probabilities_N = by_name[entry["name"]].probabilities_N
        counts, edges = np.histogram(probabilities_N, bins=HISTOGRAM_BARS, range=(low, high))
        distribution = go.Scatter(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=(counts / probabilities_N.size).tolist(),
            mode="lines",
            name=label(entry),
            line={"color": style.color, "shape": "hvh", "width": 1.5},
            showlegend=False,
            hovertemplate="around %{x:.4f}: %{y:.2%} of the rows<extra></extra>",
        )
        figure.add_trace(distribution, row=2, col=1)
    apply_style(figure, "Calibration", title_of(comparison))
    figure.update_layout(legend={"x": 0.02, "y": 0.98, "xanchor": "left", "yanchor": "top"})
    _add_notes(figure, comparison)
    figure.update_xaxes(range=[low, high])
    figure.update_xaxes(title_text="Predicted click probability", row=2, col=1)
    figure.update_yaxes(title_text="Observed click rate", range=[low, high], row=1, col=1)
    figure.update_yaxes(
        title_text="Rows", tickformat=".0%", rangemode="tozero", nticks=4, row=2, col=1
    )
    return figure


def auc_against_time(comparison: Comparison) -> go.Figure:
    """Draw each model's AUC with its 95% interval against the time that training took.

    Args:
        comparison: made by ``compare_models``.

    Returns:
        The figure: one trace a model, time on a logarithmic axis; and, where it is known, a line
        at the best AUC that any model can reach.
    """
    figure = go.Figure()
    for entry, style in _styled(comparison):
        figure.add_trace(
            go.Scatter(
                x=[entry["training_seconds"]],
                y=[entry["auc"]],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [entry["auc_high"] - entry["auc"]],
                    "arrayminus": [entry["auc"] - entry["auc_low"]],
                    "thickness": 2,
                    "width": 6,
                },
                mode="markers",
                name=f"{label(entry)}<br>{entry['auc']:.4f} in {_time(entry)}",
                marker={"color": style.color, "symbol": style.symbol, "size": 13},
                hovertemplate=f"AUC %{{y:.4f}} in {_time(entry)}<extra>{label(entry)}</extra>",
            )
        )
    best = comparison["best_possible_auc"]
    if best is not None:
        figure.add_hline(y=best, line=_DIAGONAL)
        figure.add_annotation(
            x=1,
            xref="x domain",
            y=best,
            text=f"best possible, {best:.4f}",
            showarrow=False,
            xanchor="right",
            yanchor="bottom",
            font={"color": GREY},
        )
    apply_style(figure, "AUC against training time", title_of(comparison))
    figure.update_layout(legend={"x": 1.02, "y": 1, "xanchor": "left", "yanchor": "top"})
    _add_notes(figure, comparison)
    seconds = [entry["training_seconds"] for entry in comparison["models"]]
    figure.update_xaxes(
        title_text="Training time (logarithmic axis)",
        type="log",
        range=np.log10([min(seconds) / 2, max(seconds) * 2]).tolist(),
        tickvals=list(_TICKS),
        ticktext=[duration(tick).replace(".0", "") for tick in _TICKS],
    )
    figure.update_yaxes(title_text="Test AUC, 95% interval")
    return figure


def _styled(comparison: Comparison) -> list[tuple[Entry, ModelStyle]]:
    entries = comparison["models"]
    return list(zip(entries, styles_of([entry["path"] for entry in entries]), strict=True))


def _difference_trace(
    grid_G: np.ndarray, difference_G: np.ndarray, name: str, style: ModelStyle
) -> go.Scatter:
    return go.Scatter(
        x=grid_G.tolist(),
        y=difference_G.round(6).tolist(),
        mode="lines",
        name=name,
        line={"color": style.color, "dash": style.dash, "width": 2},
        showlegend=False,
        hovertemplate=f"at FPR %{{x:.3f}}: %{{y:+.4f}}<extra>{name}</extra>",
    )


def _time(entry: Entry) -> str:
    return duration(entry["training_seconds"])


def _add_notes(figure: go.Figure, comparison: Comparison) -> None:
    """Write what must be known of marked models below the figure."""
    notes = sorted({entry["note"] for entry in comparison["models"]} - {None})
    if not notes:
        return
    text = "<br>".join(
        line for note in notes for line in textwrap.wrap(f"{MARK} {note}", NOTE_WIDTH)
    )
    figure.add_annotation(
        text=text,
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
