"""The figures of a test, in Plotly: ROC curve and calibration.

Numbers go into the figures as plain lists, not as arrays, which Plotly would write in a binary
encoding that older viewers do not read. A figure stays some tens of kilobytes however many rows
the split has.

Shapes: N rows of a split, C points of a curve, K bins.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn.metrics import roc_curve

from llm_ctr_pipeline.metrics.calibration import (
    DEFAULT_BINS,
    calibration_ratio,
    calibration_table,
    error_of_table,
)
from llm_ctr_pipeline.metrics.checks import FloatArray, checked_predictions
from llm_ctr_pipeline.metrics.delong import auc_interval
from llm_ctr_pipeline.reporting.plot_style import BLUE, GREEN, GREY, apply_style

CURVE_POINTS = 500
HISTOGRAM_BARS = 60


def roc_figure(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    title: str = "ROC curve",
    best_possible: npt.ArrayLike | None = None,
    best_possible_auc: float | None = None,
    split: str = "the split",
) -> go.Figure:
    """Draw the ROC curve with its AUC and 95% interval.

    Args:
        labels: [N], 0 or 1, both present.
        probabilities: [N], predicted click probabilities.
        title: the figure's title.
        best_possible: [N], the probabilities that a generated log drew its clicks from. They rank
            the rows as well as anything can; their curve is drawn beside the model's.
        best_possible_auc: what that AUC is, where the number alone is known; named below the title.
        split: what error messages call these rows.

    Returns:
        The figure: traces "Model", perhaps "Best possible", and "Chance". Each curve has at most
        ``CURVE_POINTS`` points, all of them points of the full curve.

    Raises:
        InvalidPredictionsError: See ``checked_predictions``.
        SingleClassError: Every row has the same label.
    """
    figure = go.Figure()
    figure.add_trace(_roc_trace(labels, probabilities, "Model", BLUE, split))
    if best_possible is not None:
        figure.add_trace(_roc_trace(labels, best_possible, "Best possible", GREEN, split))
    figure.add_trace(
        go.Scatter(
            x=[0.0, 1.0],
            y=[0.0, 1.0],
            mode="lines",
            name="Chance, AUC 0.5",
            line={"color": GREY, "dash": "dash", "width": 1.5},
            hoverinfo="skip",
        )
    )
    rows = np.asarray(labels)
    subtitle = f"{rows.size:,} rows, click rate {rows.mean():.4g}"
    if best_possible_auc is not None:
        subtitle += f", best possible AUC on this log {best_possible_auc:.4f}"
    apply_style(figure, title, subtitle)
    figure.update_layout(
        legend={"x": 0.98, "y": 0.03, "xanchor": "right", "yanchor": "bottom"},
        hovermode="closest",
    )
    figure.update_xaxes(title_text="False positive rate (share of non-clicks)", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="True positive rate (share of clicks)", range=[-0.01, 1.01])
    return figure


def calibration_figure(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    title: str = "Calibration",
    bins: int = DEFAULT_BINS,
    split: str = "the split",
) -> go.Figure:
    """Draw observed against predicted click rates, above a histogram of the predictions.

    The axes show the range of the bins, not [0, 1]: click rates are low, and everything of
    interest would sit in one corner. The horizontal axis says how many rows lie beyond it.

    Args:
        labels: [N], 0 or 1, at least one 1.
        probabilities: [N], predicted click probabilities.
        title: the figure's title.
        bins: how many bins of equal mass to aim at; see ``calibration_table``.
        split: what error messages call these rows.

    Returns:
        The figure: traces "Perfect calibration", "Bins" (with 95% Wilson intervals) and "Rows".

    Raises:
        InvalidPredictionsError: See ``checked_predictions``.
        SingleClassError: There is no click.
        ValueError: ``bins`` is below 1.
    """
    _, probabilities_N = checked_predictions(labels, probabilities, split)
    table = calibration_table(labels, probabilities_N, bins=bins, split=split)
    ratio = calibration_ratio(labels, probabilities_N, split=split)
    low, high = shown_range(table)
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.78, 0.22], vertical_spacing=0.05
    )
    figure.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            name="Perfect calibration",
            line={"color": GREY, "dash": "dash", "width": 1.5},
            hoverinfo="skip",
        ),
        row=1,
        col=1,
    )
    figure.add_trace(bins_trace(table), row=1, col=1)
    figure.add_trace(_histogram_trace(probabilities_N, low, high), row=2, col=1)
    error = error_of_table(table)
    apply_style(figure, title, f"Calibration error {error:.4f}, predicted / observed {ratio:.3f}")
    figure.update_layout(
        legend={"x": 0.02, "y": 0.98, "xanchor": "left", "yanchor": "top"}, bargap=0.05
    )
    beyond = int(((probabilities_N < low) | (probabilities_N > high)).sum())
    note = f" ({beyond:,} of {probabilities_N.size:,} rows lie beyond this axis)" if beyond else ""
    figure.update_xaxes(range=[low, high])
    figure.update_xaxes(title_text=f"Predicted click probability{note}", row=2, col=1)
    figure.update_yaxes(title_text="Observed click rate", range=[low, high], row=1, col=1)
    figure.update_yaxes(title_text="Rows", rangemode="tozero", nticks=4, row=2, col=1)
    return figure


def _roc_trace(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, name: str, color: str, split: str
) -> go.Scatter:
    interval = auc_interval(labels, probabilities, split=f"{split}, {name.lower()}")
    curve = roc_curve(np.asarray(labels), np.asarray(probabilities))
    shown = f"{name}, AUC {interval.auc:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
    return thinned_roc_trace(curve, shown, color)


def thinned_roc_trace(
    curve: tuple[FloatArray, FloatArray, FloatArray], name: str, color: str, dash: str = "solid"
) -> go.Scatter:
    """Draw a ROC curve with at most ``CURVE_POINTS`` points, all of them the full curve's.

    Args:
        curve: false and true positive rates and thresholds, as scikit-learn's ``roc_curve`` gives.
        name: what the legend says.
        color: the line's.
        dash: the line's.

    Returns:
        The trace.
    """
    fpr_C, tpr_C, threshold_C = curve
    kept = _thin(fpr_C, tpr_C)
    return go.Scatter(
        x=fpr_C[kept].tolist(),
        y=tpr_C[kept].tolist(),
        # the curve starts above every probability: scikit-learn's threshold there is infinite
        customdata=np.minimum(threshold_C[kept].astype(np.float64), 1.0).tolist(),
        mode="lines",
        name=name,
        # thinned already; Plotly's own thinning leaves corners that one can see
        line={"color": color, "width": 2.5, "dash": dash, "simplify": False},
        hovertemplate=(
            "FPR %{x:.4f}<br>TPR %{y:.4f}<br>threshold %{customdata:.4f}"
            f"<extra>{name.partition(',')[0]}</extra>"
        ),
    )


def _thin(fpr_C: FloatArray, tpr_C: FloatArray) -> npt.NDArray[np.intp]:
    """Choose at most ``CURVE_POINTS`` points of a curve, evenly along it, both ends included."""
    if fpr_C.size <= CURVE_POINTS:
        return np.arange(fpr_C.size)
    # both rates only ever grow, so their sum measures the way along the curve
    way_C = fpr_C + tpr_C
    kept = np.unique(np.searchsorted(way_C, np.linspace(0, way_C[-1], CURVE_POINTS)))
    kept[0], kept[-1] = 0, way_C.size - 1
    return kept


def shown_range(table: pd.DataFrame) -> tuple[float, float]:
    """Choose the axes of a calibration figure, so that they hold the bins and their intervals.

    Args:
        table: made by ``calibration_table``.

    Returns:
        The lower and the upper end, in [0, 1].
    """
    shown = table[["mean_predicted", "observed_low", "observed_high"]].to_numpy()
    low, high = float(shown.min()), float(shown.max())
    pad = 0.05 * (high - low)
    return max(0.0, low - pad), min(1.0, high + pad)


def bins_trace(
    table: pd.DataFrame,
    name: str = "Bins of equal mass, 95% interval",
    color: str = BLUE,
    symbol: str = "circle",
) -> go.Scatter:
    """Draw observed against predicted click rates, with the intervals of the observed.

    Args:
        table: made by ``calibration_table``.
        name: what the legend says.
        color: of markers and lines.
        symbol: the markers'.

    Returns:
        The trace.
    """
    observed_K = table["observed_rate"]
    return go.Scatter(
        x=table["mean_predicted"].tolist(),
        y=observed_K.tolist(),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (table["observed_high"] - observed_K).tolist(),
            "arrayminus": (observed_K - table["observed_low"]).tolist(),
            "thickness": 1.5,
            "width": 4,
        },
        customdata=table[["rows", "lowest_predicted", "highest_predicted"]].to_numpy().tolist(),
        mode="lines+markers",
        name=name,
        cliponaxis=False,
        line={"color": color, "width": 1},
        marker={"size": 8, "symbol": symbol},
        hovertemplate=(
            "predicted %{x:.4f} (%{customdata[1]:.4f} to %{customdata[2]:.4f})"
            "<br>observed %{y:.4f}<br>%{customdata[0]:,} rows<extra></extra>"
        ),
    )


def _histogram_trace(probabilities_N: FloatArray, low: float, high: float) -> go.Bar:
    # counted here: Plotly's own histogram would carry every row into the figure
    counts, edges = np.histogram(probabilities_N, bins=HISTOGRAM_BARS, range=(low, high))
    return go.Bar(
        x=((edges[:-1] + edges[1:]) / 2).tolist(),
        y=counts.tolist(),
        name="Rows",
        marker={"color": BLUE, "opacity": 0.6, "line": {"width": 0}},
        hovertemplate="around %{x:.4f}: %{y:,} rows<extra></extra>",
        showlegend=False,
    )
