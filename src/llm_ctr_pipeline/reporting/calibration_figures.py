"""Observed against predicted click rates in Plotly, of one model and of several.

Shapes: N rows of a split, H bars of a histogram, K bins.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from scipy.special import expit, logit

from llm_ctr_pipeline.metrics.calibration import calibration_table
from llm_ctr_pipeline.reporting.comparison import Comparison
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.plot_style import (
    GREY,
    ModelStyle,
    apply_style,
    diagonal,
    label,
    styled,
    styles_of,
    two_panels,
)
from llm_ctr_pipeline.reporting.results import ScoredModel, by_model

HISTOGRAM_BARS = 60
# Where the axis of log-odds ends, and what is written on it.
_FARTHEST_LOGIT = 7.0
_FEW_TICKS = 3
_ODDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997, 0.999)


def calibration_figure(predictions: pd.DataFrame, evaluation: Evaluation) -> go.Figure:
    """Draw observed against predicted click rates, above a histogram of the predictions.

    The axes show the range of the bins, not [0, 1]: click rates are low, and everything of
    interest would sit in one corner. The horizontal axis says how many rows lie beyond it.

    Args:
        predictions: Columns `label`, 0 or 1, and `probability`.
        evaluation: The report made of them.

    Returns:
        The figure: traces "Perfect calibration", "Bins" (with 95% Wilson intervals) and "Rows".
    """
    probabilities_N = predictions["probability"].to_numpy(np.float64)
    table = calibration_table(predictions["label"], probabilities_N)
    low, high = _shown_range([table])
    (style,) = styles_of([evaluation.path])
    figure = two_panels([0.78, 0.22])
    bins = _bins_trace(table, "Bins of equal mass, 95% interval", style)
    centres_H, rows_H = _histogram(probabilities_N, low, high)
    rows = go.Bar(
        x=centres_H.tolist(),
        y=rows_H.tolist(),
        name="Rows",
        marker={"color": style.color, "opacity": 0.6, "line": {"width": 0}},
        hovertemplate="around %{x:.4f}: %{y:,} rows<extra></extra>",
        showlegend=False,
    )
    figure.add_trace(diagonal(low, high, "Perfect calibration"), row=1, col=1)
    figure.add_trace(bins, row=1, col=1)
    figure.add_trace(rows, row=2, col=1)
    apply_style(
        figure,
        f"Calibration, {evaluation.title}",
        f"Bins of equally many rows with 95% intervals; calibration error "
        f"{evaluation.expected_calibration_error:.4f}, predicted over observed clicks "
        f"{evaluation.calibration_ratio:.3f}",
    )
    beyond = int(((probabilities_N < low) | (probabilities_N > high)).sum())
    note = f" ({beyond:,} of {probabilities_N.size:,} rows lie beyond this axis)" if beyond else ""
    _set_axes(figure, low, high, note)
    figure.update_layout(bargap=0.05, showlegend=False)
    middle = (low + high) / 2
    label(figure, "perfect calibration", middle, middle, xanchor="left", yanchor="top")
    return figure


def score_distribution(predictions: pd.DataFrame, evaluation: Evaluation) -> go.Figure:
    """Draw where the predictions of clicks and of non-clicks lie.

    Click rates are low, so the axis is one of log-odds, with probabilities written on it.

    Returns:
        The figure: traces "Non-clicks" and "Clicks", the share of each class' rows in each of
        `HISTOGRAM_BARS` bars of equal width in log-odds.
    """
    (style,) = styles_of([evaluation.path])
    probabilities_N = predictions["probability"].to_numpy(np.float64)
    labels_N = predictions["label"].to_numpy()
    with np.errstate(divide="ignore"):
        logits_N = np.clip(logit(probabilities_N), -_FARTHEST_LOGIT, _FARTHEST_LOGIT)
    low, high = float(logits_N.min()), float(logits_N.max())
    low, high = (low, high) if low < high else (low - 1, high + 1)
    figure = go.Figure()
    classes = ((0, "Non-clicks", GREY, "dot"), (1, "Clicks", style.color, "solid"))
    for is_click, name, color, dash in classes:
        of_class_N = logits_N[labels_N == is_click]
        centres_H, rows_H = _histogram(of_class_N, low, high)
        share_H = rows_H / of_class_N.size
        trace = go.Scatter(
            x=centres_H.tolist(),
            y=share_H.tolist(),
            customdata=expit(centres_H).tolist(),
            mode="lines",
            name=name,
            fill="tozeroy",
            line={"color": color, "dash": dash, "shape": "hvh", "width": 2},
            hovertemplate="around %{customdata:.4f}: %{y:.2%}<extra></extra>",
        )
        figure.add_trace(trace)
    # Above the frame: within it, either may be anywhere.
    for (_, name, color, _), x in zip(classes, (0.86, 1), strict=True):
        above = {"xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
        label(figure, name.lower(), x, 1, color, **above)
    apply_style(
        figure,
        f"Predicted probabilities, {evaluation.title}",
        "The further clicks lie to the right of non-clicks, the better the model tells them apart",
    )
    figure.update_layout(showlegend=False, height=380)
    inside = [odds for odds in _ODDS if expit(low) < odds < expit(high)]
    ticks = inside if len(inside) > _FEW_TICKS else expit(np.linspace(low, high, 6))
    figure.update_xaxes(
        title_text="Predicted click probability (log-odds axis)",
        tickvals=logit(ticks).tolist(),
        ticktext=[f"{odds:.3g}" for odds in ticks],
        range=[low, high],
    )
    figure.update_yaxes(title_text="Share of the class' rows", tickformat=".0%", rangemode="tozero")
    return figure


def calibration_comparison(models: Sequence[ScoredModel], comparison: Comparison) -> go.Figure:
    """Draw observed against predicted click rates of all models, above where predictions lie.

    Of a model with several seeds the first is drawn: bins of several trainings together would hold
    each row several times.

    Returns:
        The figure: for each model its bins of equal mass with 95% Wilson intervals and the
        distribution of its predictions; and "Perfect calibration".
    """
    drawn = {name: trainings[0] for name, trainings in by_model(models).items()}
    tables = {
        name: calibration_table(model.labels_N, model.probabilities_N)
        for name, model in drawn.items()
    }
    low, high = _shown_range([*tables.values()])
    figure = two_panels([0.75, 0.25])
    figure.add_trace(diagonal(low, high, "Perfect calibration"), row=1, col=1)
    for compared, style in styled(comparison):
        error = drawn[compared.name].report.evaluation.expected_calibration_error
        seed = f" (seed {compared.seeds[0]})" if len(compared.seeds) > 1 else ""
        name = f"{compared.label}{seed}, {error:.4f}"
        figure.add_trace(_bins_trace(tables[compared.name], name, style), row=1, col=1)
        probabilities_N = drawn[compared.name].probabilities_N
        centres_H, rows_H = _histogram(probabilities_N, low, high)
        distribution = go.Scatter(
            x=centres_H.tolist(),
            y=(rows_H / probabilities_N.size).tolist(),
            mode="lines",
            name=compared.label,
            line={"color": style.color, "shape": "hvh", "width": 1.5},
            showlegend=False,
            hovertemplate="around %{x:.4f}: %{y:.2%} of the rows<extra></extra>",
        )
        figure.add_trace(distribution, row=2, col=1)
    apply_style(
        figure,
        "Calibration",
        f"{comparison.title}. Bins of equally many rows with 95% intervals; behind each name its "
        "calibration error.",
        comparison.notes,
    )
    _set_axes(figure, low, high, rows_format=".0%")
    figure.update_layout(height=720)
    return figure


def _shown_range(tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """Choose axes that hold all bins and their intervals."""
    ends = []
    for table in tables:
        shown = table[["mean_predicted", "observed_low", "observed_high"]].to_numpy()
        low, high = float(shown.min()), float(shown.max())
        pad = 0.05 * (high - low)
        ends += [max(0.0, low - pad), min(1.0, high + pad)]
    return min(ends), max(ends)


def _bins_trace(table: pd.DataFrame, name: str, style: ModelStyle) -> go.Scatter:
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
        line={"color": style.color, "width": 1},
        marker={"size": 8, "symbol": style.symbol},
        hovertemplate=(
            "predicted %{x:.4f} (%{customdata[1]:.4f} to %{customdata[2]:.4f})"
            "<br>observed %{y:.4f}<br>%{customdata[0]:,} rows<extra></extra>"
        ),
    )


def _histogram(
    probabilities_N: npt.NDArray[np.floating], low: float, high: float
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.intp]]:
    """Count rows here: Plotly's own histogram would carry every row into the figure.

    Returns:
        The bars' centres [H] and their rows [H].
    """
    rows_H, edges = np.histogram(probabilities_N, bins=HISTOGRAM_BARS, range=(low, high))
    return (edges[:-1] + edges[1:]) / 2, rows_H


def _set_axes(
    figure: go.Figure, low: float, high: float, note: str = "", rows_format: str | None = None
) -> None:
    figure.update_layout(height=560)
    figure.update_xaxes(range=[low, high])
    figure.update_xaxes(title_text=f"Predicted click probability{note}", row=2, col=1)
    figure.update_yaxes(title_text="Observed click rate", range=[low, high], row=1, col=1)
    counts = {"tickformat": rows_format, "rangemode": "tozero", "nticks": 4}
    figure.update_yaxes(title_text="Rows", **counts, row=2, col=1)
