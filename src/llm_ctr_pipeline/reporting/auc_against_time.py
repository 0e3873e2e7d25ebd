"""What models reached against the time that their training took, in Plotly."""

import numpy as np
import plotly.graph_objects as go

from llm_ctr_pipeline.reporting.comparison import Comparison
from llm_ctr_pipeline.reporting.comparison_table import HOUR, MINUTE, duration, with_std
from llm_ctr_pipeline.reporting.plot_style import DASHED, apply_style, label, styled

_MOST_TICKS = 6
_TICKS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(MINUTE * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(HOUR * hours for hours in (1, 2, 5, 10, 20, 50, 100, 200)),
)


def auc_against_time(comparison: Comparison) -> go.Figure:
    """Draw each model's AUC with its 95% interval against the time that training took.

    Returns:
        The figure: one trace a model, time on a logarithmic axis; and, where it is known, a line
        at the best AUC that any model can reach.
    """
    figure = go.Figure()
    for model, style in styled(comparison):
        time = duration(model.training_seconds)
        figure.add_trace(
            go.Scatter(
                x=[model.training_seconds],
                y=[model.auc],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [model.auc_high - model.auc],
                    "arrayminus": [model.auc - model.auc_low],
                    "thickness": 2,
                    "width": 6,
                },
                mode="markers",
                name=f"{model.label}, {with_std(model.auc, model.auc_seed_std)} in {time}",
                marker={"color": style.color, "symbol": style.symbol, "size": 13},
                hovertemplate=f"AUC %{{y:.4f}} in {time}<extra>{model.label}</extra>",
            )
        )
    best = comparison.best_possible_auc
    if best is not None:
        figure.add_hline(y=best, line=DASHED)
        label(
            *(figure, f"best possible, {best:.4f}", 1, best),
            **{"xref": "x domain", "xanchor": "right", "yanchor": "bottom"},
        )
    apply_style(figure, "AUC against training time", comparison.title, comparison.notes)
    figure.update_layout(height=560)
    seconds = [model.training_seconds for model in comparison.models]
    low, high = min(seconds) / 2, max(seconds) * 2
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    ticks = ticks[:: -(-len(ticks) // _MOST_TICKS)]
    figure.update_xaxes(
        title_text="Training time (logarithmic axis)",
        type="log",
        range=np.log10([low, high]).tolist(),
        tickvals=ticks,
        ticktext=[duration(tick).replace(".0", "") for tick in ticks],
    )
    figure.update_yaxes(title_text="Test AUC, 95% interval")
    return figure
