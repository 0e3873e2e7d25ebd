"""AUC by the values of fields, and by the hour, in Plotly."""

import plotly.graph_objects as go

from llm_ctr_pipeline.metrics.slices import VALUES, Slice, Slices
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.plot_style import (
    DASHED,
    ModelStyle,
    apply_style,
    band,
    error_bars,
    label,
    styles_of,
)

ROW_HEIGHT, AROUND = 26, 110  # pixels
_SPREAD = 0.7  # of a field's row, what the points of its values take
UNKNOWN = "unknown"


def auc_by_value(slices: Slices, evaluation: Evaluation) -> go.Figure:
    """Draw the AUC within the most frequent values of each field, the lowest one's field on top.

    Returns:
        The figure: one trace a field, with a point and its 95% interval for each value.
    """
    (style,) = styles_of([evaluation.path])
    figure = go.Figure()
    fields = dict.fromkeys(one.field for one in slices.slices)
    ordered = sorted(fields, key=lambda field: min(one.auc for one in slices.of(field)[:VALUES]))
    for row, field in enumerate(ordered):
        of_field = slices.of(field)[:VALUES]
        middle = (len(of_field) - 1) / 2
        offsets = [_SPREAD * (place - middle) / len(of_field) for place in range(len(of_field))]
        figure.add_trace(
            _points(of_field, style).update(
                x=[one.auc for one in of_field],
                y=[row + offset for offset in offsets],
                name=field,
                error_x=_interval(of_field),
            )
        )
    _overall(figure, evaluation, "vline")
    apply_style(
        figure,
        f"AUC by field value, {evaluation.title}",
        "Each point is the rows with one value, the most frequent on top, with its 95% interval; "
        "larger points have more rows. The dashed line is the AUC of all rows, which also rank "
        "against rows of other values.",
    )
    figure.update_layout(showlegend=False, height=AROUND + ROW_HEIGHT * max(len(ordered), 4))
    figure.update_xaxes(title_text="AUC within the rows of a value")
    figure.update_yaxes(
        title_text="Field",
        tickvals=[*range(len(ordered))],
        ticktext=ordered,
        range=[len(ordered) - 0.4, -0.9],
        showgrid=False,
    )
    return figure


def auc_by_hour(slices: Slices, evaluation: Evaluation) -> go.Figure:
    """Draw the AUC within each hour of the day, with a band of its 95% intervals.

    Returns:
        The figure: traces "95% interval" and "AUC"; none where no field is an hour.
    """
    (style,) = styles_of([evaluation.path])
    hours = sorted(
        ((int(one.value), one) for one in slices.of(slices.hour) if one.value is not None),
        key=lambda each: each[0],
    )
    figure = go.Figure()
    apply_style(
        figure,
        f"AUC by hour, {evaluation.title}",
        "Of the rows of each hour of the day, with 95% intervals; larger points have more rows.",
    )
    figure.update_layout(showlegend=False, height=380)
    figure.update_xaxes(title_text="Hour of the day", dtick=3, range=[-0.5, 23.5])
    figure.update_yaxes(title_text="AUC within the hour")
    if not hours:
        middle = {"xref": "paper", "yref": "paper", "xanchor": "center"}
        label(figure, "no field of this log is an hour with rows enough", 0.5, 0.5, **middle)
        return figure
    x, of_hours = [hour for hour, _ in hours], [one for _, one in hours]
    low, high = [one.auc_low for one in of_hours], [one.auc_high for one in of_hours]
    figure.add_trace(band(x, low, high, style.color))
    line = _points(of_hours, style).update(x=x, y=[one.auc for one in of_hours], name="AUC")
    figure.add_trace(line.update(mode="lines+markers", line={"color": style.color, "width": 2}))
    _overall(figure, evaluation, "hline")
    return figure


def _points(slices: list[Slice], style: ModelStyle) -> go.Scatter:
    most = max(one.rows for one in slices)
    return go.Scatter(
        mode="markers",
        marker={
            "color": style.color,
            "size": [5 + 6 * (one.rows / most) ** 0.5 for one in slices],
            "line": {"width": 0},
            "opacity": 0.9,
        },
        customdata=[
            [value_of(one), one.rows, one.clicks / one.rows, one.auc, one.auc_low, one.auc_high]
            for one in slices
        ],
        hovertemplate=(
            "%{customdata[0]}<br>AUC %{customdata[3]:.4f} [%{customdata[4]:.4f}, "
            "%{customdata[5]:.4f}]<br>%{customdata[1]:,} rows, click rate %{customdata[2]:.4f}"
        ),
    )


def value_of(one: Slice) -> str:
    """A slice's value, as it is written."""
    return UNKNOWN if one.value is None else one.value


def _interval(slices: list[Slice]) -> dict[str, object]:
    columns = [(one.auc, one.auc_low, one.auc_high) for one in slices]
    return error_bars(*zip(*columns, strict=True))


def _overall(figure: go.Figure, evaluation: Evaluation, kind: str) -> None:
    """Draw the AUC of all rows as a line across, and name it."""
    auc, text = evaluation.auc, f"all rows {evaluation.auc:.4f}"
    if kind == "vline":
        figure.add_vline(x=auc, line=DASHED)
        label(figure, text, auc, 1, yref="paper", xanchor="center", yanchor="bottom")
    else:
        figure.add_hline(y=auc, line=DASHED)
        ends = {"xref": "paper", "yref": "paper"}
        label(figure, f"dashed: {text}", 1, 1, xanchor="right", yanchor="bottom", **ends)
