"""How each model's AUC differs from the baseline's, with intervals: a forest plot in Plotly."""

import math
from collections.abc import Sequence
from statistics import median

import plotly.graph_objects as go

from llm_ctr_pipeline.reporting.comparison import ComparedModel, Comparison
from llm_ctr_pipeline.reporting.comparison_table import p_value, signed
from llm_ctr_pipeline.reporting.plot_style import GREY, LABEL_SIZE, apply_style, styled

# Of the median of how far intervals reach from 0; what lies beyond would press all others together.
FARTHEST = 4
ROW_HEIGHT, AROUND = 46, 110  # pixels


def difference_figure(comparison: Comparison) -> go.Figure:
    """Draw the paired difference of each model's AUC to the baseline's, with its 95% interval.

    Models stand in the order of their AUC. The axis reaches `FARTHEST` times as far as half of the
    intervals do: what lies beyond is an arrow, and its numbers stand above it as everywhere.

    Returns:
        The figure: one trace a model but for the baseline, from the best down.
    """
    compared = [(one, style) for one, style in styled(comparison) if one.difference]
    compared.sort(key=lambda each: -each[0].auc)
    reach = _reach([model for model, _ in compared])
    figure = go.Figure()
    for row, (model, style) in enumerate(compared):
        difference = model.difference
        assert difference is not None  # noqa: S101 - only the baseline has none
        p = p_value(difference.p_value_holm)
        numbers = signed(difference.auc, difference.auc_low, difference.auc_high)
        beyond = abs(difference.auc) > reach
        side = math.copysign(reach, difference.auc)
        left = "triangle-left" if difference.auc_low < -reach else "line-ns"
        right = "triangle-right" if difference.auc_high > reach else "line-ns"
        ends = [max(-reach, difference.auc_low), min(reach, difference.auc_high)]
        figure.add_trace(
            go.Scatter(
                x=[side] if beyond else [ends[0], difference.auc, ends[1]],
                y=[row] if beyond else [row] * 3,
                mode="lines+markers",
                name=model.label,
                line={"color": style.color, "width": 3},
                marker={
                    "color": style.color,
                    "opacity": 1,
                    "symbol": (left if side < 0 else right)
                    if beyond
                    else [left, style.symbol, right],
                    "size": 14 if beyond else [12, 12, 12],
                    "line": {"color": style.color, "width": 0 if beyond else [2, 1, 2]},
                },
                cliponaxis=False,
                hovertemplate=f"{numbers}, p {p}<extra>{model.label}</extra>",
            )
        )
        figure.add_annotation(
            text=f"<b>{model.label}</b>  {numbers}",
            **{"x": 0, "xref": "paper", "xanchor": "left", "y": row, "yanchor": "bottom"},
            **{"yshift": 9, "showarrow": False, "font": {"size": LABEL_SIZE}},
        )
    figure.add_vline(x=0, line={"color": GREY, "width": 1.5})
    base = comparison.baseline
    apply_style(
        figure,
        f"What each model's AUC is above {base}'s",
        f"{comparison.title}. Paired on the same rows, with 95% intervals: where one holds 0, "
        "other rows may turn the difference round.",
        comparison.notes,
    )
    figure.update_layout(
        showlegend=False, margin={"l": 16}, height=AROUND + ROW_HEIGHT * len(compared)
    )
    figure.update_xaxes(
        title_text=f"AUC − AUC of {base}", range=[-1.05 * reach, 1.05 * reach], tickformat=".3~f"
    )
    figure.update_yaxes(range=[len(compared) - 0.6, -0.9], visible=False)
    return figure


def _reach(models: Sequence[ComparedModel]) -> float:
    """How far the axis goes to either side of 0."""
    ends = [max(abs(d.auc_low), abs(d.auc_high)) for m in models if (d := m.difference)]
    return min(max(ends), FARTHEST * median(ends)) or 1.0
