"""ROC curves in Plotly, of one model and of several.

Shapes: N rows of a split, C points of a curve, G points of a grid.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from llm_ctr_pipeline.metrics.checks import FloatArray
from llm_ctr_pipeline.reporting.comparison import ComparedModel, Comparison
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.plot_style import (
    ONE_MODEL,
    ModelStyle,
    add_notes,
    apply_style,
    diagonal,
    styled,
    two_panels,
)
from llm_ctr_pipeline.reporting.results import ScoredModel, by_model

CURVE_POINTS = 500
GRID_POINTS = 201

_X_TITLE = "False positive rate (share of non-clicks)"
_Y_TITLE = "True positive rate (share of clicks)"
_RANGE = [-0.01, 1.01]
_BOTTOM_RIGHT = {"x": 0.98, "y": 0.03, "xanchor": "right", "yanchor": "bottom"}

Curve = tuple[FloatArray, FloatArray, FloatArray]


def roc_figure(predictions: pd.DataFrame, evaluation: Evaluation) -> go.Figure:
    """Draw a model's ROC curve with its AUC and 95% interval.

    The best AUC that any model can reach, where it is known, is named below the title.

    Args:
        predictions: Columns `label`, 0 or 1, and `probability`.
        evaluation: The report made of them.

    Returns:
        The figure: traces "Model" and "Chance". The curve has at most `CURVE_POINTS` points, all
        of them points of the full curve.
    """
    from sklearn.metrics import roc_curve  # a second to import

    figure = go.Figure()
    curve = roc_curve(predictions["label"], predictions["probability"])
    figure.add_trace(_roc_trace(curve, "Model", evaluation, ONE_MODEL))
    figure.add_trace(diagonal(0.0, 1.0, "Chance, AUC 0.5"))
    subtitle = f"{evaluation.rows:,} rows, click rate {evaluation.click_rate:.4g}"
    if evaluation.best_possible_auc is not None:
        subtitle += f", best possible AUC on this log {evaluation.best_possible_auc:.4f}"
    apply_style(figure, f"ROC, {evaluation.title}", subtitle)
    figure.update_layout(legend=_BOTTOM_RIGHT, hovermode="closest")
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
    figure.add_trace(diagonal(0.0, 1.0, "Chance, AUC 0.5"), row=1, col=1)
    apply_style(figure, "ROC", comparison.title)
    figure.update_layout(legend={**_BOTTOM_RIGHT, "y": 0.34}, hovermode="closest")
    add_notes(figure, comparison)
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
        name=(f"{name}, AUC {measured.auc:.4f} [{measured.auc_low:.4f}, {measured.auc_high:.4f}]"),
        # Thinned already; Plotly's own thinning leaves corners that one can see.
        line={"color": style.color, "width": 2.5, "dash": style.dash, "simplify": False},
        hovertemplate=(
            "FPR %{x:.4f}<br>TPR %{y:.4f}<br>threshold %{customdata:.4f}"
            f"<extra>{name}</extra>"
        ),
    )


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
