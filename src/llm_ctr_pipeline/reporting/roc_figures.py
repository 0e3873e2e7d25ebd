"""ROC curves in Plotly, of one model and of several.

Shapes: N rows of a split, C points of a curve, G points of a grid.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from llm_ctr_pipeline.metrics.checks import FloatArray
from llm_ctr_pipeline.metrics.delong import LEVEL
from llm_ctr_pipeline.reporting.comparison import ComparedModel, Comparison
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.plot_style import (
    ModelStyle,
    apply_style,
    band,
    diagonal,
    label,
    styled,
    styles_of,
    two_panels,
)
from llm_ctr_pipeline.reporting.results import ScoredModel, by_model

CURVE_POINTS = 500
GRID_POINTS = 201

_X_TITLE = "False positive rate (share of non-clicks)"
_Y_TITLE = "True positive rate (share of clicks)"
_RANGE = [-0.01, 1.01]
_DRAWS = 500  # of the bootstrap

Curve = tuple[FloatArray, FloatArray, FloatArray]


def roc_figure(predictions: pd.DataFrame, evaluation: Evaluation) -> go.Figure:
    """Draw a model's ROC curve with its AUC and a band of 95%.

    The band holds the true positive rate at each false positive rate, by itself, in 95 of 100 draws
    of as many rows (the bootstrap; Fawcett 2006, section 8, on vertical averages).

    Args:
        predictions: Columns `label`, 0 or 1, and `probability`.
        evaluation: The report made of them.

    Returns:
        The figure: traces "Chance", "95% interval" and "Model". The curve has at most
        `CURVE_POINTS` points, all of them points of the full curve.
    """
    from sklearn.metrics import roc_curve  # a second to import

    figure = go.Figure()
    (style,) = styles_of([evaluation.path])
    curve = roc_curve(predictions["label"], predictions["probability"])
    clicks = int(predictions["label"].sum())
    figure.add_trace(diagonal(0.0, 1.0, "Chance"))
    figure.add_trace(_band(curve, clicks, evaluation.rows - clicks, style))
    figure.add_trace(_roc_trace(curve, "Model", evaluation, style))
    caption = (
        f"AUC {evaluation.auc:.4f}, 95% interval {evaluation.auc_low:.4f} to "
        f"{evaluation.auc_high:.4f}; {evaluation.rows:,} rows, click rate "
        f"{evaluation.click_rate:.4g}"
    )
    if evaluation.best_possible_auc is not None:
        caption += f"; best possible AUC on this log {evaluation.best_possible_auc:.4f}"
    apply_style(figure, f"ROC, {evaluation.title}", caption)
    figure.update_layout(showlegend=False, hovermode="closest", height=480)
    label(figure, f"AUC {evaluation.auc:.4f}", 0.97, 0.16, style.color, xanchor="right")
    label(figure, "shaded: 95% of draws of rows", 0.97, 0.1, xanchor="right")
    label(figure, "chance", 0.5, 0.46)
    figure.update_xaxes(title_text=_X_TITLE, range=_RANGE)
    figure.update_yaxes(title_text=_Y_TITLE, range=_RANGE)
    return figure


def roc_comparison(models: Sequence[ScoredModel], comparison: Comparison) -> go.Figure:
    """Draw the ROC curves of all models, above how far each lies over the baseline's.

    Good curves of one log lie close together; the lower panel shows what parts them: the true
    positive rate less the baseline's at the same false positive rate. Of a model with several
    seeds the curve is their vertical average (Fawcett 2006, "An introduction to ROC analysis",
    section 8.1), whose area is the mean AUC.

    Returns:
        The figure: for each model a curve and, but for the baseline, a difference; and "Chance".
    """
    from sklearn.metrics import roc_curve

    figure = two_panels([0.7, 0.3])
    trainings = by_model(models)
    grid_G = np.linspace(0, 1, GRID_POINTS)
    baseline_G = None
    for compared, style in styled(comparison):
        curve = _averaged(
            [roc_curve(one.labels_N, one.probabilities_N) for one in trainings[compared.name]]
        )
        seeds = f", {len(compared.seeds)} seeds" if len(compared.seeds) > 1 else ""
        trace = _roc_trace(curve, compared.label + seeds, compared, style)
        figure.add_trace(trace, row=1, col=1)
        # Where the curve rises straight up, its highest point counts.
        tpr_G = np.interp(grid_G, curve[0], curve[1])
        baseline_G = tpr_G if baseline_G is None else baseline_G  # the baseline comes first
        difference = go.Scatter(
            x=grid_G.tolist(),
            y=(tpr_G - baseline_G).round(6).tolist(),
            mode="lines",
            name=compared.label,
            line={"color": style.color, "dash": style.dash, "width": 2},
            showlegend=False,
            hovertemplate=f"at FPR %{{x:.3f}}: %{{y:+.4f}}<extra>{compared.label}</extra>",
        )
        figure.add_trace(difference, row=2, col=1)
    figure.add_trace(diagonal(0.0, 1.0, "chance"), row=1, col=1)
    apply_style(
        figure,
        "ROC",
        f"{comparison.title}. Below, how far each curve lies over {comparison.baseline}'s.",
        comparison.notes,
    )
    figure.update_layout(hovermode="closest", height=720)
    figure.update_xaxes(range=_RANGE)
    figure.update_xaxes(title_text=_X_TITLE, row=2, col=1)
    figure.update_yaxes(title_text=_Y_TITLE, range=_RANGE, row=1, col=1)
    figure.update_yaxes(title_text=f"TPR − {comparison.baseline}'s", row=2, col=1)
    return figure


def _roc_trace(
    curve: Curve, name: str, measured: Evaluation | ComparedModel, style: ModelStyle
) -> go.Scatter:
    """Draw a curve with at most `CURVE_POINTS` points, all of them the full curve's."""
    fpr_C, tpr_C, threshold_C = curve
    kept = _thin(fpr_C, tpr_C)
    return go.Scatter(
        x=fpr_C[kept].tolist(),
        y=tpr_C[kept].tolist(),
        # The curve starts above every probability: scikit-learn's threshold there is infinite.
        customdata=np.minimum(threshold_C[kept].astype(np.float64), 1.0).tolist(),
        mode="lines",
        name=f"{name}, {measured.auc:.4f}",
        # Thinned already; Plotly's own thinning leaves corners that one can see.
        line={"color": style.color, "width": 2.5, "dash": style.dash, "simplify": False},
        hovertemplate=(
            "FPR %{x:.4f}<br>TPR %{y:.4f}<br>threshold %{customdata:.4f}"
            f"<extra>{name}</extra>"
        ),
    )


def _band(curve: Curve, clicks: int, others: int, style: ModelStyle) -> go.Scatter:
    """Draw where the curve of other rows would lie.

    Rows drawn anew are counted between the curve's points, so a draw costs the same however many
    rows there are.
    """
    fpr_C, tpr_C, _ = curve
    kept = _thin(fpr_C, tpr_C)
    rng = np.random.default_rng(0)
    grid_G = np.linspace(0, 1, GRID_POINTS)
    drawn_fpr, drawn_tpr = (
        rng.multinomial(rows, _shares(rate_C[kept]), _DRAWS).cumsum(axis=1) / rows
        for rows, rate_C in ((others, fpr_C), (clicks, tpr_C))
    )
    rates = zip(drawn_fpr, drawn_tpr, strict=True)
    curves = [np.interp(grid_G, [0, *fpr], [0, *tpr]) for fpr, tpr in rates]
    low_G, high_G = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return band(grid_G.tolist(), low_G.round(5).tolist(), high_G.round(5).tolist(), style.color)


def _shares(rate_C: FloatArray) -> FloatArray:
    """The shares of rows between a curve's points; they sum to 1 but for rounding."""
    shares = np.diff(rate_C)
    return np.asarray(shares / shares.sum())


def _averaged(curves: Sequence[Curve]) -> Curve:
    """The mean of curves at the same false positive rates; of one curve, itself."""
    if len(curves) == 1:
        return curves[0]
    fpr_C = np.linspace(0, 1, CURVE_POINTS)
    tpr_C = np.mean([np.interp(fpr_C, fpr, tpr) for fpr, tpr, _ in curves], axis=0)
    thresholds = [np.interp(fpr_C, fpr, np.minimum(threshold, 1.0)) for fpr, _, threshold in curves]
    return fpr_C, tpr_C, np.mean(thresholds, axis=0)


def _thin(fpr_C: FloatArray, tpr_C: FloatArray) -> npt.NDArray[np.intp]:
    """Choose at most `CURVE_POINTS` points of a curve, evenly along it, both ends included."""
    if fpr_C.size <= CURVE_POINTS:
        return np.arange(fpr_C.size)
    # Both rates only ever grow, so their sum measures the way along the curve.
    way_C = fpr_C + tpr_C
    kept = np.unique(np.searchsorted(way_C, np.linspace(0, way_C[-1], CURVE_POINTS)))
    kept[0], kept[-1] = 0, way_C.size - 1
    return kept
