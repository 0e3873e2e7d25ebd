"""The figure of a training, in Plotly: losses and validation AUC over the epochs."""

import math
from collections.abc import Sequence
from itertools import groupby

import plotly.graph_objects as go

from llm_ctr_pipeline.reporting.plot_style import (
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    apply_style,
    two_panels,
)
from llm_ctr_pipeline.training.history import StageValidation, TrainingResults

_SHOWN = {
    "step": "step %{customdata[0]:,}",
    "train_accuracy": "training accuracy %{customdata[1]:.2f}%",
    "valid_accuracy": "validation accuracy %{customdata[2]:.2f}%",
    "valid_logloss": "validation log loss %{customdata[3]:.4f}",
    "seconds": "%{customdata[4]:,.0f} s",
    "rows_per_second": "%{customdata[5]:,.0f} rows/s",
}

Run = list[StageValidation]


def learning_curve_figure(results: TrainingResults) -> go.Figure:
    """Draw the losses and the validation AUC over the epochs, one point a validation.

    Validations of another stage or dataset are of other rows: they stand behind those before them,
    and no line joins the two. A number that is NaN or infinite leaves a gap.

    Returns:
        The figure: traces "Training loss", "Validation loss", "Validation AUC" and, if a
        validation of the last stage and dataset is flagged `best`, "Best validation". If several
        are, for each was the best at its time, the one with the highest AUC is marked.
    """
    runs = _behind_each_other(results.epochs)
    points: list[StageValidation | None] = list(runs[0])
    for run in runs[1:]:
        points += [None, *run]
    figure = two_panels(spacing=0.07)
    for key, name, color, row in (
        ("train_loss", "Training loss", VERMILLION, 1),
        ("valid_loss", "Validation loss", BLUE, 1),
        ("valid_auc", "Validation AUC", BLUE, 2),
    ):
        trace = _history_trace(points, key, name, color)
        # The lower panel's axis names its only curve.
        figure.add_trace(trace.update(showlegend=row == 1), row=row, col=1)
    flagged = [one for one in runs[-1] if one.best and math.isfinite(one.valid_auc)]
    best = max(flagged, key=lambda one: one.valid_auc, default=None)
    subtitle = None
    if best is not None:
        marked = go.Scatter(
            x=[best.epoch],
            y=[best.valid_auc],
            mode="markers",
            name="Best validation",
            marker={"color": GREEN, "size": 15, "symbol": "star"},
            hovertemplate="best: %{y:.4f} at epoch %{x:.4g}<extra></extra>",
        )
        figure.add_trace(marked, row=2, col=1)
        figure.add_vline(x=best.epoch, line={"color": GREEN, "dash": "dot", "width": 1.5})
        subtitle = f"Best validation AUC {best.valid_auc:.4f} at epoch {best.epoch:.4g}"
    apply_style(figure, f"Learning curve, {results.path}", subtitle)
    figure.update_layout(
        # Above the panels: within them, any corner may be where a curve runs.
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"},
        margin={"t": 110},
    )
    if len(runs) > 1:
        _name_runs(figure, runs)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="Epochs completed", row=2, col=1)
    figure.update_yaxes(title_text="Loss (nats a row)", row=1, col=1)
    figure.update_yaxes(title_text="Validation AUC", minallowed=0, maxallowed=1, row=2, col=1)
    return figure


def _behind_each_other(history: Sequence[StageValidation]) -> list[Run]:
    """Part validations of different stages and datasets, and count their epochs on."""
    runs: list[Run] = []
    start = 0.0
    for _, run in groupby(history, key=lambda one: (one.stage, one.dataset)):
        runs.append([one.model_copy(update={"epoch": start + one.epoch}) for one in run])
        start = runs[-1][-1].epoch
    return runs


def _name_runs(figure: go.Figure, runs: Sequence[Run]) -> None:
    """Part the panels where a stage goes on to other rows, and name each part at its start."""
    start = 0.0
    for place, run in enumerate(runs):
        if place:
            figure.add_vline(x=start, line={"color": GREY, "width": 1})
        figure.add_annotation(
            text=f"{run[0].stage}, {run[0].dataset}",
            x=start,
            xref="x2",
            xanchor="left",
            y=0,
            yref="y domain",
            yanchor="bottom",
            yshift=16 * (len(runs) - 1 - place),  # short parts' names would overlap
            showarrow=False,
            font={"size": 12, "color": GREY},
        )
        start = run[-1].epoch


def _column(points: Sequence[StageValidation | None], key: str) -> list[float | None]:
    values = (math.nan if point is None else float(getattr(point, key)) for point in points)
    # JSON knows neither NaN nor infinity.
    return [value if math.isfinite(value) else None for value in values]


def _history_trace(
    points: Sequence[StageValidation | None], key: str, name: str, color: str
) -> go.Scatter:
    columns = [_column(points, column) for column in _SHOWN]
    lines = ["epoch %{x:.4g}: %{y:.4f}", *_SHOWN.values(), f"<extra>{name}</extra>"]
    return go.Scatter(
        x=_column(points, "epoch"),
        y=_column(points, key),
        customdata=[list(row) for row in zip(*columns, strict=True)],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 2},
        marker={"size": 6},
        hovertemplate="<br>".join(lines),
    )
