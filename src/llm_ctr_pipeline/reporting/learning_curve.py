"""The figure of a training, in Plotly: losses and validation AUC over the epochs.

Numbers go in as plain lists, as in ``plots``.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llm_ctr_pipeline.reporting.plot_style import BLUE, GREEN, GREY, VERMILLION, apply_style

Validation = Mapping[str, Any]


def learning_curve_figure(
    history: Sequence[Validation], *, title: str = "Learning curve"
) -> go.Figure:
    """Draw the losses and the validation AUC over the epochs, one point a validation.

    Validations of another stage or dataset are of other rows: they stand behind those before them,
    and no line joins the two.

    Args:
        history: one mapping a validation, in order, with ``epoch`` (epochs completed on this
            dataset in this stage, fractional where a validation falls within one) and, as far as
            there are: ``stage``, ``dataset``, ``step``, ``train_loss``, ``train_accuracy``,
            ``valid_loss``, ``valid_accuracy``, ``valid_auc``, ``valid_logloss``, ``seconds``,
            ``rows_per_second``, ``best``. What is missing, None, NaN or infinite leaves a gap.
        title: the figure's title.

    Returns:
        The figure: traces "Training loss", "Validation loss", "Validation AUC" and, if a
        validation of the last stage and dataset is flagged ``best``, "Best validation". If several
        are, for each was the best at its time, the one with the highest AUC is marked.

    Raises:
        ValueError: The history is empty, or an entry has no ``epoch``.
    """
    runs = _behind_each_other(history)
    points: list[Validation] = list(runs[0])
    for run in runs[1:]:
        points += [{}, *run]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    for key, name, color, row in (
        ("train_loss", "Training loss", VERMILLION, 1),
        ("valid_loss", "Validation loss", BLUE, 1),
        ("valid_auc", "Validation AUC", BLUE, 2),
    ):
        trace = _history_trace(points, key, name, color)
        # the lower panel's axis names its only curve
        figure.add_trace(trace.update(showlegend=row == 1), row=row, col=1)
    best = _best_validation(runs[-1])
    subtitle = None
    if best is not None:
        figure.add_trace(_best_trace(best), row=2, col=1)
        figure.add_vline(x=best["epoch"], line={"color": GREEN, "dash": "dot", "width": 1.5})
        subtitle = f"Best validation AUC {best['valid_auc']:.4f} at epoch {best['epoch']:.4g}"
    apply_style(figure, title, subtitle)
    figure.update_layout(
        # above the panels: within them, any corner may be where a curve runs
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


def _behind_each_other(history: Sequence[Validation]) -> list[list[Validation]]:
    """Part validations of different stages and datasets, and count their epochs on."""
    if not history:
        raise ValueError("the history holds no validation: train for one epoch at least")
    epochs = _column(history, "epoch")
    if None in epochs:
        raise ValueError(
            f"validation {epochs.index(None)} (counted from 0) of the history has no epoch: "
            "write the number of epochs completed under the key 'epoch'"
        )
    runs: list[list[Validation]] = []
    start = 0.0
    for _, run in groupby(history, key=lambda entry: (entry.get("stage"), entry.get("dataset"))):
        runs.append([{**entry, "epoch": start + entry["epoch"]} for entry in run])
        start = runs[-1][-1]["epoch"]
    return runs


def _name_runs(figure: go.Figure, runs: Sequence[Sequence[Validation]]) -> None:
    """Part the panels where a stage goes on to other rows, and name each part at its start."""
    start = 0.0
    for place, run in enumerate(runs):
        if place:
            figure.add_vline(x=start, line={"color": GREY, "width": 1})
        figure.add_annotation(
            text=f"{run[0].get('stage')}, {run[0].get('dataset')}",
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
        start = run[-1]["epoch"]


def _column(history: Sequence[Validation], key: str) -> list[float | None]:
    values = (entry.get(key) for entry in history)
    # JSON knows neither NaN nor infinity
    return [float(v) if v is not None and math.isfinite(v) else None for v in values]


def _history_trace(history: Sequence[Validation], key: str, name: str, color: str) -> go.Scatter:
    shown = {
        "step": "step %{customdata[0]:,}",
        "train_accuracy": "training accuracy %{customdata[1]:.2f}%",
        "valid_accuracy": "validation accuracy %{customdata[2]:.2f}%",
        "valid_logloss": "validation log loss %{customdata[3]:.4f}",
        "seconds": "%{customdata[4]:,.0f} s",
        "rows_per_second": "%{customdata[5]:,.0f} rows/s",
    }
    columns = [_column(history, column) for column in shown]
    known = [
        text
        for text, column in zip(shown.values(), columns, strict=True)
        if any(value is not None for value in column)
    ]
    return go.Scatter(
        x=_column(history, "epoch"),
        y=_column(history, key),
        customdata=[list(row) for row in zip(*columns, strict=True)],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 2},
        marker={"size": 6},
        hovertemplate="<br>".join(["epoch %{x:.4g}: %{y:.4f}", *known, f"<extra>{name}</extra>"]),
    )


def _best_validation(history: Sequence[Validation]) -> dict[str, float] | None:
    flagged = [
        {"epoch": epoch, "valid_auc": auc}
        for entry, epoch, auc in zip(
            history, _column(history, "epoch"), _column(history, "valid_auc"), strict=True
        )
        if entry.get("best") and epoch is not None and auc is not None
    ]
    return max(flagged, key=lambda validation: validation["valid_auc"], default=None)


def _best_trace(best: dict[str, float]) -> go.Scatter:
    return go.Scatter(
        x=[best["epoch"]],
        y=[best["valid_auc"]],
        mode="markers",
        name="Best validation",
        marker={"color": GREEN, "size": 15, "symbol": "star"},
        hovertemplate="best: %{y:.4f} at epoch %{x:.4g}<extra></extra>",
    )
