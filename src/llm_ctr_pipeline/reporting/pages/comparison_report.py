"""The report of a comparison: one page that needs nothing else."""

import plotly.graph_objects as go

from llm_ctr_pipeline.reporting.comparison import ComparedModel, Comparison
from llm_ctr_pipeline.reporting.comparison_table import legend_of, p_value, signed, tables_of
from llm_ctr_pipeline.reporting.pages.facts import RunFacts
from llm_ctr_pipeline.reporting.pages.page import report_page

SIGNIFICANT = 0.05  # of p-values corrected for their number


def comparison_report(
    comparison: Comparison,
    facts: RunFacts,
    differences: go.Figure,
    against_time: go.Figure,
    calibration: go.Figure,
    roc: go.Figure,
) -> str:
    """Write the report of a comparison, the differences first.

    Returns:
        HTML with everything in it.
    """
    headline, *verdict = verdict_of(comparison)
    figures = {
        "differences": differences,
        "against-time": against_time,
        "calibration": calibration,
        "roc": roc,
    }
    return report_page(
        "comparison.html",
        f"{len(comparison.models)} models on {comparison.dataset} {comparison.split}",
        comparison=comparison,
        headline=headline,
        verdict=verdict,
        figures=[*figures.items()],
        tables=[[table.columns, *table.rows] for table in tables_of(comparison)],
        legend=legend_of(comparison),
        trainings=_trainings(comparison),
        facts=facts,
        extra=[["fingerprint of the raw rows", comparison.data_fingerprint]],
    )


def verdict_of(comparison: Comparison) -> list[str]:
    """Say in words which model is best, and which differ from the baseline.

    Returns:
        The headline, and a sentence for those above, below and beside the baseline.
    """
    base = comparison.baseline
    best = max(comparison.models, key=lambda model: model.auc)
    said = f"{best.label} has the highest AUC, {best.auc:.4f}"
    if best.difference:
        d = best.difference
        numbers = signed(d.auc, d.auc_low, d.auc_high)
        more = "more than" if d.p_value_holm < SIGNIFICANT else "which is what"
        explains = "explains" if d.p_value_holm < SIGNIFICANT else "may explain"
        said += f": {numbers} over {base}, {more} chance {explains} (p {p_value(d.p_value_holm)})"
    groups: dict[str, list[str]] = {"above": [], "below": [], "not told from": []}
    for model in comparison.models:
        if model.difference:
            groups[_side(model)].append(model.label)
    sentences = {
        "above": f"Better than {base}: {{}}.",
        "below": f"Worse than {base}: {{}}.",
        "not told from": f"Not to be told from {base} on these rows: {{}}.",
    }
    return [
        f"{said}.",
        *(sentences[side].format(", ".join(names)) for side, names in groups.items() if names),
    ]


def _side(model: ComparedModel) -> str:
    difference = model.difference
    if difference is None or difference.p_value_holm >= SIGNIFICANT:
        return "not told from"
    return "above" if difference.auc > 0 else "below"


def _trainings(comparison: Comparison) -> list[list[str]]:
    titles = ["model", "seeds", "MLflow runs"]
    return [
        titles,
        *(
            [
                model.label,
                ", ".join(map(str, model.seeds)),
                ", ".join(run_id or "in its folder" for run_id in model.run_ids),
            ]
            for model in comparison.models
        ),
    ]
