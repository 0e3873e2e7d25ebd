"""The figure of a training, in Plotly: losses and validation AUC over the steps."""

import math
from collections.abc import Sequence
from itertools import groupby

import plotly.graph_objects as go

from llm_ctr_pipeline.reporting.plot_style import (
    DASHED,
    GREY,
    LABEL_SIZE,
    apply_style,
    label,
    styles_of,
    two_panels,
)
from llm_ctr_pipeline.training.history import StageValidation, TrainingResults

_SHOWN = {
    "epoch": "epoch %{customdata[0]:.4g}",
    "train_accuracy": "training accuracy %{customdata[1]:.2f}%",
    "valid_accuracy": "validation accuracy %{customdata[2]:.2f}%",
    "valid_logloss": "validation log loss %{customdata[3]:.4f}",
    "seconds": "%{customdata[4]:,.0f} s",
    "rows_per_second": "%{customdata[5]:,.0f} rows/s",
}

Run = list[StageValidation]


def learning_curve_figure(results: TrainingResults) -> go.Figure:
    """Draw the losses and the validation AUC over the steps, and where epochs end.

    The training loss is drawn within the epochs too, each point the mean over the rows since the
    point before. Validations of another stage or dataset are of other rows: they stand behind
    those before them, and no line joins the two. A number that is NaN or infinite leaves a gap.

    Returns:
        The figure: traces "Training loss", "Validation loss", "Validation AUC" and, if a
        validation of the last stage and dataset is flagged `best`, "Best validation". If several
        are, for each was the best at its time, the one with the highest AUC is marked.
    """
    runs, starts = _behind_each_other(results.epochs)
    (style,) = styles_of([results.path])
    points: list[StageValidation | None] = list(runs[0])
    for run in runs[1:]:
        points += [None, *run]
    figure = two_panels(spacing=0.07)
    train = _training_losses(results, starts)
    figure.add_trace(train, row=1, col=1)
    valid = _history_trace(points, "valid_loss", "Validation loss", style.color)
    figure.add_trace(valid, row=1, col=1)
    auc = _history_trace(points, "valid_auc", "Validation AUC", style.color)
    figure.add_trace(auc, row=2, col=1)
    caption = _mark_best(figure, runs[-1], style.color)
    apply_style(figure, f"Learning curve, {results.path}", caption)
    figure.update_layout(showlegend=False, height=560)
    _label_line(figure, "training", train, GREY, yanchor="bottom", yshift=4)
    _label_line(figure, "validation", valid, style.color, yanchor="bottom", yshift=16)
    for end in sorted({one.step for run in runs for one in run if one.epoch % 1 == 0}):
        figure.add_vline(x=end, line={"color": GREY, "dash": "dot", "width": 0.7})
    if len(runs) > 1:
        _name_runs(figure, runs, starts)
    figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(title_text="Steps (a dotted line ends an epoch)", row=2, col=1)
    figure.update_yaxes(title_text="Loss (nats a row)", row=1, col=1)
    figure.update_yaxes(title_text="Validation AUC", minallowed=0, maxallowed=1, row=2, col=1)
    return figure


def _behind_each_other(history: Sequence[StageValidation]) -> tuple[list[Run], list[int]]:
    """Part validations of different stages and datasets, and count their steps on.

    Returns:
        The parts, and the steps before each.
    """
    runs: list[Run] = []
    starts: list[int] = []
    start = 0
    for _, run in groupby(history, key=lambda one: (one.stage, one.dataset)):
        starts.append(start)
        runs.append([one.model_copy(update={"step": start + one.step}) for one in run])
        start = runs[-1][-1].step
    return runs, starts


def _mark_best(figure: go.Figure, run: Run, color: str) -> str:
    """Mark the best validation of the last part, if there is one, and say which it is."""
    flagged = [one for one in run if one.best and math.isfinite(one.valid_auc)]
    best = max(flagged, key=lambda one: one.valid_auc, default=None)
    if best is None:
        return ""
    marked = go.Scatter(
        x=[best.step],
        y=[best.valid_auc],
        mode="markers",
        name="Best validation",
        marker={"color": color, "size": 16, "symbol": "star"},
        hovertemplate="best: %{y:.4f} at step %{x:,}<extra></extra>",
    )
    figure.add_trace(marked, row=2, col=1)
    figure.add_vline(x=best.step, line=DASHED)
    return (
        f"The kept weights are those of the best validation, AUC {best.valid_auc:.4f} at epoch "
        f"{best.epoch:.4g} (the star)."
    )


def _label_line(
    figure: go.Figure, name: str, trace: go.Scatter, color: str, **places: object
) -> None:
    """Name a line of the upper panel at its first point: losses fall, so it is clear there."""
    known = [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if y is not None]
    if known:
        label(figure, name, *known[0], color, xref="x", yref="y", **places)


def _name_runs(figure: go.Figure, runs: Sequence[Run], starts: Sequence[int]) -> None:
    """Part the panels where a stage goes on to other rows, and name each part at its start."""
    for place, (run, start) in enumerate(zip(runs, starts, strict=True)):
        if place:
            figure.add_vline(x=start, line={"color": GREY, "width": 1.5})
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
            font={"size": LABEL_SIZE},
        )


def _column(points: Sequence[StageValidation | None], key: str) -> list[float | None]:
    values = (math.nan if point is None else float(getattr(point, key)) for point in points)
    # JSON knows neither NaN nor infinity.
    return [value if math.isfinite(value) else None for value in values]


def _history_trace(
    points: Sequence[StageValidation | None], key: str, name: str, color: str
) -> go.Scatter:
    columns = [_column(points, column) for column in _SHOWN]
    lines = ["step %{x:,}: %{y:.4f}", *_SHOWN.values(), f"<extra>{name}</extra>"]
    return go.Scatter(
        x=_column(points, "step"),
        y=_column(points, key),
        customdata=[list(row) for row in zip(*columns, strict=True)],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 2},
        marker={"size": 6},
        hovertemplate="<br>".join(lines),
    )


def _training_losses(results: TrainingResults, starts: Sequence[int]) -> go.Scatter:
    """The loss over the steps; stages stand behind each other, and no line joins them."""
    steps: list[int | None] = []
    losses: list[float | None] = []
    for stage, start in zip(results.stages, starts, strict=True):
        for step, loss in stage.losses:
            steps.append(start + step)
            losses.append(loss if math.isfinite(loss) else None)
        steps.append(None)
        losses.append(None)
    return go.Scatter(
        x=steps[:-1],
        y=losses[:-1],
        mode="lines",
        name="Training loss",
        line={"color": GREY, "width": 1.5},
        hovertemplate="step %{x:,}: %{y:.4f}<extra>Training loss</extra>",
    )
